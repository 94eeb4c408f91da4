//! Cross-entropy with label smoothing.

use crate::OpError;
use crate::shape::product;

/// The loss of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Mean over the batch.
    pub mean: f64,
    /// Of the mean, with respect to the logits: [n, classes].
    pub gradient: Vec<f32>,
    /// Images whose first largest logit is the target's.
    pub correct: usize,
}

/// Against the distribution (1 - `smoothing`) one-hot + `smoothing` / classes. `logits` is [n, classes] with n = targets.
/// In f64, images and classes in order.
///
/// # Errors
/// Logits of another shape, no targets, or a target that is no class.
pub fn cross_entropy(logits: &[f32], targets: &[u32], classes: usize, smoothing: f64) -> Result<Loss, OpError> {
    if targets.is_empty() || classes == 0 || logits.len() != product([targets.len(), classes]) {
        return Err(OpError::Logits { logits: logits.len(), targets: targets.len(), classes });
    }
    let count = targets.len() as f64;
    let share = smoothing / classes as f64;
    let mut loss = Loss { mean: 0.0, gradient: Vec::with_capacity(logits.len()), correct: 0 };
    let mut exps = vec![0.0; classes];
    for (image, (logits, &label)) in logits.chunks_exact(classes).zip(targets).enumerate() {
        let target = label as usize;
        let target_logit = f64::from(*logits.get(target).ok_or(OpError::Label { label, image, classes })?);
        let largest = f64::from(logits[top1(logits)]);
        let mut mean = 0.0;
        let mut sum = 0.0;
        for (exp, &logit) in exps.iter_mut().zip(logits) {
            let logit = f64::from(logit);
            *exp = libm::exp(logit - largest);
            sum += *exp;
            mean += logit;
        }
        mean /= classes as f64;
        loss.mean += largest + libm::log(sum) - (1.0 - smoothing) * target_logit - smoothing * mean;
        loss.gradient.extend(exps.iter().enumerate().map(|(class, exp)| {
            let wanted = share + if class == target { 1.0 - smoothing } else { 0.0 };
            ((exp / sum - wanted) / count) as f32
        }));
        loss.correct += usize::from(top1(logits) == target);
    }
    loss.mean /= count;
    Ok(loss)
}

/// The place of the first largest of `logits`; NaN is never the largest. 0 where there is none.
pub fn top1<T: Copy + PartialOrd>(logits: &[T]) -> usize {
    let larger = |best: usize, at: usize| if logits[at] > logits[best] || is_nan(logits[best]) { at } else { best };
    (0..logits.len()).reduce(larger).unwrap_or(0)
}

/// How many logits beat the target's, a tie going to the lower class: 0 is top-1, below 5 is top-5. NaN beats nothing
/// and is beaten by all.
pub fn rank<T: Copy + PartialOrd>(logits: &[T], target: usize) -> usize {
    let Some(&own) = logits.get(target) else { return logits.len() };
    let beats = |(class, &logit): (usize, &T)| {
        if is_nan(own) { class != target } else { logit > own || (logit == own && class < target) }
    };
    logits.iter().enumerate().filter(|&entry| beats(entry)).count()
}

fn is_nan<T: PartialOrd>(value: T) -> bool {
    value.partial_cmp(&value).is_none()
}
