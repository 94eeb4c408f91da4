//! What an evaluation protocol changes of an image's way, and what it refuses.

use sandglass_data::{
    Augment, DataError, Dataset, Draws, Filter, Fit, Picture, Protocol, Purpose, Transform, resize, short_side,
};

/// One image of a gradient.
fn set(height: usize, width: usize) -> Dataset {
    let pixels = (0..height * width * 3).map(|at| (at * 7 % 251) as u8).collect();
    Dataset::from_pixels("gradient", vec!["a".to_string()], false, (height, width), pixels, vec![0]).unwrap()
}

fn applied(transform: &Transform, set: &Dataset) -> Vec<f32> {
    let (height, width) = transform.size();
    let mut out = vec![0.0; height * width * 3];
    transform.apply(&set.picture(0).unwrap(), &mut Draws::new(0, Purpose::Augment, 0, 0), &mut out);
    out
}

fn normalised(picture: &Picture, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let value = |(at, &byte): (usize, &u8)| (f32::from(byte) / 255.0 - mean[at % 3]) / std[at % 3];
    picture.pixels.iter().enumerate().map(value).collect()
}

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

#[test]
fn the_short_side_is_timms_floor() {
    assert_eq!([64, 96, 128, 160, 192, 224].map(|input| short_side(input, 0.875)), [73, 109, 146, 182, 219, 256]);
    assert_eq!(short_side(224, 0.9), 248);
}

#[test]
fn the_default_keeps_every_bit() {
    let protocol = Protocol::default();
    for (set, classes, input, fit) in [
        (set(32, 32), 10, None, Fit::Own { height: 32, width: 32 }),
        (set(32, 32), 10, Some(32), Fit::Own { height: 32, width: 32 }),
        (set(32, 48), 10, None, Fit::Own { height: 32, width: 48 }),
        (set(32, 48), 10, Some(24), Fit::Centre { short: 24, size: 24, filter: Filter::Bilinear }),
        (set(300, 280), 1000, None, Fit::Centre { short: 256, size: 224, filter: Filter::Bilinear }),
        (set(300, 280), 1000, Some(96), Fit::Centre { short: 109, size: 96, filter: Filter::Bilinear }),
    ] {
        let transform = Transform::evaluation(&set, classes, input, &protocol).unwrap();
        assert_eq!(transform, Transform::new(fit, None));
        assert_eq!(applied(&transform, &set), normalised(&fit.of(&set.picture(0).unwrap()), MEAN, STD));
    }
}

#[test]
fn a_resize_applies_to_images_of_the_inputs_size_too() {
    let set = set(32, 32);
    let protocol = Protocol { resize: Some(36), interpolation: Filter::Bicubic, ..Protocol::default() };
    for classes in [10, 1000] {
        let transform = Transform::evaluation(&set, classes, Some(32), &protocol).unwrap();
        let fit = Fit::Centre { short: 36, size: 32, filter: Filter::Bicubic };
        assert_eq!(transform, Transform::new(fit, None));
        let bilinear = Fit::Centre { short: 36, size: 32, filter: Filter::Bilinear };
        assert_ne!(applied(&transform, &set), applied(&Transform::new(bilinear, None), &set));
    }
    assert_eq!(Transform::evaluation(&set, 10, None, &protocol).unwrap().size(), (32, 32));
    // Training keeps its own rule.
    let training = Transform::training(&set, &Augment::default(), Some(32), &protocol).unwrap();
    assert_eq!(applied(&training, &set), normalised(&set.picture(0).unwrap(), MEAN, STD));
}

#[test]
fn mean_and_standard_deviation_serve_evaluation_and_training() {
    let set = set(8, 8);
    let protocol = Protocol { mean: [0.5; 3], std: [0.25, 0.5, 1.0], ..Protocol::default() };
    let expected = normalised(&set.picture(0).unwrap(), protocol.mean, protocol.std);
    assert_eq!(applied(&Transform::evaluation(&set, 10, None, &protocol).unwrap(), &set), expected);
    assert_eq!(applied(&Transform::training(&set, &Augment::default(), None, &protocol).unwrap(), &set), expected);
}

