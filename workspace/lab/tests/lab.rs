//! Training and scoring on a few drawn images, and everything that must not become a number.

use std::path::Path;

use image::{Rgb, RgbImage};
use sandglass_data::{Dataset, Part};
use sandglass_files::{from_toml, sha256_file};
use sandglass_lab::{Card, Classifier, Compared, Given, ImageSetup, Lab, Recipes, Variant, Work};
use sandglass_models::{NetworkConfig, NetworkName, PaddingRule};
use sandglass_study::{Build, CellError};

const RECIPE: &str = "epochs = 2\nbatch = 4\nlr = 0.05\n[optimizer.sgd]\nmomentum = 0.9\nnesterov = true\n\
    [schedule.linear_warmup_cosine]\nwarmup_epochs = 0\n[augment]\nsmallest_area = 0.5\n";

fn lab() -> Lab {
    Lab::new(Some(1), &Build::new("c0ffee+changes", b"")).unwrap()
}

/// Images of several sizes below `folder/<part>/<class>`.
fn draw(folder: &Path, part: &str, count: u32) {
    for (at, class) in ["ant", "bee"].into_iter().enumerate() {
        let folder = folder.join(part).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let pixel =
                |x: u32, y: u32| Rgb([(x * (at as u32 * 7 + 1)) as u8, (y + 31 * number) as u8, part.len() as u8]);
            let image = RgbImage::from_fn(40 + number, 36 + at as u32, pixel);
            image.save_with_format(folder.join(format!("{number}.png")), image::ImageFormat::Png).unwrap();
        }
    }
}

fn cell(data: &Path, more: &str) -> Classifier {
    let data = data.display();
    let text = format!(
        "data = \"{data}\"\ninput = 32\nclasses = 2\ncrop_pct = 0.875\nstem_stride = 1\nrecipe = \"mine\"\nseeds = [0]\n{more}"
    );
    let setup: ImageSetup = from_toml(&text).unwrap();
    let networks = [Variant { network: "mobilenetv2".into(), paper: "MobileNetV2".into() }];
    let recipes = Recipes::from([("mine".to_owned(), sandglass_train::Recipe::from_toml(RECIPE).unwrap())]);
    setup.cells(Compared { networks: &networks, widths: &[0.1], recipes: &recipes }).unwrap().remove(0)
}

/// Networks from TensorFlow have a padding of their own, by which they were trained.
#[test]
fn what_is_scored_pads_as_it_was_trained_unless_given_weights_ask_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    for name in [NetworkName::MobileNeXtSeS, NetworkName::EfficientNetLite0, NetworkName::MobileNetV2] {
        let network = NetworkConfig::new(name);
        let cell = Classifier { network, ..cell(folder.path(), "") };
        assert_eq!(cell.graph().unwrap(), network.build().unwrap(), "{network}");
        let given = Classifier { padding: Some(PaddingRule::Same), ..cell };
        assert_eq!(given.graph().unwrap(), network.build().unwrap().with_padding(PaddingRule::Same), "{network}");
    }
}

