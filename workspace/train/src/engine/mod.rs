//! A graph compiled to kernels: forward in evaluation and training mode, and backward.

mod backward;
mod body;
mod buffers;
mod forward;
mod program;

use std::sync::Arc;

use sandglass_models::{Graph, ModelError, TensorSpec, Weights};
use sandglass_ops::{OpError, Runtime};

use backward::Tensors;
use body::Body;
pub use program::Drop;
use program::{Place, Program};

/// What a compiled network can refuse.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{node}: {what} is not built in this engine")]
    NotBuilt { node: String, what: &'static str },
    #[error("{what}: {expected} elements expected, {found} found")]
    Length { what: String, expected: usize, found: usize },
    #[error("{found} images in a call, 1 to {most} expected")]
    Images { found: usize, most: usize },
    #[error("a graph of {found} outputs where {expected} are expected")]
    Outputs { expected: usize, found: usize },
    #[error("backward without a forward before it")]
    NoForward,
}

fn same(what: &str, expected: usize, found: usize) -> Result<(), EngineError> {
    if expected == found { Ok(()) } else { Err(EngineError::Length { what: what.into(), expected, found }) }
}

/// What a graph gives for a batch: for each of its outputs, in their order, a map [n, height, width, channels].
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(pub Vec<Vec<f32>>);

impl Outputs {
    /// The output of a graph that has one, such as a classifier's logits [n, classes].
    ///
    /// # Errors
    /// Where the graph has several.
    pub fn one(self) -> Result<Vec<f32>, EngineError> {
        let [output] =
            <[_; 1]>::try_from(self.0).map_err(|outputs| EngineError::Outputs { expected: 1, found: outputs.len() })?;
        Ok(output)
    }
}

/// A graph compiled for one input size.
///
/// Maps are NHWC. Memory is taken as a pass needs it, given back as soon as nothing reads it any more, and kept for
/// the next pass.
pub struct Engine {
    body: Body,
    specs: Vec<TensorSpec>,
    batch: usize,
    /// Parallel to the weights; empty for running statistics.
    gradients: Vec<Vec<f32>>,
    image_gradient: Vec<f32>,
    /// Whether the last forward left what a backward needs.
    kept: bool,
}

/// Gradients parallel to the weights' values, and that of the images.
pub type BackwardOut<'a> = (&'a [Vec<f32>], &'a [f32]);

impl Engine {
    /// `batch` is the largest number of images of a call, `height` and `width` are theirs.
    ///
    /// # Errors
    /// Images of a size that the graph does not take, or a node that is not built here, by its name.
    pub fn new(
        runtime: Arc<Runtime>,
        graph: &Graph,
        height: usize,
        width: usize,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let specs = graph.tensors();
        let gradients = specs.iter().map(|spec| vec![0.0; if spec.role.is_trained() { spec.len() } else { 0 }]);
        Ok(Self {
            gradients: gradients.collect(),
            body: Body::new(runtime, Program::new(graph, height, width)?),
            specs,
            batch,
            image_gradient: Vec::new(),
            kept: false,
        })
    }

    /// The threads and the instruction set that it runs on.
    pub fn runtime(&self) -> &Runtime {
        &self.body.runtime
    }

    /// Height, width and channels of the images.
    pub fn input(&self) -> (usize, usize, usize) {
        self.shape(0)
    }

    /// Height, width and channels of each output.
    pub fn outputs(&self) -> Vec<(usize, usize, usize)> {
        self.body.program.outputs.iter().map(|&place| self.shape(place)).collect()
    }

    /// Where the graph drops values (dropout) or an image's branches (drop-connect), in the order in which they run.
    pub fn drops(&self) -> &[Drop] {
        &self.body.program.drops
    }

    /// Images per call that [`Engine::new`] was told.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The outputs for `images` [n, height, width, channels] in evaluation mode; nothing is kept for a backward.
    ///
    /// # Errors
    /// Images or weights whose number or lengths are not the graph's.
    pub fn evaluate(&mut self, weights: &Weights, images: &[f32]) -> Result<Outputs, EngineError> {
        let outputs = self.pass(forward::Weights::Eval(&weights.values), images, None, false);
        self.body.release();
        outputs
    }

