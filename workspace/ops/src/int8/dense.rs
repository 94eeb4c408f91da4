//! Convolutions whose outputs read every input: a matrix product over panels of pixels.
//!
//! A task copies the words of a few dozen pixels into a panel: bytes widened, window by window, the map's zero where a window
//! reaches outside. Then each block of outputs, whose weights stay in the first cache, passes over the panel, a tile of pixels
//! at a time.

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
        let of_task = blocks.div_ceil(TASKS.div_ceil(panels).min(blocks));
        Self { words, pixels, blocks: of_task, panels, parts: blocks.div_ceil(of_task) }
    }

    pub fn tasks(&self) -> usize {
        self.panels * self.parts
    }

    /// Words of a panel.
    fn panel(&self) -> usize {
        self.pixels * self.words + OVER
    }

    /// Words of a task's scratch: a panel, and a block's sums of its pixels.
    pub fn scratch<V: ByteLanes>(&self) -> usize {
        self.panel() + self.pixels * 2 * V::N
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
            packed.extend(channels::<V>(shape, first).map(|o| {
                V::word(|at| match (word * V::GROUP + at, o) {
                    // The panel's order is kh, kw, c.
                    (term, Some(o)) if term < terms => weights[(o * input + term % input) * area + term / input],
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
        let cut = Cut::new::<V>(shape);
        let (panel, part) = (task / cut.parts, task % cut.parts);
        let all = shape.images * shape.out_height() * shape.out_width();
        let start = panel * cut.pixels;
        let rows = cut.pixels.min(all - start);
        let (panel, sums) = scratch.split_at_mut(cut.panel());
        // SAFETY: the caller's.
        unsafe {
            // Where a word is four bytes of the map as they lie, the map is its own panel.
            let is_panel = V::GROUP == 4 && (shape.kernel, shape.stride) == (1, 1) && shape.input % V::GROUP == 0;
            let panel = if is_panel {
                call.x.as_ptr().add(start * shape.input).cast()
            } else {
                fill::<V>(call, start, rows, cut.words, panel);
                panel.as_ptr()
            };
            let block = 2 * V::N;
            for index in part * cut.blocks..((part + 1) * cut.blocks).min(shape.output.div_ceil(block)) {
                let c = index * block;
                let n = block.min(shape.output - c);
                let (words, begin) = (conv.words.as_ptr().add(c * cut.words), conv.start.as_ptr().add(c));
                let b = Block { words, start: begin, depth: cut.words };
                tiles::<V>(panel, rows, b, n > V::N, sums.as_mut_ptr());
                let rows = Rows { pixel: start, count: rows, channels: shape.output, c, n };
                if n > V::N {
                    finish::write::<V, 2>(to, sums.as_ptr(), rows);
                } else {
                    finish::write::<V, 1>(to, sums.as_ptr(), rows);
                }
            }
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
}

/// The sums of all pixels of a panel, in tiles of sizes that differ by at most one pixel: 49 pixels are four tiles of 6 and five
/// of 5, rather than eight of 6 and one of a single pixel, which costs half as much as six. `both`: of two vectors of outputs,
/// else of one.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn tiles<V: ByteLanes>(panel: *const i32, rows: usize, b: Block, both: bool, sums: *mut i32) {
    let count = rows.div_ceil(TILE);
    let mut row = 0;
    for tile in 0..count {
        let size = (rows - row).div_ceil(count - tile);
        // SAFETY: the caller's; the tile's rows are the panel's.
        unsafe {
            let (a, sums) = (panel.add(row * b.depth), sums.add(row * 2 * V::N));
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
unsafe fn micro<V: ByteLanes, const MR: usize, const NV: usize>(a: *const i32, b: Block, to: *mut i32) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0); NV]; MR];
        for v in 0..NV {
            let start = V::load(b.start.add(v * V::N));
            for r in 0..MR {
                sums[r][v] = start;
            }
        }
        let (mut a_at, mut b_at) = (a, b.words);
        for _ in 0..b.depth {
            let mut words = [V::splat(0); NV];
            for v in 0..NV {
                words[v] = V::load(b_at.add(v * V::N));
            }
            for r in 0..MR {
                let x = V::splat(a_at.add(r * b.depth).read_unaligned());
                for v in 0..NV {
                    sums[r][v] = sums[r][v].dot(x, words[v]);
                }
            }
            a_at = a_at.add(1);
            b_at = b_at.add(2 * V::N);
        }
        for r in 0..MR {
            for v in 0..NV {
                sums[r][v].store(to.add((r * 2 + v) * V::N));
            }
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
        // Image, line and column, counted on: a division at every pixel costs as much as a small window.
        let (mut image, mut y, mut ox) =
            (start / (out_height * out_width), start / out_width % out_height, start % out_width);
        let line = kernel * input;
        for row in 0..rows {
            let to = panel.add(row * cells);
            let (left, top) = (ox * stride, y * stride);
            // The window's columns that lie within the map: neighbours in memory, for each of its rows.
            let first = shape.left().saturating_sub(left).min(kernel);
            let end = (width + shape.left()).saturating_sub(left).clamp(first, kernel);
            // A small window inside the map, the stem's: what a line writes too much, the next one overwrites.
            let corner = (top.checked_sub(shape.above()), left.checked_sub(shape.left()));
            if let (1..=SMALL, (Some(iy), Some(ix))) = (line, corner)
                && ix + kernel <= width
                && iy + kernel <= height
                && (((image * height + iy + kernel - 1) * width) + ix) * input + SMALL <= x.len()
            {
                let from = x.as_ptr().add(((image * height + iy) * width + ix) * input);
                for ky in 0..kernel {
                    V::widen(from.add(ky * width * input), to.add(ky * line));
                }
            } else {
                for ky in 0..kernel {
                    let to = to.add(ky * line);
                    let inside = (top + ky).checked_sub(shape.above()).filter(|iy| *iy < height);
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
                    for cell in end * input..line {
                        *to.add(cell) = V::Cell::from(conv.zero);
                    }
                }
            }
            for cell in terms..cells {
                *to.add(cell) = V::Cell::from(0);
            }
            ox += 1;
            if ox == out_width {
                (y, ox) = (y + 1, 0);
            }
            if y == out_height {
                (image, y) = (image + 1, 0);
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