#[test]
fn a_cell_is_trained_scored_and_carries_its_card() {
    let folder = tempfile::tempdir().unwrap();
    draw(&folder.path().join("data"), "train", 6);
    draw(&folder.path().join("data"), "val", 3);
    let cell = cell(&folder.path().join("data"), "evaluate_every = 5\n");
    let (lab, run) = (lab(), folder.path().join("run"));
    let file = lab.prepare(&cell, &run).unwrap();
    // Only the last epoch was due.
    assert_eq!((file.history.len(), file.history[0].0), (1, 2.0));
    assert_eq!(file.made_by, ["c0ffee+changes"]);
    let losses = file.values.iter().find(|value| value.metric == "train_loss").unwrap();
    assert_eq!((losses.samples.len(), losses.samples[1].1), (2, losses.value));
    assert!(file.seconds.unwrap() > 0.0 && run.join("recipe.toml").is_file());
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert_eq!(
        sandglass_train::Recipe::from_toml(&recipe).unwrap(),
        sandglass_train::Recipe::from_toml(RECIPE).unwrap()
    );

    let measured = lab.score(&cell, &file, None).unwrap();
    let value = |metric: &str| measured.values.iter().find(|value| value.metric == metric).unwrap();
    assert_eq!((value("top1").n, value("top5_count").value), (6, 6.0));
    let right = measured.predictions.iter().filter(|item| item.label == item.prediction).count() as f64;
    assert_eq!((value("top1_count").value, value("top1").value), (right, 100.0 * right / 6.0));
    let names: Vec<&str> = measured.predictions.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["ant/0.png", "ant/1.png", "ant/2.png", "bee/0.png", "bee/1.png", "bee/2.png"]);
    // The f16 file is what was scored: its score may differ from the last epoch's, its card says how to repeat it.
    let card = Card::read(&file.path).unwrap().unwrap();
    assert_eq!(
        (card.classes.clone(), card.input, card.evaluation.resize),
        (Some(vec!["ant".into(), "bee".into()]), Some(32), Some(36))
    );
    let set = |names: [&str; 2]| {
        let names = names.map(String::from).to_vec();
        Dataset::from_pixels("set", names, false, (1, 1), vec![0; 6], vec![0, 1]).unwrap()
    };
    card.check(&file.path, &set(["ant", "bee"])).unwrap();
    let error = card.check(&file.path, &set(["ant", "wasp"])).unwrap_err().to_string();
    assert!(error.contains("output 1 is \"bee\", but class 1 of set is \"wasp\""), "{error}");

    // Weights that are no numbers predict nothing.
    let bytes = std::fs::read(&file.path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let nans = [0x00, 0x7e].into_iter().cycle().take(bytes.len() - header);
    std::fs::write(&file.path, bytes[..header].iter().copied().chain(nans).collect::<Vec<u8>>()).unwrap();
    let Err(CellError::Failed(reason)) = lab.score(&cell, &file, None) else { panic!() };
    assert!(reason.contains("is of a checkpoint of SHA-256"), "{reason}");
    card.write(&file.path).unwrap();
    let Err(CellError::Failed(reason)) = lab.score(&cell, &file, None) else { panic!() };
    assert!(reason.contains("holds NaN"), "{reason}");
    std::fs::write(&file.path, bytes).unwrap();
    card.write(&file.path).unwrap();

    // A card that was changed is found: `eval` would print another number.
    let text = std::fs::read_to_string(Card::beside(&file.path)).unwrap();
    std::fs::write(Card::beside(&file.path), text.replace("resize = 36", "resize = 40")).unwrap();
    assert!(
        matches!(lab.score(&cell, &file, None), Err(CellError::Failed(reason)) if reason.contains("is not the card"))
    );

    // A finished run is not trained again, and an engine that is not here scores nothing.
    let again = lab.prepare(&cell, &run).unwrap();
    assert_eq!(sha256_file(&again.path).unwrap(), sha256_file(&file.path).unwrap());
    // Through a text file and back, so not to the last bit.
    assert!((again.seconds.unwrap() - file.seconds.unwrap()).abs() < 1e-9);
    assert!(matches!(lab.score(&cell, &file, Some("other")), Err(CellError::Skipped(_))));
}

/// In whatever door: no percentage of training images.
#[test]
fn a_set_without_a_validation_part_has_no_result() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path(), "images", 6);
    let cell = cell(&folder.path().join("images"), "");
    let Err(CellError::Skipped(reason)) = lab().prepare(&cell, &folder.path().join("run")) else { panic!() };
    assert!(reason.contains("has no validation part"), "{reason}");

    // A copy of the training images is none either.
    draw(&folder.path().join("twice"), "train", 6);
    for class in ["ant", "bee"] {
        let [from, to] = ["train", "val"].map(|part| folder.path().join("twice").join(part).join(class));
        std::fs::create_dir_all(&to).unwrap();
        for number in 0..6 {
            std::fs::copy(from.join(format!("{number}.png")), to.join(format!("{number}.png"))).unwrap();
        }
    }
    let cell = self::cell(&folder.path().join("twice"), "");
    let Err(CellError::Skipped(reason)) = lab().prepare(&cell, &folder.path().join("run")) else { panic!() };
    assert!(reason.contains("its validation images are its training images"), "{reason}");

    // Held-back training images are scored in place of a part that is there, not of one that is missing.
    draw(&folder.path().join("divided"), "train", 6);
    let shards = folder.path().join("shards");
    std::fs::create_dir(&shards).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/tests/fixtures/parquet/labels/int64.parquet");
    std::fs::copy(fixture, shards.join("train-00000-of-00001.parquet")).unwrap();
    for (data, classes) in [("divided", 2), ("shards", 3)] {
        let mut cell = self::cell(&folder.path().join(data), "");
        cell.network.classes = classes;
        let Err(CellError::Skipped(reason)) = lab().prepare(&cell, &folder.path().join("run")) else { panic!() };
        assert!(reason.contains("has no validation part"), "{reason}");
        // Nor is a checkpoint from somewhere scored on them.
        let scored = lab().score(&cell, &sandglass_study::Artefact::found(folder.path().join("none")), None);
        let Err(CellError::Skipped(reason)) = scored else { panic!() };
        assert!(reason.contains("has no validation part"), "{reason}");
    }
}

