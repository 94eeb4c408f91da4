//! Depthwise convolutions: lines of pixels through a window, a block of channels at a time.
//!
//! Neighbouring *rows* are the terms of a word, so that a lane is a channel here too. Rows are put together in groups that stay
//! the same for all lines of output: with words of two rows, (0, 1), (2, 3) and so on. A window of three rows that begins at an
//! even one takes its weights as (a, b), (c, 0), else as (0, a), (b, c): weights are packed for each *phase*. So each line
//! of words is made once, whichever windows read it.

use super::finish::{self, LANES, Rows};
use super::lanes::{ByteLanes, byte_kernel};
use super::{Call, channels};
use crate::ConvShape;

/// More than a few threads need, so that one which loses its core does not hold up a large part of a call.
const TASKS: usize = 8;
/// Outputs that are computed together at stride 1, where neighbours share two columns of three and a line is as long.
const MANY: usize = 8;
/// Outputs that are computed together elsewhere.
const FEW: usize = 4;

/// Lines of output of a task.
fn lines(shape: &ConvShape) -> usize {
    (shape.images * shape.out_height()).div_ceil(TASKS)
}

pub(super) fn tasks(shape: &ConvShape) -> usize {
    (shape.images * shape.out_height()).div_ceil(lines(shape))
}

/// Columns that a line of output reads.
fn columns(shape: &ConvShape) -> usize {
    (shape.out_width() - 1) * shape.stride + shape.kernel
}

/// Groups of rows that a window reaches in any phase.
const fn groups<V: ByteLanes>(kernel: usize) -> usize {
    (V::GROUP - 1 + kernel).div_ceil(V::GROUP)
}

/// Words of a task's scratch: a ring of lines, and the sums of a line of outputs.
pub(super) fn scratch<V: ByteLanes>(shape: &ConvShape) -> usize {
    (groups::<V>(shape.kernel) * columns(shape) + shape.out_width()) * 2 * V::N
}

/// Weights [channels, 1, kernel, kernel] as words: blocks of channels, in each the phases, in each the groups of rows, in each
/// the columns, in each a word for every channel.
pub(super) fn pack<V: ByteLanes>(shape: &ConvShape, weights: &[i8]) -> Vec<i32> {
    let ConvShape { output, kernel, .. } = *shape;
    let (area, block) = (kernel * kernel, 2 * V::N);
    let mut packed = Vec::new();
    for first in (0..output).step_by(block) {
        for phase in 0..V::GROUP {
            for group in 0..groups::<V>(kernel) {
                for kx in 0..kernel {
                    packed.extend(channels::<V>(shape, first).map(|c| {
                        V::word(|at| match ((group * V::GROUP + at).checked_sub(phase), c) {
                            (Some(ky), Some(c)) if ky < kernel => weights[c * area + ky * kernel + kx],
                            _ => 0,
                        })
                    }));
                }
            }
        }
    }
    packed
}

byte_kernel! {
    /// # Safety
    /// The CPU has the instructions of `path`; `call` is checked, and packed for it; the task is one of [`tasks`], and the
    /// scratch as long as [`scratch`] says.
    pub(super) unsafe fn forward<V>(call: &Call<'_>, task: usize, scratch: &mut [i32]) {
        // SAFETY: the caller's; `check` lets no other kernel pass.
        unsafe {
            match (call.shape.kernel, call.shape.stride) {
                (3, 1) => forward_of::<V, 3, 1>(call, task, scratch),
                (3, _) => forward_of::<V, 3, 2>(call, task, scratch),
                (_, 1) => forward_of::<V, 5, 1>(call, task, scratch),
                _ => forward_of::<V, 5, 2>(call, task, scratch),
            }
        }
    }
}

/// # Safety
/// As for `forward`, of a kernel `K` and a stride `S`.
#[inline(always)]
unsafe fn forward_of<V: ByteLanes, const K: usize, const S: usize>(call: &Call<'_>, task: usize, scratch: &mut [i32]) {
    let Call { conv, shape, to, .. } = call;
    let (channels, block, groups) = (shape.output, 2 * V::N, groups::<V>(K));
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let line = columns(shape) * block;
    let (ring, sums) = scratch.split_at_mut(groups * line);
    let (ring, sums) = (ring.as_mut_ptr(), sums.as_mut_ptr());
    let lines = task * lines(shape)..((task + 1) * lines(shape)).min(shape.images * out_height);
    for c in (0..channels).step_by(block) {
        let n = block.min(channels - c);
        // The next group of rows to be made, of which image.
        let (mut next, mut of) = (0, usize::MAX);
        for at in lines.clone() {
            let (image, top) = (at / out_height, at % out_height * S);
            let (first, phase) = (top / V::GROUP, top % V::GROUP);
            if image != of {
                (next, of) = (first, image);
            }
            // SAFETY: the caller's; the scratch is a ring of as many lines as a window reaches, and a line's sums.
            unsafe {
                while next < first + (phase + K).div_ceil(V::GROUP) {
                    fill::<V>(call, image, next, c, n, ring.add(next % groups * line));
                    next += 1;
                }
                let b = Block {
                    ring,
                    line,
                    first,
                    count: (phase + K).div_ceil(V::GROUP),
                    taps: conv.words.as_ptr().add((c * V::GROUP + phase * block) * groups * K),
                    start: conv.start.as_ptr().add(c),
                };
                if S == 1 && out_width >= MANY {
                    micros::<V, K, S, MANY>(b, out_width, sums);
                } else if out_width >= FEW {
                    micros::<V, K, S, FEW>(b, out_width, sums);
                } else {
                    micros::<V, K, S, 1>(b, out_width, sums);
                }
                let rows = Rows { pixel: at * out_width, count: out_width, channels, c, n };
                finish::write::<V, 2>(to, sums, rows);
            }
        }
    }
}

