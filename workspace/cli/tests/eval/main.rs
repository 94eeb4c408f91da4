//! The real binary's `eval`: on scores known by construction, on real weights where they are at hand, and its refusals.

mod classes;
#[path = "../common/mod.rs"]
mod common;
mod said;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{json_of, refused};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName, Weights};
use sandglass_train::initialise;
use serde_json::Value;
use tempfile::TempDir;

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).arg("eval").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    json_of(eval(&[arguments, &["--json"]].concat()))
}

/// The one line on stderr of a refusal.
fn refusal(arguments: &[&str]) -> String {
    refused(eval(arguments))
}

/// A narrow MobileNetV2 whose weights `change` may set, as a file.
fn saved(folder: &Path, classes: usize, change: impl FnOnce(&mut Weights)) -> PathBuf {
    let config = NetworkConfig { width: 0.1, classes, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let mut weights = initialise(config.build().unwrap().tensors(), 1);
    change(&mut weights);
    let path = folder.join("model.safetensors");
    checkpoint::save(&path, &weights, SaveType::F32).unwrap();
    path
}

/// The classifier's answer is its bias alone.
fn constant(bias: &'static [f32]) -> impl FnOnce(&mut Weights) {
    move |weights| {
        let [.., weight, last] = &mut weights.values[..] else { panic!() };
        weight.fill(0.0);
        last.copy_from_slice(bias);
    }
}

#[test]
fn a_constant_answer_scores_its_share() {
    let folder = TempDir::new().unwrap();
    let bias = [0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0];
    let bias: &'static [f32] = Box::leak(Box::new(bias));
    let path = saved(folder.path(), 10, constant(bias));
    let arguments =
        ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", "embedded"];
    let score = json(&arguments);
    let n = score["n"].as_u64().unwrap();
    // Class 3 first, then 9, then 0, 1, 2: ties go to the lower class.
    assert_eq!(score["top1_count"], n / 10);
    assert_eq!(score["top5_count"], n / 2);
    assert_eq!((score["top1"].as_f64(), score["top5"].as_f64()), (Some(10.0), Some(50.0)));
    assert_eq!(score["synthetic"], true);
    let text = String::from_utf8(eval(&arguments).stdout).unwrap();
    assert!(text.contains("(synthetic)") && text.contains(&format!("10.00 %  {} of {n}", n / 10)), "{text}");
}

#[test]
fn threads_change_no_digit() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 10, |_| ());
    let score = |threads| {
        json(&[
            "--model",
            "mobilenetv2",
            "--width",
            "0.1",
            "--weights",
            path.to_str().unwrap(),
            "--data",
            "embedded",
            "--threads",
            threads,
        ])
    };
    assert_eq!(score("1"), score("3"));
}

#[test]
fn image_folders_get_imagenets_labels_and_other_sizes_an_input() {
    let folder = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    for (place, file) in [("n01440764", "colour.jpg"), ("n15075141", "grey.jpg")] {
        let place = folder.path().join("data/val").join(place);
        fs::create_dir_all(&place).unwrap();
        fs::copy(fixtures.join(file), place.join("1.JPEG")).unwrap();
    }
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();

    let mut bias = vec![0.0; 1000];
    bias[999] = 1.0;
    let path = saved(folder.path(), 1000, constant(Box::leak(bias.into_boxed_slice())));
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", data];
    let score = json(&model);
    assert_eq!((&score["n"], &score["top1_count"], &score["top5_count"]), (&2.into(), &1.into(), &2.into()));

    let path = saved(folder.path(), 2, constant(&[0.0, 1.0]));
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", data];
    assert!(refusal(&model).contains("differ in size"));
    assert_eq!(json(&[&model[..], &["--input", "32"]].concat())["top1_count"], 1);

    fs::create_dir(folder.path().join("data/val/n00000000")).unwrap();
    assert!(refusal(&model).contains("holds class folders without images: n00000000"));
    fs::copy(fixtures.join("grey.jpg"), folder.path().join("data/val/n00000000/1.JPEG")).unwrap();
    assert!(refusal(&model).contains("its 3 classes (n00000000 to n15075141) are not the classifier's 2"));
    let path = saved(folder.path(), 1000, |_| ());
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", data];
    assert!(refusal(&model).contains("n00000000: is not among ImageNet's classes"));
}

