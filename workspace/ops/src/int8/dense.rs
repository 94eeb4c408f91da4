//! Convolutions whose outputs read every input: a matrix product over panels of pixels.
//!
//! A task copies the words of a few dozen pixels into a panel: bytes widened, window by window, the map's zero where a window
//! reaches outside. Then each block of outputs, whose weights stay in the first cache, passes over the panel, a tile of pixels
//! at a time.

use super::finish::{Tail, ToBlock, ToBytes, ToSums};
use super::lanes::{ByteLanes, byte_kernel};
use super::{Call, To, with_tail};
use crate::ConvShape;

/// Pixels of a tile: 6 by 2 vectors of sums, 2 of weights, one of pixels and one of products fill AVX2's 16 registers.
const TILE: usize = 6;
/// Words of a panel, at most: half of the smallest second cache in use.
const PANEL: usize = 1 << 15;
/// Pixels of a panel, at most.
const PIXELS: usize = 16 * TILE;
/// Words that may be written beyond a panel's last.
const OVER: usize = 32;
/// More than a few threads need, so that one which loses its core does not hold up a large part of a call.
const TASKS: usize = 8;

/// How a convolution is cut into tasks, by its shape alone.
pub(super) struct Cut {
    /// Words of a pixel's window.
    pub words: usize,
    /// Pixels of a task.
    pub pixels: usize,
    /// Blocks of outputs of a task.
    pub blocks: usize,
    pub panels: usize,
    pub parts: usize,
}

impl Cut {
    pub fn new<V: ByteLanes>(shape: &ConvShape) -> Self {
        let words = terms(shape).div_ceil(V::GROUP);
        let all = shape.images * shape.out_height() * shape.out_width();
        let pixels = (PANEL / words / TILE * TILE).clamp(TILE, PIXELS).min(all);
        let panels = all.div_ceil(pixels);
        let blocks = shape.output.div_ceil(2 * V::N);
        let parts = TASKS.div_ceil(panels).min(blocks);
        let blocks = blocks.div_ceil(parts);
        Self { words, pixels, blocks, panels, parts }
    }

    pub fn tasks(&self) -> usize {
        self.panels * self.parts
    }

    /// Words of a task's scratch.
    pub fn scratch(&self) -> usize {
        self.pixels * self.words + OVER
    }
}

fn terms(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * shape.input
}

/// Weights [output, input, kernel, kernel] as words: blocks of outputs, in each the words of its sums in order, in each of
/// those a word for every output.
pub(super) fn pack<V: ByteLanes>(shape: &ConvShape, weights: &[i8]) -> Vec<i32> {
    let ConvShape { input, output, kernel, .. } = *shape;
    let (terms, area, block) = (terms(shape), kernel * kernel, 2 * V::N);
    let words = terms.div_ceil(V::GROUP);
    let mut packed = Vec::with_capacity(output.div_ceil(block) * words * block);
    for first in (0..output).step_by(block) {
        for word in 0..words {
            packed.extend((first..first + block).map(|o| {
                V::word(|at| match word * V::GROUP + at {
                    // The panel's order is kh, kw, c.
                    term if o < output && term < terms => weights[(o * input + term % input) * area + term / input],
                    _ => 0,
                })
            }));
        }
    }
    packed
}

byte_kernel! {
    /// # Safety
    /// The CPU has the instructions of `path`; `call` is checked, and packed for it; the task is one of its [`Cut`]'s, whose
    /// scratch this is.
    pub(super) unsafe fn forward<V>(call: &Call<'_>, task: usize, scratch: &mut [i32]) {
        // SAFETY: the caller's.
        unsafe { with_tail!(call, |tail| blocks::<V, _>(call, task, scratch, tail)) }
    }
}

/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn blocks<V: ByteLanes, T: Tail>(call: &Call<'_>, task: usize, scratch: &mut [i32], tail: T) {
    let Call { conv, shape, .. } = call;
    let cut = Cut::new::<V>(shape);
    let (panel, part) = (task / cut.parts, task % cut.parts);
    let all = shape.images * shape.out_height() * shape.out_width();
    let start = panel * cut.pixels;
    let rows = cut.pixels.min(all - start);
    // SAFETY: the caller's.
    unsafe {
        fill::<V>(call, start, rows, cut.words, scratch);
        let block = 2 * V::N;
        for index in part * cut.blocks..((part + 1) * cut.blocks).min(shape.output.div_ceil(block)) {
            let c = index * block;
            let n = block.min(shape.output - c);
            let b = Block {
                words: conv.words.as_ptr().add(c * cut.words),
                start: conv.start.as_ptr().add(c),
                depth: cut.words,
                c,
                n,
            };
            tiles::<V, T>(scratch.as_ptr(), rows, start, b, tail);
        }
    }
}

/// A block of outputs.
#[derive(Clone, Copy)]
struct Block {
    words: *const i32,
    /// What sums begin with.
    start: *const i32,
    /// Words of a sum.
    depth: usize,
    /// Its first channel, and how many it has.
    c: usize,
    n: usize,
}

