//! How the maps of a detector's heads are read: as scores and boxes, and, when it trains, as numbers to be learnt.

use sandglass_models::{Detector, DetectorConfig, DetectorName};

use crate::{
    Coder, DetectError, Detection, Postprocess, PriorLevel, centred, corners, match_priors, priors, tf_anchors,
};

/// How a class's number becomes a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scores {
    /// Over all classes and the background.
    Softmax,
    /// Each by itself.
    Sigmoid,
}

/// A detector's priors on an input of one size, and what its numbers mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Scores of a prior, the background's first.
    classes: usize,
    priors: Vec<[f32; 4]>,
    /// Priors by level.
    levels: Vec<usize>,
    coder: Coder,
    scores: Scores,
    /// Brought into the image.
    clip: bool,
    /// How detections are chosen.
    postprocess: Postprocess,
}

/// The official configurations, in pixels of an input of 320.
const OFFICIAL: f64 = 320.0;
const GRIDS: [usize; 6] = [20, 10, 5, 3, 2, 1];
const STRIDES: [f64; 6] = [16.0, 32.0, 64.0, 120.0, 160.0, 320.0];
const SMALLEST: [f64; 6] = [45.0, 90.0, 135.0, 180.0, 225.0, 270.0];
const LARGEST: [f64; 6] = [120.0, 180.0, 220.0, 260.0, 300.0, 320.0];

/// IoU from which on a prior learns an object.
const MATCH: f64 = 0.5;

fn official(grids: &[(usize, usize)]) -> Vec<[f32; 4]> {
    // The official stride of 120 is no third of 320; on other grids the centres are spread evenly.
    let rows = grids.iter().map(|grid| grid.0).eq(GRIDS);
    let columns = grids.iter().map(|grid| grid.1).eq(GRIDS);
    let level = |(level, &grid): (usize, &(usize, usize))| {
        let step = |official, count| if official { STRIDES[level] / OFFICIAL } else { 1.0 / count as f64 };
        PriorLevel {
            grid,
            steps: (step(rows, grid.0), step(columns, grid.1)),
            smallest: SMALLEST[level] / OFFICIAL,
            largest: LARGEST[level] / OFFICIAL,
            ratios: vec![2.0, 3.0],
        }
    };
    let levels: Vec<PriorLevel> = grids.iter().enumerate().map(level).collect();
    priors(&levels, true)
}

impl Reading {
    /// Of inputs of `height` x `width` pixels.
    ///
    /// # Errors
    /// A detector or a size that there is not, or one of the official COCO detectors: they score by a focal loss's rule, and
    /// no weights of theirs are to be had that it could be checked by.
    pub fn new(config: &DetectorConfig, (height, width): (usize, usize)) -> Result<Self, DetectError> {
        if matches!(config.name, DetectorName::SsdliteMobileNetV2Coco | DetectorName::SsdliteMobileNeXtCoco) {
            return Err(DetectError::NotRead(config.name.name()));
        }
        let Detector { graph, boxes, taps, .. } = config.build()?;
        let sizes = graph.sizes(height, width)?;
        let grids: Vec<(usize, usize)> = taps.iter().map(|tap| sizes[tap.index()]).collect();
        let levels = grids.iter().zip(boxes).map(|((rows, columns), boxes)| rows * columns * boxes).collect();
        let classes = config.classes;
        Ok(match config.name.is_tf() {
            true => Self {
                classes,
                priors: tf_anchors(&grids),
                levels,
                coder: Coder::TensorFlow,
                scores: Scores::Sigmoid,
                clip: true,
                postprocess: Postprocess::TENSORFLOW,
            },
            false => Self {
                classes,
                priors: official(&grids),
                levels,
                coder: Coder::Ssd,
                scores: Scores::Softmax,
                clip: false,
                postprocess: Postprocess::OFFICIAL,
            },
        })
    }

    /// As `[centre x, centre y, width, height]`, in the order in which the heads give their numbers.
    pub fn priors(&self) -> &[[f32; 4]] {
        &self.priors
    }

    /// Scores of a prior, the background's among them.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The heads' maps [images, height, width, channels], those of all levels for the classes and then for the boxes, as
    /// `confidence` [images, priors, classes] and `locations` [images, priors, 4].
    ///
    /// # Errors
    /// Other maps than the network gives for so many images.
    pub fn gather(&self, maps: &[&[f32]], images: usize) -> Result<(Vec<f32>, Vec<f32>), DetectError> {
        self.check(maps, images)?;
        let (classes, boxes) = maps.split_at(self.levels.len());
        Ok((self.joined(classes, images, self.classes), self.joined(boxes, images, 4)))
    }