#[test]
fn what_cannot_be_scored_is_refused_in_one_line() {
    let folder = TempDir::new().unwrap();
    let nan = saved(folder.path(), 10, |weights| weights.values[0][0] = f32::NAN);
    let nan = nan.to_str().unwrap();
    let model =
        |weights, data| refusal(&["--model", "mobilenetv2", "--width", "0.1", "--weights", weights, "--data", data]);
    assert!(model(nan, "embedded").contains("features.0.0.weight holds NaN: its training diverged"));
    let large = folder.path().join("large");
    fs::create_dir(&large).unwrap();
    let large = saved(&large, 10, |weights| weights.values.iter_mut().for_each(|values| values.fill(f32::MAX)));
    let large = large.to_str().unwrap();
    assert!(model(large, "embedded").contains("logits that are no numbers"));
    assert!(model(large, "no-such-set").contains("no-such-set: no such folder"));
    assert!(model("missing.safetensors", "embedded").contains("missing.safetensors"));
    assert!(refusal(&["--model", "mobilenetv2", "--weights", nan, "--data", "embedded"]).contains("misshaped"));
    assert!(refusal(&["--model", "mobilenetv9", "--weights", nan, "--data", "embedded"]).contains("mobilenetv9"));
    let sized = |input| {
        let weights = ["--width", "0.1", "--weights", large, "--data", "embedded"];
        refusal(&[&["--model", "mobilenetv2", "--input", input], &weights[..]].concat())
    };
    assert!(sized("0").contains("0 x 0 pixels: use 1 to"));
    assert!(sized("1000000").contains("1000000 x 1000000 pixels: use 1 to"));

    let broken = folder.path().join("data/a");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("x.jpg"), b"").unwrap();
    let data = folder.path().join("data");
    assert!(model(large, data.to_str().unwrap()).contains("1 broken of 1 images: a/x.jpg: empty"));
}

/// A network whose classes are part of 1000, and the same network without the others: one resize gives one loss.
#[test]
fn the_resize_can_be_said_for_any_number_of_classes() {
    let folder = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    for (class, file) in [("n01440764", "colour.jpg"), ("n01443537", "grey.jpg")] {
        let place = folder.path().join("data").join(class);
        fs::create_dir_all(&place).unwrap();
        fs::copy(fixtures.join(file), place.join("1.JPEG")).unwrap();
    }
    let data = folder.path().join("data");
    let loss = |path: &Path, more: &[&str]| {
        let weights = ["--weights", path.to_str().unwrap(), "--data", data.to_str().unwrap()];
        json(&[&["--model", "mobilenetv2", "--width", "0.1"], &weights[..], more].concat())["cross_entropy"]
            .as_f64()
            .unwrap()
    };
    let off = |weights: &mut Weights| {
        let [.., weight, bias] = &mut weights.values[..] else { panic!() };
        let row = weight.len() / 1000;
        weight[..2 * row].iter_mut().for_each(|value| *value *= 1000.0);
        weight[2 * row..].fill(0.0);
        bias[2..].fill(-1e4);
    };
    let of_1000 = saved(folder.path(), 1000, off);
    let config = NetworkConfig { width: 0.1, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let mut weights = checkpoint::load(&of_1000, config.build().unwrap().tensors()).unwrap();
    let wanted = loss(&of_1000, &[]);
    let row = weights.values[weights.values.len() - 2].len() / 1000;
    let count = weights.specs.len();
    for (at, kept) in [(count - 2, 2 * row), (count - 1, 2)] {
        weights.values[at].truncate(kept);
        weights.specs[at].shape[0] = 2;
    }
    let of_2 = folder.path().join("two.safetensors");
    checkpoint::save(&of_2, &weights, SaveType::F32).unwrap();
    assert_eq!(loss(&of_2, &["--input", "224", "--resize", "256"]), wanted);
    assert_eq!(loss(&of_2, &["--preset", "torchvision"]), loss(&of_2, &["--input", "224", "--resize", "256"]));
    assert_ne!(loss(&of_2, &["--input", "224"]), wanted, "without a resize it is another crop");
}

/// Not only the score: every logit has the same bits (`workspace/infer/tests`).
#[test]
fn both_engines_are_named_and_score_the_same() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 10, |_| ());
    let arguments = |engine| {
        [
            "--model",
            "mobilenetv2",
            "--width",
            "0.1",
            "--weights",
            path.to_str().unwrap(),
            "--data",
            "embedded",
            "--engine",
            engine,
        ]
    };
    let [mut train, infer] = ["train", "infer"].map(|engine| json(&arguments(engine)));
    assert_eq!((&train["engine"], &infer["engine"]), (&"train".into(), &"infer".into()));
    train["engine"] = "infer".into();
    assert_eq!(train, infer);
    let text = eval(&arguments("infer"));
    assert!(String::from_utf8(text.stdout).unwrap().lines().next().unwrap().ends_with(", engine infer"));
    let unknown = eval(&arguments("guess"));
    assert!(!unknown.status.success() && String::from_utf8(unknown.stderr).unwrap().contains("unknown engine"));
}
