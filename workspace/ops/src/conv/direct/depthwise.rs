//! Depthwise convolutions of inference: blocks of a few outputs of two lines, which share what they read in registers.

use std::ops::Range;

use super::{Direct, activate, inner, put};
use crate::ConvShape;
use crate::conv::pitch;
use crate::lanes::{Lanes, kernel};
use crate::map::load;

kernel! {
    /// Lines `rows` (counted over all images) of a depthwise convolution, all channels.
    ///
    /// # Safety
    /// The call's lengths were checked, and no other task has the part.
    pub(super) unsafe fn depthwise3<V>(call: &Direct<'_>, rows: Range<usize>) {
        // SAFETY: the caller's.
        unsafe { depthwise::<V, 3, 1>(call, rows) }
    }
}

kernel! {
    /// # Safety
    /// As for [`depthwise3`].
    pub(super) unsafe fn depthwise3_strided<V>(call: &Direct<'_>, rows: Range<usize>) {
        // SAFETY: the caller's.
        unsafe { depthwise::<V, 3, 2>(call, rows) }
    }
}

kernel! {
    /// # Safety
    /// As for [`depthwise3`].
    pub(super) unsafe fn depthwise5<V>(call: &Direct<'_>, rows: Range<usize>) {
        // SAFETY: the caller's.
        unsafe { depthwise::<V, 5, 1>(call, rows) }
    }
}

kernel! {
    /// # Safety
    /// As for [`depthwise3`].
    pub(super) unsafe fn depthwise5_strided<V>(call: &Direct<'_>, rows: Range<usize>) {
        // SAFETY: the caller's.
        unsafe { depthwise::<V, 5, 2>(call, rows) }
    }
}

/// Outputs of a line that share their inputs and weights in registers.
const BLOCK: usize = 4;

/// Some outputs of a depthwise convolution that are computed together: `R` lines of `B`.
struct Block {
    /// The padded place of the first tap: a line of its image, a pixel.
    top: usize,
    left: usize,
    /// Floats of the map before the image.
    image: usize,
    /// The first output's place in the map that is written.
    place: usize,
}

/// Lines `rows` (counted over all images) of a kernel `K` and a stride `S`, all channels.
///
/// # Safety
/// As for [`depthwise3`], and the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn depthwise<V: Lanes, const K: usize, const S: usize>(call: &Direct<'_>, rows: Range<usize>) {
    let ConvShape { height, width, input, .. } = call.shape;
    let (out_height, out_width) = (call.shape.out_height(), call.shape.out_width());
    let inner = inner(&call.shape);
    let mut row = rows.start;
    while row < rows.end {
        let (image, line) = (row / out_height, row % out_height);
        // Two lines read most of their inputs twice: they are loaded once.
        let pair = row + 1 < rows.end && line + 1 < out_height;
        let mut x = 0;
        while x < out_width {
            // The last block of a line begins early, and computes some outputs a second time.
            let whole = out_width >= BLOCK;
            let at = if whole { x.min(out_width - BLOCK) } else { x };
            let image = image * height * width * input;
            let place = (row * out_width + at) * input;
            let block = Block { top: line * S, left: at * S, image, place };
            let is_inner = inner.contains(&at) && at + BLOCK <= inner.end;
            // SAFETY: the caller's; the outputs are the part's own.
            unsafe {
                match (pair, whole, is_inner) {
                    (true, true, true) => channels::<V, K, S, 2, BLOCK, true>(call, &block),
                    (true, true, false) => channels::<V, K, S, 2, BLOCK, false>(call, &block),
                    (true, false, _) => channels::<V, K, S, 2, 1, false>(call, &block),
                    (false, true, _) => channels::<V, K, S, 1, BLOCK, false>(call, &block),
                    (false, false, _) => channels::<V, K, S, 1, 1, false>(call, &block),
                }
            }
            x = at + if whole { BLOCK } else { 1 };
        }
        row += if pair { 2 } else { 1 };
    }
    if let Some(activation) = call.after.smooth {
        let pixels = rows.start * out_width..rows.end * out_width;
        // SAFETY: the caller's.
        unsafe { activate::<V>(activation, call.y, input, pixels, 0..input) }
    }
}

/// All channels of a block of `R` lines of `B` outputs; `INNER`: its windows lie on the map, from side to side.
///
/// # Safety
/// The CPU has the instructions of `V`, and the outputs are this task's.
#[inline(always)]
unsafe fn channels<V: Lanes, const K: usize, const S: usize, const R: usize, const B: usize, const INNER: bool>(
    call: &Direct<'_>,
    block: &Block,
) {
    let channels = call.shape.input;
    let mut c = 0;
    // SAFETY: the caller's. Whole vectors first, so that the loop that does the work knows no masks.
    unsafe {
        while c + V::N <= channels {
            outputs::<V, K, S, R, B, INNER>(call, block, c, V::N);
            c += V::N;
        }
        if c < channels {
            outputs::<V, K, S, R, B, INNER>(call, block, c, channels - c);
        }
    }
}

/// Channels `c..c + n` of [`channels`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn outputs<V: Lanes, const K: usize, const S: usize, const R: usize, const B: usize, const INNER: bool>(
    call: &Direct<'_>,
    block: &Block,
    c: usize,
    n: usize,
) {
    let ConvShape { height, width, input: channels, .. } = call.shape;
    let (above, left) = (call.shape.above(), call.shape.left());
    let (pitch, line) = (pitch(channels), width * channels);
    // SAFETY: the caller's; only what lies on the map is read.
    unsafe {
        let mut sums = [[V::splat(0.0); B]; R];
        let weights = call.packed.as_ptr().add(c);
        let image = call.x.wrapping_add(block.image + c);
        for row in 0..(R - 1) * S + K {
            let padded = block.top + row;
            if padded < above || padded >= height + above {
                continue;
            }
            let from = image.wrapping_add((padded - above) * line);
            // Room for four outputs of the largest kernel at stride 2; what is not used is not there after unrolling.
            let mut inputs = [V::splat(0.0); 11];
            for i in 0..(B - 1) * S + K {
                let padded = block.left + i;
                if INNER || (padded >= left && padded < width + left) {
                    inputs[i] = load::<V>(from.add((padded - left) * channels), n);
                }
            }
            for r in 0..R {
                // The row of the kernel by which line `r` of the outputs reads this row.
                let ky = row.wrapping_sub(r * S);
                if ky < K {
                    for kx in 0..K {
                        let weight = V::load(weights.add((ky * K + kx) * pitch));
                        for b in 0..B {
                            sums[r][b] = inputs[b * S + kx].fma(weight, sums[r][b]);
                        }
                    }
                }
            }
        }
        let (y, next) = (call.y, call.shape.out_width() * channels);
        put(sums[0], &call.after, (y, block.place + c, channels), c, n);
        if R > 1 {
            put(sums[1 % R], &call.after, (y, block.place + next + c, channels), c, n);
        }
    }
}
