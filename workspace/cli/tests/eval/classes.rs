//! Which images are scored, and which output each label is.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{constant, eval, json, refusal, saved};

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
        said.contains(
            "labels: by place in the set's own order, which is by alphabetical order in column label: the classifier"
        ),
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
