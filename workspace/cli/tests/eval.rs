//! The real binary's `eval`: on scores known by construction, on real weights where they are at hand, and its refusals.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use sandglass_data::{Loader, Part, Protocol, Transform, find_data};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName, Weights};
use sandglass_ops::Runtime;
use sandglass_train::{Engine, initialise};
use serde_json::Value;
use tempfile::TempDir;

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).arg("eval").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = eval(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one line on stderr of a refusal.
fn refusal(arguments: &[&str]) -> String {
    let output = eval(arguments);
    assert!(!output.status.success() && output.stdout.is_empty());
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// A narrow MobileNetV2 whose weights `change` may set, as a file.
fn saved(folder: &Path, classes: usize, change: impl FnOnce(&mut Weights)) -> PathBuf {
    let config = NetworkConfig { width: 0.1, classes, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let mut weights = initialise(config.build().unwrap().tensors(), 1);
    change(&mut weights);
    let path = folder.join("model.safetensors");
    checkpoint::save(&path, &weights, SaveType::F32, &BTreeMap::new()).unwrap();
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
    assert!(refusal(&model).contains("label 2 is beyond the classifier's 2 classes"));
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
    assert!(model(nan, "embedded").contains("logits that are no numbers"));
    assert!(model(nan, "no-such-set").contains("no-such-set: no such folder"));
    assert!(model("missing.safetensors", "embedded").contains("missing.safetensors"));
    assert!(refusal(&["--model", "mobilenetv2", "--weights", nan, "--data", "embedded"]).contains("misshaped"));
    assert!(refusal(&["--model", "mobilenetv9", "--weights", nan, "--data", "embedded"]).contains("mobilenetv9"));
    let sized = |input| {
        let weights = ["--width", "0.1", "--weights", nan, "--data", "embedded"];
        refusal(&[&["--model", "mobilenetv2", "--input", input], &weights[..]].concat())
    };
    assert!(sized("0").contains("0 x 0 pixels: use 1 to"));
    assert!(sized("1000000").contains("1000000 x 1000000 pixels: use 1 to"));

    let broken = folder.path().join("data/a");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("x.jpg"), b"").unwrap();
    let data = folder.path().join("data");
    assert!(model(nan, data.to_str().unwrap()).contains("1 broken of 1 images: a/x.jpg: empty"));
}

/// A checkpoint that was trained here is scored as it was while it trained: by the card that lies beside it.
#[test]
fn a_card_beside_the_checkpoint_decides_input_protocol_and_classes() {
    let folder = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let data = folder.path().join("data");
    for (class, file) in [("a", "colour.jpg"), ("b", "grey.jpg")] {
        fs::create_dir_all(data.join("val").join(class)).unwrap();
        fs::copy(fixtures.join(file), data.join("val").join(class).join("1.jpg")).unwrap();
    }
    let path = saved(folder.path(), 2, |_| ());
    let card = |text: &str| fs::write(path.with_extension("toml"), text).unwrap();
    let text = "network = \"mobilenetv2\"\nwidth = 0.1\nstem_stride = 2\ninput = 32\nclasses = [\"a\", \"b\"]\n\
                [evaluation]\nresize = 36\n";
    let (weights, data) = (path.to_str().unwrap(), data.to_str().unwrap());
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", weights, "--data", data];
    assert!(refusal(&model).contains("differ in size"), "without a card the input is asked for");
    card(text);
    let by_card = json(&model)["cross_entropy"].as_f64().unwrap();
    let asked = json(&[&model[..], &["--input", "32"]].concat())["cross_entropy"].as_f64().unwrap();
    card(&text.replace("resize = 36", "resize = 32"));
    let narrow = json(&model)["cross_entropy"].as_f64().unwrap();
    // Asked for the card's own input, the protocol is the card's too; a short side of 32 gives other pixels than one of 36.
    assert!(by_card == asked && by_card != narrow, "{by_card} {asked} {narrow}");
    // Stride and width are the card's; asked for others, it is refused, for no tensor's shape would tell.
    let short = ["--model", "mobilenetv2", "--weights", weights, "--data", data];
    assert_eq!(json(&short)["cross_entropy"].as_f64().unwrap(), narrow);
    let refused = refusal(&[&short[..], &["--stem-stride", "1"]].concat());
    assert!(
        refused.contains("is of mobilenetv2 0.1 with stem stride 2, not mobilenetv2 0.1 with stem stride 1"),
        "{refused}"
    );
    // The normalisation belongs to the weights, at whatever input.
    let at_40 = |text: &str| {
        card(text);
        json(&[&model[..], &["--input", "40"]].concat())["cross_entropy"].as_f64().unwrap()
    };
    assert_ne!(at_40(&format!("{text}mean = [0.5, 0.5, 0.5]\n")), at_40(text));
    card(&text.replace("\"b\"", "\"c\""));
    assert!(refusal(&model).contains("output 1 is \"c\", but class 1 of data is \"b\""));
    card("network = 1");
    assert!(refusal(&model).contains("model.toml"));
}

/// Where a data root holds the real weights: the published counts, exactly, and the five best logits of each image.
#[test]
fn real_weights_score_what_torchvisions_transforms_give() {
    let Some(weights) = find_data("weights/mobilenet_v2_1.0_imagenet.safetensors") else {
        eprintln!("skipped: no real weights");
        return;
    };
    for (set, golden, n, top1, top5) in [
        ("imagenet_val_910", "golden_val_910", 910, 728, 860),
        ("imagenet_val_fullres_26", "golden_fullres_26", 26, 19, 21),
    ] {
        let score = json(&["--model", "mobilenetv2", "--weights", weights.to_str().unwrap(), "--data", set]);
        assert_eq!((&score["n"], &score["top1_count"], &score["top5_count"]), (&n.into(), &top1.into(), &top5.into()));
        compare_logits(&weights, set, &weights.with_extension(format!("{golden}.csv")));
    }
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

/// Every tenth image: labels, the five best classes, and their logits.
fn compare_logits(weights: &Path, name: &str, golden: &Path) {
    let network = NetworkConfig::new(NetworkName::MobileNetV2).build().unwrap();
    let weights = checkpoint::load(weights, network.tensors()).unwrap();
    let set = sandglass_data::open(name, Part::Validation, Some(1000)).unwrap();
    let transform = Transform::evaluation(&set, 1000, None, &Protocol::default()).unwrap();
    let mut engine = Engine::new(Arc::new(Runtime::new(2).unwrap()), &network, 224, 224, 1).unwrap();
    let golden = fs::read_to_string(golden).unwrap();
    let rows: Vec<Vec<&str>> = golden.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), set.len());
    let places: Vec<u32> = (0..set.len() as u32).step_by(10).collect();
    let some = set.subset("every tenth", &places);
    for (batch, &place) in Loader::evaluation(&some, transform, 1, 2).epoch(0, 0).zip(&places) {
        let batch = batch.unwrap();
        let row = &rows[place as usize];
        assert_eq!(batch.labels[0].to_string(), row[1], "{}", row[0]);
        let logits = engine.evaluate(&weights, &batch.images).unwrap().one().unwrap();
        for best in 0..5 {
            let (class, logit): (usize, f32) = (row[2 + best].parse().unwrap(), row[7 + best].parse().unwrap());
            assert!((logits[class] - logit).abs() < 1e-3, "{}: {} for {logit}", row[0], logits[class]);
            assert!(best > 0 || logits.iter().all(|&other| other <= logits[class]), "{}", row[0]);
        }
    }
}