/// A block of channels of a line of output.
#[derive(Clone, Copy)]
struct Block {
    ring: *const i32,
    /// Words of a line.
    line: usize,
    /// The first group of rows that the windows reach, and how many they do.
    first: usize,
    count: usize,
    taps: *const i32,
    /// What sums begin with.
    start: *const i32,
}

/// The sums of a line of at least `M` outputs. The last may compute again what the one before it did.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn micros<V: ByteLanes, const K: usize, const S: usize, const M: usize>(b: Block, width: usize, sums: *mut i32) {
    for x in (0..width).step_by(M) {
        let x = x.min(width - M);
        // SAFETY: the caller's.
        unsafe { micro::<V, K, S, M>(b, x, sums.add(x * 2 * V::N)) };
    }
}

/// The sums of `M` neighbouring outputs from column `x` on: a vector of channels at a time, each word loaded once for all
/// outputs that read it.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn micro<V: ByteLanes, const K: usize, const S: usize, const M: usize>(b: Block, x: usize, to: *mut i32) {
    let block = 2 * V::N;
    for lane in [0, V::N] {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [V::load(b.start.add(lane)); M];
            for group in 0..b.count {
                let mut taps = [V::splat(0); K];
                for kx in 0..K {
                    taps[kx] = V::load(b.taps.add((group * K + kx) * block + lane));
                }
                let slot = (b.first + group) % groups::<V>(K);
                let words = b.ring.add(slot * b.line + x * S * block + lane);
                for column in 0..(M - 1) * S + K {
                    let word = V::load(words.add(column * block));
                    for m in 0..M {
                        if column >= m * S && column < m * S + K {
                            sums[m] = sums[m].dot(word, taps[column - m * S]);
                        }
                    }
                }
            }
            for m in 0..M {
                sums[m].store(to.add(m * block + lane));
            }
        }
    }
}

/// The words of `n` channels from `c` on of a group of rows of an image, counted with those above it that are zeros.
///
/// # Safety
/// As for `forward`; `to` is a line.
#[inline(always)]
unsafe fn fill<V: ByteLanes>(call: &Call<'_>, image: usize, group: usize, c: usize, n: usize, to: *mut i32) {
    let Call { conv, shape, x, .. } = *call;
    let ConvShape { height, width, input: channels, .. } = *shape;
    let (block, columns, left) = (2 * V::N, columns(shape), shape.left());
    let zeros = [conv.zero; LANES];
    let outside = [zeros.as_ptr(); 4];
    // Where each row's next column lies, and how far from it the one after; rows outside are one column of zeros.
    let (mut rows, mut steps) = (outside, [0; 4]);
    for at in 0..V::GROUP {
        let row = (group * V::GROUP + at).checked_sub(shape.above()).filter(|y| *y < height);
        if let Some(row) = row {
            rows[at] = x.as_ptr().wrapping_add((image * height + row) * width * channels + c);
            steps[at] = channels;
        }
    }
    // SAFETY: the caller's; a narrow block's bytes are copied to where others follow them.
    unsafe {
        let mut column = 0;
        let nothing = V::interleave(outside);
        let end = columns.min(left + width);
        while column < columns {
            let at = to.add(column * block);
            if column < left || column >= end {
                nothing[0].store(at);
                nothing[1].store(at.add(V::N));
                column += 1;
                continue;
            }
            if n == block {
                for column in column..end {
                    let at = to.add(column * block);
                    let words = V::interleave(rows);
                    words[0].store(at);
                    words[1].store(at.add(V::N));
                    for at in 0..V::GROUP {
                        rows[at] = rows[at].wrapping_add(steps[at]);
                    }
                }
            } else {
                for column in column..end {
                    let mut narrow = [[0; LANES]; 4];
                    for at in 0..V::GROUP {
                        std::ptr::copy_nonoverlapping(rows[at], narrow[at].as_mut_ptr(), n);
                        rows[at] = rows[at].wrapping_add(steps[at]);
                    }
                    let at = to.add(column * block);
                    let words = V::interleave(narrow.each_ref().map(|row| row.as_ptr()));
                    words[0].store(at);
                    words[1].store(at.add(V::N));
                }
            }
            column = end;
        }
    }
}
