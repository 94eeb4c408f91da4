//! `quantise` and `eval` of what it writes, through the real binary, on a checkpoint that the repository keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sandglass_data::{Part, Protocol};
use sandglass_lab::Card;
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use serde_json::Value;
use tempfile::TempDir;

const NETWORK: [&str; 5] = ["mobilenetv2", "--width", "0.35", "--stem-stride", "1"];

fn weights() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("results/checkpoints/width/smoke/mobilenetv2-w0.35-s0.safetensors")
}

/// The same in a folder of its own, with the card that its training gave it.
fn with_card(folder: &Path) -> PathBuf {
    let model = folder.join("model.safetensors");
    fs::copy(weights(), &model).unwrap();
    let card = Card {
        sha256: None,
        network: "mobilenetv2".to_owned(),
        width: 0.35,
        stem_stride: 1,
        input: Some(32),
        classes: Some(sandglass_data::open("embedded", Part::Train, None).unwrap().classes().to_vec()),
        assumed: Vec::new(),
        evaluation: Protocol::default(),
    };
    card.write(&model).unwrap();
    model
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
    // Each engine scores what it is for, and says so.
    let of = |file: &Path, engine: &str| {
        let of = ["--weights", file.to_str().unwrap(), "--data", "embedded", "--engine", engine];
        let output = sandglass(&[&["eval", "--model"], &NETWORK[..], &of].concat());
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (done, told) = of(&out, "int8");
    assert!(done && told.contains("engine int8") && told.contains("integers throughout"), "{told}");
    let (done, told) = of(&out, "infer");
    assert!(!done && told.contains("a quantised checkpoint is scored by int8"), "{told}");
    let (done, told) = of(&weights(), "int8");
    assert!(!done && told.contains("`sandglass quantise` makes"), "{told}");
    // Another network's name is no way to read it.
    let other = eval(&out, &["mobilenetv2", "--width", "0.5", "--stem-stride", "1"]);
    let message = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && message.contains("is of mobilenetv2 0.35"), "{message}");
    // Without the card that was begun the file itself knows.
    fs::remove_file(out.with_extension("toml")).unwrap();
    let other = eval(&out, &["mobilenetv2", "--width", "0.5", "--stem-stride", "1"]);
    let message = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && message.contains("a quantised mobilenetv2 0.35"), "{message}");
}

/// Of what is asked nothing is passed over; what held is said; what it was calibrated by lies in its card.
#[test]
fn a_quantised_checkpoint_is_scored_as_it_was_calibrated_or_refused() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("q.safetensors");
    let model = with_card(folder.path());
    let (done, told) = quantise(&model, "embedded", &out, &["--images", "16", "--std", "0.5,0.5,0.5"]);
    assert!(done && told.is_empty(), "{told}");
    let score = |more: &[&str]| {
        let of = ["--weights", out.to_str().unwrap(), "--data", "embedded", "--threads", "1"];
        let output = sandglass(&[&["eval", "--model"], &NETWORK[..], &of, more].concat());
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (done, told) = score(&[]);
    assert!(done && told.contains("integers throughout, symmetric padding"), "{told}");
    assert!(told.contains("std [0.5, 0.5, 0.5]"), "{told}");
    assert!(score(&["--padding", "symmetric"]).0);
    for (more, reason) in [
        (["--background", "0"], "--background: a quantised checkpoint"),
        (["--state", "nosuch"], "--state: a quantised checkpoint holds one"),
        (["--padding", "same"], "quantised with symmetric padding, and asked for is same"),
        (["--preset", "tensorflow"], "quantised with symmetric padding, and asked for is same"),
    ] {
        let (done, told) = score(&more);
        assert!(!done && told.lines().count() == 1 && told.contains(reason), "{told}");
    }
    let (done, told) = quantise(&out, "embedded", &folder.path().join("again.safetensors"), &[]);
    assert!(!done && told.contains("q.safetensors: is quantised already"), "{told}");
}

/// Without a card beside the weights one is begun, so that what they were calibrated by is not lost; and all of it is said.
#[test]
fn what_it_was_calibrated_by_is_kept_and_said() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("q.safetensors");
    let of = ["--weights", weights().to_str().unwrap(), "--calibration", "embedded", "--out", out.to_str().unwrap()]
        .map(str::to_owned);
    let of: Vec<&str> = of.iter().map(String::as_str).collect();
    let more = ["--images", "16", "--mean", "0.5,0.5,0.5"];
    let output = sandglass(&[&["quantise"], &NETWORK[..], &of, &more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "calibrated on: 16 of 2400 images of 10 classes",
        "part: train, drawn",
        "weights: torchvision names, symmetric padding",
        "protocol: images as they are, input 32 x 32, mean [0.5, 0.5, 0.5]",
        "network: stem stride 1",
        "no card beside the weights: at their defaults are input, resize, std",
    ] {
        assert!(text.lines().any(|told| told.starts_with(line)), "{line}: {text}");
    }
    let card = Card::read(&out).unwrap().unwrap();
    assert_eq!((card.input, card.evaluation.mean, card.stem_stride), (Some(32), [0.5; 3], 1));
    // What nobody said stays unsaid: no classes called by their places, and what stands at its default is known to.
    assert_eq!((card.classes.as_ref(), &card.assumed[..]), (None, &["input", "resize", "std"].map(str::to_owned)[..]));
    let score: Value = serde_json::from_slice(&eval(&out, &["mobilenetv2"]).stdout).unwrap();
    let mean: Vec<f64> = serde_json::from_value(score["protocol"]["mean"].clone()).unwrap();
    assert_eq!((mean, &score["labels_compared_with"]), (vec![0.5; 3], &"count".into()));
    assert_eq!(score["card_assumed"], serde_json::json!(["input", "resize", "std"]));
    let told = sandglass(&["eval", "--model", "mobilenetv2", "--weights", of[5], "--data", "embedded"]).stdout;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("; when it was written nobody said input, resize, std: at their defaults"), "{told}");

    // Images of other classes than the card's are another network's.
    let model = with_card(folder.path());
    let card = Card::read(&model).unwrap().unwrap();
    let mut classes = card.classes.clone().unwrap();
    classes[3] = "cow".to_owned();
    Card { classes: Some(classes), ..card }.write(&model).unwrap();
    let (done, told) = quantise(&model, "embedded", &folder.path().join("r.safetensors"), &[]);
    assert!(!done && told.lines().count() == 1 && told.contains("output 3 is \"cow\""), "{told}");
}

