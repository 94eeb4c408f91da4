//! Sizes, and the products of sizes that unsafe reads rely on.

use crate::OpError;

/// The product of `sizes`, or `usize::MAX` where it overflows: no slice is that long, so that comparing a slice's length
/// with it is an error and never a wrapped number.
pub(crate) fn product<const N: usize>(sizes: [usize; N]) -> usize {
    sizes.into_iter().fold(1, usize::saturating_mul)
}

/// Outputs along one side of a map: 0 where the window does not fit or does not move.
pub(crate) fn outputs(size: usize, kernel: usize, stride: usize, padding: [usize; 2]) -> usize {
    let padded = padding.into_iter().fold(size, usize::saturating_add);
    padded.checked_sub(kernel).and_then(|room| room.checked_div(stride)).map_or(0, |steps| steps.saturating_add(1))
}

/// A batch of maps, NHWC: `area` pixels an image, each of `channels` floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    pub images: usize,
    /// Height times width.
    pub area: usize,
    pub channels: usize,
}

impl MapShape {
    /// Floats of the batch; `usize::MAX` where that overflows.
    pub fn len(&self) -> usize {
        product([self.images, self.area, self.channels])
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Floats of one image.
    pub(crate) fn image_len(&self) -> usize {
        product([self.area, self.channels])
    }

    /// Kernels read without bounds: `found` floats are all of the batch, and the batch is something.
    pub(crate) fn check(&self, what: &'static str, found: usize) -> Result<(), OpError> {
        if self.is_empty() {
            return Err(OpError::Empty(*self));
        }
        OpError::length(what, self.len(), found)
    }
}
