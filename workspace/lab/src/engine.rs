//! The engines that give logits, by name: one scoring for all.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sandglass_infer::{Options, Plan};
use sandglass_models::{Graph, Weights};
use sandglass_ops::Runtime;
use sandglass_train::{Engine, Predict, TrainError};

/// Which engine computes logits. Those of the two in f32 are the same to the bit; a row says which it was all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineName {
    /// The one that trains, in evaluation mode.
    #[default]
    Train,
    /// A compiled plan.
    Infer,
    /// A compiled plan of integers, for quantised networks alone.
    Int8,
}

const NAMES: [(&str, EngineName); 3] =
    [("train", EngineName::Train), ("infer", EngineName::Infer), ("int8", EngineName::Int8)];

/// A name that no engine has.
#[derive(Debug, thiserror::Error)]
#[error("unknown engine {0:?}; known are train, infer and int8")]
pub struct UnknownEngine(String);

/// Weights in f32 where integers are wanted.
#[derive(Debug, thiserror::Error)]
#[error("engine int8 runs quantised networks: `sandglass quantise` makes one")]
pub struct NotQuantised;

impl FromStr for EngineName {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let known = NAMES.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, engine)| engine).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, engine)| engine == self).map_or("", |(name, _)| name))
    }
}

/// A network ready to give logits.
pub enum Compiled {
    Train(Box<Engine>, Weights),
    Infer(Box<Plan>),
}

fn foreign(error: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Foreign(Box::new(error))
}

impl EngineName {
    /// `batch` images at most at a time, of `height` x `width` pixels.
    ///
    /// # Errors
    /// A graph that the engine does not build or that does not take such images, weights that are not the graph's, or the
    /// engine of quantised networks.
    pub fn compile(
        self,
        runtime: Arc<Runtime>,
        graph: &Graph,
        weights: Weights,
        (height, width): (usize, usize),
        batch: usize,
    ) -> Result<Compiled, TrainError> {
        Ok(match self {
            Self::Train => Compiled::Train(Box::new(Engine::new(runtime, graph, height, width, batch)?), weights),
            Self::Infer => {
                let options = Options { batch, ..Options::default() };
                let plan = Plan::new(runtime, graph, &weights, (height, width), options).map_err(foreign)?;
                Compiled::Infer(Box::new(plan))
            }
            Self::Int8 => return Err(foreign(NotQuantised)),
        })
    }
}

impl Predict for Compiled {
    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, TrainError> {
        match self {
            Self::Train(engine, weights) => (&mut **engine, &*weights).logits(images),
            Self::Infer(plan) => {
                let outputs = plan.run(images).map_err(foreign)?;
                Ok(outputs.get(0).unwrap_or_default().to_vec())
            }
        }
    }
}
