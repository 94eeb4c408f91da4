//! Priors, codes and the way from maps to detections and back.

use std::path::Path;

use sandglass_data::{Picture, Protocol};
use sandglass_detect::{Coder, DetectError, Eye, Input, Reading, Sampling, centred, corners, iou, match_priors};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{DetectorConfig, DetectorName};

fn reading(name: DetectorName, classes: usize, input: (usize, usize)) -> Reading {
    Reading::new(&DetectorConfig { classes, ..DetectorConfig::new(name) }, input).unwrap()
}

#[test]
fn official_priors_have_the_official_strides() {
    let official = reading(DetectorName::SsdliteMobileNetV2, 21, (320, 320));
    let priors = official.priors();
    assert_eq!(priors.len(), 3234);
    assert_eq!(priors[0], [0.025, 0.025, 45.0 / 320.0, 45.0 / 320.0]);
    // 3 x 3 places of the fourth level, 120 pixels apart.
    let fourth = 6 * (400 + 100 + 25);
    assert_eq!(priors[fourth + 6][0], 180.0 / 320.0);
    assert!((priors[fourth + 1][2] - (180f32 * 260.0).sqrt() / 320.0).abs() < 1e-6);
    assert!(priors.iter().flatten().all(|value| (0.0..=1.0).contains(value)));

    // Elsewhere centres are spread evenly, and sizes stay shares of the image.
    let other = reading(DetectorName::SsdliteMobileNeXt, 21, (96, 192));
    let [rows, columns] = [[6, 3, 2, 1, 1, 1], [12, 6, 3, 2, 1, 1]];
    let places: usize = rows.iter().zip(columns).map(|(rows, columns)| rows * columns).sum();
    assert_eq!(other.priors().len(), 6 * places);
    // A fourth level of 3 x 3 places as well, but not 320 pixels.
    let larger = reading(DetectorName::SsdliteMobileNeXt, 21, (384, 384));
    let fourth = 6 * (24 * 24 + 12 * 12 + 6 * 6);
    assert_eq!(larger.priors()[fourth + 6][..2], [0.5, 1.0 / 6.0]);
    assert_eq!(other.priors()[0], [1.0 / 24.0, 1.0 / 12.0, 45.0 / 320.0, 45.0 / 320.0]);
}

