//! The real binary's `export` and `show --plan`: files, plans, and refusals in one line.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{refused, saved_detector};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use sandglass_train::initialise;
use tempfile::TempDir;

fn sandglass(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).args(arguments).output().unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    refused(sandglass(arguments))
}

fn saved(path: &Path) {
    let config = NetworkConfig { width: 0.1, classes: 12, ..NetworkConfig::new(NetworkName::MobileNeXt) };
    let weights = initialise(config.build().unwrap().tensors(), 1);
    checkpoint::save(path, &weights, SaveType::F32).unwrap();
}

#[test]
fn a_checkpoint_becomes_the_same_file_each_time() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    saved(Path::new(&path("model.safetensors")));
    let export = |weights: &str, out: &str, more: &[&str]| {
        let (weights, out) = (path(weights), path(out));
        let arguments = ["export", "mobilenext_div2", "--width", "0.1", "--weights", &weights, "--onnx", &out];
        [&arguments[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |arguments: &[String]| sandglass(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for out in ["a.onnx", "new/b.onnx"] {
        let output = run(&export("model.safetensors", out, &["--input", "96"]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let bytes = fs::read(path("a.onnx")).unwrap();
    assert_eq!(bytes, fs::read(path("new/b.onnx")).unwrap());
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"sandglass") && has(b"mobilenext_div2_w0.1") && has(b"features.2.conv.8.weight"));

    let refused = |arguments: Vec<String>| refusal(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    fs::create_dir(path("taken")).unwrap();
    assert!(refused(export("model.safetensors", "taken", &[])).contains("taken"));
    assert!(refused(export("model.safetensors", "a.onnx", &["--input", "0"])).contains("input of 0 x 0"));
    let whole = fs::read(path("model.safetensors")).unwrap();
    fs::write(path("cut.safetensors"), &whole[..whole.len() - 1]).unwrap();
    assert!(refused(export("cut.safetensors", "a.onnx", &[])).contains("cut.safetensors"));
    // Another stride has the same tensors: the card beside them knows.
    let card = "network = \"mobilenext_div2\"\nwidth = 0.1\nstem_stride = 1\nclasses = [\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\", \"10\", \"11\"]\n[evaluation]\n";
    fs::write(path("model.toml"), card).unwrap();
    let other = refused(export("model.safetensors", "a.onnx", &["--stem-stride", "2"]));
    assert!(
        other.contains("model.toml: is of mobilenext_div2 0.1 with stem stride 1, not mobilenext_div2 0.1"),
        "{other}"
    );
    let output = run(&export("model.safetensors", "c.onnx", &["--input", "96"]));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("mobilenext_div2 0.1, 12 outputs\n"), "{told}");
    assert!(told.contains("\nnetwork: stem stride 1, identity divisor 2\n") && told.contains("\ncard: "), "{told}");
    let wrong = refused(export("model.safetensors", "c.onnx", &["--classes", "10"]));
    assert!(wrong.contains("--classes 10: the classifier of") && wrong.contains("has 12 outputs"), "{wrong}");
    assert_eq!(fs::read(path("a.onnx")).unwrap(), bytes);
}

/// Twelve maps, the classes as many as the file's heads have; what does not go together is one line.
#[test]
fn a_detector_becomes_its_heads_maps() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let weights = saved_detector(folder.path()).display().to_string();
    let export = |more: &[&str], out: &str| {
        let arguments = ["export", "ssdlite_mobilenetv2", "--width", "0.1", "--weights", &weights, "--onnx", out];
        [&arguments[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |arguments: &[String]| sandglass(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for (out, more) in [("a.onnx", vec!["--input", "64"]), ("b.onnx", vec!["--input", "64"]), ("c.onnx", vec![])] {
        let output = run(&export(&more, &path(out)));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let bytes = fs::read(path("a.onnx")).unwrap();
    assert_eq!(bytes, fs::read(path("b.onnx")).unwrap());
    // Of the published input's side.
    assert_ne!(bytes, fs::read(path("c.onnx")).unwrap());
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"ssdlite_mobilenetv2_w0.1") && has(b"box_head.predictor.reg_headers.5"));

    let refused = |arguments: Vec<String>| refusal(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused(export(&["--same-padding"], &path("d.onnx"))).contains("--same-padding"));
    assert!(refused(export(&["--input", "0"], &path("d.onnx"))).contains("input of 0 x 0"));
    let other = ["export", "ssdlite_mobilenext", "--width", "0.1", "--weights", &weights, "--onnx", &path("d.onnx")];
    assert!(refusal(&other).contains("detector.safetensors") || refusal(&other).contains("ssdlite_mobilenext"));
    let quantise =
        ["quantise", "ssdlite_mobilenetv2", "--weights", &weights, "--calibration", "embedded", "--out", "q"];
    assert!(refusal(&quantise).contains("detectors are not quantised here"));
    assert!(!Path::new(&path("d.onnx")).exists());
}

#[test]
fn a_plan_is_printed_line_by_line() {
    let plan = |more: &[&str]| {
        let output =
            sandglass(&[&["show", "mobilenetv2", "--width", "0.35", "--input", "64", "--plan"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = plan(&["--threads", "1"]);
    let config = NetworkConfig { width: 0.35, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let madds = config.build().unwrap().cost(64, 64).unwrap().madds_total;
    assert!(text.contains(&madds.to_string()), "{text}");
    assert!(
        text.lines().any(|line| line.contains("features.3.conv.2 ") && line.contains("1x1 + 8 channels")),
        "{text}"
    );
    assert!(text.trim_end().ends_with(&format!("1 threads on {}", sandglass_ops::Isa::from_env().unwrap().name())));
    let grouped = plan(&["--memory-groups", "3", "--time"]);
    assert!(grouped.contains("share (%)") && grouped.contains(", goes on"), "{grouped}");

    assert!(refusal(&["show", "mobilenetv2", "--plan", "--threads", "0"]).contains("0 threads"));
    assert!(refusal(&["show", "mobilenetv2", "--plan", "--memory-groups", "0"]).contains("memory groups"));
    assert!(refusal(&["show", "mobilenetv2", "--plan", "--input", "0"]).contains("input of 0 x 0"));
    assert!(refusal(&["show", "mobilenetv2", "--plan", "--weights", "nowhere.pth"]).contains("nowhere.pth"));
}
