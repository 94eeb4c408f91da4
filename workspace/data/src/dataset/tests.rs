//! What a set is, however its images are held.

use super::*;
use crate::{Batch, Filter, Fit, Loader, Transform};

struct Files {
    images: Vec<&'static str>,
    bytes: u64,
    runs: Vec<usize>,
}

impl Source for Files {
    fn name(&self, index: usize) -> String {
        self.images[index].to_string()
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        Ok(std::fs::read(format!("{path}{}", self.images[index])).unwrap())
    }

    fn total_bytes(&self) -> u64 {
        self.bytes
    }

    fn runs(&self) -> &[usize] {
        &self.runs
    }

    fn fingerprint(&self, _: &mut blake3::Hasher) {}
}

const IMAGES: [&str; 6] = ["colour.jpg", "grey.jpg", "cmyk.jpg", "half.jpg", "grey.png", "full.jpg"];

fn source(images: &[&'static str], bytes: u64) -> Box<dyn Source> {
    Box::new(Files { images: images.to_vec(), bytes, runs: vec![images.len() / 2, images.len().div_ceil(2)] })
}

fn classes() -> Vec<String> {
    vec!["a".to_string(), "b".to_string()]
}

#[test]
fn a_streamed_set_has_names_and_finds_copies_too() {
    let open = |images, labels| {
        Dataset::from_source("set", classes(), source(images, u64::MAX), labels, Opened::ForUse).unwrap()
    };
    let train = open(&IMAGES, vec![0, 1, 0, 1, 0, 1]);
    assert!(matches!(&*train.images, Images::Encoded(_)));
    let validation = open(&["half.jpg", "full.jpg"], vec![0, 1]);
    let (rest, names) = train.without_copies_of(&validation).unwrap();
    assert_eq!((rest.len(), rest.image_name(4), names), (5, "full.jpg".to_string(), vec!["half.jpg".to_string()]));
    let picked = train.subset("picked", &[5, 3, 0]);
    assert_eq!(picked.runs(), vec![Range { start: 0, end: 3 }]);
    assert_eq!(picked.without_copies_of(&validation).unwrap().1, ["half.jpg"]);
}

/// Whether there is room for all, for some or for none, a set is the same and its batches come in the same order.
#[test]
fn room_for_decoded_images_changes_nothing_but_time() {
    let labels = vec![0, 1, 0, 1, 0, 1];
    let open = |room| Dataset::from_small("set", classes(), source(&IMAGES, 0), labels.clone(), room).unwrap();
    let fit = Fit::Centre { short: 20, size: 16, filter: Filter::Bilinear };
    let epochs = |set: &Dataset| -> Vec<Batch> {
        let loader = Loader::training(set, Transform::new(fit, None), 2, 5, 2).unwrap();
        (0..8).flat_map(|epoch| loader.epoch(epoch, 0).map(Result::unwrap)).collect()
    };
    let encoded = open(0);
    assert!(matches!(&*encoded.images, Images::Encoded(_)));
    let all: usize = (0..6).map(|index| encoded.picture(index).unwrap().pixels.len()).sum();
    assert!(matches!(&*open(all - 1).images, Images::Encoded(_)));
    for room in [all, usize::MAX] {
        let kept = open(room);
        assert!(matches!(&*kept.images, Images::Decoded { size: None, .. }));
        assert_eq!((kept.size(), kept.hash(), &kept.names), (None, encoded.hash(), &encoded.names));
        assert_eq!((kept.runs(), &kept.digests), (encoded.runs(), &encoded.digests));
        assert_eq!(epochs(&kept), epochs(&encoded));
    }
}

#[test]
fn the_hash_of_differing_sizes_covers_labels_names_and_bytes() {
    let hash = |images, labels| {
        Dataset::from_small("set", classes(), source(images, 0), labels, 0).unwrap().hash().to_string()
    };
    let base = hash(&["grey.jpg", "half.jpg"], vec![0, 1]);
    assert_eq!(base, hash(&["grey.jpg", "half.jpg"], vec![0, 1]));
    assert_ne!(base, hash(&["half.jpg", "grey.jpg"], vec![0, 1]));
    assert_ne!(base, hash(&["grey.jpg", "half.jpg"], vec![1, 0]));

    // One bit of one image, which its file's name and size do not show.
    let folder = tempfile::tempdir().unwrap();
    let open = || crate::open(folder.path().to_str().unwrap(), Part::Train, None).unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    for image in ["grey.jpg", "half.jpg"] {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/").to_string() + image;
        std::fs::copy(fixture, folder.path().join("a").join(image)).unwrap();
    }
    let before = open();
    let path = folder.path().join("a/half.jpg");
    let mut bytes = std::fs::read(&path).unwrap();
    // Density of the JFIF header: no pixel changes.
    bytes[15] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let after = open();
    assert_eq!(before.picture(1).unwrap(), after.picture(1).unwrap());
    assert_ne!(before.hash(), after.hash());
}

#[test]
fn images_of_one_size_are_kept_without_room() {
    let set = Dataset::from_small("set", classes(), source(&["grey.png"; 4], 0), vec![0; 4], 0).unwrap();
    assert!(set.size().is_some());
    assert_eq!(set.runs(), vec![Range { start: 0, end: 4 }]);
    let picture = set.picture(0).unwrap();
    let size = (picture.height, picture.width);
    let pixels = picture.pixels.repeat(4);
    let same = Dataset::from_pixels("set", classes(), false, size, pixels, vec![0; 4]).unwrap();
    assert_eq!((set.hash(), set.size()), (same.hash(), same.size()));
}
