//! How many images a network names right.

use std::sync::atomic::{AtomicBool, Ordering};

use sandglass_data::Loader;
use sandglass_models::Weights;

use crate::{Engine, TrainError, cross_entropy, rank, top1};

/// Of a whole data set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Images.
    pub n: u64,
    /// Those whose label is the first choice, or among the first five.
    pub top1_count: u64,
    pub top5_count: u64,
    /// Mean cross-entropy, without smoothing.
    pub loss: f64,
    /// The first choice for every image, in the data set's order.
    pub predictions: Vec<u32>,
}

impl Score {
    /// Counts an image by its logits or scores; of equal ones the lower class comes first.
    pub fn count<T: Copy + PartialOrd>(&mut self, scores: &[T], label: u32) {
        let rank = rank(scores, label as usize);
        self.n += 1;
        self.top1_count += u64::from(rank == 0);
        self.top5_count += u64::from(rank < 5);
        self.predictions.push(top1(scores) as u32);
    }

    /// In percent; 0 of no images.
    pub fn top1(&self) -> f64 {
        percent(self.top1_count, self.n)
    }

    /// In percent; 0 of no images.
    pub fn top5(&self) -> f64 {
        percent(self.top5_count, self.n)
    }
}

pub(crate) fn percent(count: u64, of: u64) -> f64 {
    100.0 * count as f64 / of.max(1) as f64
}

/// What gives logits [n, classes] for images [n, height, width, channels].
pub trait Predict {
    /// Of at most as many images as it was made for.
    ///
    /// # Errors
    /// Images that it does not take.
    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, TrainError>;
}

/// The engine that trains, in evaluation mode.
impl Predict for (&mut Engine, &Weights) {
    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, TrainError> {
        let (engine, weights) = self;
        Ok(engine.evaluate(weights, images)?.one()?)
    }
}

/// Scores a network on all images of an evaluation loader, whose batch is at most the network's.
///
/// # Errors
/// A batch that cannot be had, or logits that are no numbers: a score of them would be none.
pub fn evaluate(network: &mut dyn Predict, loader: &Loader) -> Result<Score, TrainError> {
    let score = evaluate_until(network, loader, &AtomicBool::new(false))?;
    Ok(score.unwrap_or_default())
}

/// None where `stop` came to be set.
pub(crate) fn evaluate_until(
    network: &mut dyn Predict,
    loader: &Loader,
    stop: &AtomicBool,
) -> Result<Option<Score>, TrainError> {
    let mut score = Score::default();
    let mut sum = 0.0;
    for batch in loader.epoch(0, 0) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        let logits = network.logits(&batch.images)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(TrainError::Logits);
        }
        let count = batch.labels.len();
        let classes = logits.len() / count.max(1);
        sum += cross_entropy(&logits, &batch.labels, classes, 0.0)?.mean * count as f64;
        for (logits, &label) in logits.chunks_exact(classes.max(1)).zip(&batch.labels) {
            score.count(logits, label);
        }
    }
    score.loss = sum / score.n.max(1) as f64;
    Ok(Some(score))
}
