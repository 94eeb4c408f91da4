//! Batches are a pure function of (seed, epoch, index), whatever the number of threads and the batch to start at.

use std::collections::BTreeSet;

use sandglass_data::{Augment, Batch, Dataset, Embedded, Filter, Fit, Loader, Part, Protocol, Transform, open};

fn set(count: usize) -> Dataset {
    Embedded { train: count, ..Embedded::default() }.open(Part::Train).unwrap()
}

fn augment() -> Augment {
    Augment { smallest_area: 0.0, pad_crop: 4, flip: true, jitter: 0.4, cutout: 8 }
}

fn loader(count: usize, seed: u64, threads: usize) -> Loader {
    let set = set(count);
    let transform = Transform::training(&set, &augment(), None, &Protocol::default()).unwrap();
    Loader::training(&set, transform, 16, seed, threads).unwrap()
}

fn batches(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

fn hash(batches: &[Batch]) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in batches.iter().flat_map(|batch| &batch.images) {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_string()
}

#[test]
fn threads_and_the_batch_to_start_at_change_nothing() {
    let whole = batches(&loader(100, 7, 1), 3, 0);
    assert_eq!(whole.len(), 6, "the last partial batch is dropped");
    for threads in [2, 3, 8] {
        assert_eq!(batches(&loader(100, 7, threads), 3, 0), whole);
        assert_eq!(batches(&loader(100, 7, threads), 3, 4), whole[4..]);
        assert_eq!(batches(&loader(100, 7, threads), 3, 6), []);
    }
}

#[test]
fn seed_and_epoch_change_order_and_augmentation() {
    let order = |seed, epoch| {
        let batches = batches(&loader(100, seed, 2), epoch, 0);
        batches.into_iter().flat_map(|batch| batch.indices).collect::<Vec<_>>()
    };
    let base = order(7, 3);
    assert_eq!(base.iter().collect::<BTreeSet<_>>().len(), 96, "no image comes twice");
    assert_ne!(base, order(8, 3));
    assert_ne!(base, order(7, 4));
}

#[test]
fn evaluation_shows_every_image_once_and_in_order() {
    let set = set(50);
    let transform = Transform::evaluation(&set, 10, None, &Protocol::default()).unwrap();
    let batches = batches(&Loader::evaluation(&set, transform, 16, 3), 0, 0);
    let indices: Vec<u32> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, (0..50).collect::<Vec<_>>());
    assert_eq!(batches[3].images.len(), 2 * 32 * 32 * 3);
    assert!(batches.iter().all(|batch| batch.indices.iter().zip(&batch.labels).all(|(i, l)| i % 10 == *l)));
}

/// Made by this code once; a change here changes what every seed trains on.
#[test]
fn augmented_pixels_are_pinned() {
    assert_eq!(hash(&batches(&loader(64, 1, 2), 0, 0)), "994cb8af48abca72");
    let set = set(64);
    let augment = Augment { smallest_area: 0.25, flip: true, ..Augment::default() };
    let transform = Transform::training(&set, &augment, Some(24), &Protocol::default()).unwrap();
    assert_eq!(transform.size(), (24, 24));
    assert_eq!(hash(&batches(&Loader::training(&set, transform, 16, 1, 2).unwrap(), 0, 0)), "0edb70e9cdbc8c31");
    let transform = Transform::new(Fit::Centre { short: 28, size: 24, filter: Filter::Bilinear }, None);
    assert_eq!(hash(&batches(&Loader::evaluation(&set, transform, 16, 2), 0, 0)), "43c15336a5c857eb");
}

/// Images that are read in runs (row groups) come in another order, each still once.
#[test]
fn sets_that_are_read_in_runs_are_shuffled_too() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parquet/shards");
    let set = open(folder, Part::Train, None).unwrap();
    let transform = Transform::new(Fit::Centre { short: 20, size: 16, filter: Filter::Bilinear }, None);
    let mut orders = BTreeSet::new();
    for epoch in 0..20 {
        let loader = Loader::training(&set, transform.clone(), 1, 5, 2).unwrap();
        let order: Vec<u32> = loader.epoch(epoch, 0).flat_map(|batch| batch.unwrap().indices).collect();
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 5);
        orders.insert(order);
    }
    assert!(orders.len() > 10);
}

#[test]
fn too_few_images_for_a_batch_are_an_error() {
    let set = set(15);
    let transform = Transform::evaluation(&set, 10, None, &Protocol::default()).unwrap();
    assert!(Loader::training(&set, transform, 16, 0, 1).is_err());
}
