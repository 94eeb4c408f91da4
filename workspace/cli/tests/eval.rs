//! The real binary's `eval`: on scores known by construction, on real weights where they are at hand, and its refusals.

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
    // A card of another number of classes is another checkpoint's: neither data nor weights are blamed.
    for classes in ["[]", "[\"0\"]", "[\"a\", \"b\", \"c\"]"] {
        card(&text.replace("[\"a\", \"b\"]", classes));
        let count = classes.matches(',').count() + usize::from(classes != "[]");
        let told = format!("model.toml: lists {count} classes, and the classifier beside it has 2 outputs");
        assert!(refusal(&model).contains(&told), "{classes}");
    }
}

/// The classifier's answer is class 10, whatever the image.
#[test]
fn classes_that_are_called_by_numbers_are_scored_by_name() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 11, |weights| {
        let [.., weight, bias] = &mut weights.values[..] else { panic!() };
        weight.fill(0.0);
        bias.fill(0.0);
        bias[10] = 1.0;
    });
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures/colour.jpg");
    let data = folder.path().join("data");
    for class in 0..11 {
        let place = data.join(class.to_string());
        fs::create_dir_all(&place).unwrap();
        // Class 10 has two of the twelve images, and output 10 is class 9 where names are sorted.
        for copy in 0..1 + class / 10 {
            fs::copy(&image, place.join(format!("{copy}.jpg"))).unwrap();
        }
    }
    let card = |classes: &[String]| {
        let text = format!(
            "network = \"mobilenetv2\"\nwidth = 0.1\nstem_stride = 2\ninput = 32\nclasses = {classes:?}\n[evaluation]\n"
        );
        fs::write(path.with_extension("toml"), text).unwrap();
    };
    let model = ["--model", "mobilenetv2", "--weights", path.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let mut classes: Vec<String> = (0..11).map(|class| class.to_string()).collect();
    card(&classes);
    let score = json(&model);
    assert_eq!((&score["top1_count"], &score["n"]), (&2.into(), &12.into()));
    assert_eq!((&score["labels"], &score["labels_compared_with"]), (&"by name".into(), &"card".into()));
    classes.sort();
    card(&classes);
    assert_eq!(json(&model)["top1_count"], 1);
    // Called from 1 on, they are other classes.
    fs::rename(data.join("0"), data.join("11")).unwrap();
    classes = (0..11).map(|class| class.to_string()).collect();
    card(&classes);
    assert!(refusal(&model).contains("output 0 is \"0\", but class 0 of data is \"1\""));
}

#[test]
fn a_validation_part_that_is_the_training_part_has_no_score() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 2, |_| ());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let data = folder.path().join("data");
    for place in ["train/a", "train/b", "val/a", "val/b"] {
        fs::create_dir_all(data.join(place)).unwrap();
        fs::copy(fixtures.join("colour.jpg"), data.join(place).join("1.jpg")).unwrap();
    }
    let data = data.to_str().unwrap();
    let model = ["--model", "mobilenetv2", "--width", "0.1", "--weights", path.to_str().unwrap(), "--data", data];
    assert!(refusal(&model).contains("its validation images are its training images"));
    // Who names the training images has them scored.
    let training = format!("{data}/train");
    assert_eq!(json(&[&model[..7], &[&training, "--input", "32"]].concat())["n"], 2);
}

#[test]
fn training_images_among_those_that_are_scored_are_counted() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 2, |_| ());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let data = folder.path().join("data");
    for (place, file) in [
        ("train/a/1.jpg", "colour.jpg"),
        ("train/b/1.jpg", "half.jpg"),
        ("val/a/one.jpg", "grey.jpg"),
        ("val/b/one.jpg", "colour.jpg"),
    ] {
        let place = data.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(fixtures.join(file), place).unwrap();
    }
    let of = ["--model", "mobilenetv2", "--width", "0.1", "--input", "32", "--weights", path.to_str().unwrap()];
    let model = [&of[..], &["--data", data.to_str().unwrap()]].concat();
    let score = json(&model);
    assert_eq!((&score["also_in_training"], &score["n"], &score["transparent"]), (&1.into(), &2.into(), &0.into()));
    let text = String::from_utf8(eval(&model).stdout).unwrap();
    assert!(text.contains("part: val/; 1 of its images are training images too\n"), "{text}");
    let alone = data.join("val");
    assert_eq!(json(&[&of[..], &["--data", alone.to_str().unwrap()]].concat())["also_in_training"], Value::Null);
}