#[test]
fn held_back_images_are_scored_and_not_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    draw(&folder.path().join("data"), "train", 8);
    draw(&folder.path().join("data"), "val", 3);
    let cell = cell(&folder.path().join("data"), "holdout = 5\n");
    let lab = lab();
    let file = lab.prepare(&cell, &folder.path().join("run")).unwrap();
    let measured = lab.score(&cell, &file, None).unwrap();
    assert_eq!(measured.predictions.len(), 5);
    let training = sandglass_data::open(folder.path().join("data").to_str().unwrap(), Part::Train, Some(2)).unwrap();
    let names: Vec<String> = (0..training.len()).map(|at| training.image_name(at)).collect();
    assert!(measured.predictions.iter().all(|item| names.contains(&item.name)));
    // The rest, and no more, is what was trained on.
    let (rest, _) = training.split(5, 0).unwrap();
    assert_eq!((file.made_from.as_deref(), rest.len()), (Some(rest.hash()), 11));
    let scored: Vec<&str> = measured.predictions.iter().map(|item| item.name.as_str()).collect();
    assert!((0..rest.len()).all(|at| !scored.contains(&rest.image_name(at).as_str())));
}

#[test]
fn held_back_images_need_no_validation_part() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    draw(&data, "train", 6);
    let cell = cell(&data, "holdout = 5\n");
    let lab = lab();
    let file = lab.prepare(&cell, &folder.path().join("run")).unwrap();
    let measured = lab.score(&cell, &file, None).unwrap();
    assert_eq!(measured.predictions.len(), 5);
    // The same images, whether there are others beside them or not.
    let names = |measured: sandglass_study::Measurement| {
        measured.predictions.into_iter().map(|image| image.name).collect::<Vec<_>>()
    };
    draw(&data, "val", 3);
    let again = self::lab().score(&cell, &file, None).unwrap();
    assert_eq!(names(again), names(measured));
}

#[test]
fn copies_of_validation_images_under_another_label_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    draw(&data, "train", 6);
    draw(&data, "val", 3);
    std::fs::copy(data.join("val/ant/1.png"), data.join("train/bee/copy.png")).unwrap();
    let cell = cell(&data, "drop_copies = true\n");
    let lab = lab();
    let file = lab.prepare(&cell, &folder.path().join("run")).unwrap();
    let measured = lab.score(&cell, &file, None).unwrap();
    let left_out = file.values.iter().find(|value| value.metric == "copies_left_out").unwrap();
    assert_eq!((left_out.value, left_out.n), (1.0, 12));
    assert!(
        measured.values.iter().all(|value| value.metric != "copies_left_out"),
        "measuring the file knows nothing of it"
    );
}

#[test]
fn given_weights_are_known_by_their_hash_before_they_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    std::fs::write(&weights, b"no weights at all").unwrap();
    let given = |sha256: &str| Classifier {
        work: Work::Score(Given {
            network: "mobilenetv2".into(),
            width: 0.1,
            weights: weights.display().to_string(),
            sha256: sha256.into(),
            data: "embedded".into(),
        }),
        ..cell(Path::new("embedded"), "")
    };
    let lab = lab();
    let Err(CellError::Failed(reason)) = lab.prepare(&given("00"), folder.path()) else { panic!() };
    assert!(reason.contains("has SHA-256") && reason.contains("not 00"), "{reason}");
    let hash = sha256_file(&weights).unwrap();
    lab.prepare(&given(&hash), folder.path()).unwrap();
    lab.prepare(&given(&hash.to_uppercase()), folder.path()).unwrap();
    std::fs::remove_file(&weights).unwrap();
    assert!(matches!(lab.prepare(&given(&hash), folder.path()), Err(CellError::Skipped(_))));
}

/// Beside a link first, then beside what it leads to, as hubs keep their files.
#[cfg(unix)]
#[test]
fn the_card_of_a_link_is_found() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let [kept, linked] = ["kept", "linked"].map(|place| folder.path().join(place));
    for place in [&kept, &linked] {
        std::fs::create_dir(place).unwrap();
    }
    let (target, link) = (kept.join("model.safetensors"), linked.join("best.safetensors"));
    std::fs::write(&target, "").unwrap();
    symlink(&target, &link).unwrap();
    assert!(Card::read(&link).unwrap().is_none() && Card::read(&linked.join("nothing.pth")).unwrap().is_none());
    let card = |width| {
        format!(
            "network = \"mobilenetv2\"\nwidth = {width:?}\nstem_stride = 1\ninput = 32\nclasses = []\n[evaluation]\n"
        )
    };
    std::fs::write(kept.join("model.toml"), card(0.5)).unwrap();
    let width = || Card::read(&link).unwrap().unwrap().width;
    assert_eq!(width(), 0.5);
    std::fs::write(linked.join("best.toml"), card(0.25)).unwrap();
    assert_eq!(width(), 0.25);
    // A card that leads nowhere is there and cannot be read: it is not taken for none.
    std::fs::remove_file(linked.join("best.toml")).unwrap();
    symlink(folder.path().join("nowhere.toml"), linked.join("best.toml")).unwrap();
    assert!(Card::read(&link).unwrap_err().to_string().contains("best.toml"));
}