/// The lowest level's first three, and the larger square of the second: by the configuration's scales and ratios.
#[test]
fn anchors_are_tensorflows() {
    let tf = reading(DetectorName::SsdliteTfMobileNetV2, 91, (300, 300));
    let anchors = tf.priors();
    assert_eq!(anchors.len(), 1917);
    let near = |got: [f32; 4], want: [f64; 4]| {
        got.iter().zip(want).for_each(|(got, want)| assert!((f64::from(*got) - want).abs() < 1e-6, "{got} for {want}"));
    };
    let half = 0.5 / 19.0;
    near(anchors[0], [half, half, 0.1, 0.1]);
    near(anchors[1], [half, half, 0.2 * 2f64.sqrt(), 0.2 / 2f64.sqrt()]);
    near(anchors[3 * 361 + 5], [0.05, 0.05, (0.35f64 * 0.5).sqrt(), (0.35f64 * 0.5).sqrt()]);
    near(anchors[1916], [0.5, 0.5, 0.95f64.sqrt(), 0.95f64.sqrt()]);

    let file = "../../../shared/data/weights/ssdlite_mobilenet_v2_coco.f16.safetensors";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if file.exists() {
        let stored = Checkpoint::open(&file).unwrap().read("Postprocessor/ExpandDims").unwrap();
        assert_eq!(stored.len(), 4 * anchors.len());
        for (anchor, stored) in anchors.iter().zip(stored.as_chunks::<4>().0) {
            let [left, top, right, bottom] = corners(*anchor);
            near([top, left, bottom, right], stored.map(f64::from));
        }
    } else {
        eprintln!("skipped: no real weights");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let (of, prior) = ([0.4, 0.6, 0.3, 0.1], [0.5, 0.5, 0.2, 0.4]);
    for coder in [Coder::Ssd, Coder::TensorFlow] {
        let back = coder.decode(coder.encode(of, prior), prior);
        back.iter().zip(of).for_each(|(back, of)| assert!((back - of).abs() < 1e-6, "{coder:?}: {back} for {of}"));
    }
    let [x, y, width, height] = Coder::Ssd.encode(of, prior);
    assert!((x + 5.0).abs() < 1e-5 && (y - 2.5).abs() < 1e-5, "{x} {y}");
    assert!((width - 1.5f32.ln() * 5.0).abs() < 1e-5 && (height - 0.25f32.ln() * 5.0).abs() < 1e-5);
    assert_eq!(Coder::TensorFlow.encode(of, prior), [y, x, height, width]);
}

/// Maps that say what the targets ask for.
fn maps_of(reading: &Reading, objects: &[(usize, [f32; 4])], sure: f32) -> Vec<Vec<f32>> {
    let (labels, numbers) = reading.targets(objects).unwrap();
    let scores =
        |&label: &u32| (0..reading.classes()).map(move |class| if class == label as usize { sure } else { -sure });
    let confidence: Vec<f32> = labels.iter().flat_map(scores).collect();
    reading.scatter((&confidence, &numbers), 1).unwrap()
}

#[test]
fn what_is_asked_for_is_found() {
    let objects = [(0, [0.1, 0.2, 0.3, 0.7]), (2, [0.5, 0.05, 0.95, 0.5]), (2, [0.02, 0.8, 0.07, 0.83])];
    for (name, input) in [
        (DetectorName::SsdliteMobileNeXt, (320, 320)),
        (DetectorName::SsdliteMobileNetV2Tap576, (64, 96)),
        (DetectorName::SsdliteTfMobileNetV2, (300, 300)),
    ] {
        let reading = reading(name, 4, input);
        let maps = maps_of(&reading, &objects, 9.0);
        let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
        let found = reading.detections(&maps).unwrap();
        let found: Vec<_> = found.into_iter().filter(|found| found.score > 0.5).collect();
        assert_eq!(found.len(), objects.len(), "{name}");
        for (class, of) in objects {
            let best = found.iter().filter(|found| found.class == class);
            let best = best.map(|found| iou(found.bbox, of, 0.0)).fold(0.0, f64::max);
            assert!(best > 0.999, "{name}: {best}");
        }
    }
}

#[test]
fn a_batch_is_gathered_image_by_image_and_scattered_back() {
    let reading = reading(DetectorName::SsdliteMobileNetV2, 3, (64, 64));
    let priors = reading.priors().len();
    let confidence: Vec<f32> = (0..2 * priors * 3).map(|value| value as f32).collect();
    let locations: Vec<f32> = (0..2 * priors * 4).map(|value| -(value as f32)).collect();
    let maps = reading.scatter((&confidence, &locations), 2).unwrap();
    assert_eq!(maps.len(), 12);
    // The second image's first number follows the first image's level.
    let level = 4 * 4 * 6 * 3;
    assert_eq!((maps[0].len(), maps[0][level]), (2 * level, (priors * 3) as f32));
    let slices: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
    assert_eq!(reading.gather(&slices, 2).unwrap(), (confidence, locations));
    assert!(matches!(reading.gather(&slices, 1), Err(DetectError::Length { .. })));
    assert!(matches!(reading.gather(&slices[1..], 2), Err(DetectError::Length { what: "maps", .. })));
}

#[test]
fn what_cannot_be_read_is_refused() {
    let reading = reading(DetectorName::SsdliteMobileNetV2, 3, (64, 64));
    for bad in [[0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.5, 0.9], [f32::NAN, 0.0, 1.0, 1.0]] {
        assert!(matches!(reading.targets(&[(0, bad)]), Err(DetectError::NoArea(_))), "{bad:?}");
    }
    assert_eq!(reading.targets(&[(2, [0.0, 0.0, 1.0, 1.0])]), Err(DetectError::Label { label: 3, labels: 3 }));
    let mut maps = maps_of(&reading, &[], 1.0);
    maps[3][0] = f32::INFINITY;
    let slices: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
    assert_eq!(reading.detections(&slices), Err(DetectError::NotFinite("class scores")));
    let coco = DetectorConfig::new(DetectorName::SsdliteMobileNeXtCoco);
    assert_eq!(Reading::new(&coco, (320, 320)), Err(DetectError::NotRead("ssdlite_mobilenext_coco")));
    assert!(matches!(
        Reading::new(&DetectorConfig::new(DetectorName::SsdMobileNeXt), (0, 9)),
        Err(DetectError::Model(_))
    ));
}

/// Three squares in a row; tiny objects overlap none by half.
#[test]
fn every_object_has_a_prior_and_of_two_on_one_the_last() {
    let priors = [[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.9, 0.9, 0.2, 0.2]];
    let tiny = |x: f32| [x, x, x + 0.02, x + 0.02];
    let matches = |boxes: &[[f32; 4]]| match_priors(&priors, boxes, 0.5).unwrap();
    assert_eq!(matches(&[tiny(0.5), tiny(0.95)]), [None, Some(0), Some(1)]);
    assert_eq!(matches(&[tiny(0.5), tiny(0.52)]), [None, Some(1), None]);
    // Both claim the last square, and the second covers most of it besides.
    assert_eq!(matches(&[tiny(0.95), [0.8, 0.8, 1.0, 0.95]]), [None, None, Some(1)]);
    assert_eq!(matches(&[]), [None; 3]);
    assert_eq!(match_priors(&[], &[tiny(0.5)], 0.5), Ok(vec![]));
}

#[test]
fn boxes_have_two_forms() {
    let of = [0.25, 0.5, 0.75, 0.625];
    assert_eq!(centred(of), [0.5, 0.5625, 0.5, 0.125]);
    assert_eq!(corners(centred(of)), of);
}

/// A ramp from left to right: each place's value is where it was read.
#[test]
fn inputs_are_read_by_corners_or_by_centres() {
    let ramp: Vec<u8> = (0..2).flat_map(|_| (0..8).flat_map(|x| [10 * x, 20 * x, 7])).collect();
    let input = Input { height: 1, width: 3, ..Input::published(DetectorName::SsdliteMobileNeXt) };
    let plain = Input { scale: [1.0; 3], shift: [0.0; 3], ..input };
    let reds = |sampling| {
        let input = Input { sampling, ..plain }.read(&ramp, (8, 2)).unwrap();
        input.iter().step_by(3).copied().collect::<Vec<f32>>()
    };
    let near = |got: Vec<f32>, want: [f64; 3]| {
        got.iter().zip(want).for_each(|(got, want)| assert!((f64::from(*got) - want).abs() < 1e-4, "{got:?} {want:?}"));
    };
    near(reds(Sampling::Corners), [0.0, 80.0 / 3.0, 160.0 / 3.0]);
    // 8.33, 35 and 61.67, as bytes.
    near(reds(Sampling::Centres), [8.0, 35.0, 62.0]);
    let first = input.read(&ramp, (8, 2)).unwrap();
    near(
        first[..3].to_vec(),
        [(8.0 - 123.0) / (0.229 * 255.0), (17.0 - 117.0) / (0.224 * 255.0), (7.0 - 104.0) / (0.225 * 255.0)],
    );
    let tf = Input::published(DetectorName::SsdliteTfMobileNetV2).read(&[0, 255, 51], (1, 1)).unwrap();
    assert_eq!(tf.len(), 300 * 300 * 3);
    near(tf[tf.len() - 3..].to_vec(), [-1.0, 1.0, -0.6]);
    // One that was trained here sees images as it did then.
    let protocol = Protocol { mean: [0.5, 0.25, 0.0], std: [0.5, 0.25, 1.0], ..Protocol::default() };
    let eye = Eye::new(DetectorName::SsdliteMobileNeXt, 2, Some(&protocol)).unwrap();
    let seen = eye.read(&Picture { height: 1, width: 3, pixels: [255, 255, 51].repeat(3) }).unwrap();
    assert_eq!(seen.len(), 12);
    near(seen[9..].to_vec(), [1.0, 3.0, 0.2]);
    assert!(Eye::new(DetectorName::SsdliteMobileNeXt, 0, Some(&protocol)).is_err());
    assert!(matches!(input.read(&ramp, (8, 3)), Err(DetectError::Image { .. })));
    assert!(matches!(input.read(&[], (0, 3)), Err(DetectError::Image { .. })));
}
