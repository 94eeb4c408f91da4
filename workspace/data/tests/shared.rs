//! The real data sets, where a data root holds them: the same pixels as Pillow's, image by image.

use sandglass_data::{Dataset, Filter, Fit, Part, Picture, data_roots, find_data, open};
use sha2::{Digest, Sha256};

/// None, and a line that says so, where the set is not at hand.
fn at_hand(name: &str, classes: Option<usize>) -> Option<Dataset> {
    part_at_hand(name, Part::Validation, classes)
}

fn part_at_hand(name: &str, part: Part, classes: Option<usize>) -> Option<Dataset> {
    // Tests run in the crate's folder; `data_roots` walks up from there.
    if find_data(name).is_none() {
        eprintln!("skipped: no {name} in {:?}", data_roots());
        return None;
    }
    Some(open(name, part, classes).unwrap())
}

fn sha256(pictures: impl Iterator<Item = Picture>) -> String {
    let mut hasher = Sha256::new();
    pictures.for_each(|picture| hasher.update(&picture.pixels));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pictures(set: &Dataset) -> impl Iterator<Item = Picture> {
    (0..set.len()).map(|index| set.picture(index).unwrap())
}

/// `tests/fixtures/make_shared.py` printed the hashes.
#[test]
fn imagenet_crops_equal_pillows() {
    let fit = Fit::Centre { short: 256, size: 224, filter: Filter::Bilinear };
    for (name, count, hash) in [
        ("imagenet_val_910", 910, "ae02116dbd2cbc181ad0e22336ecdc30d6fc710f7e96604f3a7a2ac9e104a0af"),
        ("imagenet_val_fullres_26", 26, "17dd9d6b893c12436db6d04f2a630c4a5e26efa6e136a0b37e6ae7a06563bb9f"),
    ] {
        let Some(set) = at_hand(name, Some(1000)) else { continue };
        assert_eq!(set.len(), count);
        assert_eq!(sha256(pictures(&set).map(|picture| fit.of(&picture))), hash, "{name}");
    }
}

#[test]
fn tiny_imagenet_equals_pillows_decode() {
    let Some(set) = at_hand("tiny-imagenet", None) else { return };
    assert_eq!((set.len(), set.size(), set.classes().len()), (10_000, Some((64, 64)), 200));
    assert!(set.classes().is_sorted());
    let mut counts = [0; 200];
    (0..set.len()).for_each(|index| counts[set.label(index) as usize] += 1);
    assert_eq!(counts, [50; 200]);
    assert_eq!(sha256(pictures(&set)), "c2fd10cde1427ad6f16f45c978a0060bfd8f664727f6ad977ea5590280d57b8f");
}

/// The pairs that SOURCES-datasets.md lists: found by their bytes.
#[test]
fn copies_under_another_label_are_those_known() {
    for (name, known) in [
        (
            "tiny-imagenet",
            &[
                "n01855672_44",
                "n01917289_323",
                "n03770439_128",
                "n03976657_138",
                "n03976657_298",
                "n03976657_498",
                "n07753592_446",
            ][..],
        ),
        ("imagewoof2-320", &["n02087394/n02087394_12539", "n02093754/n02093754_5915"]),
    ] {
        let (Some(train), Some(validation)) =
            (part_at_hand(name, Part::Train, None), part_at_hand(name, Part::Validation, None))
        else {
            continue;
        };
        let (rest, names) = train.without_copies_of(&validation).unwrap();
        assert_eq!(names, known.iter().map(|name| format!("{name}.JPEG")).collect::<Vec<_>>());
        assert_eq!(rest.len(), train.len() - known.len());
        let (again, none) = rest.without_copies_of(&validation).unwrap();
        assert_eq!((again.hash(), none.len()), (rest.hash(), 0));
    }
}

/// Rows in results/ name the first; a set whose images differ in size is known by the bytes of its files.
#[test]
fn hashes_are_pinned() {
    for (name, classes, hash) in [
        ("imagenet_val_910", Some(1000), "e876e34b126180f78364f7bb44d857ee968df109672fac3aff30d342ec9d3da1"),
        ("tiny-imagenet", None, "979f618c6215912e7d9d606cb22bea4334ec36739e8591efb757925403b750f8"),
        ("imagenet_val_fullres_26", Some(1000), "b65ea84a93a90358d6037bd03b82e5027030a845b15066b7e282a12d4d71baa5"),
    ] {
        let Some(set) = at_hand(name, classes) else { continue };
        assert_eq!(set.hash(), hash, "{name}");
    }
}
