//! Average precision, as three protocols have it.

/// A class's detections by falling score, and how many objects there are to find.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Objects that count.
    pub positives: usize,
    /// By falling score, whether a detection found one; those that count neither way are left out.
    pub hits: Vec<bool>,
    /// The image that each of these lies in, parallel to `hits`.
    pub images: Vec<usize>,
    /// Objects that count, by image.
    pub objects: Vec<usize>,
}

/// After some detections, how many of them found an object.
struct Point {
    found: usize,
    recall: f64,
    precision: f64,
}

impl Curve {
    /// Of images drawn anew, such as for a bootstrap: image `i` is there `times[i]` times, and not at all beyond their end.
    pub fn drawn(&self, times: &[usize]) -> Self {
        let times = |image: usize| times.get(image).copied().unwrap_or(0);
        let mut drawn = Self::default();
        for (&hit, &image) in self.hits.iter().zip(&self.images) {
            for _ in 0..times(image) {
                drawn.hits.push(hit);
                drawn.images.push(image);
            }
        }
        drawn.objects = self.objects.iter().enumerate().map(|(image, objects)| times(image) * objects).collect();
        drawn.positives = drawn.objects.iter().sum();
        drawn
    }

    fn counted(&self) -> Vec<Point> {
        let mut found = 0;
        let hits = self.hits.iter().zip(1usize..);
        hits.map(|(&hit, seen)| {
            found += usize::from(hit);
            let recall = found as f64 / self.positives.max(1) as f64;
            Point { found, recall, precision: found as f64 / seen as f64 }
        })
        .collect()
    }

    /// As [`Curve::counted`], each precision the best from there on.
    fn envelope(&self) -> Vec<Point> {
        let mut points = self.counted();
        let mut best = 0.0;
        for point in points.iter_mut().rev() {
            best = point.precision.max(best);
            point.precision = best;
        }
        points
    }

    /// The best precision at recalls of 0, 1/steps, ... 1 or more, compared as the official evaluations do: in f64, where three
    /// tenths are a hair more than 3/10, and six and seven too. A class of 10 n objects feels it: published figures are made
    /// like that. None where there is nothing to find.
    pub fn best_precisions(&self, steps: usize) -> Option<Vec<f64>> {
        let points = self.envelope();
        let at = |step: usize| {
            let threshold = step as f64 * (1.0 / steps as f64);
            let reached = points.iter().find(|point| point.recall >= threshold);
            reached.map_or(0.0, |point| point.precision)
        };
        (self.positives > 0).then(|| (0..=steps).map(at).collect())
    }

    /// Their mean.
    fn interpolated(&self, steps: usize) -> Option<f64> {
        let sum = self.best_precisions(steps)?.into_iter().fold(0.0, |sum, precision| sum + precision);
        Some(sum / (steps + 1) as f64)
    }
}

/// Pascal VOC up to 2009: the mean over eleven recalls. None where there is nothing to find.
pub fn eleven_points(curve: &Curve) -> Option<f64> {
    curve.interpolated(10)
}

/// COCO: the mean over 101 recalls. None where there is nothing to find.
pub fn hundred_and_one_points(curve: &Curve) -> Option<f64> {
    curve.interpolated(100)
}

/// Pascal VOC from 2010 on: the area below the curve, where precision is the best at that recall or more. None where there
/// is nothing to find.
pub fn all_points(curve: &Curve) -> Option<f64> {
    let mut before = 0;
    let mut sum = 0.0;
    for Point { found, precision, .. } in curve.envelope() {
        sum += (found - before) as f64 * precision;
        before = found;
    }
    (curve.positives > 0).then(|| sum / curve.positives as f64)
}
