//! Calibrating and scoring networks in 8 bits, and their f32 forms by the same loops.

use std::borrow::Borrow;
use std::sync::Arc;

use sandglass_data::{Batch, DataError, Dataset, Draws, Loader, Purpose, Transform};
use sandglass_infer::{InferError, IntPlan};
use sandglass_ops::{OpError, Runtime};
use sandglass_quant::{Images, Model, QuantError};
use sandglass_train::{Score, cross_entropy};

use crate::BATCH;

/// Why a network has no score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error(transparent)]
    Op(#[from] OpError),
    #[error("scores that are no numbers: the network is broken")]
    NoNumber,
}

/// `count` images of a training set, or all where it has fewer, drawn by `seed`: of two counts the fewer are among the more.
/// [n, height, width, 3], as `transform` gives them, and how many there are.
///
/// # Errors
/// A set without images, or one whose images cannot be read.
pub fn calibration_images(
    set: &Dataset,
    transform: Transform,
    count: usize,
    seed: u64,
    threads: usize,
) -> Result<(Vec<f32>, usize), ScoreError> {
    let mut order: Vec<u32> = (0..set.len() as u32).collect();
    Draws::new(seed, Purpose::Calibration, 0, 0).shuffle(&mut order);
    order.truncate(count);
    if order.is_empty() {
        return Err(QuantError::NoImages.into());
    }
    let mut images = Vec::new();
    let chosen = set.subset(set.name(), &order);
    for batch in Loader::evaluation(&chosen, transform, BATCH, threads).epoch(0, 0) {
        images.extend(batch?.images);
    }
    Ok((images, order.len()))
}

/// Scores a network on all images of an evaluation, of the height and width `size`; equal scores go to the lower class.
/// Integers run as a compiled plan, which gives the same scores as they do themselves, but where their scheme saturates.
///
/// # Errors
/// A batch that cannot be had, images that the network does not take, or scores that are no numbers.
pub fn score_model<B: Borrow<Batch>>(
    model: &Model,
    runtime: &Arc<Runtime>,
    size: (usize, usize),
    batches: impl IntoIterator<Item = Result<B, DataError>>,
) -> Result<Score, ScoreError> {
    let (height, width) = size;
    let mut plan = match model {
        Model::Integer(network) if !network.scheme().saturate => Some(IntPlan::new(runtime.clone(), network, size)?),
        _ => None,
    };
    let mut score = Score::default();
    for batch in batches {
        let batch = batch?;
        let batch = batch.borrow();
        let all = match &mut plan {
            Some(plan) => plan.scores(&batch.images)?,
            None => model.scores(runtime, &Images { values: &batch.images, height, width })?,
        };
        let logits: Vec<f32> = all.iter().flatten().map(|&score| score as f32).collect();
        let classes = all.first().map_or(0, Vec::len);
        score.loss += cross_entropy(&logits, &batch.labels, classes, 0.0)?.mean * all.len() as f64;
        for (scores, &label) in all.iter().zip(&batch.labels) {
            if scores.iter().any(|score| !score.is_finite()) {
                return Err(ScoreError::NoNumber);
            }
            score.count(scores, label);
        }
    }
    score.loss /= score.n.max(1) as f64;
    Ok(score)
}