#[test]
fn what_gives_no_numbers_or_no_image_is_refused() {
    let set = set(32, 32);
    let usual = Protocol::default();
    for protocol in [
        Protocol { std: [0.229, 0.0, 0.225], ..usual.clone() },
        Protocol { std: [f32::NAN; 3], ..usual.clone() },
        Protocol { std: [-1.0; 3], ..usual.clone() },
        Protocol { std: [f32::INFINITY; 3], ..usual.clone() },
        Protocol { std: [58.395, 57.12, 57.375], ..usual.clone() },
        Protocol { std: [255.0; 3], ..usual.clone() },
        Protocol { std: [0.229, 0.224, 1.1], ..usual.clone() },
        Protocol { mean: [0.5, f32::NAN, 0.5], ..usual.clone() },
        Protocol { mean: [123.7, 116.3, 103.5], ..usual.clone() },
        Protocol { resize: Some(0), ..usual.clone() },
    ] {
        assert!(matches!(protocol.check(), Err(DataError::Protocol(_))), "{protocol:?}");
        assert!(Transform::evaluation(&set, 10, None, &protocol).is_err());
        assert!(Transform::training(&set, &Augment::default(), None, &protocol).is_err());
    }
    for short in [31, 4096, usize::MAX] {
        let protocol = Protocol { resize: Some(short), ..usual.clone() };
        let error = Transform::evaluation(&set, 10, Some(32), &protocol).unwrap_err().to_string();
        assert!(error.contains(&format!("a resize to {short} pixels for an input of 32")), "{error}");
    }
}

#[test]
fn values_of_another_scale_are_hinted_at() {
    for protocol in
        [Protocol { std: [255.0; 3], ..Protocol::default() }, Protocol { mean: [123.7; 3], ..Protocol::default() }]
    {
        let error = protocol.check().unwrap_err().to_string();
        assert!(error.contains("pixels are in 0..1") && error.contains("0..255"), "{error}");
    }
    // All that is in use passes: values that are bytes (the official detection code's), and those that are not scaled.
    for std in [[1.0 / 255.0; 3], [1.0; 3], [0.5; 3]] {
        Protocol { std, ..Protocol::default() }.check().unwrap();
    }
}

/// Only the crop of a resized image is made, and it is the same.
#[test]
fn a_crop_is_part_of_the_whole_resized() {
    for (width, height) in [(61, 47), (3, 100), (100, 3), (40, 40), (1, 30), (200, 90)] {
        let picture = set(height, width).picture(0).unwrap();
        for (short, size) in [(32, 28), (36, 31), (40, 40), (20, 20), (64, 56)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let long = |long: usize, of: usize| short * long / of;
                let (w, h) = if width <= height { (short, long(height, width)) } else { (long(width, height), short) };
                let whole = resize(&picture, w, h, filter);
                let half = |whole: usize| ((whole - size) as f64 / 2.0).round_ties_even() as isize;
                let expected = whole.crop(half(w), half(h), size, size);
                assert_eq!(Fit::Centre { short, size, filter }.of(&picture), expected, "{width} x {height}, {short}");
            }
        }
    }
    // Wider than what it is cut from, which no evaluation asks for.
    let picture = set(20, 30).picture(0).unwrap();
    let fit = Fit::Centre { short: 10, size: 20, filter: Filter::Bilinear };
    assert_eq!(fit.of(&picture), resize(&picture, 15, 10, Filter::Bilinear).crop(-2, -5, 20, 20));
}

/// The whole would take 12 GB.
#[test]
fn of_a_thin_picture_the_middle_alone_is_made() {
    // Dark before the middle and bright behind it.
    let line =
        |length: usize| -> Vec<u8> { (0..length * 3).map(|at| if at < length / 2 * 3 { 10 } else { 200 }).collect() };
    let fit = Fit::Centre { short: 256, size: 224, filter: Filter::Bilinear };
    for stands in [false, true] {
        let middle = |length: usize| {
            let (width, height) = if stands { (1, length) } else { (length, 1) };
            fit.of(&Picture { width, height, pixels: line(length) })
        };
        let (thin, short) = (middle(60_000), middle(100));
        // A ramp over 256 pixels, of which 224 are seen.
        assert_eq!((thin.pixels[0], thin.pixels[224 * 224 * 3 - 1]), (22, 188));
        assert_eq!(thin, short);
    }
}

#[test]
fn it_is_read_strictly_and_written_in_full() {
    let read = |json: &str| serde_json::from_str::<Protocol>(json);
    assert_eq!(read("{}").unwrap(), Protocol::default());
    let protocol = read(r#"{"resize": 146, "interpolation": "bicubic"}"#).unwrap();
    assert_eq!((protocol.resize, protocol.interpolation, protocol.mean), (Some(146), Filter::Bicubic, MEAN));
    assert_eq!(read(&serde_json::to_string(&protocol).unwrap()).unwrap(), protocol);
    assert!(read(r#"{"crop": 0.875}"#).is_err());
}
