//! Decode, resize, crops and jitter equal Pillow's bytes. `tests/fixtures/make.py` made the images and hashes.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::augment::{brightness, contrast, saturation};
use crate::{DecodeError, Filter, Fit, Picture, decode, resize};

#[derive(Deserialize)]
struct Pin {
    width: usize,
    height: usize,
    sha256: String,
}

impl Pin {
    fn check(&self, what: &str, picture: &Picture) {
        assert_eq!((picture.width, picture.height), (self.width, self.height), "{what}");
        let hash: String = Sha256::digest(&picture.pixels).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, self.sha256, "{what}");
    }
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

fn expected<T: DeserializeOwned>(section: &str) -> T {
    let mut all: Value = serde_json::from_slice(&bytes("expected.json")).unwrap();
    serde_json::from_value(all[section].take()).unwrap()
}

/// (image, parameters, pin) of every case of a section.
fn cases<T: DeserializeOwned>(section: &str) -> Vec<(Picture, T, Pin)> {
    #[derive(Deserialize)]
    struct Case<T> {
        name: String,
        #[serde(flatten)]
        parameters: T,
        #[serde(flatten)]
        pin: Pin,
    }
    let cases: Vec<Case<T>> = expected(section);
    assert!(!cases.is_empty());
    cases.into_iter().map(|case| (decode(&bytes(&case.name)).unwrap(), case.parameters, case.pin)).collect()
}

#[test]
fn decodes_every_kind_of_file() {
    let pins: std::collections::BTreeMap<String, Pin> = expected("decode");
    assert_eq!(pins.len(), 11);
    for (name, pin) in pins {
        pin.check(&name, &decode(&bytes(&name)).unwrap());
    }
}

#[test]
fn resizes_to_the_same_bytes() {
    #[derive(Deserialize)]
    struct To {
        filter: Filter,
    }
    for (picture, To { filter }, pin) in cases("resize") {
        let what = format!("{filter:?} {} x {}", pin.width, pin.height);
        pin.check(&what, &resize(&picture, pin.width, pin.height, filter));
    }
}

#[test]
fn evaluation_crops_are_torchvisions() {
    #[derive(Deserialize)]
    struct Crop {
        short: usize,
        size: usize,
    }
    for (picture, Crop { short, size }, pin) in cases("eval") {
        let fit = Fit::Centre { short, size, filter: Filter::Bilinear };
        pin.check(&format!("{short} {size}"), &fit.of(&picture));
    }
}

#[test]
fn jitter_is_pil_image_enhance() {
    #[derive(Deserialize)]
    struct Enhance {
        kind: String,
        factor: f32,
    }
    for (mut picture, Enhance { kind, factor }, pin) in cases("enhance") {
        let adjust = match kind.as_str() {
            "brightness" => brightness,
            "contrast" => contrast,
            _ => saturation,
        };
        adjust(&mut picture, factor);
        pin.check(&format!("{kind} {factor}"), &picture);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["colour.jpg", "progressive.jpg", "cmyk.jpg", "grey.png"] {
        let whole = bytes(name);
        for length in (0..whole.len() - 12).step_by(7) {
            assert!(decode(&whole[..length]).is_err(), "{name} cut to {length} bytes");
        }
    }
    let whole = bytes("colour.jpg");
    assert_eq!(decode(&whole[..whole.len() - 1]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    assert_eq!(decode(b"%PDF-1.7"), Err(DecodeError::Unknown));
    assert!(decode(b"GIF89a").is_err());
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let mut bomb = bytes("colour.jpg");
    let frame = bomb.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(matches!(decode(&bomb), Err(DecodeError::TooLarge { width: 65500, .. })));
}

#[test]
fn flipped_bits_never_panic() {
    for name in ["colour.jpg", "progressive.jpg", "ycck.jpg", "palette.png"] {
        let whole = bytes(name);
        for bit in (0..whole.len() * 8).step_by(13) {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&broken);
        }
    }
}
