//! What a convolution is, which of them are built, and into how many chunks its images are cut.

use std::ops::Range;

use super::{Form, dense, depthwise, pointwise};
use crate::OpError;
use crate::map::TILE;
use crate::shape::{outputs, product};

/// A convolution of `images` maps [height, width, input] with zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of a map that is read, and of one that is written.
    pub input: usize,
    pub output: usize,
    /// Side of the square window.
    pub kernel: usize,
    pub stride: usize,
    /// Rows and columns of zeros on each side.
    pub padding: usize,
    /// So many of the rows above and of the columns to the left are not there: TensorFlow's SAME at stride 2.
    pub fewer: [usize; 2],
    /// A filter per channel (`input == output`), else every output reads every input.
    pub depthwise: bool,
}

impl ConvShape {
    /// 0 where the kernel does not fit.
    pub fn out_height(&self) -> usize {
        outputs(self.height, self.kernel, self.stride, [self.above(), self.padding])
    }

    /// 0 where the kernel does not fit.
    pub fn out_width(&self) -> usize {
        outputs(self.width, self.kernel, self.stride, [self.left(), self.padding])
    }

    /// Rows of zeros above the map.
    pub(crate) fn above(&self) -> usize {
        self.padding.saturating_sub(self.fewer[0])
    }

    /// Columns of zeros to the left of the map.
    pub(crate) fn left(&self) -> usize {
        self.padding.saturating_sub(self.fewer[1])
    }

    /// With so many rows of zeros above and below, and columns to the left and right; none where that is not built: as many
    /// below as to the right, and no more above or to the left.
    #[must_use]
    pub fn padded(self, [(above, below), (left, right)]: [(usize, usize); 2]) -> Option<Self> {
        let fewer = [below.checked_sub(above)?, right.checked_sub(left)?];
        (below == right).then_some(Self { padding: below, fewer, ..self })
    }

    /// Floats of the input; this and the other lengths are `usize::MAX` where they overflow.
    pub fn input_len(&self) -> usize {
        product([self.images, self.height, self.width, self.input])
    }

    /// Floats of the output.
    pub fn output_len(&self) -> usize {
        product([self.images, self.out_height(), self.out_width(), self.output])
    }

    /// Elements of the weights [output, input per group, kernel, kernel].
    pub fn weight_len(&self) -> usize {
        let group = if self.depthwise { 1 } else { self.input };
        product([self.output, group, self.kernel, self.kernel])
    }

    pub(super) fn form(&self) -> &'static Form {
        match self {
            Self { depthwise: true, .. } => &depthwise::FORM,
            Self { kernel: 1, stride: 1, padding: 0, .. } => &pointwise::FORM,
            _ => &dense::FORM,
        }
    }

    /// Pixels of an image's output.
    pub(super) fn out_area(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// What decides how the weights are packed: all but the size of the maps.
    pub(crate) fn filter(&self) -> Self {
        Self { images: 1, height: 1, width: 1, fewer: [0; 2], ..*self }
    }

    /// A filter that is built. The bound on sizes keeps sums of a few of them, and their small multiples, from wrapping.
    pub(crate) fn check_filter(&self) -> Result<(), OpError> {
        let Self { input, output, kernel, stride, padding, fewer, depthwise, .. } = *self;
        // The backward of stride 1 turns the filter round: it needs as many places on either side.
        let centred = padding == kernel / 2 && (stride == 2 || fewer == [0; 2]);
        let depthwise_built = matches!(kernel, 3 | 5) && matches!(stride, 1 | 2) && centred && input == output;
        let sizes = [input, output, kernel, stride];
        let built = sizes.iter().all(|size| (1..1 << 24).contains(size))
            && padding < kernel
            && fewer.iter().all(|&fewer| fewer <= padding);
        if built && (!depthwise || depthwise_built) { Ok(()) } else { Err(OpError::Convolution(*self)) }
    }

    pub(crate) fn check(&self) -> Result<(), OpError> {
        self.check_filter()?;
        let sizes = [self.images, self.height, self.width];
        let fits =
            sizes.iter().all(|size| (1..1 << 24).contains(size)) && self.out_height() > 0 && self.out_width() > 0;
        if fits { Ok(()) } else { Err(OpError::Convolution(*self)) }
    }

    /// Chunks of images, fewer where each one's share of the weights' gradient is large. More than a few threads need, so
    /// that one which loses its core does not hold up a large part of a call.
    pub(super) fn chunks(&self) -> usize {
        let most = match self.weight_len() {
            0..=16384 => 16,
            16385..=65536 => 8,
            _ => 4,
        };
        most.min(self.images)
    }

    /// Chunks of a forward that takes no sums, whose result does not depend on them: smaller ones, while a tile is full.
    pub(super) fn small_chunks(&self) -> usize {
        let pixels = product([self.images, self.out_area()]);
        (pixels / (4 * TILE)).clamp(self.chunks(), self.images)
    }

    pub(super) fn chunk(&self, index: usize) -> Range<usize> {
        part(self.images, self.chunks(), index)
    }
}

/// Part `index` of `images` images in `chunks` chunks.
pub(super) fn part(images: usize, chunks: usize, index: usize) -> Range<usize> {
    index * images / chunks..(index + 1) * images / chunks
}
