//! From the scores of all priors to a few detections.

use serde::Serialize;

use crate::{DetectError, nms};

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Without the background: output 1 of the network is class 0.
    pub class: usize,
    /// From 0 to 1.
    pub score: f32,
    /// `[xmin, ymin, xmax, ymax]`: shares of the image's sides as a detector gives them, pixels where an image is scored.
    pub bbox: [f32; 4],
}

impl Detection {
    /// The same of a set's class, by what [`crate::ClassNames::in_set`] gives; none where the set has it not.
    pub fn in_set(self, classes: &[Option<usize>]) -> Option<Self> {
        let class = classes.get(self.class).copied().flatten()?;
        Some(Self { class, ..self })
    }
}

/// How detections are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Postprocess {
    /// Only scores above it count.
    pub threshold: f32,
    /// IoU above which the lower score of a class goes.
    pub overlap: f64,
    /// Best of a class that suppression looks at.
    pub before: usize,
    /// Best of a class that stay at most.
    pub after: usize,
    /// Best of all classes that stay at most.
    pub per_image: usize,
}

impl Postprocess {
    /// The official code's.
    pub const OFFICIAL: Self =
        Self { threshold: 0.01, overlap: 0.45, before: usize::MAX, after: usize::MAX, per_image: 100 };

    /// By which the figures of TensorFlow's detector were measured: a hundred of each class stand. (Its configuration shows a
    /// hundred of all classes, from a score of 1e-8 on.)
    pub const TENSORFLOW: Self = Self { threshold: 0.01, overlap: 0.6, before: 400, after: 100, per_image: usize::MAX };

    /// Of one image: `scores` [boxes, classes], the background's first. By falling score; among equals by class, then box.
    ///
    /// # Errors
    /// Scores of other than so many boxes, or numbers that are none.
    pub fn detections(
        &self,
        scores: &[f32],
        boxes: &[[f32; 4]],
        classes: usize,
    ) -> Result<Vec<Detection>, DetectError> {
        let expected = boxes.len().saturating_mul(classes);
        if scores.len() != expected {
            return Err(DetectError::Length { what: "scores", expected, found: scores.len() });
        }
        if !scores.iter().all(|score| score.is_finite()) {
            return Err(DetectError::NotFinite("scores"));
        }
        let mut found = Vec::new();
        for class in 1..classes {
            let of_class = scores.chunks_exact(classes).map(|scores| scores[class]);
            let mut best: Vec<(f32, [f32; 4])> = of_class
                .zip(boxes)
                .filter(|(score, _)| *score > self.threshold)
                .map(|(score, of)| (score, *of))
                .collect();
            if best.iter().any(|(_, of)| !of.iter().all(|corner| corner.is_finite())) {
                return Err(DetectError::NotFinite("boxes"));
            }
            best.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            best.truncate(self.before);
            let (scores, boxes): (Vec<f32>, Vec<[f32; 4]>) = best.into_iter().unzip();
            let kept = nms(&boxes, &scores, self.overlap, self.after);
            found.extend(kept.into_iter().map(|at| Detection { class: class - 1, score: scores[at], bbox: boxes[at] }));
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(self.per_image);
        Ok(found)
    }
}
