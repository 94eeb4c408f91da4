//! What the output says of data, protocol and weights.

use std::fs;
use std::path::Path;

use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use sandglass_train::initialise;
use serde_json::Value;
use tempfile::TempDir;

use super::{eval, json, refusal, saved};

/// What a card says and the arguments do not follow is said.
#[test]
fn what_overrules_the_card_is_said() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 10, |_| ());
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let facts = "network = \"mobilenetv2\"\nwidth = 0.1\nstem_stride = 2\ninput = 32\n";
    fs::write(path.with_extension("toml"), format!("{facts}classes = {classes:?}\n[evaluation]\n")).unwrap();
    let model = ["--model", "mobilenetv2", "--data", "embedded", "--weights", path.to_str().unwrap()];
    assert_eq!(json(&model)["overruled"], serde_json::json!([]));
    let preset = [&model[..], &["--preset", "tensorflow", "--input", "64"]].concat();
    assert_eq!(json(&preset)["overruled"], serde_json::json!(["input", "resize", "mean", "std", "padding"]));
    let text = String::from_utf8(eval(&preset).stdout).unwrap();
    let whose = "/model.toml, which does not say by SHA-256 of which file it is";
    assert!(text.ends_with(&format!("{whose}; not as it says: input, resize, mean, std, padding\n")), "{text}");
    // The names imply symmetric padding, by which it was trained.
    let same = json(&[&model[..], &["--padding", "same"]].concat());
    assert_eq!(same["overruled"], serde_json::json!(["padding"]));
    assert_eq!(json(&[&model[..], &["--padding", "symmetric"]].concat())["overruled"], serde_json::json!([]));
    let refused = refusal(&[&model[..], &["--background", "0"]].concat());
    assert!(refused.ends_with("has 9 outputs when --background 0 has left one out\n"), "{refused}");
    // Weights that do not fit what the card says may be sound.
    let wide = facts.replace("0.1", "0.2");
    fs::write(path.with_extension("toml"), format!("{wide}classes = {classes:?}\n[evaluation]\n")).unwrap();
    let refused = refusal(&model);
    assert!(refused.contains("shaped as ") && refused.contains("/model.toml says: "), "{refused}");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(!refusal(&model).contains("shaped as "), "weights that are cut are no card's fault");
}

/// Two classes of images that are all of one size or not, a network of two outputs.
fn two_classes(folder: &Path) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    for (place, file) in [("a/1.jpg", "colour.jpg"), ("b/1.jpg", "grey.jpg"), ("b/2.webp", "formats/lossless.webp")] {
        let place = folder.join("data").join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(fixtures.join(file), place).unwrap();
    }
    fs::write(folder.join("data/a/notes.txt"), "").unwrap();
    folder.join("data").to_str().unwrap().to_owned()
}

