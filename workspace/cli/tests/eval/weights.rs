//! Checkpoints as others write them: states, background classes, names; and the real ones, where they are at hand.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sandglass_data::{Loader, Part, Protocol, Transform, find_data};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use sandglass_ops::Runtime;
use sandglass_train::{Engine, initialise};
use tempfile::TempDir;

use super::{constant, eval, json, refusal, saved};

/// A pipe is not waited for, in whatever place.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 10, |_| ());
    let pipe = folder.path().join("pipe.safetensors");
    let mkfifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    mkfifo(&pipe);
    let refused = |model: &str, weights: &str, data: &str| {
        refusal(&["--model", model, "--width", "0.1", "--weights", weights, "--data", data])
    };
    for model in ["mobilenetv2", "ssdlite_mobilenetv2"] {
        let weights = |path: &Path| refused(model, path.to_str().unwrap(), "embedded");
        assert!(weights(&pipe).contains("pipe.safetensors: it is a named pipe, not a file"));
        assert!(weights(Path::new("/dev/null")).contains("/dev/null: it is a device, not a file"));
        assert!(weights(folder.path()).contains("it is a folder, not a file"));
    }
    assert!(
        refused("mobilenetv2", path.to_str().unwrap(), pipe.to_str().unwrap()).contains("neither a file nor a folder")
    );
    assert!(refused("mobilenetv2", path.to_str().unwrap(), "/dev/null").contains("neither a file nor a folder"));
    mkfifo(&path.with_extension("toml"));
    let line = refused("mobilenetv2", path.to_str().unwrap(), "embedded");
    assert!(line.contains("model.toml: it is a named pipe, not a file"), "{line}");
}

