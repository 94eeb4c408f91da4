//! A network compiled to kernels: forward in evaluation and training mode, and backward.

use std::sync::Arc;

use sandglass_models::{Network, Weights};
use sandglass_ops::Runtime;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {}

/// Buffers and steps for one network at one input size and a largest batch.
pub struct Engine {}

impl Engine {
    /// `batch` is the largest number of images of a call.
    pub fn new(
        _runtime: Arc<Runtime>,
        _network: &Network,
        _height: usize,
        _width: usize,
        _batch: usize,
    ) -> Result<Self, EngineError> {
        todo!()
    }

    /// Logits [n, classes] of `n` images [n, height, width, 3] in evaluation mode.
    pub fn evaluate(&mut self, _weights: &Weights, _images: &[f32]) -> Result<Vec<f32>, EngineError> {
        todo!()
    }

    /// Logits [n, classes] in training mode; running statistics in `weights` are updated.
    /// `dropout`: factors [n, features] on the pooled features (0, or 1 / (1 - rate)).
    pub fn forward(
        &mut self,
        _weights: &mut Weights,
        _images: &[f32],
        _dropout: Option<&[f32]>,
    ) -> Result<Vec<f32>, EngineError> {
        todo!()
    }

    /// Gradients of all tensors, parallel to `weights.values` (empty for running statistics), given those of the
    /// last forward's logits.
    pub fn backward(&mut self, _weights: &Weights, _logits: &[f32]) -> Result<&[Vec<f32>], EngineError> {
        todo!()
    }
}
