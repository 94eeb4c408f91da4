//! Detections against what is there: average precision by class.

use std::fmt;

use sandglass_data::{DetectionSet, Object};
use sandglass_models::DetectorName;
use serde::Serialize;

use crate::boxes::iou;
use crate::{Curve, DetectError, Detection, all_points, eleven_points, hundred_and_one_points};

/// IoU from which on a detection finds an object, in the mean of COCO's AP.
pub const COCO_THRESHOLDS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// Pascal VOC's.
const VOC_THRESHOLD: f64 = 0.5;

/// Detections of a class in an image that COCO looks at.
const COCO_MOST: usize = 100;

/// An object that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// From 0, without the background.
    pub class: usize,
    /// `[xmin, ymin, xmax, ymax]` in Pascal VOC's pixels, which are counted from 1 and belong to the box at both ends.
    pub bbox: [f32; 4],
    /// Finding it counts neither way, nor does missing it.
    pub difficult: bool,
}

/// How the code that trained a detector counts pixels. Its detections are scored by the same count (but for TensorFlow's, by
/// Pascal VOC's rule): taken for others, an exact one would lie a pixel beside what is there, which costs small objects most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Places between pixels, from 0: whatever is trained here.
    Edges,
    /// Pixels from 0, which belong to the box at both ends: the official code takes 1 from each number of an annotation.
    FromZero,
    /// As annotations do, from 1. TensorFlow's detector is scored so, though what it learnt on COCO are edges: its tools take
    /// Pascal VOC's numbers as they stand, and so do the figures that are known of it.
    AsAnnotated,
}

impl Counting {
    /// Of a detector that was not trained here.
    pub fn published(name: DetectorName) -> Self {
        if name.is_tf() { Self::AsAnnotated } else { Self::FromZero }
    }

    /// The same by COCO's rule. Its boxes are edges, and so are those of a detector that learnt from them; of whoever finds whole
    /// pixels, an exact box stays exact.
    pub fn by_coco(self) -> Self {
        if self == Self::AsAnnotated { Self::Edges } else { self }
    }

    fn iou(self, found: [f32; 4], truth: &Truth) -> f64 {
        let [left, top, right, bottom] = truth.bbox;
        match self {
            Self::Edges => iou(found, [left - 1.0, top - 1.0, right, bottom], 0.0),
            Self::FromZero => iou(found, truth.bbox.map(|corner| corner - 1.0), 1.0),
            Self::AsAnnotated => iou(found, truth.bbox, 1.0),
        }
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edges => "edges between pixels",
            Self::FromZero => "pixels from 0",
            Self::AsAnnotated => "pixels as annotated, from 1",
        })
    }
}

/// One image's detections and what is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredImage {
    /// What was found, in pixels as its detector counts them: see [`Counting`].
    pub detections: Vec<Detection>,
    /// What is there.
    pub truth: Vec<Truth>,
}

impl ScoredImage {
    /// Image `index` of a set: `detections` are shares of its sides and are multiplied by these, objects are as Pascal VOC's
    /// annotations have them. Panics where it is not below the set's length, as slices do.
    pub fn of(set: &DetectionSet, index: usize, detections: impl IntoIterator<Item = Detection>) -> Self {
        let (height, width) = set.size(index);
        let pixels = |found: Detection| {
            let [left, top, right, bottom] = found.bbox;
            let (width, height) = (width as f32, height as f32);
            Detection { bbox: [left * width, top * height, right * width, bottom * height], ..found }
        };
        let truth = |object: &Object| Truth {
            class: object.class as usize,
            bbox: object.voc_bounds((height, width)).map(|corner| corner as f32),
            difficult: object.difficult,
        };
        Self {
            detections: detections.into_iter().map(pixels).collect(),
            truth: set.objects(index).iter().map(truth).collect(),
        }
    }
}

/// Average precision, in 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanAp {
    /// None for a class of which there is nothing to find.
    pub ap: Vec<Option<f64>>,
    /// Over the classes that have objects; none where no class has.
    pub map: Option<f64>,
}

/// All that is said of a detector on a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Pascal VOC 2007: eleven points, IoU 0.5.
    pub voc07: MeanAp,
    /// Pascal VOC 2010 and later: all points, IoU 0.5.
    pub voc10: MeanAp,
    /// COCO: 101 points, at each of [`COCO_THRESHOLDS`].
    pub coco: Vec<MeanAp>,
    /// By class, of which the first two are made.
    pub curves: Vec<Curve>,
}

impl Evaluation {
    /// Pascal VOC 2007's mean of images drawn anew: see [`Curve::drawn`].
    pub fn drawn(&self, times: &[usize]) -> Option<f64> {
        MeanAp::of(self.curves.iter().map(|curve| eleven_points(&curve.drawn(times))).collect()).map
    }

    /// COCO's mean over its thresholds; none where there is nothing to find.
    pub fn coco_map(&self) -> Option<f64> {
        let means = self.coco.iter().map(|at| at.map).collect::<Option<Vec<f64>>>()?;
        mean(&means)
    }
}

