//! MultiBox loss (SSD, section 2.2) as the official code has it: smooth L1 over the priors that have an object, and
//! cross-entropy over those and the hardest of the others, three to one.

use crate::DetectError;

/// How the loss is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiBox {
    /// Scores of a prior, the background's first.
    pub classes: usize,
    /// Negatives of an image for each of its positives.
    pub negatives: usize,
}

/// A batch's loss, and what it asks of the network's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiBoxLoss {
    /// Smooth L1 of the positives, by their number.
    pub regression: f64,
    /// Cross-entropy of all selected, by the number of positives.
    pub classification: f64,
    /// Priors with an object, in the whole batch.
    pub positives: usize,
    /// Which priors the cross-entropy counts, [images, priors].
    pub selected: Vec<bool>,
    /// Of the sum of both losses, [images, priors, classes].
    pub confidence_gradient: Vec<f32>,
    /// Of the sum of both losses, [images, priors, 4].
    pub location_gradient: Vec<f32>,
}

impl MultiBoxLoss {
    /// The loss that is trained by.
    pub fn total(&self) -> f64 {
        self.regression + self.classification
    }
}

impl MultiBox {
    /// Three negatives for each positive.
    pub const fn new(classes: usize) -> Self {
        Self { classes, negatives: 3 }
    }

    /// Of `confidence` [images, priors, classes], before the softmax, and `locations` [images, priors, 4]; `labels`
    /// [images, priors] and `targets` [images, priors, 4], of which those of label 0 do not count. `priors`: of an image.
    ///
    /// A batch without any object has no loss and no gradient; the official code divides by zero there.
    ///
    /// # Errors
    /// Slices of other lengths, a label beyond the classes, or numbers that are none.
    pub fn loss(
        &self,
        priors: usize,
        (confidence, locations): (&[f32], &[f32]),
        (labels, targets): (&[u32], &[f32]),
    ) -> Result<MultiBoxLoss, DetectError> {
        let classes = self.classes;
        self.check(priors, (confidence, locations), (labels, targets))?;
        let positives = labels.iter().filter(|label| **label > 0).count();
        // Sums run over priors in their order, whatever was selected by rank: the same bits every time.
        let share = if positives == 0 { 0.0 } else { 1.0 / positives as f64 };
        let log_sums: Vec<f64> = confidence.chunks_exact(classes).map(log_sum_exp).collect();
        let selected = self.select(priors, confidence, labels, &log_sums);

        let (mut regression, mut classification) = (0.0, 0.0);
        let mut confidence_gradient = vec![0.0; confidence.len()];
        let mut location_gradient = vec![0.0; locations.len()];
        for (at, (&label, &log_sum)) in labels.iter().zip(&log_sums).enumerate() {
            if !selected[at] {
                continue;
            }
            let scores = &confidence[at * classes..][..classes];
            classification += log_sum - f64::from(scores[label as usize]);
            let gradients = &mut confidence_gradient[at * classes..][..classes];
            for (class, (gradient, &score)) in gradients.iter_mut().zip(scores).enumerate() {
                let hit = if class == label as usize { 1.0 } else { 0.0 };
                *gradient = ((libm::exp(f64::from(score) - log_sum) - hit) * share) as f32;
            }
            if label > 0 {
                for number in 4 * at..4 * at + 4 {
                    let off = f64::from(locations[number]) - f64::from(targets[number]);
                    regression += if off.abs() < 1.0 { 0.5 * off * off } else { off.abs() - 0.5 };
                    location_gradient[number] = (off.clamp(-1.0, 1.0) * share) as f32;
                }
            }
        }
        let (regression, classification) = (regression * share, classification * share);
        Ok(MultiBoxLoss { regression, classification, positives, selected, confidence_gradient, location_gradient })
    }

    /// All positives and, image by image, the negatives whose background scores worst; among equals the first.
    fn select(&self, priors: usize, confidence: &[f32], labels: &[u32], log_sums: &[f64]) -> Vec<bool> {
        let mut selected: Vec<bool> = labels.iter().map(|label| *label > 0).collect();
        for (image, labels) in labels.chunks_exact(priors.max(1)).enumerate() {
            let first = image * priors;
            let loss = |at: usize| log_sums[at] - f64::from(confidence[at * self.classes]);
            let mut hardest: Vec<(f64, usize)> = (first..first + priors)
                .zip(labels)
                .filter(|(_, label)| **label == 0)
                .map(|(at, _)| (loss(at), at))
                .collect();
            let positives = priors - hardest.len();
            hardest.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            for (_, at) in hardest.into_iter().take(positives.saturating_mul(self.negatives)) {
                selected[at] = true;
            }
        }
        selected
    }

    fn check(
        &self,
        priors: usize,
        (confidence, locations): (&[f32], &[f32]),
        (labels, targets): (&[u32], &[f32]),
    ) -> Result<(), DetectError> {
        let (count, classes) = (labels.len(), self.classes);
        let images = count.checked_div(priors).unwrap_or(0);
        if classes == 0 {
            return Err(DetectError::Label { label: 0, labels: 0 });
        }
        let lengths = [
            ("labels", images.saturating_mul(priors), count),
            ("class scores", count.saturating_mul(classes), confidence.len()),
            ("locations", count.saturating_mul(4), locations.len()),
            ("targets", count.saturating_mul(4), targets.len()),
        ];
        if let Some(&(what, expected, found)) = lengths.iter().find(|(_, expected, found)| expected != found) {
            return Err(DetectError::Length { what, expected, found });
        }
        if let Some(&label) = labels.iter().find(|label| **label as usize >= classes) {
            return Err(DetectError::Label { label: label as usize, labels: classes });
        }
        let parts = [("class scores", confidence), ("locations", locations)];
        match parts.iter().find(|(_, values)| !values.iter().all(|value| value.is_finite())) {
            Some((what, _)) => Err(DetectError::NotFinite(what)),
            None => Ok(()),
        }
    }
}

fn log_sum_exp(scores: &[f32]) -> f64 {
    let largest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = scores.iter().map(|&score| libm::exp(f64::from(score) - largest)).fold(0.0, |sum, term| sum + term);
    largest + libm::log(sum)
}