/// As torchvision sorts folders, or as numbers go: of a classifier that was trained elsewhere only its user knows.
#[test]
fn the_order_of_classes_that_are_numbers_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = saved(folder.path(), 11, constant(&[0., 0., 9., 0., 0., 0., 0., 0., 0., 0., 0.]));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let data = folder.path().join("data");
    for class in 0..11 {
        let place = data.join(class.to_string());
        fs::create_dir_all(&place).unwrap();
        // Of class 2 there are two, of class 10 one.
        fs::copy(fixtures.join("colour.jpg"), place.join("1.jpg")).unwrap();
    }
    fs::copy(fixtures.join("half.jpg"), data.join("2/2.jpg")).unwrap();
    let of = ["--model", "mobilenetv2", "--width", "0.1", "--input", "32", "--weights", path.to_str().unwrap()];
    let model = [&of[..], &["--data", data.to_str().unwrap()]].concat();
    let refused = refusal(&model);
    assert!(refused.contains("its classes are called by numbers, and as text 10 comes before 2"), "{refused}");
    let right = |order: &str| json(&[&model[..], &["--class-order", order]].concat())["top1_count"].clone();
    assert_eq!((right("text"), right("number")), (1.into(), 2.into()), "output 2 is class 10, or class 2");
    // Labels that spell the same numbers: of 2 there are two, of 10 one.
    let digits = fixtures.join("parquet/labels/digits.parquet");
    let digits = [&of[..], &["--data", digits.to_str().unwrap()]].concat();
    let right = |order: &[&str]| json(&[&digits[..], order].concat())["top1_count"].clone();
    assert_eq!(right(&["--class-order", "text"]), 1);
    assert_eq!((right(&["--class-order", "number"]), right(&[])), (2.into(), 2.into()));
    let numbers = fixtures.join("parquet/labels/int64.parquet");
    let of = [&of[..], &["--data", numbers.to_str().unwrap(), "--class-order", "text"]].concat();
    assert!(refusal(&of).contains("are not called by numbers, and its labels are taken by number"));
}

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
    let protocol = |input: u32, resize: u32, interpolation: &str, mean: [f32; 3], std: [f32; 3]| serde_json::json!({"input": [input, input], "resize": resize, "interpolation": interpolation, "mean": mean, "std": std});
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    assert_eq!(plain["protocol"], protocol(32, 32, "bilinear", mean, std));
    assert_eq!(
        plain["weights"],
        serde_json::json!({"names": "torchvision", "state": "", "padding": "symmetric", "norm_eps": 1e-5f32})
    );

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
    assert!(text.contains("data: 3 images of 2 classes, 1 file passed over (1 txt)\n"), "{text}");
    assert!(text.contains("weights: torchvision names, symmetric padding, batch norm eps 1e-5\n"), "{text}");
}

/// Names decide where both sides have them, and the output says what was compared with what.
#[test]
fn labels_are_the_cards_by_name_and_the_part_is_said() {
    let folder = TempDir::new().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures/parquet");
    // Its file lists cat, dog, frog, and holds a dog and a frog. The answer is output 0.
    let hub = fixtures.join("hub");
    let path = saved(folder.path(), 3, constant(&[9.0, 0.0, 0.0]));
    let weights = path.to_str().unwrap();
    let model = |data: &Path| {
        let data = data.to_str().unwrap().to_owned();
        ["--model", "mobilenetv2", "--width", "0.1", "--weights", weights, "--data", &data].map(String::from)
    };
    let score = |data: &Path| json(&model(data).each_ref().map(|word| &**word));
    let by_count = score(&hub);
    assert_eq!((&by_count["top1_count"], &by_count["labels_compared_with"]), (&0.into(), &"count".into()));
    let card = |classes: &str| {
        let text =
            format!("network = \"mobilenetv2\"\nwidth = 0.1\nstem_stride = 2\nclasses = {classes}\n[evaluation]\n");
        fs::write(path.with_extension("toml"), text).unwrap();
    };
    card("[\"frog\", \"cat\", \"dog\"]");
    let by_card = score(&hub);
    assert_eq!((&by_card["top1_count"], &by_card["labels_compared_with"]), (&1.into(), &"card".into()));
    assert_eq!(by_card["part"], "plain_text/test-00000-of-00001.parquet");
    let refused = |data: &Path| refusal(&model(data).each_ref().map(|word| &**word));
    card("[\"frog\", \"cat\", \"hen\"]");
    assert!(refused(&hub).contains("output 0 is \"frog\", but class 0 of hub is \"cat\""), "{}", refused(&hub));
    card("[\"frog\", \"cat\", \"frog\"]");
    assert!(refused(&hub).contains("two outputs are called \"frog\""), "{}", refused(&hub));
    fs::remove_file(path.with_extension("toml")).unwrap();

    let text = fixtures.join("labels/text.parquet");
    assert_eq!(score(&text)["labels"], "by alphabetical order");
    let said = String::from_utf8(eval(&model(&text).each_ref().map(|word| &**word)).stdout).unwrap();
    assert!(said.contains("data: 3 images of 3 classes in alphabetical order"), "{said}");
    assert!(said.contains("\npart: text.parquet\n"), "{said}");
    assert!(
        said.contains("labels: by alphabetical order in column label, in the set's own order: the classifier"),
        "{said}"
    );

    let numbers = fixtures.join("labels/int64.parquet");
    assert_eq!((&score(&numbers)["labels"], &by_card["beside"]), (&"by number".into(), &serde_json::json!([])));
    // A dog and a frog, and no cat; outputs that no label has.
    assert_eq!(by_card["classes_without_image"], serde_json::json!([1]));
    let path = folder.path().join("five");
    fs::create_dir(&path).unwrap();
    let five = saved(&path, 5, |_| ());
    let arguments = ["--width", "0.1", "--data", numbers.to_str().unwrap(), "--weights", five.to_str().unwrap()];
    let arguments = [&["--model", "mobilenetv2"][..], &arguments].concat();
    assert_eq!(json(&arguments)["classes_without_image"], serde_json::json!([3, 4]));
    let said = String::from_utf8(eval(&arguments).stdout).unwrap();
    assert!(said.contains("data: 3 images of 3 classes by number, 2 classes have no image (3, 4)"), "{said}");
    let scale = model(&hub).into_iter().chain(["--std".to_owned(), "58.4,57.1,57.4".to_owned()]).collect::<Vec<_>>();
    let scale: Vec<&str> = scale.iter().map(String::as_str).collect();
    assert!(refusal(&scale).contains("pixels are in 0..1"));
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
    let (score, text) = said(&path, &[]);
    assert_eq!((&score["stem_stride"], &score["identity_div"], &score["card"]), (&2.into(), &1.into(), &Value::Null));
    assert_eq!(score["assumed"], serde_json::json!(["stem_stride", "input", "resize", "mean", "std"]));
    let end = "network: stem stride 2\n\
               no card beside the weights: at their defaults are stem_stride, input, resize, mean, std\n";
    assert!(text.ends_with(end), "{text}");

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
