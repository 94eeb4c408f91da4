//! How images are brought to a network's input when it is scored.

use serde::{Deserialize, Serialize};

use crate::{DataError, Filter};

/// What of an evaluation is convention rather than network or data. The default is this project's first one.
///
/// Hashes of studies' cells are made of it where it is not the default: its keys stay, and one that is added is left out
/// while it is at its default.
///
/// Training takes the mean and standard deviation from it, so that a network sees the same values in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocol {
    /// Pixels of the short side before the centre crop; none: of 1000 classes 256 / 224 of the input, else images of
    /// the input's size stay as they are and the short side of others becomes the input's.
    pub resize: Option<usize>,
    /// How that resize reads between pixels.
    pub interpolation: Filter,
    /// Mean of each channel, R, G, B, in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, R, G, B, in 0..1.
    pub std: [f32; 3],
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            resize: None,
            interpolation: Filter::Bilinear,
            // ImageNet's, used for every data set.
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// Bytes less a mean, as the first SSDs are fed, are 1/255: nobody feeds a network with less.
const LEAST: f32 = 0.001;

impl Protocol {
    /// Refuses what would give no numbers or no image.
    ///
    /// # Errors
    ///
    /// [`DataError::Protocol`] where the mean is not within 0..=1, a standard deviation is not from 0.001 to 1 (no
    /// values in 0..1 deviate by more, and a network would see next to one colour), or `resize` is 0.
    pub fn check(&self) -> Result<(), DataError> {
        let refused = |reason: String| Err(DataError::Protocol(reason));
        if !self.mean.iter().all(|mean| (0.0..=1.0).contains(mean)) {
            return refused(format!("mean {:?}: use values from 0 to 1; pixels are in 0..1, not in 0..255", self.mean));
        }
        if !self.std.iter().all(|std| std.is_normal() && *std > 0.0) {
            return refused(format!("std {:?}: use numbers above 0", self.std));
        }
        if self.std.iter().any(|std| *std < LEAST) {
            let reason = "use numbers from 0.001 on; pixels are in 0..1, and a network would see nothing but extremes";
            return refused(format!("std {:?}: {reason}", self.std));
        }
        if self.std.iter().any(|std| *std > 1.0) {
            let reason = "use numbers up to 1; pixels are in 0..1, so one of 0..255 is divided by 255";
            return refused(format!("std {:?}: {reason}", self.std));
        }
        match self.resize {
            Some(0) => refused("a resize to 0 pixels: leave it out, or use at least the input's size".to_string()),
            _ => Ok(()),
        }
    }
}

/// Pixels of the short side before a centre crop of `input` that keeps the share `crop_pct` of it: timm's
/// `floor(input / crop_pct)`.
pub fn short_side(input: usize, crop_pct: f64) -> usize {
    (input as f64 / crop_pct).floor() as usize
}
