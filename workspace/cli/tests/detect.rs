//! The real binary's `detect`: on detections known by construction, on the real weights where they are at hand, and its
//! refusals.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{json_of, refused, saved_detector};
use image::{ImageFormat, RgbImage};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{NetworkConfig, NetworkName};
use sandglass_train::initialise;
use serde_json::Value;
use tempfile::TempDir;

fn detect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).arg("detect").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    json_of(detect(&[arguments, &["--json"]].concat()))
}

fn refusal(arguments: &[&str]) -> String {
    refused(detect(arguments))
}

fn image(folder: &Path, name: &str, (width, height): (u32, u32), grey: u8) -> String {
    let path = folder.join(name);
    RgbImage::from_pixel(width, height, image::Rgb([grey; 3])).save_with_format(&path, ImageFormat::Png).unwrap();
    path.display().to_string()
}

#[test]
fn what_the_weights_say_is_found_and_drawn_on_every_size_and_ground() {
    let folder = TempDir::new().unwrap();
    let weights = saved_detector(folder.path()).display().to_string();
    let out = folder.path().join("out").display().to_string();
    let sizes = [(100, 60), (37, 100), (900, 4000), (1, 1)];
    let images: Vec<String> = (sizes.iter().zip([0, 255, 128, 255]).enumerate())
        .map(|(at, (size, grey))| image(folder.path(), &format!("image{at}.png"), *size, grey))
        .collect();
    let mut arguments: Vec<&str> = images.iter().map(String::as_str).collect();
    arguments.extend(["--weights", &weights, "--width", "0.1", "--input", "64", "--out", &out]);
    let report = json(&arguments);
    assert_eq!(report["detector"]["network"], "ssdlite_mobilenetv2", "its tensors say which it is");
    for (found, (width, height)) in report["images"].as_array().unwrap().iter().zip(sizes) {
        let [dog] = found["detections"].as_array().unwrap().as_slice() else { panic!("{found}") };
        assert_eq!((dog["name"].as_str(), dog["class"].as_u64()), (Some("dog"), Some(11)));
        assert!(dog["score"].as_f64().unwrap() > 0.99);
        // A square of sqrt(270 * 320) / 320 around the middle.
        let half = (270.0f64 * 320.0).sqrt() / 640.0;
        let want = [0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half];
        let sides = [width, height, width, height].map(f64::from);
        for (corner, (want, side)) in dog["box"].as_array().unwrap().iter().zip(want.into_iter().zip(sides)) {
            assert!((corner.as_f64().unwrap() - want * side).abs() < 1e-3 * side, "{dog}");
        }
        for part in ["decode", "resize", "network", "nms", "total"] {
            assert!(found["ms"][part].as_f64().unwrap() >= 0.0);
        }
        // A whole number of times as large, so that names can be read on small images.
        let drawn = image::open(found["drawn"].as_str().unwrap()).unwrap().into_rgb8();
        let times = drawn.width() / width;
        assert_eq!(found["drawn_times_as_large"], times);
        assert_eq!((drawn.width(), drawn.height()), (width * times, height * times));
        assert!(drawn.width().max(drawn.height()) >= 720);
        // Bright and dark, whatever the ground: a colour, its black rim, black letters.
        let count = |wanted: fn(&[u8; 3]) -> bool| drawn.pixels().filter(|pixel| wanted(&pixel.0)).count();
        let coloured = count(|[red, green, blue]| red.abs_diff(*green).max(green.abs_diff(*blue)) > 60);
        assert!(coloured > 200 && count(|pixel| *pixel == [0; 3]) > 200, "{width} x {height}: {coloured}");
    }

    let output = detect(&[&arguments[..1], &["--weights", &weights, "--width", "0.1", "--input", "64"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\n dog ") && text.contains("100 x 60") && text.contains("ms: decode "), "{text}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = TempDir::new().unwrap();
    let weights = saved_detector(folder.path()).display().to_string();
    let good = image(folder.path(), "good.png", (8, 8), 9);
    let narrow = ["--weights", &weights, "--width", "0.1", "--input", "64"];
    let with = |more: &[&str]| refusal(&[more, &narrow[..]].concat());

    let broken = folder.path().join("broken.jpg").display().to_string();
    fs::write(&broken, [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
    assert!(with(&[&broken]).contains("broken.jpg"));
    // What is found in the others is told all the same, and nothing is passed over in silence.
    let output = detect(&[&[good.as_str(), &broken, "--json"], &narrow[..]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && told["images"].as_array().unwrap().len() == 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.jpg"));
    assert!(with(&[&good, "--score", "1.5"]).contains("--score 1.5"));
    assert!(with(&[&good, "--model", "mobilenext"]).contains("is a classifier"));
    assert!(with(&[&good, "--model", "ssdlite_mobilenext"]).contains("missing: backbone.extras.0.0.weight"));
    assert!(refusal(&[&good, "--weights", &weights]).contains("no detector's tensors at width 1"));
    assert!(refusal(&[&good, "--weights", &weights, "--width", "0.1", "--input", "0"]).contains("input of 0"));
    assert!(refusal(&[&good, "--weights", &good]).contains("good.png"));

    // Drawings lie over no image that is read, nor over each other.
    let here = folder.path().display().to_string();
    assert!(with(&[&good, "--out", &here]).contains("good.png: an image to read"));
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    // Nor over anybody's picture; over their own they do.
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::copy(&good, work.join("good.png")).unwrap();
    let work = work.display().to_string();
    assert!(with(&[&good, "--out", &work]).contains("good.png: is there and was not drawn here"));
    // What of an image is not heeded is said.
    let clear = folder.path().join("clear.png").display().to_string();
    image::RgbaImage::new(8, 8).save(&clear).unwrap();
    let told = json(&[&[clear.as_str()], &narrow[..]].concat())["images"][0].clone();
    assert_eq!((&told["transparent"], &told["damaged"]), (&true.into(), &false.into()));
    let again = folder.path().join("again").display().to_string();
    for _ in 0..2 {
        assert!(detect(&[&[good.as_str(), "--out", &again], &narrow[..]].concat()).status.success());
    }
    let twin = image(&other, "good.png", (8, 8), 9);
    let out = folder.path().join("out").display().to_string();
    assert!(with(&[&good, &twin, "--out", &out]).contains(&format!("{good} and {twin} would be drawn there")));
    let empty = folder.path().join("empty.jpg").display().to_string();
    fs::write(&empty, []).unwrap();
    assert!(with(&[&empty]).ends_with("empty.jpg: empty\n"), "{}", with(&[&empty]));

    let classifier = NetworkConfig { width: 0.1, classes: 3, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let path = folder.path().join("classifier.safetensors");
    let all = initialise(classifier.build().unwrap().tensors(), 1);
    checkpoint::save(&path, &all, SaveType::F32).unwrap();
    assert!(refusal(&[&good, "--weights", &path.display().to_string()]).contains("no detector's tensors"));
}

/// The five best detections of VOC's classes in a test image, as the graph's first runner found them.
#[test]
fn the_real_detector_finds_what_it_should() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let weights = data.join("weights/ssdlite_mobilenet_v2_coco.f16.safetensors");
    let (Ok(golden), Ok(archive)) = (
        fs::read_to_string(data.join("weights/ssdlite_mobilenet_v2_coco.golden_voc_test.csv")),
        fs::read(data.join("VOCdevkit.tar")),
    ) else {
        eprintln!("skipped: no VOCdevkit or no real weights");
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wanted: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in golden.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        wanted.entry(cells[0]).or_default().push(cells);
    }
    let images: Vec<String> = wanted
        .keys()
        .step_by(200)
        .map(|id| {
            let path = folder.path().join(format!("{id}.jpg"));
            fs::write(&path, entry(&archive, &format!("VOCdevkit/VOC2007/JPEGImages/{id}.jpg"))).unwrap();
            path.display().to_string()
        })
        .collect();
    let mut arguments: Vec<&str> = images.iter().map(String::as_str).collect();
    let weights = weights.display().to_string();
    arguments.extend(["--weights", &weights, "--score", "0.01"]);
    let report = json(&arguments);
    assert_eq!(report["detector"]["network"], "ssdlite_tf_mobilenetv2");
    for found in report["images"].as_array().unwrap() {
        let id = Path::new(found["image"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned();
        let name = |found: &Value| sandglass_detect::voc_of_coco(found["class"].as_u64().unwrap() as usize);
        let of_voc = found["detections"].as_array().unwrap().iter();
        let of_voc: Vec<(&str, &Value)> =
            of_voc.filter_map(|found| Some((sandglass_detect::VOC[name(found)?], found))).collect();
        assert!(of_voc.len() >= wanted[id.as_str()].len(), "{id}: {of_voc:?}");
        assert!(of_voc.iter().all(|(_, found)| found["coco_id"].as_u64() == found["class"].as_u64().map(|id| id + 1)));
        for (cells, (name, got)) in wanted[id.as_str()].iter().zip(of_voc) {
            let number = |at: usize| cells[at].parse::<f64>().unwrap();
            assert_eq!(name, cells[2], "{id} rank {}", cells[1]);
            assert!((got["score"].as_f64().unwrap() - number(3)).abs() < 0.01, "{id}: {got} for {cells:?}");
            for (at, corner) in got["box"].as_array().unwrap().iter().enumerate() {
                assert!((corner.as_f64().unwrap() - number(4 + at)).abs() < 1.0, "{id}: {got} for {cells:?}");
            }
        }
    }
}

/// The bytes of a file in a tar archive.
fn entry<'a>(archive: &'a [u8], name: &str) -> &'a [u8] {
    let mut rest = archive;
    while let Some((header, after)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let field = |from: usize, len: usize| header[from..from + len].split(|byte| *byte == 0).next().unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(field(124, 12)).unwrap().trim(), 8).unwrap();
        if field(0, 100) == name.as_bytes() {
            return &after[..size];
        }
        rest = &after[size.div_ceil(512) * 512..];
    }
    panic!("no {name} in the archive");
}
