//! What is quantised how.

use std::collections::BTreeMap;

use sandglass_files::from_toml;
use serde::{Deserialize, Serialize};

use crate::{Observer, QuantError};

/// How many scales a tensor of weights has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    #[default]
    PerChannel,
    PerTensor,
}

/// How a network is quantised. The default is per channel, min-max, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheme {
    /// Of pointwise and dense convolutions and linear layers.
    pub dense: Granularity,
    pub depthwise: Granularity,
    /// Of activations.
    pub observer: Observer,
    /// Weights stay in f32, biases too; activations are quantised and dequantised.
    pub float_weights: bool,
    /// Folded weights beyond plus or minus this are cut.
    pub clip: Option<f32>,
    /// ReLU6 becomes ReLU, which is another network.
    pub relu: bool,
    /// Ranges of weights are brought together across layers; the clip of a ReLU6 moves with its channel.
    pub equalise: bool,
    /// Biases take back the mean error that rounding weights makes on the calibration images.
    pub correct_bias: bool,
    /// Products of neighbours are added in 16 bits that saturate, as `vpmaddubsw` has it.
    pub saturate: bool,
    /// Scores are the logits in 8 bits, which tie often.
    pub int8_logits: bool,
}

/// The schemes that come with the program.
const BUILT_IN: &str = include_str!("../schemes.toml");

impl Scheme {
    /// The scheme of a name.
    ///
    /// # Errors
    /// There is none of that name; the error lists those that there are.
    pub fn built_in(name: &str) -> Result<Self, QuantError> {
        let wrong = |error: &dyn std::fmt::Display| QuantError::Scheme(format!("schemes.toml: {error}"));
        let mut all: BTreeMap<String, Self> = from_toml(BUILT_IN).map_err(|error| wrong(&error))?;
        all.remove(name).ok_or_else(|| {
            let known = all.into_keys().collect::<Vec<_>>().join(", ");
            QuantError::Scheme(format!("none is called {name:?}; there are {known}"))
        })
    }

    /// Whether a network can be quantised like that.
    ///
    /// # Errors
    /// What contradicts itself, or is no number.
    pub fn check(&self) -> Result<(), QuantError> {
        let refused = |what: &str| Err(QuantError::Scheme(what.to_owned()));
        match self {
            Self { observer: Observer::Percentile(p), .. } if !(50.0..=100.0).contains(p) => {
                refused("a percentile from 50 to 100")
            }
            Self { clip: Some(clip), .. } if !(*clip > 0.0 && clip.is_finite()) => refused("a clip above 0"),
            Self { float_weights: true, saturate: true, .. } => refused("no saturation where weights stay float"),
            Self { float_weights: true, correct_bias: true, .. } => refused("no correction where no weight is rounded"),
            _ => Ok(()),
        }
    }
}
