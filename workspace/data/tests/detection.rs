//! Batches for detectors: boxes stay where their pixels are, the same batches for any number of threads, and a drawn set that
//! is the same everywhere.

use std::collections::BTreeSet;

use sandglass_data::{
    Batch, DetectionAugment, DetectionSet, DetectionTransform, Draws, EmbeddedDetection, Filter, Loader, Object,
    Picture, Protocol, Purpose, Split, resize,
};

/// Bytes as fractions of 255.
fn plain() -> Protocol {
    Protocol { mean: [0.0; 3], std: [1.0; 3], ..Protocol::default() }
}

fn drawn() -> EmbeddedDetection {
    EmbeddedDetection { size: 48, train: 40, val: 10, test: 20, ..EmbeddedDetection::default() }
}

/// Boxes in flat colours, one for each channel, on black: found again by their colour, they are where the objects say.
#[test]
fn pixels_and_boxes_move_together() {
    const INPUT: usize = 160;
    let (width, height) = (140, 110);
    let boxes = [[20, 15, 60, 50], [70, 30, 125, 100], [10, 60, 50, 105]];
    let mut picture = Picture::black(width, height);
    for (channel, [left, top, right, bottom]) in boxes.into_iter().enumerate() {
        for (y, x) in (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))) {
            picture.pixels[(y * width + x) * 3 + channel] = 255;
        }
    }
    let sides = [width, height, width, height].map(|side| side as f32);
    let object = |(class, bounds): (usize, [usize; 4])| Object {
        class: class as u32,
        bounds: std::array::from_fn(|at| bounds[at] as f32 / sides[at]),
        difficult: false,
        truncated: false,
    };
    let objects: Vec<Object> = boxes.into_iter().enumerate().map(object).collect();
    let augment = DetectionAugment { photometric: false, ..DetectionAugment::official() };
    let training = DetectionTransform::training(INPUT, &augment, &plain()).unwrap();
    let evaluation = DetectionTransform::evaluation(INPUT, &plain()).unwrap();
    let (mut found, mut lost) = (0, 0);
    for index in 0..300 {
        let transform = if index == 0 { &evaluation } else { &training };
        let mut image = vec![0.0; INPUT * INPUT * 3];
        let mut draws = Draws::new(0, Purpose::Augment, 0, index);
        let moved = transform.apply(&picture, &objects, &mut draws, &mut image);
        lost += objects.len() - moved.len();
        for object in moved {
            let [left, top, right, bottom] = object.bounds.map(|edge| edge * INPUT as f32);
            if right - left < 5.0 || bottom - top < 5.0 {
                continue;
            }
            let lit = |x: usize, y: usize| image[(y * INPUT + x) * 3 + object.class as usize] > 0.5;
            let places = || (0..INPUT * INPUT).map(|at| (at % INPUT, at / INPUT)).filter(|&(x, y)| lit(x, y));
            let (xs, ys) = (|| places().map(|(x, _)| x as f32), || places().map(|(_, y)| y as f32));
            let least = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::INFINITY, f32::min);
            let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max) + 1.0;
            let seen = [least(&mut xs()), least(&mut ys()), most(&mut xs()), most(&mut ys())];
            let near = seen.iter().zip([left, top, right, bottom]).all(|(seen, said)| (seen - said).abs() <= 0.75);
            assert!(near, "{index}: {seen:?} is seen, {:?} is said", [left, top, right, bottom]);
            found += 1;
        }
    }
    assert!(found > 400 && lost > 100, "{found} {lost}");
}

#[test]
fn evaluation_resizes_and_moves_no_box() {
    let set = drawn().open(Split::Test).unwrap();
    let transform = DetectionTransform::evaluation(31, &Protocol::default()).unwrap();
    let batches: Vec<Batch<Vec<Object>>> =
        Loader::evaluation(&set, transform.clone(), 8, 3).epoch(0, 0).map(Result::unwrap).collect();
    assert_eq!((transform.size(), batches.len(), batches[2].indices.as_slice()), ((31, 31), 3, &[16, 17, 18, 19][..]));
    let Protocol { mean, std, .. } = Protocol::default();
    for (at, label) in batches.iter().flat_map(|batch| &batch.labels).enumerate() {
        assert_eq!(label, set.objects(at));
        let resized = resize(&set.picture(at).unwrap(), 31, 31, Filter::Bilinear);
        let image = &batches[at / 8].images[at % 8 * 31 * 31 * 3..][..31 * 31 * 3];
        let wanted = |at: usize| (f32::from(resized.pixels[at]) / 255.0 - mean[at % 3]) / std[at % 3];
        assert!(image.iter().enumerate().all(|(at, &value)| value == wanted(at)));
    }
}

#[test]
fn values_are_bytes_less_a_mean_by_a_deviation() {
    let picture = Picture { width: 2, height: 1, pixels: vec![123, 117, 104, 255, 0, 100] };
    let [mean, std] = [[123.0, 117.0, 104.0], [2.0, 1.0, 0.5]].map(|of| of.map(|byte| byte / 255.0));
    let transform = DetectionTransform::evaluation(1, &Protocol { mean, std, ..Protocol::default() }).unwrap();
    let mut image = vec![0.0; 3];
    // The mean of two pixels, rounded: 189, 59, 102.
    transform.apply(&picture, &[], &mut Draws::new(0, Purpose::Augment, 0, 0), &mut image);
    assert!(image.iter().zip([33.0, -58.0, -4.0]).all(|(a, b)| (a - b).abs() < 1e-4), "{image:?}");
}

