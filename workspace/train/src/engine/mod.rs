//! A network compiled to kernels: forward in evaluation and training mode, and backward.

mod backward;
mod body;
mod buffers;
mod forward;

use std::sync::Arc;

use sandglass_models::{Block, Linear, Network, TensorSpec, Weights};
use sandglass_ops::conv::{self, After, ConvShape};
use sandglass_ops::map::{Gradient, Operand, Sink};
use sandglass_ops::{Activation, MapShape, OpError, Runtime, pool};

use body::{Body, Mode};
use buffers::Buffers;

/// What a compiled network can refuse.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error("a network without blocks")]
    Empty,
    #[error("block {0}: an activation before its shortcut's addition is not built")]
    ActivatedSum(String),
    #[error("{what}: {expected} elements expected, {found} found")]
    Length { what: String, expected: usize, found: usize },
    #[error("{found} images in a call, 1 to {most} expected")]
    Images { found: usize, most: usize },
    #[error("backward without a forward before it")]
    NoForward,
}

fn same(what: &str, expected: usize, found: usize) -> Result<(), EngineError> {
    if expected == found { Ok(()) } else { Err(EngineError::Length { what: what.into(), expected, found }) }
}

/// Blocks, and a classifier if there is one, compiled for one input size.
///
/// Maps are NHWC. Memory is taken as a pass needs it, given back as soon as nothing reads it any more, and kept for
/// the next pass.
pub struct Engine {
    runtime: Arc<Runtime>,
    body: Body,
    classifier: Option<Linear>,
    specs: Vec<TensorSpec>,
    batch: usize,
    buffers: Buffers,
    /// Parallel to the weights; empty for running statistics.
    gradients: Vec<Vec<f32>>,
    input_gradient: Vec<f32>,
    /// Of the last forward: images, and the classifier's input after dropout.
    images: Option<usize>,
    features: Vec<f32>,
    dropout: Option<Vec<f32>>,
}

impl Engine {
    /// `batch` is the largest number of images of a call, `height` and `width` are theirs.
    pub fn new(
        runtime: Arc<Runtime>,
        network: &Network,
        height: usize,
        width: usize,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let specs = network.tensors();
        Self::build(runtime, &network.blocks, Some(network.classifier.clone()), specs, height, width, batch)
    }

    /// Blocks alone, for tests: see [`Engine::forward_map`].
    pub fn for_blocks(
        runtime: Arc<Runtime>,
        blocks: &[Block],
        height: usize,
        width: usize,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let specs = blocks.iter().flat_map(Block::tensors).collect();
        Self::build(runtime, blocks, None, specs, height, width, batch)
    }

    fn build(
        runtime: Arc<Runtime>,
        blocks: &[Block],
        classifier: Option<Linear>,
        specs: Vec<TensorSpec>,
        height: usize,
        width: usize,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let body = Body::new(blocks, height, width)?;
        let gradients = specs.iter().map(|spec| vec![0.0; if spec.role.is_trained() { spec.len() } else { 0 }]);
        Ok(Self {
            gradients: gradients.collect(),
            runtime,
            body,
            classifier,
            specs,
            batch,
            buffers: Buffers::default(),
            input_gradient: Vec::new(),
            images: None,
            features: Vec::new(),
            dropout: None,
        })
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Height, width and channels of the images.
    pub fn input(&self) -> (usize, usize, usize) {
        self.body.input()
    }

    /// Height, width and channels of the last block's output.
    pub fn output(&self) -> (usize, usize, usize) {
        self.body.output()
    }

    /// Images per call that [`Engine::new`] was told.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Logits [n, classes] of `images` [n, height, width, channels] in evaluation mode; nothing is kept for a backward.
    pub fn evaluate(&mut self, weights: &Weights, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n = self.check(weights, images)?;
        self.images = None;
        self.body.forward(&self.runtime, &mut self.buffers, Mode::Eval { keep: false }, &weights.values, images, n)?;
        let logits = self.logits(&weights.values, n, None);
        self.body.release(&mut self.buffers);
        logits
    }

    /// Logits [n, classes] in training mode; the running statistics in `weights` move.
    /// `dropout`: factors [n, features] on the pooled features (0, or 1 / (1 - rate)).
    pub fn forward(
        &mut self,
        weights: &mut Weights,
        images: &[f32],
        dropout: Option<&[f32]>,
    ) -> Result<Vec<f32>, EngineError> {
        let n = self.forward_body(weights, images)?;
        self.logits(&weights.values, n, dropout)
    }

    /// As [`Engine::forward`], in evaluation mode: running statistics are constants, also for the backward.
    pub fn forward_eval(&mut self, weights: &Weights, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n = self.forward_body_eval(weights, images)?;
        self.logits(&weights.values, n, None)
    }

    /// The last block's output [n, height, width, channels].
    pub fn forward_map(&mut self, weights: &mut Weights, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n = self.forward_body(weights, images)?;
        self.map(n)
    }

    /// As [`Engine::forward_map`], in evaluation mode.
    pub fn forward_map_eval(&mut self, weights: &Weights, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let n = self.forward_body_eval(weights, images)?;
        self.map(n)
    }

    /// Gradients of all tensors, parallel to `weights.values` (empty for running statistics), given those of the last
    /// forward's logits. One backward for each forward.
    pub fn backward(&mut self, weights: &Weights, logits: &[f32]) -> Result<&[Vec<f32>], EngineError> {
        self.backward_logits(weights, logits, false)?;
        Ok(&self.gradients)
    }

    /// As [`Engine::backward`], and the gradient of the images.
    pub fn backward_to_images(&mut self, weights: &Weights, logits: &[f32]) -> Result<BackwardOut<'_>, EngineError> {
        self.backward_logits(weights, logits, true)?;
        Ok((&self.gradients, &self.input_gradient))
    }