    /// The outputs in training mode; the running statistics in `weights` move. `drops`: factors (0, or 1 / (1 - rate)) for
    /// each of [`Engine::drops`], one after another, those of all images in order.
    ///
    /// # Errors
    /// As for [`Engine::evaluate`]; and where a batch norm finds but one value a channel, before anything has moved.
    pub fn forward(
        &mut self,
        weights: &mut Weights,
        images: &[f32],
        drops: Option<&[f32]>,
    ) -> Result<Outputs, EngineError> {
        self.pass(forward::Weights::Train(&mut weights.values), images, drops, true)
    }

    /// As [`Engine::forward`], in evaluation mode: running statistics are constants, also for the backward.
    ///
    /// # Errors
    /// As for [`Engine::evaluate`].
    pub fn forward_eval(&mut self, weights: &Weights, images: &[f32]) -> Result<Outputs, EngineError> {
        self.pass(forward::Weights::Eval(&weights.values), images, None, true)
    }

    /// Gradients of all tensors, parallel to `weights.values` (empty for running statistics), given those of the last
    /// forward's outputs, in their order. One backward for each forward.
    ///
    /// # Errors
    /// No forward before it, or gradients or weights whose number or lengths are not the graph's.
    pub fn backward(&mut self, weights: &Weights, outputs: &[&[f32]]) -> Result<&[Vec<f32>], EngineError> {
        self.backward_pass(weights, outputs, false)?;
        Ok(&self.gradients)
    }

    /// As [`Engine::backward`], and the gradient of the images.
    ///
    /// # Errors
    /// As for [`Engine::backward`].
    pub fn backward_to_images(
        &mut self,
        weights: &Weights,
        outputs: &[&[f32]],
    ) -> Result<BackwardOut<'_>, EngineError> {
        self.backward_pass(weights, outputs, true)?;
        Ok((&self.gradients, &self.image_gradient))
    }

    fn shape(&self, place: usize) -> (usize, usize, usize) {
        let Place { height, width, channels, .. } = self.body.program.places[place];
        (height, width, channels)
    }

    fn pass(
        &mut self,
        weights: forward::Weights,
        images: &[f32],
        drops: Option<&[f32]>,
        keep: bool,
    ) -> Result<Outputs, EngineError> {
        let n = self.check_images(images)?;
        self.check_weights(weights.values())?;
        if let Some(factors) = drops {
            let expected = self.drops().iter().map(|drop| drop.factors).sum::<usize>() * n;
            same("factors of drops", expected, factors.len())?;
        }
        self.kept = false;
        self.body.forward(weights, images, n, drops, keep)?;
        self.kept = keep;
        let outputs = self.body.program.outputs.iter().map(|&place| self.body.read(place));
        Ok(Outputs(outputs.collect::<Result<_, _>>()?))
    }

    fn backward_pass(&mut self, weights: &Weights, outputs: &[&[f32]], to_images: bool) -> Result<(), EngineError> {
        if !self.kept {
            return Err(EngineError::NoForward);
        }
        self.check_weights(&weights.values)?;
        let places = &self.body.program.outputs;
        if outputs.len() != places.len() {
            return Err(EngineError::Outputs { expected: places.len(), found: outputs.len() });
        }
        for (&place, gradient) in places.iter().zip(outputs) {
            same("gradient of an output", self.body.len(place), gradient.len())?;
        }
        self.kept = false;
        let mut tensors = Tensors { weights: &weights.values, gradients: &mut self.gradients };
        self.body.backward(&mut tensors, outputs, to_images.then_some(&mut self.image_gradient))
    }

    fn check_images(&self, images: &[f32]) -> Result<usize, EngineError> {
        let (height, width, channels) = self.input();
        let n = images.len() / (height * width * channels).max(1);
        if n == 0 || n > self.batch {
            return Err(EngineError::Images { found: n, most: self.batch });
        }
        same("images", n * height * width * channels, images.len())?;
        Ok(n)
    }

    fn check_weights(&self, values: &[Vec<f32>]) -> Result<(), EngineError> {
        same("tensors of the weights", self.specs.len(), values.len())?;
        self.specs.iter().zip(values).try_for_each(|(spec, values)| same(&spec.name, spec.len(), values.len()))
    }
}