fn training(set: &DetectionSet, seed: u64, threads: usize) -> Loader<DetectionSet> {
    let transform = DetectionTransform::training(40, &DetectionAugment::official(), &Protocol::default()).unwrap();
    Loader::training(set, transform, 8, seed, threads).unwrap()
}

fn batches(loader: &Loader<DetectionSet>, epoch: u64, first: usize) -> Vec<Batch<Vec<Object>>> {
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

#[test]
fn threads_and_the_batch_to_start_at_change_nothing() {
    let set = drawn().open(Split::Train).unwrap();
    let whole = batches(&training(&set, 7, 1), 3, 0);
    assert_eq!(whole.len(), 5);
    for threads in [2, 3, 8] {
        assert_eq!(batches(&training(&set, 7, threads), 3, 0), whole);
        assert_eq!(batches(&training(&set, 7, threads), 3, 3), whole[3..]);
    }
    // An image is augmented in another way in another epoch, and by another seed.
    let labels = |batches: &[Batch<Vec<Object>>]| {
        let mut labels: Vec<(u32, Vec<Object>)> =
            batches.iter().flat_map(|batch| batch.indices.iter().copied().zip(batch.labels.iter().cloned())).collect();
        labels.sort_by_key(|(index, _)| *index);
        labels
    };
    let own = labels(&whole);
    for (seed, epoch) in [(8, 3), (7, 4)] {
        let other = labels(&batches(&training(&set, seed, 2), epoch, 0));
        let same = own.iter().zip(&other).filter(|(own, other)| own == other).count();
        assert!(same < 10, "{same} of {} images are as in another epoch", own.len());
    }
    for object in whole.iter().flat_map(|batch| &batch.labels).flatten() {
        let [left, top, right, bottom] = object.bounds;
        assert!(0.0 <= left && left < right && right <= 1.0 && 0.0 <= top && top < bottom && bottom <= 1.0);
    }
}

/// Made by this code once; a change here changes what every seed trains on.
#[test]
fn augmented_pixels_and_boxes_are_pinned() {
    let set = drawn().open(Split::Train).unwrap();
    let mut hasher = blake3::Hasher::new();
    for batch in batches(&training(&set, 1, 2), 0, 0) {
        let edges = batch.labels.iter().flatten().flat_map(|object| &object.bounds);
        for value in batch.images.iter().chain(edges) {
            hasher.update(&value.to_le_bytes());
        }
    }
    assert_eq!(&hasher.finalize().to_hex()[..16], "5beb54b48bf4a893");
}

#[test]
fn what_no_detector_can_see_is_refused() {
    let message = |input, protocol: &Protocol| DetectionTransform::evaluation(input, protocol).unwrap_err().to_string();
    assert!(message(0, &plain()).contains("input of 0 pixels: use 1 to 1024"));
    assert!(message(1025, &plain()).contains("input of 1025 pixels"));
    assert!(message(32, &Protocol { resize: Some(40), ..plain() }).contains("leave the resize out"));
    assert!(message(32, &Protocol { std: [0.0; 3], ..plain() }).contains("use numbers above 0"));
    let augment = DetectionAugment { expand: 0.5, ..DetectionAugment::default() };
    assert!(DetectionTransform::training(32, &augment, &plain()).is_err());
}

/// Made by this code once: libm and counter-based draws alone decide pixels and boxes.
#[test]
fn the_drawn_set_is_pinned() {
    let pins = ["c4b1839e5b6a8d06", "1f49d3bf1c8f3d4a", "994b6a7aaca564d4"];
    for (split, pin) in [Split::Train, Split::Val, Split::Test].into_iter().zip(pins) {
        let set = drawn().open(split).unwrap();
        assert_eq!(&set.hash()[..16], pin, "{split}");
        assert!(set.synthetic() && set.name() == format!("embedded ({split})"));
        assert_eq!((set.size(0), set.classes().len()), ((48, 48), 5));
    }
}

#[test]
fn drawn_splits_do_not_overlap_and_trainval_is_both() {
    let pictures = |split: Split| -> Vec<Vec<u8>> {
        let set = drawn().open(split).unwrap();
        (0..set.len()).map(|at| set.picture(at).unwrap().pixels).collect()
    };
    let [train, val, both, test] = Split::ALL.map(pictures);
    assert_eq!([train.clone(), val.clone()].concat(), both);
    let all: BTreeSet<_> = both.iter().chain(&test).collect();
    assert_eq!(all.len(), 70);
    let set = drawn().open(Split::TrainVal).unwrap();
    assert_eq!((set.image_name(0), set.image_name(40)), ("train 0".to_string(), "val 0".to_string()));
    let other = EmbeddedDetection { seed: 1, ..drawn() }.open(Split::Train).unwrap();
    assert_ne!(other.picture(0).unwrap().pixels, train[0]);
    for broken in [
        EmbeddedDetection { size: 0, ..drawn() },
        EmbeddedDetection { size: 5000, ..drawn() },
        EmbeddedDetection { classes: 0, ..drawn() },
        EmbeddedDetection { classes: 11, ..drawn() },
    ] {
        assert!(broken.open(Split::Train).is_err(), "{broken:?}");
    }
}
