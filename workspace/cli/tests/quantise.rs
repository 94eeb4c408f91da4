//! `quantise` and `eval` of what it writes, through the real binary, on a checkpoint that the repository keeps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use serde_json::Value;
use tempfile::TempDir;

const NETWORK: [&str; 5] = ["mobilenetv2", "--width", "0.35", "--stem-stride", "1"];

fn weights() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("results/checkpoints/width/smoke/mobilenetv2-w0.35-s0.safetensors")
}

fn sandglass(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).args(arguments).output().unwrap()
}

fn quantise(weights: &Path, calibration: &str, out: &Path, more: &[&str]) -> (bool, String) {
    let of = ["--weights", weights.to_str().unwrap(), "--calibration", calibration, "--out", out.to_str().unwrap()];
    let output = sandglass(&[&["quantise"], &NETWORK[..], &of, more].concat());
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn eval(weights: &Path, network: &[&str]) -> Output {
    let of = ["--weights", weights.to_str().unwrap(), "--data", "embedded", "--json"];
    sandglass(&[&["eval", "--model"], network, &of].concat())
}

#[test]
fn a_quantised_checkpoint_scores_nearly_as_before() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("q.safetensors");
    let (done, told) = quantise(&weights(), "embedded", &out, &["--images", "32"]);
    assert!(done && told.is_empty(), "{told}");
    assert!(fs::metadata(&out).unwrap().len() < 500_000);
    let score = |file: &Path| {
        let output = eval(file, &NETWORK);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let score: Value = serde_json::from_slice(&output.stdout).unwrap();
        (score["n"].as_u64().unwrap(), score["top1_count"].as_f64().unwrap(), score["cross_entropy"].as_f64().unwrap())
    };
    let ((n, float, loss), (of, int8, loss8)) = (score(&weights()), score(&out));
    assert!(n == of && (float - int8).abs() < 0.02 * n as f64 && (loss - loss8).abs() < 0.1);
    // Another network's name is no way to read it.
    let other = eval(&out, &["mobilenetv2", "--width", "0.5", "--stem-stride", "1"]);
    let message = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && message.contains("a quantised mobilenetv2 0.35"), "{message}");
}

#[test]
fn broken_calibration_is_told() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("q.safetensors");
    let (done, told) = quantise(&weights(), "embedded", &out, &["--images", "1"]);
    assert!(done && told.contains("warning: calibrated on one image"), "{told}");
    fs::remove_file(&out).unwrap();

    let refused = |weights: &Path, calibration: &str, more: &[&str], reason: &str| {
        let (done, told) = quantise(weights, calibration, &out, more);
        assert!(!done && told.lines().count() == 1 && told.contains(reason), "{told}");
        assert!(!out.exists());
    };
    refused(&weights(), "embedded", &["--images", "0"], "no images to calibrate on");
    refused(&weights(), "embedded", &["--scheme", "per-chanel"], "per-channel, ");
    refused(&weights(), "embedded", &["--scheme", "activations-only"], "there is no file of it");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(&weights(), empty.to_str().unwrap(), &[], "empty");

    let config =
        NetworkConfig { width: 0.35, classes: 10, stem_stride: 1, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let mut broken = checkpoint::load(&weights(), config.build().unwrap().tensors()).unwrap();
    broken.values[0][0] = f32::NAN;
    let path = folder.path().join("broken.safetensors");
    checkpoint::save(&path, &broken, SaveType::F32, &BTreeMap::new()).unwrap();
    refused(&path, "embedded", &[], "features.0.1: channel 0 folds into no finite number");
}