    /// As [`Engine::backward_to_images`], given the gradient of [`Engine::forward_map`]'s result.
    pub fn backward_map(&mut self, weights: &Weights, map: &[f32]) -> Result<BackwardOut<'_>, EngineError> {
        let n = self.images.take().ok_or(EngineError::NoForward)?;
        let (height, width, channels) = self.body.output();
        same("gradient", n * height * width * channels, map.len())?;
        self.body.begin_backward(
            &mut self.buffers,
            n,
            |runtime, sink, shape| {
                sink.out.copy_from_slice(map);
                sandglass_ops::norm::sink(runtime, sink, shape)
            },
            &self.runtime,
        )?;
        self.finish_backward(weights, true)?;
        Ok((&self.gradients, &self.input_gradient))
    }

    fn check(&self, weights: &Weights, images: &[f32]) -> Result<usize, EngineError> {
        let (height, width, channels) = self.body.input();
        let n = images.len() / (height * width * channels).max(1);
        if n == 0 || n > self.batch {
            return Err(EngineError::Images { found: n, most: self.batch });
        }
        same("images", n * height * width * channels, images.len())?;
        same("tensors of the weights", self.specs.len(), weights.values.len())?;
        for (spec, values) in self.specs.iter().zip(&weights.values) {
            same(&spec.name, spec.len(), values.len())?;
        }
        Ok(n)
    }

    fn forward_body(&mut self, weights: &mut Weights, images: &[f32]) -> Result<usize, EngineError> {
        let n = self.check(weights, images)?;
        self.images = None;
        self.body.forward_train(&self.runtime, &mut self.buffers, &mut weights.values, images, n)?;
        self.images = Some(n);
        Ok(n)
    }

    fn forward_body_eval(&mut self, weights: &Weights, images: &[f32]) -> Result<usize, EngineError> {
        let n = self.check(weights, images)?;
        self.images = None;
        self.body.forward(&self.runtime, &mut self.buffers, Mode::Eval { keep: true }, &weights.values, images, n)?;
        self.images = Some(n);
        Ok(n)
    }

    fn map(&self, n: usize) -> Result<Vec<f32>, EngineError> {
        let (height, width, channels) = self.body.output();
        let mut map = vec![0.0; n * height * width * channels];
        sandglass_ops::map::write(&self.runtime, self.body.result(), None, Activation::None, channels, &mut map)?;
        Ok(map)
    }

    fn linear(&self, n: usize) -> Result<(ConvShape, usize), EngineError> {
        let Linear { input, output, .. } = self.classifier.as_ref().ok_or(EngineError::Empty)?;
        let shape = ConvShape {
            images: n,
            height: 1,
            width: 1,
            input: *input,
            output: *output,
            kernel: 1,
            stride: 1,
            padding: 0,
            depthwise: false,
        };
        Ok((shape, self.specs.len() - 2))
    }

    fn logits(&mut self, values: &[Vec<f32>], n: usize, dropout: Option<&[f32]>) -> Result<Vec<f32>, EngineError> {
        let (shape, at) = self.linear(n)?;
        let (height, width, channels) = self.body.output();
        same("classifier's input", channels, shape.input)?;
        self.features.resize(n * channels, 0.0);
        let map = MapShape { images: n, area: height * width, channels };
        pool::average(&self.runtime, self.body.result(), map, &mut self.features)?;
        if let Some(factors) = dropout {
            same("dropout factors", self.features.len(), factors.len())?;
            self.features.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        }
        self.dropout = dropout.map(<[f32]>::to_vec);
        let mut logits = vec![0.0; n * shape.output];
        conv::forward(&self.runtime, &shape, Operand::plain(&self.features), &values[at], &mut logits, After::Raw)?;
        for row in logits.chunks_exact_mut(shape.output) {
            row.iter_mut().zip(&values[at + 1]).for_each(|(logit, bias)| *logit += bias);
        }
        Ok(logits)
    }

    fn backward_logits(&mut self, weights: &Weights, logits: &[f32], to_images: bool) -> Result<(), EngineError> {
        let n = self.images.take().ok_or(EngineError::NoForward)?;
        let (shape, at) = self.linear(n)?;
        same("gradient of the logits", n * shape.output, logits.len())?;
        let bias = &mut self.gradients[at + 1];
        bias.fill(0.0);
        for row in logits.chunks_exact(shape.output) {
            bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
        let mut features = vec![0.0; self.features.len()];
        let sink = Sink::plain(&mut features);
        let (x, gradient) = (Operand::plain(&self.features), Gradient { data: logits, norm: None });
        conv::backward(&self.runtime, &shape, x, &weights.values[at], gradient, &mut self.gradients[at], Some(sink))?;
        if let Some(factors) = &self.dropout {
            features.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        }
        self.body.begin_backward(
            &mut self.buffers,
            n,
            |runtime, sink, shape| pool::average_backward(runtime, &features, shape, sink),
            &self.runtime,
        )?;
        self.finish_backward(weights, to_images)
    }

    fn finish_backward(&mut self, weights: &Weights, to_images: bool) -> Result<(), EngineError> {
        let input_gradient = to_images.then_some(&mut self.input_gradient);
        self.body.backward(&self.runtime, &mut self.buffers, &weights.values, &mut self.gradients, input_gradient)
    }
}

/// Gradients parallel to the weights' values, and that of the images.
pub type BackwardOut<'a> = (&'a [Vec<f32>], &'a [f32]);
