//! From an image's bytes to a detector's input. The whole image is brought to the input's size, whatever its shape.

use sandglass_data::{DetectionTransform, Draws, Picture, Protocol, Purpose};
use sandglass_models::DetectorName;

use crate::DetectError;

/// How a detector sees an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Eye {
    /// As the published code has it.
    Published(Input),
    /// As images came while it was trained here.
    Trained(DetectionTransform),
}

impl Eye {
    /// Of inputs of `side` x `side` pixels; by `trained`'s mean and standard deviation, or as published.
    ///
    /// # Errors
    /// A side or a protocol that the transform does not take.
    pub fn new(name: DetectorName, side: usize, trained: Option<&Protocol>) -> Result<Self, DetectError> {
        Ok(match trained {
            None => Self::Published(Input { height: side, width: side, ..Input::published(name) }),
            Some(protocol) => Self::Trained(DetectionTransform::evaluation(side, protocol).map_err(DetectError::eye)?),
        })
    }

    /// An image as the network's input, [side, side, 3].
    ///
    /// # Errors
    /// As for [`Input::read`].
    pub fn read(&self, picture: &Picture) -> Result<Vec<f32>, DetectError> {
        match self {
            Self::Published(input) => input.read(&picture.pixels, (picture.width, picture.height)),
            Self::Trained(transform) => {
                let (height, width) = transform.size();
                let mut input = vec![0.0; height * width * 3];
                // Nothing is drawn where nothing is augmented.
                transform.apply(picture, &[], &mut Draws::new(0, Purpose::Augment, 0, 0), &mut input);
                Ok(input)
            }
        }
    }
}

/// Where a pixel of the input lies in the image. Both are bilinear and neither smooths what shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// By pixels' centres, and rounded to bytes: OpenCV, as the official code has it.
    Centres,
    /// By their upper left corners: TensorFlow 1.
    Corners,
}

/// Size and numbers of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
    /// How the image is read.
    pub sampling: Sampling,
    /// What a byte is multiplied by, for red, green and blue.
    pub scale: [f32; 3],
    /// What is added then.
    pub shift: [f32; 3],
}

impl Input {
    /// As the detector was published: TensorFlow's in -1..1; the official code's bytes less 123, 117, 104, by ImageNet's
    /// standard deviations (`SubtractMeans`, which divides too).
    pub fn published(name: DetectorName) -> Self {
        let (height, width) = (name.input(), name.input());
        match name.is_tf() {
            // 2 / 255 in f32, as TensorFlow writes it.
            true => Self { height, width, sampling: Sampling::Corners, scale: [0.007_843_138; 3], shift: [-1.0; 3] },
            false => {
                let scale = [0.229, 0.224, 0.225].map(|std| 1.0 / (255.0 * std));
                let shift = [-123.0 * scale[0], -117.0 * scale[1], -104.0 * scale[2]];
                Self { height, width, sampling: Sampling::Centres, scale, shift }
            }
        }
    }

    /// `pixels` [height, width, 3] of an image as the network's [height, width, 3].
    ///
    /// # Errors
    /// An image without pixels, or of other bytes than its size says.
    pub fn read(&self, pixels: &[u8], (width, height): (usize, usize)) -> Result<Vec<f32>, DetectError> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if bytes.is_none_or(|bytes| bytes == 0 || bytes != pixels.len()) {
            return Err(DetectError::Image { width, height, bytes: pixels.len() });
        }
        let (rows, columns) = (self.taps(height, self.height), self.taps(width, self.width));
        let mut input = Vec::with_capacity(self.height * self.width * 3);
        for row in &rows {
            let line = |at: usize| &pixels[at * width * 3..][..width * 3];
            let (upper, lower) = (line(row.first), line(row.second));
            for column in &columns {
                for channel in 0..3 {
                    let pair = |line: &[u8]| {
                        let at = |column: usize| f32::from(line[3 * column + channel]);
                        mixed(at(column.first), at(column.second), column.share)
                    };
                    let value = mixed(pair(upper), pair(lower), row.share);
                    let value = if self.sampling == Sampling::Centres { value.round() } else { value };
                    input.push(value * self.scale[channel] + self.shift[channel]);
                }
            }
        }
        Ok(input)
    }

    fn taps(&self, from: usize, to: usize) -> Vec<Tap> {
        let step = from as f32 / to as f32;
        let tap = |place: usize| {
            let at = match self.sampling {
                Sampling::Corners => place as f32 * step,
                Sampling::Centres => ((place as f32 + 0.5) * step - 0.5).max(0.0),
            };
            let first = (at as usize).min(from - 1);
            Tap { first, second: (first + 1).min(from - 1), share: at - first as f32 }
        };
        (0..to).map(tap).collect()
    }
}

/// Two neighbours of a place, and how much of the second.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

fn mixed(first: f32, second: f32, share: f32) -> f32 {
    first + (second - first) * share
}