/// An average without statistics beside the raw weights: not taken, and not passed over in silence.
#[test]
fn a_state_that_is_not_whole_is_said() {
    let folder = TempDir::new().unwrap();
    let config = NetworkConfig { width: 0.1, classes: 10, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let raw = initialise(config.build().unwrap().tensors(), 1);
    let mut both = raw.clone();
    both.specs.iter_mut().for_each(|spec| spec.name = format!("model.{}", spec.name));
    for (spec, values) in raw.specs.iter().zip(&raw.values).filter(|(spec, _)| !spec.name.contains("running_")) {
        both.specs.push(sandglass_models::TensorSpec { name: format!("ema.{}", spec.name), ..spec.clone() });
        both.values.push(values.clone());
    }
    let path = folder.path().join("both.safetensors");
    checkpoint::save(&path, &both, SaveType::F32).unwrap();
    let weights = ["--weights", path.to_str().unwrap(), "--data", "embedded"];
    let model = [&["--model", "mobilenetv2", "--width", "0.1"], &weights[..]].concat();
    let told = "ema (104 missing, such as features.0.1.running_mean)";
    let score = json(&model);
    assert_eq!((&score["weights"]["state"], &score["incomplete"]), (&"model".into(), &serde_json::json!([told])));
    let text = String::from_utf8(eval(&model).stdout).unwrap();
    assert!(text.contains(&format!("beside these weights, not whole and not taken: {told}\n")), "{text}");
    let nope = refusal(&[&model[..], &["--state", "nope"]].concat());
    assert!(nope.contains("no state nope in it, but the states ema (158 tensors), model (262 tensors)"), "{nope}");
}

/// TensorFlow's networks have a background class before all others.
#[test]
fn a_background_class_is_left_out_or_hinted_at() {
    let folder = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    for (class, file) in [("n01440764", "colour.jpg"), ("n15075141", "grey.jpg")] {
        let place = folder.path().join("data").join(class);
        fs::create_dir_all(&place).unwrap();
        fs::copy(fixtures.join(file), place.join("1.JPEG")).unwrap();
    }
    let data = folder.path().join("data");
    // Output 1000 is class 999; the background would win if it were there.
    let mut bias = vec![0.0; 1001];
    (bias[1000], bias[0]) = (1.0, 2.0);
    let path = saved(folder.path(), 1001, constant(Box::leak(bias.into_boxed_slice())));
    let weights = ["--weights", path.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let model = [&["--model", "mobilenetv2", "--width", "0.1"], &weights[..]].concat();
    assert!(refusal(&model).contains("--background 0 leaves it out"));
    let score = json(&[&model[..], &["--background", "0"]].concat());
    assert_eq!((&score["classes"], &score["top1_count"]), (&1000.into(), &1.into()));
    assert!(refusal(&[&model[..], &["--background", "1001"]].concat()).contains("has 1001 outputs"));
    let numbers = fixtures.join("parquet/labels/int64.parquet");
    let model = [&model[..6], &["--data", numbers.to_str().unwrap()]].concat();
    assert!(refusal(&model).contains("--background 0 leaves it out"), "labels without names too");
}

/// Raw and averaged weights in one file.
#[test]
fn a_state_is_chosen_and_said() {
    let folder = TempDir::new().unwrap();
    let config = NetworkConfig { width: 0.1, classes: 10, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let mut both = initialise(config.build().unwrap().tensors(), 1);
    let averaged = initialise(config.build().unwrap().tensors(), 2);
    both.specs.iter_mut().for_each(|spec| spec.name = format!("model.{}", spec.name));
    let names = averaged.specs.iter().cloned();
    both.specs
        .extend(names.map(|spec| sandglass_models::TensorSpec { name: format!("ema.module.{}", spec.name), ..spec }));
    both.values.extend(averaged.values.clone());
    let path = folder.path().join("both.safetensors");
    checkpoint::save(&path, &both, SaveType::F32).unwrap();
    let weights = ["--weights", path.to_str().unwrap(), "--data", "embedded"];
    let model = [&["--model", "mobilenetv2", "--width", "0.1"], &weights[..]].concat();
    assert!(refusal(&model).contains("several states that fit, ema.module, model: --state chooses one"));
    let score = json(&[&model[..], &["--state", "ema"]].concat());
    assert_eq!(score["weights"]["state"], "ema.module");
    let alone = folder.path().join("alone.safetensors");
    checkpoint::save(&alone, &averaged, SaveType::F32).unwrap();
    let weights = ["--weights", alone.to_str().unwrap(), "--data", "embedded"];
    let plain = json(&[&["--model", "mobilenetv2", "--width", "0.1"], &weights[..]].concat());
    assert_eq!((&score["cross_entropy"], &score["top1_count"]), (&plain["cross_entropy"], &plain["top1_count"]));
}

/// Where a data root holds TensorFlow's weights: their counts through SAME padding and inputs from -1 to 1; and those of
/// width 1.0 in the names of transformers, as its checkpoints are: with a background class and the eps of TensorFlow.
#[test]
fn tensorflows_weights_score_what_tensorflow_gives() {
    let tensorflow = |weights: &Path, width: &str, more: &[&str]| {
        let weights = ["--weights", weights.to_str().unwrap(), "--data", "imagenet_val_910"];
        let score = json(&[&["--model", "mobilenetv2", "--width", width], &weights[..], more].concat());
        (score["top1_count"].as_u64().unwrap(), score["top5_count"].as_u64().unwrap())
    };
    if let Some(weights) = find_data("weights/mobilenet_v2_0.5_imagenet_tfqat.safetensors") {
        assert_eq!(tensorflow(&weights, "0.5", &["--preset", "tensorflow"]), (676, 841));
    }
    let Some(weights) = find_data("weights/mobilenet_v2_1.0_imagenet_tf2ptq.safetensors") else {
        eprintln!("skipped: no real weights");
        return;
    };
    let network = NetworkConfig::new(NetworkName::MobileNetV2).build().unwrap();
    let mut weights = checkpoint::load(&weights, network.tensors()).unwrap();
    for (spec, values) in weights.specs.iter_mut().zip(&mut weights.values) {
        spec.name = in_transformers_names(&spec.name);
        if spec.name.ends_with("normalization.weight") {
            values.iter_mut().for_each(|value| *value *= ((1.0f64 + 1e-3) / (1.0 + 1e-5)).sqrt() as f32);
        } else if let Some(row) =
            spec.name.strip_prefix("classifier.").map(|leaf| if leaf == "bias" { 1 } else { 1280 })
        {
            // A background that would always win.
            values.splice(0..0, vec![if row == 1 { 100.0 } else { 0.0 }; row]);
            spec.shape[0] += 1;
        }
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("transformers.safetensors");
    checkpoint::save(&path, &weights, SaveType::F32).unwrap();
    let more = ["--background", "0", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"];
    assert_eq!(tensorflow(&path, "1.0", &more), (710, 855));
}

/// Transformers' weights do not say what they were fed, and are mostly TensorFlow's; whoever says it is told nothing.
#[test]
fn what_transformers_weights_are_mostly_fed_is_hinted_at() {
    let folder = TempDir::new().unwrap();
    let torchvisions: fn(&str) -> String = str::to_owned;
    let hint = |in_names: fn(&str) -> String, more: &[&str]| {
        let path = saved(folder.path(), 10, |weights| {
            weights.specs.iter_mut().for_each(|spec| spec.name = in_names(&spec.name));
        });
        let weights = ["--weights", path.to_str().unwrap(), "--data", "embedded"];
        json(&[&["--model", "mobilenetv2", "--width", "0.1"], &weights[..], more].concat())["hint"].clone()
    };
    assert!(hint(in_transformers_names, &[]).as_str().unwrap().contains("--preset tensorflow"));
    assert!(hint(in_transformers_names, &["--preset", "tensorflow"]).is_null());
    assert!(hint(torchvisions, &[]).is_null());
}

fn in_transformers_names(name: &str) -> String {
    let (place, leaf) = name.rsplit_once('.').unwrap();
    let at = |place: &str, part: &str| format!("mobilenet_v2.{place}.{part}.{leaf}");
    let parts: Vec<&str> = place.split('.').collect();
    let part = |conv: &str| if parts.last() == Some(&conv) { "convolution" } else { "normalization" };
    match parts[..] {
        ["classifier", _] => format!("classifier.{leaf}"),
        ["features", "0", _] => at("conv_stem.first_conv", part("0")),
        ["features", "18", _] => at("conv_1x1", part("0")),
        ["features", "1", "conv", "0", _] => at("conv_stem.conv_3x3", part("0")),
        ["features", "1", "conv", _] => at("conv_stem.reduce_1x1", part("1")),
        ["features", block, "conv", ref rest @ ..] => {
            let layer = format!("layer.{}", block.parse::<usize>().unwrap() - 2);
            match rest {
                ["0", _] => at(&format!("{layer}.expand_1x1"), part("0")),
                ["1", _] => at(&format!("{layer}.conv_3x3"), part("0")),
                _ => at(&format!("{layer}.reduce_1x1"), part("2")),
            }
        }
        _ => panic!("{name}"),
    }
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
