//! Suppression and average precision against their definitions.

use proptest::prelude::*;
use sandglass_data::{DetectionSet, Object};
use sandglass_detect::{
    Counting, Curve, DetectError, Detection, Postprocess, ScoredImage, Truth, all_points, eleven_points, evaluate,
    hundred_and_one_points, iou, nms, voc_of_coco,
};

fn boxes() -> impl Strategy<Value = Vec<([f32; 4], f32)>> {
    let bbox = (0u8..16, 0u8..16, 1u8..9, 1u8..9, 0u8..20);
    let bbox = bbox.prop_map(|(x, y, width, height, score)| {
        let [x, y, width, height] = [x, y, width, height].map(f32::from);
        ([x, y, x + width, y + height], f32::from(score))
    });
    proptest::collection::vec(bbox, 0..40)
}

proptest! {
    /// What stays does not overlap, and what goes overlaps one that stays and scores as well.
    #[test]
    fn suppression_keeps_the_best(found in boxes(), threshold in 0u8..10) {
        let threshold = f64::from(threshold) / 10.0;
        let (boxes, scores): (Vec<[f32; 4]>, Vec<f32>) = found.into_iter().unzip();
        let kept = nms(&boxes, &scores, threshold, usize::MAX);
        prop_assert!(kept.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        for (at, &one) in kept.iter().enumerate() {
            prop_assert!(kept[..at].iter().all(|&other| iou(boxes[one], boxes[other], 0.0) <= threshold));
        }
        for gone in (0..boxes.len()).filter(|at| !kept.contains(at)) {
            let covers = |&stays: &usize| iou(boxes[stays], boxes[gone], 0.0) > threshold && scores[stays] >= scores[gone];
            prop_assert!(kept.iter().any(covers));
        }
        let few = nms(&boxes, &scores, threshold, 3);
        prop_assert_eq!(&few[..], &kept[..kept.len().min(3)]);
    }

    /// Each mean over recalls from its definition, point by point.
    #[test]
    fn averages_are_what_they_say(hits in proptest::collection::vec(any::<bool>(), 0..30), more in 0usize..4) {
        let found = hits.iter().filter(|hit| **hit).count();
        let positives = found + more;
        let curve = Curve { positives, hits: hits.clone(), ..Curve::default() };
        let best_from = |least: usize| {
            (1..=hits.len())
                .filter(|&seen| hits[..seen].iter().filter(|hit| **hit).count() >= least)
                .map(|seen| hits[..seen].iter().filter(|hit| **hit).count() as f64 / seen as f64)
                .fold(0.0, f64::max)
        };
        if positives == 0 {
            prop_assert_eq!(eleven_points(&curve), None);
            prop_assert_eq!(all_points(&curve), None);
            return Ok(());
        }
        for (steps, got) in [(10, eleven_points(&curve)), (100, hundred_and_one_points(&curve))] {
            // The least that reaches a recall, in f64 as the official evaluations have it.
            let least = |step: usize| {
                let threshold = step as f64 * (1.0 / steps as f64);
                (0..=positives + 1).find(|found| *found as f64 / positives as f64 >= threshold).unwrap()
            };
            let want: f64 = (0..=steps).map(|step| best_from(least(step))).sum();
            prop_assert!((got.unwrap() - want / (steps + 1) as f64).abs() < 1e-12);
        }
        let want: f64 = (1..=found).map(best_from).sum();
        prop_assert!((all_points(&curve).unwrap() - want / positives as f64).abs() < 1e-12);
    }
}

/// 3 of 10 is no 0.30000000000000004.
#[test]
fn recalls_are_compared_as_the_official_evaluation_compares_them() {
    let curve = |positives| Curve { positives, hits: vec![true; 3], ..Curve::default() };
    assert_eq!(eleven_points(&curve(10)), Some(3.0 / 11.0));
    assert_eq!(eleven_points(&curve(15)), Some(3.0 / 11.0));
    assert_eq!(eleven_points(&curve(6)), Some(6.0 / 11.0));
}

fn found(class: usize, score: f32, bbox: [f32; 4]) -> Detection {
    Detection { class, score, bbox }
}

fn truth(class: usize, bbox: [f32; 4], difficult: bool) -> Truth {
    Truth { class, bbox, difficult }
}

/// As Pascal VOC annotates a box whose edges lie there: its pixels are counted from 1, and both ends are its.
fn annotated([left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
    [left + 1.0, top + 1.0, right, bottom]
}

const A: [f32; 4] = [0.0, 0.0, 9.0, 9.0];
const B: [f32; 4] = [50.0, 50.0, 69.0, 69.0];
const NOWHERE: [f32; 4] = [200.0, 200.0, 210.0, 210.0];

#[test]
fn difficult_objects_count_neither_way_and_a_second_hit_is_a_miss() {
    let image = ScoredImage {
        detections: vec![
            found(0, 0.9, B),
            found(0, 0.8, B),
            found(0, 0.7, A),
            found(0, 0.6, A),
            found(0, 0.1, NOWHERE),
        ],
        truth: [(0, A, false), (0, B, true), (1, B, true)]
            .map(|(class, edges, difficult)| truth(class, annotated(edges), difficult))
            .to_vec(),
    };
    let score = evaluate(&[image], 3, Counting::Edges).unwrap();
    assert_eq!(score.curves[0].hits, [true, false, false]);
    assert_eq!(score.curves[0].positives, 1);
    assert_eq!(score.voc07.ap, [Some(1.0), None, None]);
    assert_eq!(score.voc10.map, Some(1.0));
    assert_eq!(score.coco_map(), Some(1.0));
}

/// Drawn anew, an image counts as often as it was drawn, whole.
#[test]
fn images_drawn_anew_are_scored_as_often_as_they_are_drawn() {
    let image = |at: usize| ScoredImage {
        detections: (0..6)
            .map(|k| found(k % 2, 0.9 - 0.013 * (7 * at + k) as f32, if (at + k).is_multiple_of(3) { A } else { B }))
            .collect(),
        truth: vec![truth(at % 2, A, false), truth(1 - at % 2, B, at == 2)],
    };
    let images: Vec<ScoredImage> = (0..5).map(image).collect();
    let score = evaluate(&images, 2, Counting::AsAnnotated).unwrap();
    assert_eq!(score.drawn(&[1; 5]), score.voc07.map);
    for times in [[0, 2, 1, 0, 2], [5, 0, 0, 0, 0], [1, 1, 3, 0, 0]] {
        let drawn: Vec<ScoredImage> =
            images.iter().zip(times).flat_map(|(image, times)| vec![image.clone(); times]).collect();
        assert_eq!(score.drawn(&times), evaluate(&drawn, 2, Counting::AsAnnotated).unwrap().voc07.map, "{times:?}");
    }
    assert_eq!(score.drawn(&[0; 5]), None);
}

/// Inclusive pixels: a box of 10 x 10 pixels and one of 10 x 5 in it have an IoU of one half, where corners between pixels
/// would give 4 / 9.
#[test]
fn pascal_vocs_pixels_are_inclusive() {
    let half = [0.0, 0.0, 9.0, 4.0];
    for (counting, bbox) in [(Counting::AsAnnotated, A), (Counting::FromZero, A.map(|corner| corner + 1.0))] {
        let image = ScoredImage { detections: vec![found(0, 0.5, half)], truth: vec![truth(0, bbox, false)] };
        assert_eq!(evaluate(&[image], 1, counting).unwrap().voc07.map, Some(1.0), "{counting}");
    }
    let image = ScoredImage { detections: vec![found(0, 0.5, half)], truth: vec![truth(0, annotated(A), false)] };
    assert_eq!(evaluate(&[image], 1, Counting::Edges).unwrap().voc07.map, Some(0.0));
}

/// The smallest object that there is, found where it lies: by edges 1 to 2, it is the second pixel.
#[test]
fn an_exact_detection_is_exact_however_pixels_are_counted() {
    let pixel = truth(0, [2.0; 4], false);
    let score = |counting, bbox| {
        let image = ScoredImage { detections: vec![found(0, 0.5, bbox)], truth: vec![pixel] };
        evaluate(&[image], 1, counting).unwrap()
    };
    let edges = [1.0, 1.0, 2.0, 2.0];
    for (counting, bbox) in
        [(Counting::Edges, edges), (Counting::FromZero, [1.0; 4]), (Counting::AsAnnotated, [2.0; 4])]
    {
        let score = score(counting, bbox);
        assert_eq!(score.voc07.map, Some(1.0), "{counting}");
        if counting != Counting::AsAnnotated {
            assert_eq!(score.coco_map(), Some(1.0), "{counting}");
        }
    }
    // Whoever learnt from COCO has edges; by Pascal VOC's rule they are taken for more than they are.
    let tensorflows = score(Counting::AsAnnotated, edges);
    assert_eq!((tensorflows.voc07.map, tensorflows.coco_map()), (Some(0.0), Some(1.0)));
}

/// From a set's objects to a score, small ones too: what is found where it is annotated is found.
#[test]
fn the_objects_of_a_set_are_found_where_they_are() {
    let bounds = [[0.0, 0.0, 0.125, 0.125], [0.5, 0.25, 0.625, 0.5], [0.25, 0.75, 1.0, 1.0]];
    let objects = bounds.map(|bounds| Object { class: 0, bounds, difficult: false, truncated: false }).to_vec();
    let set =
        DetectionSet::from_pixels("set", vec!["thing".into()], true, (8, 8), vec![0; 192], vec![objects]).unwrap();
    let image = ScoredImage::of(&set, 0, bounds.map(|bbox| found(0, 0.5, bbox)));
    let score = evaluate(&[image], 1, Counting::Edges).unwrap();
    assert_eq!((score.voc07.map, score.voc10.map, score.coco_map()), (Some(1.0), Some(1.0), Some(1.0)));
}

/// Found before: Pascal VOC asks for the object that is overlapped most, COCO for the best that is still to be found.
#[test]
fn of_two_objects_that_overlap_the_second_is_found_by_cocos_rule_alone() {
    let beside = [2.0, 0.0, 11.0, 9.0];
    // The second detection lies nearer to the first object.
    let image = ScoredImage {
        detections: vec![found(0, 0.9, A), found(0, 0.8, [0.5, 0.0, 9.5, 9.0])],
        truth: [A, beside].map(|edges| truth(0, annotated(edges), false)).to_vec(),
    };
    let score = evaluate(&[image], 1, Counting::Edges).unwrap();
    assert_eq!(score.curves[0].hits, [true, false]);
    assert_eq!((score.coco[0].map, score.coco[9].map), (Some(1.0), Some(51.0 / 101.0)));
}

/// Two objects, three detections: right at recall 1/2 with precision 1, then wrong, then right with 2/3.
#[test]
fn a_worked_example() {
    let images = [
        ScoredImage {
            detections: vec![found(0, 0.9, A), found(0, 0.3, B)],
            truth: vec![truth(0, annotated(A), false), truth(0, annotated(B), false)],
        },
        ScoredImage { detections: vec![found(0, 0.5, A)], truth: vec![] },
    ];
    let score = evaluate(&images, 1, Counting::Edges).unwrap();
    let near = |got: Option<f64>, want: f64| assert!((got.unwrap() - want).abs() < 1e-12, "{got:?} for {want}");
    near(score.voc07.map, (6.0 + 5.0 * 2.0 / 3.0) / 11.0);
    near(score.voc10.map, 0.5 + 0.5 * 2.0 / 3.0);
    near(score.coco[9].map, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
    assert_eq!(evaluate(&[], 2, Counting::Edges).unwrap().voc07.map, None);
}

#[test]
fn nothing_is_scored_that_is_no_number_or_no_class() {
    let image = |class, score| ScoredImage { detections: vec![found(class, score, A)], truth: vec![] };
    assert_eq!(evaluate(&[image(2, 0.5)], 2, Counting::Edges), Err(DetectError::Label { label: 3, labels: 3 }));
    assert!(evaluate(&[image(usize::MAX, 0.5)], 2, Counting::Edges).is_err());
    assert!(matches!(evaluate(&[image(0, f32::NAN)], 2, Counting::Edges), Err(DetectError::NotFinite(_))));
}

/// So many of all classes by the official rule; by TensorFlow's so many of each, of the best of which suppression sees so many.
#[test]
fn so_many_detections_stay() {
    let apart: Vec<[f32; 4]> = (0..150).map(|at| [2.0 * at as f32, 0.0, 2.0 * at as f32 + 1.0, 1.0]).collect();
    let score = |at: usize| 0.9 - 0.001 * at as f32;
    let scores: Vec<f32> = (0..150).flat_map(|at| [0.0, score(at), score(at) / 2.0]).collect();
    let official = Postprocess::OFFICIAL.detections(&scores, &apart, 3).unwrap();
    assert_eq!((official.len(), official.iter().filter(|found| found.class == 0).count()), (100, 100));
    assert!(official.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let tensorflows = Postprocess::TENSORFLOW.detections(&scores, &apart, 3).unwrap();
    assert_eq!([0, 1].map(|class| tensorflows.iter().filter(|found| found.class == class).count()), [100, 100]);

    // 400 of one place hide what scores less and lies elsewhere.
    let places: Vec<[f32; 4]> = (0..401).map(|at| if at < 400 { A } else { B }).collect();
    let scores: Vec<f32> = (0..401).flat_map(|at| [0.0, score(at)]).collect();
    let count = |of: Postprocess| of.detections(&scores, &places, 2).unwrap().len();
    assert_eq!((count(Postprocess::OFFICIAL), count(Postprocess::TENSORFLOW)), (2, 1));
}

#[test]
fn cocos_person_is_vocs() {
    assert_eq!(voc_of_coco(0).map(|class| sandglass_detect::VOC[class]), Some("person"));
    assert_eq!(sandglass_detect::coco_name(71), Some("tv"));
    assert_eq!(voc_of_coco(71).map(|class| sandglass_detect::VOC[class]), Some("tvmonitor"));
    assert_eq!((voc_of_coco(7), sandglass_detect::coco_name(11)), (None, None));
}
