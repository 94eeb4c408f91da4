//! The loss's gradient against central differences, and which negatives it selects.

use sandglass_detect::{DetectError, MultiBox};

/// In -2..2, following no pattern.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + 1) * (2 * seed + 1) * 7919 % 2003) as f32 / 500.75 - 2.0).collect()
}

const PRIORS: usize = 30;
const CLASSES: usize = 5;

struct Batch {
    confidence: Vec<f32>,
    locations: Vec<f32>,
    labels: Vec<u32>,
    targets: Vec<f32>,
}

fn batch() -> Batch {
    let mut labels = vec![0; 3 * PRIORS];
    // The last image has no object, the first more than its negatives allow.
    (0..9).for_each(|at| labels[at] = 1 + at as u32 % 4);
    (PRIORS + 3..PRIORS + 5).for_each(|at| labels[at] = 2);
    Batch {
        confidence: values(3 * PRIORS * CLASSES, 4),
        locations: values(3 * PRIORS * 4, 2),
        labels,
        targets: values(3 * PRIORS * 4, 3),
    }
}

fn total(batch: &Batch, confidence: &[f32], locations: &[f32]) -> f64 {
    let loss = MultiBox::new(CLASSES).loss(PRIORS, (confidence, locations), (&batch.labels, &batch.targets));
    loss.unwrap().total()
}

#[test]
fn the_gradient_is_that_of_central_differences() {
    let batch = batch();
    let loss = MultiBox::new(CLASSES)
        .loss(PRIORS, (&batch.confidence, &batch.locations), (&batch.labels, &batch.targets))
        .unwrap();
    let step = 1.0 / 1024.0;
    let differ = |values: &[f32], at: usize, loss: &dyn Fn(&[f32]) -> f64| {
        let moved = |by: f32| {
            let mut values = values.to_vec();
            values[at] += by;
            loss(&values)
        };
        (moved(step) - moved(-step)) / f64::from(2.0 * step)
    };
    let (mut of_scores, mut of_boxes) = (0, 0);
    for (at, &got) in loss.confidence_gradient.iter().enumerate() {
        let want = differ(&batch.confidence, at, &|values| total(&batch, values, &batch.locations));
        assert!((f64::from(got) - want).abs() < 1e-5, "score {at}: {got} for {want}");
        of_scores += usize::from(got != 0.0);
    }
    for (at, &got) in loss.location_gradient.iter().enumerate() {
        let want = differ(&batch.locations, at, &|values| total(&batch, &batch.confidence, values));
        // Where the difference is 1, smooth L1 changes its form: the gradient is continuous, the second derivative not.
        assert!((f64::from(got) - want).abs() < 2e-4, "number {at}: {got} for {want}");
        of_boxes += usize::from(got != 0.0);
    }
    assert_eq!(loss.positives, 11);
    // 9 positives with 21 negatives, for there are no more; 2 with 6; none with none.
    assert_eq!(of_scores, (30 + 8) * CLASSES);
    assert!(of_boxes <= 11 * 4 && of_boxes > 11 * 3, "{of_boxes}");
}

#[test]
fn the_hardest_negatives_are_taken_image_by_image() {
    let (mut confidence, labels) = (vec![0.0; 2 * 6 * 2], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (at, score) in [3.0, 0.0, -1.0, 2.0, 1.0, 0.5, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0].into_iter().enumerate() {
        // The background's score: the higher, the easier.
        confidence[2 * at] = score;
    }
    let zeros = [0.0; 2 * 6 * 4];
    let loss = MultiBox::new(2).loss(6, (&confidence, &zeros), (&labels, &zeros)).unwrap();
    let selected: Vec<usize> = (0..12).filter(|at| loss.selected[*at]).collect();
    assert_eq!(selected, [1, 2, 4, 5]);
}

#[test]
fn a_batch_without_objects_asks_for_nothing() {
    let (confidence, locations) = (values(2 * 4 * 3, 1), values(2 * 4 * 4, 2));
    let loss = MultiBox::new(3).loss(4, (&confidence, &locations), (&[0; 8], &locations)).unwrap();
    assert_eq!((loss.total(), loss.positives), (0.0, 0));
    assert!(loss.confidence_gradient.iter().chain(&loss.location_gradient).all(|gradient| *gradient == 0.0));
}

#[test]
fn what_does_not_fit_is_refused() {
    let loss = |priors, scores: &[f32], labels: &[u32]| {
        let zeros = vec![0.0; labels.len() * 4];
        MultiBox::new(3).loss(priors, (scores, &zeros), (labels, &zeros)).unwrap_err()
    };
    assert_eq!(loss(2, &[0.0; 6], &[0, 3]), DetectError::Label { label: 3, labels: 3 });
    assert_eq!(loss(2, &[0.0; 5], &[0, 1]), DetectError::Length { what: "class scores", expected: 6, found: 5 });
    assert!(matches!(loss(2, &[0.0; 9], &[0, 1, 0]), DetectError::Length { what: "labels", .. }));
    assert!(matches!(loss(0, &[0.0; 3], &[0]), DetectError::Length { .. }));
    assert_eq!(loss(1, &[0.0, f32::NAN, 0.0], &[1]), DetectError::NotFinite("class scores"));
    let nothing = MultiBox::new(0).loss(1, (&[], &[]), (&[], &[])).unwrap_err();
    assert_eq!(nothing, DetectError::Label { label: 0, labels: 0 });
}
