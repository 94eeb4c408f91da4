//! The embedded data set is the same everywhere, balanced, and its parts do not overlap.

use std::collections::BTreeSet;

use sandglass_data::{Dataset, Embedded, Part, open};

fn pictures(set: &Dataset) -> BTreeSet<Vec<u8>> {
    (0..set.len()).map(|index| set.picture(index).unwrap().pixels).collect()
}

/// Made by this code once: libm and counter-based draws alone decide the pixels.
#[test]
fn pixels_are_pinned() {
    for (size, part, pin) in [
        (32, Part::Train, "06126de9b4a88d21"),
        (32, Part::Validation, "be78102750f5c204"),
        (64, Part::Train, "7e3701999edb5ab7"),
        (33, Part::Train, "c2919ba1dbe88df0"),
    ] {
        let set = Embedded { size, train: 100, validation: 100, seed: 0 }.open(part).unwrap();
        assert_eq!(set.size(), Some((size, size)));
        assert_eq!(&set.hash()[..16], pin, "{size} {part:?}");
    }
}

#[test]
fn it_is_labelled_synthetic_and_balanced() {
    for part in [Part::Train, Part::Validation] {
        let set = open("embedded", part, Some(10)).unwrap();
        assert!(set.synthetic());
        let mut counts = [0; 10];
        (0..set.len()).for_each(|index| counts[set.label(index) as usize] += 1);
        assert!(counts.iter().all(|&count| count == set.len() / 10));
    }
    assert!(open("embedded", Part::Train, Some(9)).is_err());
}

#[test]
fn parts_seeds_and_images_differ() {
    let embedded = Embedded { size: 16, train: 300, validation: 300, seed: 0 };
    let train = pictures(&embedded.open(Part::Train).unwrap());
    assert_eq!(train.len(), 300);
    assert!(train.is_disjoint(&pictures(&embedded.open(Part::Validation).unwrap())));
    assert!(train.is_disjoint(&pictures(&Embedded { seed: 1, ..embedded }.open(Part::Train).unwrap())));
}

#[test]
fn a_development_split_is_cut_by_seed() {
    let set = Embedded { size: 16, train: 100, ..Embedded::default() }.open(Part::Train).unwrap();
    let (rest, development) = set.split(30, 5).unwrap();
    assert_eq!((rest.len(), development.len()), (70, 30));
    assert!(pictures(&rest).is_disjoint(&pictures(&development)));
    assert!(development.synthetic());
    let again = set.split(30, 5).unwrap();
    assert_eq!((again.0.hash(), again.1.hash()), (rest.hash(), development.hash()));
    assert_ne!(set.split(30, 6).unwrap().1.hash(), development.hash());
    assert!(set.split(100, 5).is_err());
    let (smaller, _) = rest.split(10, 1).unwrap();
    assert!(pictures(&smaller).is_subset(&pictures(&rest)));
}
