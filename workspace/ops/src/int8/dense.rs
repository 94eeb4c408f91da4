//! Convolutions whose outputs read every input: a matrix product over panels of pixels.
//!
//! A task takes a few dozen pixels. Where windows are one pixel, their words lie one after the other, in the map itself or
//! widened in a panel. Where they are larger, or pixels are skipped, the panel has the map's rows that whole lines of output read,
//! each once, the map's zero on both sides: a window's row is a run of words in one of them, the last of which reaches beyond it
//! where it has no weights. Then each block of outputs, whose weights stay in the first cache, passes over the panel, a tile of
//! pixels at a time.

use super::finish::{self, Rows};
use super::lanes::{ByteLanes, byte_kernel};
use super::{Call, channels};
use crate::ConvShape;

/// Pixels of a tile: 6 by 2 vectors of sums, 2 of weights, one of pixels and one of products fill AVX2's 16 registers.
const TILE: usize = 6;
/// Words of a panel, at most: half of the smallest second cache in use.
const PANEL: usize = 1 << 15;
/// Pixels of a panel, at most.
const PIXELS: usize = 16 * TILE;
/// Bytes that [`ByteLanes::widen`] takes.
const SMALL: usize = 16;
/// Words that may be written beyond a panel's last.
const OVER: usize = SMALL / 2;
/// More than a few threads need, so that one which loses its core does not hold up a large part of a call.
const TASKS: usize = 8;

/// How a convolution is cut into tasks, by its shape alone.
pub(super) struct Cut {
    /// Words of a window's row.
    words: usize,
    /// Pixels of a task, or whole lines of output of an image.
    unit: Unit,
    /// Blocks of outputs of a task.
    blocks: usize,
    panels: usize,
    parts: usize,
}

#[derive(Clone, Copy)]
enum Unit {
    Pixels(usize),
    Lines {
        count: usize,
        /// Words of a row of the panel.
        row: usize,
    },
}

impl Cut {
    pub fn new<V: ByteLanes>(shape: &ConvShape) -> Self {
        let ConvShape { images, input, kernel, stride, .. } = *shape;
        let words = (kernel * input).div_ceil(V::GROUP);
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        let (unit, panels) = if (kernel, stride) == (1, 1) {
            let all = images * out_height * out_width;
            let pixels = (PANEL / words / TILE * TILE).clamp(TILE, PIXELS).min(all);
            (Unit::Pixels(pixels), all.div_ceil(pixels))
        } else {
            // A word more: the last window's reach.
            let row = (columns(shape) * input).div_ceil(V::GROUP) + 1;
            let fit = (PANEL / row).saturating_sub(kernel) / stride + 1;
            let count = (PIXELS / out_width).clamp(1, fit).min(out_height);
            (Unit::Lines { count, row }, images * out_height.div_ceil(count))
        };
        let blocks = shape.output.div_ceil(2 * V::N);
        let of_task = blocks.div_ceil(TASKS.div_ceil(panels).min(blocks));
        Self { words, unit, blocks: of_task, panels, parts: blocks.div_ceil(of_task) }
    }

    pub fn tasks(&self) -> usize {
        self.panels * self.parts
    }

    /// Words of a panel.
    fn panel(&self, shape: &ConvShape) -> usize {
        OVER + match self.unit {
            Unit::Pixels(pixels) => pixels * self.words,
            Unit::Lines { count, row } => ((count - 1) * shape.stride + shape.kernel) * row,
        }
    }

    /// Words of a task's scratch: a panel, and a block's sums of its pixels and of a few that are read with the last ones.
    pub fn scratch<V: ByteLanes>(&self, shape: &ConvShape) -> usize {
        let pixels = match self.unit {
            Unit::Pixels(pixels) => pixels,
            Unit::Lines { count, .. } => count * shape.out_width(),
        };
        self.panel(shape) + (pixels + finish::OVER) * 2 * V::N
    }
}

/// Columns that a line of output reads.
fn columns(shape: &ConvShape) -> usize {
    (shape.out_width() - 1) * shape.stride + shape.kernel
}

