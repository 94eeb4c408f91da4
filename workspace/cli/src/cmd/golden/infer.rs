//! The path of plans: graphs in evaluation mode, and nothing else.

use std::sync::Arc;

use anyhow::Context;
use sandglass_infer::{InferError, Options, Plan};
use sandglass_models::Graph;
use sandglass_ops::Runtime;

use super::kernels::{nchw, nhwc};
use super::kinds::{Backend, Outputs, Pass};
use super::layers::Layers;

pub struct Infer {
    runtime: Arc<Runtime>,
}

/// What a case asks for and a plan does not do.
#[derive(Debug, thiserror::Error)]
pub enum NotInferred {
    #[error("needs training")]
    Training,
    #[error(transparent)]
    Node(InferError),
}

impl Infer {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { runtime: Arc::new(Runtime::new(sandglass_lab::default_threads())?) })
    }
}

impl Infer {
    fn plan(&self, graph: &Graph, pass: &Pass) -> anyhow::Result<Plan> {
        if pass.train {
            return Err(NotInferred::Training.into());
        }
        let [batch, _, height, width] = pass.x.nchw()?;
        let options = Options { batch, ..Options::default() };
        let plan = Plan::new(self.runtime.clone(), graph, &pass.weights, (height, width), options);
        plan.map_err(|error| match error {
            InferError::NotBuilt { .. } => NotInferred::Node(error).into(),
            error => anyhow::Error::from(error),
        })
    }
}

impl Backend for Infer {
    /// Gradients that a case wants as well are no part of it.
    fn graph(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Outputs> {
        let batch = pass.x.nchw()?[0];
        let mut plan = self.plan(graph, &pass)?;
        let (height, width, channels) = plan.outputs()[0];
        let images = nhwc(&pass.x.values, &pass.x.shape)?;
        let output = plan.run(&images)?.get(0).context("a graph without outputs")?;
        Ok(Outputs::from([("output".to_owned(), nchw(output, &[batch, channels, height, width])?)]))
    }

    fn maps(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut plan = self.plan(graph, &pass)?;
        let count = plan.outputs().len();
        let images = nhwc(&pass.x.values, &pass.x.shape)?;
        let outputs = plan.run(&images)?;
        Ok((0..count).map(|at| outputs.get(at).unwrap_or_default().to_vec()).collect())
    }

    fn layers(&self) -> anyhow::Result<&dyn Layers> {
        Err(NotInferred::Training.into())
    }

    fn trains(&self) -> anyhow::Result<()> {
        Err(NotInferred::Training.into())
    }
}