/// Scores detections of `classes` classes, not counting a background, by a detector that counts pixels so.
///
/// Pascal VOC's protocol (`VOCevaldet`): by falling score, a detection takes the object of its class that it overlaps most,
/// found before or not: it is right from an IoU of 0.5 on, counts neither way on a difficult object, and is wrong on one that
/// was found before. Beside it COCO's: a detection takes the best object that is still to be found (of equal ones the first,
/// where pycocotools takes the last); on a difficult one any number of detections count neither way.
///
/// # Errors
/// A class beyond the last, or numbers that are none.
pub fn evaluate(images: &[ScoredImage], classes: usize, counting: Counting) -> Result<Evaluation, DetectError> {
    check(images, classes)?;
    let curves: Vec<Curve> = (0..classes).map(|class| curve(images, class, &Rule::Voc, counting)).collect();
    let coco = COCO_THRESHOLDS.map(|threshold| {
        let rule = Rule::Coco(threshold);
        let ap = (0..classes).map(|class| hundred_and_one_points(&curve(images, class, &rule, counting.by_coco())));
        MeanAp::of(ap.collect())
    });
    Ok(Evaluation {
        voc07: MeanAp::of(curves.iter().map(eleven_points).collect()),
        voc10: MeanAp::of(curves.iter().map(all_points).collect()),
        coco: coco.into(),
        curves,
    })
}

fn check(images: &[ScoredImage], classes: usize) -> Result<(), DetectError> {
    let found = images.iter().flat_map(|image| &image.detections).map(|found| (found.class, found.bbox, found.score));
    let truth = images.iter().flat_map(|image| &image.truth).map(|truth| (truth.class, truth.bbox, 1.0));
    for (class, bbox, score) in found.chain(truth) {
        if class >= classes {
            return Err(DetectError::Label { label: class.saturating_add(1), labels: classes.saturating_add(1) });
        }
        if !bbox.iter().chain([&score]).all(|value| value.is_finite()) {
            return Err(DetectError::NotFinite("boxes or scores"));
        }
    }
    Ok(())
}

impl MeanAp {
    fn of(ap: Vec<Option<f64>>) -> Self {
        let map = mean(&ap.iter().copied().flatten().collect::<Vec<f64>>());
        Self { ap, map }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64)
}

/// Which object a detection takes.
enum Rule {
    Voc,
    /// From this IoU on.
    Coco(f64),
}

/// What a detection came to.
#[derive(PartialEq)]
enum Outcome {
    Hit,
    Miss,
    /// Counts neither way.
    Neither,
}

/// The objects of one class in one image.
struct Objects<'a> {
    truth: Vec<&'a Truth>,
    found: Vec<bool>,
}

fn curve(images: &[ScoredImage], class: usize, rule: &Rule, counting: Counting) -> Curve {
    let mut objects: Vec<Objects> = images
        .iter()
        .map(|image| {
            let truth: Vec<&Truth> = image.truth.iter().filter(|truth| truth.class == class).collect();
            Objects { found: vec![false; truth.len()], truth }
        })
        .collect();
    let to_find = |of: &Objects| of.truth.iter().filter(|truth| !truth.difficult).count();
    let by_image: Vec<usize> = objects.iter().map(to_find).collect();
    let mut detections: Vec<(usize, &Detection)> = Vec::new();
    for (image, scored) in images.iter().enumerate() {
        let mut own: Vec<&Detection> = scored.detections.iter().filter(|found| found.class == class).collect();
        if let Rule::Coco(_) = rule {
            own.sort_by(|a, b| b.score.total_cmp(&a.score));
            own.truncate(COCO_MOST);
        }
        detections.extend(own.into_iter().map(|found| (image, found)));
    }
    detections.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));

    let mut curve = Curve { positives: by_image.iter().sum(), objects: by_image, ..Curve::default() };
    for (image, found) in detections {
        let iou_of = |truth: &Truth| counting.iou(found.bbox, truth);
        let outcome = match *rule {
            Rule::Voc => objects[image].voc(iou_of),
            Rule::Coco(threshold) => objects[image].coco(iou_of, threshold),
        };
        if outcome != Outcome::Neither {
            curve.hits.push(outcome == Outcome::Hit);
            curve.images.push(image);
        }
    }
    curve
}

impl Objects<'_> {
    fn voc(&mut self, iou_of: impl Fn(&Truth) -> f64) -> Outcome {
        match self.best(iou_of, |_, _| true) {
            Some((at, iou)) if iou >= VOC_THRESHOLD => match (self.truth[at].difficult, self.found[at]) {
                (true, _) => Outcome::Neither,
                (false, true) => Outcome::Miss,
                (false, false) => self.find(at),
            },
            _ => Outcome::Miss,
        }
    }

    fn coco(&mut self, iou_of: impl Fn(&Truth) -> f64, threshold: f64) -> Outcome {
        let to_find = self.best(&iou_of, |truth, found| !truth.difficult && !found);
        if let Some((at, _)) = to_find.filter(|(_, iou)| *iou >= threshold) {
            return self.find(at);
        }
        match self.best(iou_of, |truth, _| truth.difficult) {
            Some((_, iou)) if iou >= threshold => Outcome::Neither,
            _ => Outcome::Miss,
        }
    }

    fn find(&mut self, at: usize) -> Outcome {
        self.found[at] = true;
        Outcome::Hit
    }

    /// The object that overlaps most, the first among equals, and its IoU.
    fn best(&self, iou_of: impl Fn(&Truth) -> f64, counts: impl Fn(&Truth, bool) -> bool) -> Option<(usize, f64)> {
        let mut best = None;
        for (at, (truth, &found)) in self.truth.iter().zip(&self.found).enumerate() {
            let iou = iou_of(truth);
            if counts(truth, found) && best.is_none_or(|(_, most)| iou > most) {
                best = Some((at, iou));
            }
        }
        best
    }
}
