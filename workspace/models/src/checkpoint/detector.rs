//! A detector's tensors, under its own names or as TensorFlow froze them.

use std::collections::BTreeMap;

use super::fit::OfState;
use super::tensorflow::{self, Source};
use super::{Checkpoint, CheckpointError, Differences, Incomplete, Problem};
use crate::{DetectorConfig, DetectorName, TensorSpec, Weights};

/// A detector's weights from a file.
#[derive(Clone, Debug)]
pub struct FittedDetector {
    /// With the file's number of classes.
    pub config: DetectorConfig,
    pub weights: Weights,
    /// Whose names the file has, in a word.
    pub names: &'static str,
    /// The keys that lead to the tensors, joined with dots; empty where there are none.
    pub state: String,
    /// What the file holds beside it of the same detector.
    pub incomplete: Vec<Incomplete>,
}

impl Checkpoint {
    /// The detector's tensors: those of the official code, whatever leads to them, or, of TensorFlow's SSDLite, those of its
    /// frozen graph. Where the file holds several states, `state` chooses: the keys that lead to it.
    ///
    /// A frozen graph has its batch norms folded. What is read evaluates as it does, with norms that hold the shifts and do
    /// nothing else: they have to be measured anew before it is trained further.
    ///
    /// # Errors
    /// No such tensors, several states of them, or a tensor that cannot be read; all differences are told at once.
    pub fn detector(&mut self, config: DetectorConfig, state: Option<&str>) -> Result<FittedDetector, CheckpointError> {
        if config.name == DetectorName::SsdliteTfMobileNetV2 && self.get(tensorflow::STEM).is_some() {
            return self.frozen(config);
        }
        let specs = specs(config)?;
        // The last class head ends in the bias whose length tells the classes.
        let bias = specs.iter().rfind(|spec| spec.name.contains(".cls_headers.") && spec.name.ends_with(".bias"));
        let outputs = bias.map_or(0, TensorSpec::len);
        let found = bias.and_then(|bias| {
            let ending = format!(".{}", bias.name);
            self.tensors().iter().find(|tensor| tensor.name == bias.name || tensor.name.ends_with(&ending))
        });
        let config = match found.map(|tensor| tensor.shape.as_slice()) {
            Some(&[found]) => with_outputs(config, outputs, found),
            _ => config,
        };
        let specs = self::specs(config)?;
        let OfState { weights, state, incomplete } = self.weights_of(specs, state, &config.to_string())?;
        Ok(FittedDetector { config, weights, names: "reference", state, incomplete })
    }

    fn frozen(&mut self, config: DetectorConfig) -> Result<FittedDetector, CheckpointError> {
        let config = match self.get(tensorflow::LAST_CLASSES).map(|tensor| tensor.shape.as_slice()) {
            Some(&[found]) => with_outputs(config, 6 * config.classes, found),
            _ => config,
        };
        let specs = specs(config)?;
        let sources: Vec<Source> = specs.iter().map(tensorflow::source).collect();
        let stored = |source: &Source| match source {
            Source::Stored { name, shape, .. } => Some((name.clone(), shape.clone())),
            Source::Value(_) => None,
        };
        let files: Vec<TensorSpec> = (sources.iter().zip(&specs))
            .filter_map(|(source, spec)| {
                stored(source).map(|(name, shape)| TensorSpec { name, shape, role: spec.role })
            })
            .collect();
        let wanted: BTreeMap<&str, &TensorSpec> = files.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        let others = self.tensors().iter().filter(|tensor| tensor.name != tensorflow::ANCHORS);
        let differences = Differences::between(wanted, others, 0);
        if !differences.is_empty() {
            let names = "in TensorFlow's names: ".to_owned();
            return Err(CheckpointError::Different {
                path: self.path.clone(),
                names,
                differences: differences.into(),
                instead: None,
            });
        }
        let mut values = Vec::with_capacity(specs.len());
        for (source, spec) in sources.into_iter().zip(&specs) {
            values.push(match source {
                Source::Value(value) => vec![value; spec.len()],
                Source::Stored { name, .. } => {
                    let stored = self.read(&name)?;
                    let turned = tensorflow::turned(&stored, &spec.shape);
                    turned.ok_or_else(|| self.unreadable(Problem::OutsideFile(name)))?
                }
            });
        }
        let (state, incomplete) = (String::new(), Vec::new());
        Ok(FittedDetector { config, weights: Weights { specs, values }, names: "TensorFlow", state, incomplete })
    }
}

/// With as many classes as `found` outputs say, where `outputs` are those of the configuration.
fn with_outputs(config: DetectorConfig, outputs: usize, found: usize) -> DetectorConfig {
    let boxes = outputs / config.classes.max(1);
    match found.checked_rem(boxes) {
        Some(0) => DetectorConfig { classes: found / boxes, ..config },
        _ => config,
    }
}

fn specs(config: DetectorConfig) -> Result<Vec<TensorSpec>, CheckpointError> {
    config.build().map(|detector| detector.graph.tensors()).map_err(CheckpointError::Network)
}