/// All tiles of a panel, of sizes that differ by at most one pixel: 49 pixels are four tiles of 6 and five of 5, rather than
/// eight of 6 and one of a single pixel, which costs half as much as six.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn tiles<V: ByteLanes, T: Tail>(panel: *const i32, rows: usize, first: usize, b: Block, tail: T) {
    let count = rows.div_ceil(TILE);
    let mut row = 0;
    for tile in 0..count {
        let size = (rows - row).div_ceil(count - tile);
        // SAFETY: the caller's; the tile's rows are the panel's.
        unsafe {
            let a = panel.add(row * b.depth);
            match (size, b.n > V::N) {
                (6, true) => micro::<V, T, 6, 2>(a, first + row, b, tail),
                (5, true) => micro::<V, T, 5, 2>(a, first + row, b, tail),
                (4, true) => micro::<V, T, 4, 2>(a, first + row, b, tail),
                (3, true) => micro::<V, T, 3, 2>(a, first + row, b, tail),
                (2, true) => micro::<V, T, 2, 2>(a, first + row, b, tail),
                (_, true) => micro::<V, T, 1, 2>(a, first + row, b, tail),
                (6, false) => micro::<V, T, 6, 1>(a, first + row, b, tail),
                (5, false) => micro::<V, T, 5, 1>(a, first + row, b, tail),
                (4, false) => micro::<V, T, 4, 1>(a, first + row, b, tail),
                (3, false) => micro::<V, T, 3, 1>(a, first + row, b, tail),
                (2, false) => micro::<V, T, 2, 1>(a, first + row, b, tail),
                (_, false) => micro::<V, T, 1, 1>(a, first + row, b, tail),
            }
        }
        row += size;
    }
}

/// `MR` pixels by `NV` vectors, held in registers over the whole sum.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn micro<V: ByteLanes, T: Tail, const MR: usize, const NV: usize>(
    a: *const i32,
    pixel: usize,
    b: Block,
    tail: T,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut starts = [V::splat(0); NV];
        for v in 0..NV {
            starts[v] = V::load(b.start.add(v * V::N));
        }
        // By vectors of channels, not by pixels: the epilogue reads the factors of a vector once.
        let mut sums = [[V::splat(0); MR]; NV];
        for v in 0..NV {
            sums[v] = [starts[v]; MR];
        }
        let (mut a_at, mut b_at) = (a, b.words);
        for _ in 0..b.depth {
            let mut words = [V::splat(0); NV];
            for v in 0..NV {
                words[v] = V::load(b_at.add(v * V::N));
            }
            for r in 0..MR {
                let x = V::splat(*a_at.add(r * b.depth));
                for v in 0..NV {
                    sums[v][r] = sums[v][r].dot(x, words[v]);
                }
            }
            a_at = a_at.add(1);
            b_at = b_at.add(2 * V::N);
        }
        // Written out: as a loop, its body is too long to be unrolled.
        let first = tail.finish(sums[0], pixel, b.c, b.n);
        let mut second = [V::splat(0); MR];
        if NV == 2 {
            second = tail.finish(sums[NV - 1], pixel, b.c + V::N, b.n - V::N);
        }
        for r in 0..MR {
            tail.store([first[r], second[r]], pixel + r, b.c, b.n);
        }
    }
}

/// The words of `rows` pixels from output pixel `start` on.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn fill<V: ByteLanes>(call: &Call<'_>, start: usize, rows: usize, words: usize, panel: &mut [i32]) {
    let Call { conv, shape, x, .. } = *call;
    let ConvShape { height, width, input, kernel, stride, .. } = *shape;
    let (terms, cells) = (terms(shape), words * V::GROUP);
    let panel = panel.as_mut_ptr().cast::<V::Cell>();
    // SAFETY: rows of the panel are `cells` long; what is read is within the map.
    unsafe {
        if kernel == 1 && stride == 1 && cells == terms {
            return put::<V>(x, start * input, rows * input, panel);
        }
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        for row in 0..rows {
            let to = panel.add(row * cells);
            let pixel = start + row;
            let (image, y, ox) = (pixel / (out_height * out_width), pixel / out_width % out_height, pixel % out_width);
            // The window's columns that lie within the map: neighbours in memory, for each of its rows.
            let left = ox * stride;
            let first = shape.left().saturating_sub(left).min(kernel);
            let end = (width + shape.left()).saturating_sub(left).clamp(first, kernel);
            for ky in 0..kernel {
                let to = to.add(ky * kernel * input);
                let inside = (y * stride + ky).checked_sub(shape.above()).filter(|iy| *iy < height);
                let (first, end) = if inside.is_some() { (first, end) } else { (kernel, kernel) };
                for cell in 0..first * input {
                    *to.add(cell) = V::Cell::from(conv.zero);
                }
                if let Some(iy) = inside
                    && first < end
                {
                    let column = left + first - shape.left();
                    let from = ((image * height + iy) * width + column) * input;
                    put::<V>(x, from, (end - first) * input, to.add(first * input));
                }
                // After what was put there, which may have run over.
                for cell in end * input..kernel * input {
                    *to.add(cell) = V::Cell::from(conv.zero);
                }
            }
            for cell in terms..cells {
                *to.add(cell) = V::Cell::from(0);
            }
        }
    }
}

/// Widens `n` bytes of the map to cells. A few cells more may be written, and are written again later.
///
/// # Safety
/// The bytes are there, and as many cells and [`OVER`] more.
#[inline(always)]
unsafe fn put<V: ByteLanes>(x: &[u8], from: usize, n: usize, to: *mut V::Cell) {
    let step = OVER / V::GROUP;
    // SAFETY: the caller's.
    unsafe {
        let bytes = x.as_ptr().add(from);
        let mut at = 0;
        while at < n && from + at + step <= x.len() {
            V::widen(bytes.add(at), to.add(at));
            at += step;
        }
        for i in at..n {
            *to.add(i) = V::Cell::from(*bytes.add(i));
        }
    }
}