/// Weights [output, input, kernel, kernel] as words: blocks of outputs, in each the rows of a window, in each the words of its
/// columns and inputs, in each of those a word for every output.
pub(super) fn pack<V: ByteLanes>(shape: &ConvShape, weights: &[i8]) -> Vec<i32> {
    let ConvShape { input, output, kernel, .. } = *shape;
    let (terms, area, block) = (kernel * input, kernel * kernel, 2 * V::N);
    let words = terms.div_ceil(V::GROUP);
    let mut packed = Vec::with_capacity(output.div_ceil(block) * kernel * words * block);
    for first in (0..output).step_by(block) {
        for (ky, word) in (0..kernel).flat_map(|ky| (0..words).map(move |word| (ky, word))) {
            packed.extend(channels::<V>(shape, first).map(|o| {
                V::word(|at| match (word * V::GROUP + at, o) {
                    (term, Some(o)) if term < terms => {
                        weights[(o * input + term % input) * area + ky * kernel + term / input]
                    }
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
        let Call { conv, shape, to, .. } = call;
        let (cut, block) = (Cut::new::<V>(shape), 2 * V::N);
        let (panel, part) = (task / cut.parts, task % cut.parts);
        let blocks = part * cut.blocks..((part + 1) * cut.blocks).min(shape.output.div_ceil(block));
        let (scratch, sums) = scratch.split_at_mut(cut.panel(shape));
        let cell = size_of::<V::Cell>();
        // SAFETY: the caller's.
        unsafe {
            // The panel, from a pixel to the next and from a row to the next, in bytes; the task's first pixel, and its lines.
            let (a, pitch, row, pixel, lines, width);
            match cut.unit {
                Unit::Pixels(pixels) => {
                    let all = shape.images * shape.out_height() * shape.out_width();
                    pixel = panel * pixels;
                    (lines, width) = (1, pixels.min(all - pixel));
                    (pitch, row) = (4 * cut.words, 0);
                    // Where a word is four bytes of the map as they lie, the map is its own panel.
                    a = if V::GROUP == 4 && shape.input % V::GROUP == 0 {
                        call.x.as_ptr().add(pixel * shape.input)
                    } else {
                        fill_pixels::<V>(call, pixel, width, cut.words, scratch);
                        scratch.as_ptr().cast()
                    };
                }
                Unit::Lines { count, row: words } => {
                    let of_image = shape.out_height().div_ceil(count);
                    let (image, line) = (panel / of_image, panel % of_image * count);
                    width = shape.out_width();
                    lines = count.min(shape.out_height() - line);
                    pixel = (image * shape.out_height() + line) * width;
                    (pitch, row) = (shape.stride * shape.input * cell, 4 * words);
                    fill_rows::<V>(call, image, line * shape.stride, (lines - 1) * shape.stride + shape.kernel, words, scratch);
                    a = scratch.as_ptr().cast();
                }
            }
            for index in blocks {
                let c = index * block;
                let n = block.min(shape.output - c);
                let words = conv.words.as_ptr().add(c * shape.kernel * cut.words);
                let start = conv.start.as_ptr().add(c);
                let b = Block { words, start, rows: shape.kernel, depth: cut.words, pitch, row };
                for line in 0..lines {
                    let (a, sums) = (a.add(line * shape.stride * row), sums.as_mut_ptr().add(line * width * block));
                    tiles::<V>(a, width, b, n > V::N, sums);
                }
                let rows = Rows { pixel, count: lines * width, channels: shape.output, c, n };
                if n > V::N {
                    finish::write::<V, 2>(to, sums.as_ptr(), rows);
                } else {
                    finish::write::<V, 1>(to, sums.as_ptr(), rows);
                }
            }
        }
    }
}

/// A block of outputs, and how it passes over a panel.
#[derive(Clone, Copy)]
struct Block {
    words: *const i32,
    /// What sums begin with.
    start: *const i32,
    /// Rows of a window, and words of each.
    rows: usize,
    depth: usize,
    /// Bytes of the panel from a pixel to the next, and from a row to the next.
    pitch: usize,
    row: usize,
}

/// The sums of a line of pixels of a panel, in tiles of sizes that differ by at most one pixel: 49 pixels are four tiles of 6 and five
/// of 5, rather than eight of 6 and one of a single pixel, which costs half as much as six. `both`: of two vectors of outputs,
/// else of one.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn tiles<V: ByteLanes>(panel: *const u8, rows: usize, b: Block, both: bool, sums: *mut i32) {
    let count = rows.div_ceil(TILE);
    let mut row = 0;
    for tile in 0..count {
        let size = (rows - row).div_ceil(count - tile);
        // SAFETY: the caller's; the tile's rows are the panel's.
        unsafe {
            let (a, sums) = (panel.add(row * b.pitch), sums.add(row * 2 * V::N));
            match (size, both) {
                (6, true) => micro::<V, 6, 2>(a, b, sums),
                (5, true) => micro::<V, 5, 2>(a, b, sums),
                (4, true) => micro::<V, 4, 2>(a, b, sums),
                (3, true) => micro::<V, 3, 2>(a, b, sums),
                (2, true) => micro::<V, 2, 2>(a, b, sums),
                (_, true) => micro::<V, 1, 2>(a, b, sums),
                (6, false) => micro::<V, 6, 1>(a, b, sums),
                (5, false) => micro::<V, 5, 1>(a, b, sums),
                (4, false) => micro::<V, 4, 1>(a, b, sums),
                (3, false) => micro::<V, 3, 1>(a, b, sums),
                (2, false) => micro::<V, 2, 1>(a, b, sums),
                (_, false) => micro::<V, 1, 1>(a, b, sums),
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
unsafe fn micro<V: ByteLanes, const MR: usize, const NV: usize>(a: *const u8, b: Block, to: *mut i32) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0); NV]; MR];
        for v in 0..NV {
            let start = V::load(b.start.add(v * V::N));
            for r in 0..MR {
                sums[r][v] = start;
            }
        }
        let mut b_at = b.words;
        for row in 0..b.rows {
            let mut a_at = a.add(row * b.row);
            for _ in 0..b.depth {
                let mut words = [V::splat(0); NV];
                for v in 0..NV {
                    words[v] = V::load(b_at.add(v * V::N));
                }
                for r in 0..MR {
                    let x = V::splat(a_at.add(r * b.pitch).cast::<i32>().read_unaligned());
                    for v in 0..NV {
                        sums[r][v] = sums[r][v].dot(x, words[v]);
                    }
                }
                a_at = a_at.add(4);
                b_at = b_at.add(2 * V::N);
            }
        }
        for r in 0..MR {
            for v in 0..NV {
                sums[r][v].store(to.add((r * 2 + v) * V::N));
            }
        }
    }
}

/// The words of `count` pixels from pixel `start` on.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn fill_pixels<V: ByteLanes>(call: &Call<'_>, start: usize, count: usize, words: usize, panel: &mut [i32]) {
    let Call { shape: ConvShape { input, .. }, x, .. } = *call;
    let (input, cells) = (*input, words * V::GROUP);
    let panel = panel.as_mut_ptr().cast::<V::Cell>();
    // SAFETY: pixels of the panel are `cells` long; what is read is within the map.
    unsafe {
        if cells == input {
            return put::<V>(x, start * input, count * input, panel);
        }
        for pixel in 0..count {
            let to = panel.add(pixel * cells);
            put::<V>(x, (start + pixel) * input, input, to);
            for cell in input..cells {
                *to.add(cell) = V::Cell::from(0);
            }
        }
    }
}

/// `count` rows of an image, `words` apart, from row `top` on, counted with those above it, and of each as many columns as are read.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn fill_rows<V: ByteLanes>(
    call: &Call<'_>,
    image: usize,
    top: usize,
    count: usize,
    words: usize,
    panel: &mut [i32],
) {
    let Call { conv, shape, x, .. } = *call;
    let ConvShape { height, width, input, .. } = *shape;
    let (columns, left) = (columns(shape), shape.left());
    let end = columns.min(left + width);
    let panel = panel.as_mut_ptr().cast::<V::Cell>();
    // SAFETY: rows of the panel are longer than their columns; what is read is within the map.
    unsafe {
        for row in 0..count {
            let to = panel.add(row * words * V::GROUP);
            let y = (top + row).checked_sub(shape.above()).filter(|y| *y < height);
            let (first, end) = if y.is_some() { (left, end) } else { (columns, columns) };
            for cell in 0..first * input {
                *to.add(cell) = V::Cell::from(conv.zero);
            }
            if let Some(y) = y {
                put::<V>(x, (image * height + y) * width * input, (end - first) * input, to.add(first * input));
            }
            for cell in end * input..columns * input {
                *to.add(cell) = V::Cell::from(conv.zero);
            }
        }
    }
}

/// `n` bytes of the map as cells.
///
/// # Safety
/// The bytes are there, and as many cells.
#[inline(always)]
unsafe fn put<V: ByteLanes>(x: &[u8], from: usize, n: usize, to: *mut V::Cell) {
    // SAFETY: the caller's.
    unsafe {
        let bytes = x.as_ptr().add(from);
        if size_of::<V::Cell>() == 1 {
            return std::ptr::copy_nonoverlapping(bytes, to.cast(), n);
        }
        let whole = n - n % SMALL;
        for at in (0..whole).step_by(SMALL) {
            V::widen(bytes.add(at), to.add(at));
        }
        for at in whole..n {
            *to.add(at) = V::Cell::from(*bytes.add(at));
        }
    }
}