    /// Undoes [`Reading::gather`], for gradients.
    ///
    /// # Errors
    /// Values of other than so many images.
    pub fn scatter(
        &self,
        (confidence, locations): (&[f32], &[f32]),
        images: usize,
    ) -> Result<Vec<Vec<f32>>, DetectError> {
        let mut maps = Vec::with_capacity(2 * self.levels.len());
        for (what, values, each) in [("class scores", confidence, self.classes), ("locations", locations, 4)] {
            let expected = images * self.priors.len() * each;
            if values.len() != expected {
                return Err(DetectError::Length { what, expected, found: values.len() });
            }
            let mut first = 0;
            for level in &self.levels {
                let image = |image: usize| {
                    let start = (image * self.priors.len() + first) * each;
                    values[start..start + level * each].iter().copied()
                };
                maps.push((0..images).flat_map(image).collect());
                first += level;
            }
        }
        Ok(maps)
    }

    fn check(&self, maps: &[&[f32]], images: usize) -> Result<(), DetectError> {
        let expected = 2 * self.levels.len();
        if maps.len() != expected {
            return Err(DetectError::Length { what: "maps", expected, found: maps.len() });
        }
        let each = [self.classes, 4].into_iter().flat_map(|each| self.levels.iter().map(move |level| level * each));
        match each.zip(maps).find(|(each, map)| each.checked_mul(images) != Some(map.len())) {
            Some((each, map)) => Err(DetectError::Length { what: "a map", expected: each * images, found: map.len() }),
            None => Ok(()),
        }
    }

    fn joined(&self, maps: &[&[f32]], images: usize, each: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(images * self.priors.len() * each);
        for image in 0..images {
            for (map, level) in maps.iter().zip(&self.levels) {
                values.extend_from_slice(&map[image * level * each..][..level * each]);
            }
        }
        values
    }

    /// What one image's maps show. Boxes are shares of the image's sides.
    ///
    /// # Errors
    /// Other maps than the network gives for an image, or numbers that are none.
    pub fn detections(&self, maps: &[&[f32]]) -> Result<Vec<Detection>, DetectError> {
        let (mut scores, locations) = self.gather(maps, 1)?;
        if !scores.iter().all(|score| score.is_finite()) {
            return Err(DetectError::NotFinite("class scores"));
        }
        scores.chunks_exact_mut(self.classes).for_each(|scores| self.scores.of(scores, self.postprocess.threshold));
        let decode = |(numbers, prior): (&[f32; 4], &[f32; 4])| {
            let found = corners(self.coder.decode(*numbers, *prior));
            if self.clip { found.map(|corner| corner.clamp(0.0, 1.0)) } else { found }
        };
        let boxes: Vec<[f32; 4]> = locations.as_chunks().0.iter().zip(&self.priors).map(decode).collect();
        self.postprocess.detections(&scores, &boxes, self.classes)
    }

    /// What an image's priors are to learn of `objects`, each a class and a box: labels [priors], 0 for background, and
    /// numbers [priors, 4], which count where the label is another.
    ///
    /// # Errors
    /// A class beyond the last, or a box without area.
    pub fn targets(&self, objects: &[(usize, [f32; 4])]) -> Result<(Vec<u32>, Vec<f32>), DetectError> {
        if let Some((class, _)) = objects.iter().find(|(class, _)| class.saturating_add(1) >= self.classes) {
            return Err(DetectError::Label { label: class.saturating_add(1), labels: self.classes });
        }
        let boxes: Vec<[f32; 4]> = objects.iter().map(|(_, of)| *of).collect();
        let matches = match_priors(&self.priors, &boxes, MATCH)?;
        let labels = matches.iter().map(|object| object.map_or(0, |object| objects[object].0 as u32 + 1)).collect();
        let numbers = matches.iter().zip(&self.priors).flat_map(|(object, prior)| match object {
            Some(object) => self.coder.encode(centred(boxes[*object]), *prior),
            None => [0.0; 4],
        });
        Ok((labels, numbers.collect()))
    }
}

impl Scores {
    /// In place, of one prior. A score that is clearly below `threshold` may become 0, for it will not count: nearly all of the
    /// 174,447 of TensorFlow's are, and each would cost an exponential.
    fn of(self, numbers: &mut [f32], threshold: f32) {
        match self {
            Self::Sigmoid => {
                let threshold = f64::from(threshold);
                let least = libm::log(threshold / (1.0 - threshold)) - 0.01;
                for number in numbers {
                    let logit = f64::from(*number);
                    *number = if logit < least { 0.0 } else { (1.0 / (1.0 + libm::exp(-logit))) as f32 };
                }
            }
            Self::Softmax => {
                let largest = f64::from(numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let powers: Vec<f64> = numbers.iter().map(|&number| libm::exp(f64::from(number) - largest)).collect();
                let sum = powers.iter().fold(0.0, |sum, power| sum + power);
                numbers.iter_mut().zip(powers).for_each(|(number, power)| *number = (power / sum) as f32);
            }
        }
    }
}