#[test]
fn what_was_read_and_how_it_was_scored_is_said() {
    let folder = TempDir::new().unwrap();
    let data = two_classes(folder.path());
    let path = saved(folder.path(), 2, |_| ());
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", &data];
    let with = |more: &[&str]| json(&[&model[..], more].concat());

    let plain = with(&["--input", "32"]);
    assert_eq!((&plain["n"], &plain["data_classes"], &plain["labels"]), (&3.into(), &2.into(), &"by name".into()));
    assert_eq!(plain["passed_over"], serde_json::json!({"txt": 1}));
    let protocol = |input: u32, resize: u32, interpolation: &str, mean: [f64; 3], std: [f64; 3]| serde_json::json!({"input": [input, input], "resize": resize, "interpolation": interpolation, "mean": mean, "std": std});
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    assert_eq!(plain["protocol"], protocol(32, 32, "bilinear", mean, std));
    assert_eq!(
        plain["weights"],
        serde_json::json!({"names": "torchvision", "state": "", "padding": "symmetric", "norm_eps": 1e-5, "class_lists_not_read": []})
    );
    assert_eq!((&plain["sorted_by_bytes_alone"], &plain["not_compared_with_training"]), (&false.into(), &Value::Null));

    let torchvision = with(&["--preset", "torchvision"]);
    assert_eq!(torchvision["protocol"], protocol(224, 256, "bilinear", mean, std));
    let tensorflow = with(&["--preset", "tensorflow"]);
    assert_eq!(tensorflow["protocol"], protocol(224, 256, "bilinear", [0.5; 3], [0.5; 3]));
    assert_eq!(tensorflow["weights"]["padding"], "same");
    let said =
        ["--input", "224", "--resize", "256", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--padding", "same"];
    assert_eq!(with(&said), tensorflow, "a preset is nothing but its options");
    // What is said beside a preset holds, and each option changes the numbers.
    let mut seen = vec![tensorflow["cross_entropy"].to_string()];
    for more in [
        &["--interpolation", "bicubic"][..],
        &["--resize", "240"],
        &["--mean", "0.4,0.5,0.5"],
        &["--std", "0.5,0.5,0.6"],
        &["--padding", "symmetric"],
        &["--input", "192"],
    ] {
        let score = with(&[&["--preset", "tensorflow"], more].concat())["cross_entropy"].to_string();
        assert!(!seen.contains(&score), "{more:?} changes nothing");
        seen.push(score);
    }
    assert!(refusal(&[&model[..], &["--mean", "0.5,0.5"]].concat()).contains("--mean: three numbers"));
    assert!(refusal(&[&model[..], &["--std", "0,1,1"]].concat()).contains("std [0.0, 1.0, 1.0]"));

    let text = String::from_utf8(eval(&[&model[..], &["--input", "32"]].concat()).stdout).unwrap();
    assert!(text.contains(&format!("from: {data}\n")) && plain["place"] == data.as_str(), "{text}");
    assert!(text.contains("data: 3 images of 2 classes, 1 file passed over (1 txt)\n"), "{text}");
    assert!(text.contains("weights: torchvision names, symmetric padding, batch norm eps 1e-5\n"), "{text}");
    assert!(text.contains("top-5 says nothing of a classifier whose outputs are 2\n"), "{text}");
}

/// What no tensor tells is said with where it is from: arguments, card, or nothing but a default.
#[test]
fn what_is_assumed_is_said() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 10, |_| ());
    let model = |weights: &Path| {
        ["--model", "mobilenetv2", "--width", "0.1", "--data", "embedded", "--weights", weights.to_str().unwrap()]
            .map(str::to_owned)
    };
    let said = |weights: &Path, more: &[&str]| {
        let model = model(weights);
        let arguments: Vec<&str> = model.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = eval(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (json(&arguments), String::from_utf8(output.stdout).unwrap())
    };
    let without = ["--model", "mobilenetv2", "--data", "embedded", "--weights", path.to_str().unwrap()];
    let refused = refusal(&without);
    assert!(refused.contains("not of width 1, but of 0.1: "), "{refused}");
    let (score, text) = said(&path, &[]);
    assert_eq!((&score["stem_stride"], &score["identity_div"], &score["card"]), (&2.into(), &1.into(), &Value::Null));
    assert_eq!(score["assumed"], serde_json::json!(["stem_stride", "input", "resize", "mean", "std"]));
    let end = "network: stem stride 2\n\
               no card beside the weights: at their defaults are stem_stride, input, resize, mean, std\n";
    assert!(text.ends_with(end), "{text}");

    // As the hub has it; nothing of it is read.
    fs::write(path.with_file_name("config.json"), "{\"id2label\": {\"0\": \"dog\"}}").unwrap();
    let (score, text) = said(&path, &[]);
    assert_eq!(score["beside_not_read"], serde_json::json!(["config.json (id2label)"]));
    assert!(text.contains("config.json (id2label) beside them may say what outputs and protocol are"), "{text}");
    fs::remove_file(path.with_file_name("config.json")).unwrap();

    let asked = ["--stem-stride", "1", "--input", "32", "--mean", "0.5,0.5,0.5"];
    let (score, text) = said(&path, &asked);
    assert_eq!((&score["stem_stride"], &score["assumed"]), (&1.into(), &serde_json::json!(["resize", "std"])));
    assert!(text.ends_with("network: stem stride 1\nno card beside the weights: at their defaults are resize, std\n"));
    let (score, text) = said(&path, &["--stem-stride", "2", "--preset", "torchvision", "--input", "32"]);
    assert_eq!(score["assumed"], serde_json::json!([]));
    assert!(text.ends_with("no card beside the weights\n"), "{text}");

    // A card says it all, also that of what a link leads to.
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let facts = "network = \"mobilenetv2\"\nwidth = 0.1\nstem_stride = 1\ninput = 32\n";
    fs::write(path.with_extension("toml"), format!("{facts}classes = {classes:?}\n[evaluation]\n")).unwrap();
    let links = folder.path().join("links");
    fs::create_dir(&links).unwrap();
    #[cfg(unix)]
    {
        let link = links.join("best.safetensors");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let (score, text) = said(&link, &[]);
        assert_eq!((&score["stem_stride"], &score["assumed"]), (&1.into(), &serde_json::json!([])));
        assert!(score["card"].as_str().unwrap().ends_with("/model.toml"), "{score}");
        assert!(
            text.contains("network: stem stride 1\ncard: ") && text.contains("/model.toml, which does not say"),
            "{text}"
        );
    }

    // Only MobileNeXt has an identity divisor, and its name may say it.
    let config = NetworkConfig { width: 0.1, classes: 10, ..NetworkConfig::new(NetworkName::MobileNeXt) };
    let next = folder.path().join("next.safetensors");
    checkpoint::save(&next, &initialise(config.build().unwrap().tensors(), 1), SaveType::F32).unwrap();
    let of = |model: &str| {
        let weights = next.to_str().unwrap();
        json(&[
            "--model",
            model,
            "--width",
            "0.1",
            "--stem-stride",
            "2",
            "--preset",
            "torchvision",
            "--input",
            "32",
            "--data",
            "embedded",
            "--weights",
            weights,
        ])
    };
    let (whole, half) = (of("mobilenext"), of("mobilenext_div2"));
    assert_eq!((&whole["identity_div"], &whole["assumed"]), (&1.into(), &serde_json::json!(["identity_div"])));
    assert_eq!((&half["identity_div"], &half["assumed"]), (&2.into(), &serde_json::json!([])));
    assert_ne!(whole["cross_entropy"], half["cross_entropy"]);
}
