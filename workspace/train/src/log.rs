//! What is told of a run while it goes on: a row per epoch, progress per step.

use serde::{Deserialize, Serialize};

/// One line of `log.jsonl`. No decision is taken from it: tuning belongs on a development split of the training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRow {
    /// From 1.
    pub epoch: u64,
    /// At the epoch's last step.
    pub lr: f64,
    /// Mean over the epoch's steps, with label smoothing, dropout and augmentation.
    pub train_loss: f64,
    /// Percent of the training images, in training mode; of classifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_top1: Option<f64>,
    /// What was evaluated after the epoch.
    pub evaluated: Option<String>,
    /// That set's hash, for another may have its name; of rows from before it was kept, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_hash: Option<String>,
    /// Mean over its images.
    pub eval_loss: Option<f64>,
    /// Percent; of classifiers.
    pub eval_top1: Option<f64>,
    /// Mean average precision in percent; of detectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_map: Option<f64>,
    /// Of training, without evaluation.
    pub images_per_s: f64,
    /// Of training, without evaluation.
    pub seconds: f64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Whole epochs done, and all.
    pub epoch: u64,
    pub epochs: u64,
    /// Steps done of the running epoch, and all of an epoch.
    pub step: usize,
    pub steps: usize,
    /// Images of a step.
    pub batch: usize,
    /// Mean over the running epoch's steps.
    pub loss: f64,
}

/// Is told what happens; every method may be left out.
pub trait Observer {
    /// Before the first step of this process; `at` is where a resumed run goes on.
    fn started(&mut self, _at: &Progress) {}
    /// After every step.
    fn step(&mut self, _at: &Progress) {}
    /// After every epoch, once it is evaluated.
    fn epoch(&mut self, _row: &LogRow) {}
}

/// Hears nothing.
impl Observer for () {}
