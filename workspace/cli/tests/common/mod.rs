//! What the binary answers, and a detector whose answer is known.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};
use std::process::Output;

use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{DetectorConfig, DetectorName, Role, Weights};
use sandglass_train::initialise;
use serde_json::Value;

/// The one line on stderr of a refusal, which prints nothing else.
pub fn refused(output: Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// What a success prints.
pub fn json_of(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What sees the dog: the last level, whose one place has the whole image in view.
const LEVEL: &str = "box_head.predictor.cls_headers.5.bias";
/// The background is label 0.
const DOG: usize = 12;

/// A narrow detector that answers by its biases, whatever it is shown: one dog, as large as the last level's second prior.
pub fn saved_detector(folder: &Path) -> PathBuf {
    let config = DetectorConfig { width: 0.1, ..DetectorConfig::new(DetectorName::SsdliteMobileNetV2) };
    let mut weights = initialise(config.build().unwrap().graph.tensors(), 1);
    let Weights { specs, values } = &mut weights;
    for (spec, values) in specs.iter().zip(values) {
        let is_head = spec.name.starts_with("box_head");
        if is_head && spec.role == Role::ConvWeight {
            values.fill(0.0);
        } else if spec.name.contains("cls_headers") && spec.role == Role::ConvBias && spec.len() == 6 * 21 {
            values.fill(0.0);
            values.chunks_exact_mut(21).for_each(|scores| scores[0] = 9.0);
        }
        if spec.name == LEVEL {
            values[21] = 0.0;
            values[21 + DOG] = 9.0;
        }
    }
    let path = folder.join("detector.safetensors");
    checkpoint::save(&path, &weights, SaveType::F32).unwrap();
    path
}