/// Many a folder has a `model.toml`: one of another checkpoint of the same shape would give a wrong score and no error.
#[test]
fn a_card_is_of_one_file() {
    let folder = TempDir::new().unwrap();
    let model = with_card(folder.path());
    let score =
        |key: &str| serde_json::from_slice::<Value>(&eval(&model, &["mobilenetv2"]).stdout).unwrap()[key].clone();
    let top1 = score("top1_count");
    assert_eq!(score("card_names_its_file"), Value::Bool(true));
    let mut other = fs::read(&model).unwrap();
    // A sign of the last weight.
    *other.last_mut().unwrap() ^= 0x80;
    fs::write(&model, other).unwrap();
    let refused = eval(&model, &["mobilenetv2"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.lines().count() == 1, "{told}");
    assert!(
        told.contains("model.toml: is of a checkpoint of SHA-256 ") && told.contains("model.safetensors has "),
        "{told}"
    );
    let card = folder.path().join("model.toml");
    let text = fs::read_to_string(&card).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("sha256")).collect();
    fs::write(&card, without.join("\n")).unwrap();
    assert_eq!((score("top1_count"), score("card_names_its_file")), (top1, Value::Bool(false)));
}

/// A merge may put one checkpoint's card beside another.
#[test]
fn cards_that_are_kept_name_their_files() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/checkpoints");
    let folders = |of: &Path| fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let studies = folders(&kept).into_iter().filter(|path| path.is_dir());
    let files = studies.flat_map(|study| folders(&study)).flat_map(|profile| folders(&profile));
    let mut cards = 0;
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "safetensors")) {
        // The first checkpoints have none.
        if let Some(card) = Card::read(&file).unwrap() {
            assert!(card.sha256.is_some(), "{}", file.display());
            cards += 1;
        }
    }
    assert!(cards > 0);
}

#[cfg(unix)]
#[test]
fn nothing_that_is_read_and_no_card_of_another_is_written_over() {
    let folder = TempDir::new().unwrap();
    let model = with_card(folder.path());
    let card = folder.path().join("model.toml");
    let text = fs::read_to_string(&card).unwrap();
    let before = fs::read(&model).unwrap();
    let link = folder.path().join("link.safetensors");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    for out in [&model, &link, &card] {
        let (done, told) = quantise(&model, "embedded", out, &[]);
        assert!(!done && told.contains("which is read: choose another name"), "{told}");
        let of = ["--input", "32", "--weights", model.to_str().unwrap(), "--onnx", out.to_str().unwrap()];
        let export = sandglass(&[&["export"], &NETWORK[..], &of].concat());
        let told = String::from_utf8(export.stderr).unwrap();
        assert!(!export.status.success() && told.contains("which is read: choose another name"), "{told}");
    }
    // The card of model.int8 would be model.toml, and say another mean.
    let out = folder.path().join("model.int8");
    let (done, told) = quantise(&model, "embedded", &out, &["--images", "16", "--std", "0.5,0.5,0.5"]);
    assert!(!done && told.contains("model.toml, which is that of") && told.contains("model.safetensors"), "{told}");
    assert!(!out.exists() && fs::read(&model).unwrap() == before && fs::read_to_string(&card).unwrap() == text);
}

#[test]
fn a_quantised_checkpoint_is_planned_and_exported() {
    let folder = TempDir::new().unwrap();
    let (q, onnx) = (folder.path().join("q.safetensors"), folder.path().join("q.onnx"));
    assert!(quantise(&weights(), "embedded", &q, &["--images", "32"]).0);
    let of = ["--classes", "10", "--input", "32", "--weights", q.to_str().unwrap()];
    let show = sandglass(&[&["show"], &NETWORK[..], &of, &["--plan"]].concat());
    let table = String::from_utf8(show.stdout).unwrap();
    assert!(show.status.success() && table.contains("3x3 depthwise /2, relu6"), "{table}");
    // A sum in an epilogue.
    assert!(table.contains("1x1 + 8 channels"), "{table}");
    let export = || {
        let output = sandglass(&[&["export"], &NETWORK[..], &of, &["--onnx", onnx.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(&onnx).unwrap()
    };
    assert_eq!(export(), export());
    let refused = sandglass(&[&["show"], &NETWORK[..], &of, &["--plan", "--memory-groups", "2"]].concat());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && message.contains("--memory-groups: not of plans in 8 bits"), "{message}");
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
    let path = folder.path().join("broken.safetensors");
    // The norm's scale of the first channel, and its variance.
    broken.values[4][0] = 0.0;
    for (value, reason) in
        [(f32::NAN, "features.0.1.weight holds NaN"), (f32::MAX, "features.0.1: channel 0 folds into no finite number")]
    {
        broken.values[1][0] = value;
        checkpoint::save(&path, &broken, SaveType::F32).unwrap();
        refused(&path, "embedded", &[], reason);
    }
}
