//! What is timed: a network whose weights are drawn, in f32 or in 8 bits.

use std::fmt;
use std::sync::Arc;

use sandglass_infer::{InferError, IntPlan, Line, Options, Plan};
use sandglass_models::{Graph, ModelError, NetworkConfig, Role, Weights};
use sandglass_onnx::ExportError;
use sandglass_ops::Runtime;
use sandglass_quant::{Images, Net, QuantError, Quantised, Scheme, quantise};
use sandglass_train::initialise;
use serde::{Deserialize, Serialize};

/// A network that is timed; 1000 classes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub network: String,
    pub width: f64,
    /// See [`Options`]; ONNX Runtime knows no such thing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub memory_groups: usize,
    /// None: in f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<NamedScheme>,
}

/// A scheme that comes with the program: read by its name, and in a cell's definition with all that it says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct NamedScheme {
    pub name: String,
    pub scheme: Scheme,
}

impl TryFrom<String> for NamedScheme {
    type Error = QuantError;

    fn try_from(name: String) -> Result<Self, QuantError> {
        Ok(Self { scheme: Scheme::built_in(&name)?, name })
    }
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Subject {
    /// In f32.
    pub fn new(network: &str, width: f64) -> Self {
        Self { network: network.to_owned(), width, memory_groups: 1, scheme: None }
    }

    /// The same network in f32.
    #[must_use]
    pub fn float(&self) -> Self {
        Self { scheme: None, ..self.clone() }
    }

    /// # Errors
    /// What cannot be timed on an image of `input` x `input` pixels.
    pub(crate) fn check(&self, input: usize) -> Result<(), SubjectError> {
        self.graph()?.cost(input, input)?;
        let Some(NamedScheme { scheme, .. }) = &self.scheme else { return Ok(()) };
        scheme.check()?;
        match (scheme.saturate || scheme.float_weights, self.memory_groups) {
            (true, _) => Err(SubjectError::Emulated),
            (false, 1) => Ok(()),
            (false, _) => Err(SubjectError::Groups),
        }
    }

    fn graph(&self) -> Result<Graph, ModelError> {
        NetworkConfig { width: self.width, ..self.network.parse()? }.build()
    }

    /// Name of its exported file: groups of channels change no weight.
    pub(crate) fn file(&self) -> String {
        format!("{}.onnx", Self { memory_groups: 1, ..self.clone() })
    }

    /// The bytes of that file.
    pub(crate) fn onnx(&self, input: usize) -> Result<Vec<u8>, SubjectError> {
        let (graph, size) = (self.graph()?, (input, input));
        Ok(match &self.scheme {
            None => sandglass_onnx::encode(&self.network, &graph, &lively_weights(&graph), size)?,
            Some(of) => sandglass_onnx::encode_int8(&self.network, &lively_int8(&graph, input, &of.scheme)?, size)?,
        })
    }

    pub(crate) fn compile(&self, runtime: Arc<Runtime>, input: usize) -> Result<Compiled, SubjectError> {
        let (graph, size) = (self.graph()?, (input, input));
        Ok(match &self.scheme {
            None => {
                let options = Options { batch: 1, memory_groups: self.memory_groups };
                Compiled::Float(Plan::new(runtime, &graph, &lively_weights(&graph), size, options)?)
            }
            Some(of) => Compiled::Int8(IntPlan::new(runtime, &lively_int8(&graph, input, &of.scheme)?, size)?),
        })
    }
}

/// Why a network is not timed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubjectError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(
        "its scheme is emulated by loops that are written to be read: no plan runs it, and there is nothing to time"
    )]
    Emulated,
    #[error("memory_groups: plans in 8 bits have none")]
    Groups,
}

/// Also the `part` of its rows.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-w{:?}", self.network, self.width)?;
        if self.memory_groups != 1 {
            write!(f, "-g{}", self.memory_groups)?;
        }
        self.scheme.as_ref().map_or(Ok(()), |of| write!(f, "-{}", of.name))
    }
}

/// A subject's plan.
pub(crate) enum Compiled {
    Float(Plan),
    Int8(IntPlan),
}

impl Compiled {
    /// Of one image.
    pub fn logits(&mut self, image: &[f32]) -> Result<Vec<f32>, InferError> {
        Ok(match self {
            Self::Float(plan) => plan.run(image)?.get(0).unwrap_or_default().to_vec(),
            Self::Int8(plan) => plan.run(image)?.into_iter().map(|score| score as f32).collect(),
        })
    }

    /// The same, without its logits.
    pub fn run(&mut self, image: &[f32]) -> Result<(), InferError> {
        match self {
            Self::Float(plan) => plan.run(image).map(drop),
            Self::Int8(plan) => plan.run(image).map(drop),
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        match self {
            Self::Float(plan) => plan.lines(),
            Self::Int8(plan) => plan.lines(),
        }
    }

    pub fn arena_bytes(&self) -> usize {
        match self {
            Self::Float(plan) => plan.arena_bytes(),
            Self::Int8(plan) => plan.arena_bytes(),
        }
    }
}

/// Value `i` of the NHWC image of `size` x `size` pixels, which the peers make as NCHW.
pub fn pixel(i: usize, size: usize) -> f32 {
    pattern(i / 3 + i % 3 * size * size)
}

fn pattern(i: usize) -> f32 {
    (i * 7919 % 1021) as f32 / 510.5 - 1.0
}

/// As drawn for training, but with batch norms that differ from channel to channel, and depthwise filters so large that the
/// image does not fade away through the layers: logits depend on all of it.
pub fn lively_weights(graph: &Graph) -> Weights {
    let mut weights = initialise(graph.tensors(), 0);
    for (spec, values) in weights.specs.iter().zip(&mut weights.values) {
        let (of_value, noise) = match spec.role {
            // Drawn as if each filter had as many inputs as there are channels.
            Role::DepthwiseWeight => ((spec.shape[0] as f32).sqrt(), 0.0),
            Role::NormWeight => (1.0, 0.3),
            Role::RunningVar => (1.0, 0.3),
            Role::NormBias | Role::RunningMean | Role::LinearBias => (1.0, 0.1),
            _ => (1.0, 0.0),
        };
        values.iter_mut().enumerate().for_each(|(i, value)| *value = of_value * *value + noise * pattern(31 * i));
    }
    weights
}

/// [`lively_weights`] in 8 bits, calibrated on the image of [`pixel`]s.
///
/// # Errors
/// A graph that is not built in integers or does not take such an image, or a scheme whose weights stay float.
pub fn lively_int8(graph: &Graph, size: usize, scheme: &Scheme) -> Result<Quantised, QuantError> {
    let net = scheme.shape(Net::new(graph, &lively_weights(graph))?);
    let image: Vec<f32> = (0..size * size * 3).map(|i| pixel(i, size)).collect();
    let images = Images { values: &image, height: size, width: size };
    let runtime = Runtime::new(1).map_err(|error| QuantError::Scheme(error.to_string()))?;
    let calibration = scheme.calibrate(&runtime, &net, &images)?;
    Ok(quantise(&net, &calibration, scheme)?.0)
}
