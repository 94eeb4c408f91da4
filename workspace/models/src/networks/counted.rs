//! Whatever a table of costs lists by a name.

use std::str::FromStr;

use super::{DetectorConfig, DetectorName, NetworkConfig};
use crate::{Cost, ModelError};

/// A classifier, a detector, or the part of one that MobileNetV2's Table 5 counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Counted {
    Classifier(NetworkConfig),
    Detector(DetectorConfig),
    /// Extra layers and heads of a detector, without its backbone.
    ExtrasAndHeads(DetectorConfig),
}

const PARTS: [(&str, DetectorName); 2] = [
    ("ssd_extras_and_heads_tf", DetectorName::SsdTfMobileNetV2),
    ("ssdlite_extras_and_heads_tf", DetectorName::SsdliteTfMobileNetV2),
];

impl Counted {
    /// The same of this width, for so many classes, with this stride of the first convolution.
    ///
    /// # Errors
    /// A stride other than 2 of a detector.
    pub fn with(self, width: f64, classes: usize, stem_stride: usize) -> Result<Self, ModelError> {
        let detector = |config: DetectorConfig| match stem_stride {
            2 => Ok(DetectorConfig { width, classes, ..config }),
            _ => Err(ModelError::StemStride { network: config.to_string(), stride: stem_stride }),
        };
        Ok(match self {
            Self::Classifier(config) => Self::Classifier(NetworkConfig { width, classes, stem_stride, ..config }),
            Self::Detector(config) => Self::Detector(detector(config)?),
            Self::ExtrasAndHeads(config) => Self::ExtrasAndHeads(detector(config)?),
        })
    }

    /// Those that it was made for.
    pub fn classes(&self) -> usize {
        match self {
            Self::Classifier(config) => config.classes,
            Self::Detector(config) => config.classes,
            // As MobileNetV2's Table 5 counts, and not TensorFlow's released detector.
            Self::ExtrasAndHeads(_) => 81,
        }
    }

    /// Height and width of the input that it was made for, in pixels.
    pub fn input(&self) -> usize {
        match self {
            Self::Classifier(_) => 224,
            Self::Detector(config) => config.name.input(),
            Self::ExtrasAndHeads(_) => 320,
        }
    }

    /// For one image of this size in pixels.
    ///
    /// # Errors
    /// As for [`NetworkConfig::build`] and [`crate::Graph::cost`].
    pub fn cost(&self, height: usize, width: usize) -> Result<Cost, ModelError> {
        match self {
            Self::Classifier(config) => config.build()?.cost(height, width),
            Self::Detector(config) => config.build()?.graph.cost(height, width),
            Self::ExtrasAndHeads(config) => {
                let detector = config.build()?;
                let costs = detector.graph.node_costs(height, width)?;
                costs.into_iter().skip(detector.backbone).try_fold(Cost::default(), Cost::plus)
            }
        }
    }
}

impl FromStr for Counted {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        if let Some((_, detector)) = PARTS.iter().find(|(known, _)| *known == name) {
            return Ok(Self::ExtrasAndHeads(DetectorConfig::new(*detector)));
        }
        match name.parse() {
            Err(ModelError::IsDetector(_)) => name.parse().map(Self::Detector),
            config => config.map(Self::Classifier),
        }
    }
}
