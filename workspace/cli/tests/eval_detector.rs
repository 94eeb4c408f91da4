//! The real binary's `eval` of detectors: on average precision known by construction, and on the real weights.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{refused, saved_detector};
use image::{ImageFormat, RgbImage};
use sandglass_data::Protocol;
use sandglass_lab::Card;
use serde_json::Value;
use tempfile::TempDir;

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandglass")).arg("eval").args(arguments).output().unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    refused(eval(arguments))
}

/// A devkit of 100 x 100 images, each with these objects in its `test` list.
fn devkit(folder: &Path, images: &[&[(&str, [u32; 4])]]) -> String {
    let year = folder.join("VOCdevkit/VOC2007");
    for part in ["JPEGImages", "Annotations", "ImageSets/Main"] {
        fs::create_dir_all(year.join(part)).unwrap();
    }
    let mut list = String::new();
    for (at, objects) in images.iter().enumerate() {
        let id = format!("{:06}", at + 1);
        let picture = RgbImage::from_pixel(100, 100, image::Rgb([40 * at as u8; 3]));
        // Decoded by its content, whatever the name.
        picture.save_with_format(year.join(format!("JPEGImages/{id}.jpg")), ImageFormat::Png).unwrap();
        let object = |(name, [left, top, right, bottom]): &(&str, [u32; 4])| {
            format!(
                "<object><name>{name}</name><truncated>0</truncated><difficult>0</difficult><bndbox><xmin>{left}</xmin>\
                 <ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            )
        };
        let objects: String = objects.iter().map(object).collect();
        let size = "<size><width>100</width><height>100</height><depth>3</depth></size>";
        let xml = format!("<annotation><filename>{id}.jpg</filename>{size}{objects}</annotation>");
        fs::write(year.join(format!("Annotations/{id}.xml")), xml).unwrap();
        list += &format!("{id}\n");
    }
    fs::write(year.join("ImageSets/Main/test.txt"), list).unwrap();
    year.display().to_string()
}

/// It sees one dog, nearly as large as the image, in each: right in the first, wrong in the second and the third.
#[test]
fn a_detector_of_dogs_scores_what_it_must() {
    let folder = TempDir::new().unwrap();
    let weights = saved_detector(folder.path()).display().to_string();
    let small = [10, 10, 30, 30];
    let data = devkit(folder.path(), &[&[("dog", [4, 4, 97, 97])], &[("dog", small), ("cat", small)], &[]]);
    let arguments = ["--model", "ssdlite_mobilenetv2", "--weights", &weights, "--width", "0.1", "--input", "64"];
    let arguments = [&arguments[..], &["--data", &data, "--split", "test"]].concat();
    let output = eval(&[&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["n"], 3);
    let near = |got: &Value, want: f64| assert!((got.as_f64().unwrap() - want).abs() < 1e-9, "{got} for {want}");
    // One of two dogs is found, at once: precision 1 up to a recall of 0.5.
    near(&report["ap"]["dog"], 6.0 / 11.0);
    near(&report["ap_all_points"]["dog"], 0.5);
    near(&report["ap"]["cat"], 0.0);
    near(&report["map"], 3.0 / 11.0);
    assert!(report["ap"]["sheep"].is_null());
    assert_eq!(
        (&report["boxes_are"], &report["boxes_are_by_coco"]),
        (&"pixels from 0".into(), &"pixels from 0".into())
    );

    let text = String::from_utf8(eval(&arguments).stdout).unwrap();
    // Of one with a card, as everything has that is trained here.
    let card = Card {
        sha256: None,
        network: "ssdlite_mobilenetv2".to_owned(),
        width: 0.1,
        stem_stride: 2,
        input: Some(64),
        classes: None,
        assumed: Vec::new(),
        evaluation: Protocol::default(),
    };
    card.write(Path::new(&weights)).unwrap();
    let output = eval(&[&arguments[..], &["--json"]].concat());
    let trained: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(trained["boxes_are"], "edges between pixels");
    assert!(text.contains("\n dog ") && text.contains("0.5455"), "{text}");
    // Nobody names its classes, and one image has no object.
    assert!(text.contains("; its classes, which nobody names, are taken for Pascal VOC's, in their order"), "{text}");
    assert!(text.contains("no card beside the weights: values are as published"), "{text}");
    assert!(text.contains("3 images with 3 objects (0 of them difficult) of 20 classes, 1 without any"), "{text}");
    assert_eq!((&report["objects"]["dog"], &report["detector"]["classes_by_number"]), (&2.into(), &true.into()));
}

#[test]
fn what_is_none_of_a_detectors_is_refused() {
    let folder = TempDir::new().unwrap();
    let weights = saved_detector(folder.path()).display().to_string();
    let data = devkit(folder.path(), &[&[("dog", [1, 1, 9, 9])]]);
    let base = ["--model", "ssdlite_mobilenetv2", "--weights", &weights, "--width", "0.1", "--input", "64"];
    let with = |more: &[&str]| refusal(&[&base[..], &["--data", &data], more].concat());
    assert!(with(&["--preset", "tensorflow"]).contains("preset"));
    assert!(with(&["--stem-stride", "1"]).contains("stem"));
    assert!(with(&["--background", "0"]).contains("background"));
    assert!(with(&["--engine", "train"]).contains("engine train"));
    assert!(with(&["--split", "val"]).contains("val"));
    let unknown = refusal(&["--model", "ssdlite_foo", "--weights", &weights, "--data", &data]);
    assert!(unknown.contains("ssdlite_mobilenext"), "{unknown}");
    let shapes = refusal(&[&base[..], &["--data", "embedded"]].concat());
    assert!(shapes.contains("the detector knows no disc, ring, square"), "{shapes}");
    let classifier = ["--model", "mobilenetv2", "--weights", &weights, "--data", "embedded", "--split", "test"];
    assert!(refusal(&classifier).contains("--split"));
}

/// By class as measured with another runner of the same graph.
#[test]
fn the_real_detector_reaches_its_average_precision() {
    const WANT: [(&str, f64); 20] = [
        ("aeroplane", 0.6115),
        ("bicycle", 0.6552),
        ("bird", 0.5913),
        ("boat", 0.5743),
        ("bottle", 0.5049),
        ("bus", 0.8076),
        ("car", 0.7970),
        ("cat", 0.7564),
        ("chair", 0.3943),
        ("cow", 0.7124),
        ("diningtable", 0.7122),
        ("dog", 0.7523),
        ("horse", 0.7269),
        ("motorbike", 0.8549),
        ("person", 0.7478),
        ("pottedplant", 0.3243),
        ("sheep", 0.5735),
        ("sofa", 0.5936),
        ("train", 0.8124),
        ("tvmonitor", 0.8023),
    ];
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let weights = data.join("weights/ssdlite_mobilenet_v2_coco.f16.safetensors");
    if !weights.exists() {
        eprintln!("skipped: no real weights");
        return;
    }
    let (weights, data) = (weights.display().to_string(), data.join("VOCdevkit.tar").display().to_string());
    let arguments = ["--model", "ssdlite_tf_mobilenetv2", "--weights", &weights, "--data", &data, "--split", "test"];
    let output = eval(&[&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["n"], 600);
    let boxes = (&report["boxes_are"], &report["boxes_are_by_coco"]);
    assert_eq!(boxes, (&"pixels as annotated, from 1".into(), &"edges between pixels".into()));
    for (class, want) in WANT {
        let got = report["ap"][class].as_f64().unwrap();
        assert!((got - want).abs() < 0.01, "{class}: {got} for {want}");
    }
    assert!((report["map"].as_f64().unwrap() - 0.6653).abs() < 0.003);
}
