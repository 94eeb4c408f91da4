//! Depthwise convolutions: lines of pixels through a window, a block of channels at a time.
//!
//! Neighbouring *rows* are the terms of a word, so that a lane is a channel here too. At stride 1 two lines of output read the
//! same words: a window of three rows and the one below it are four rows, one word of four or two of two, and weights are packed
//! for either line, (a, b, c, 0) and (0, a, b, c). Words are put together where they are used, and never stored: with the few
//! outputs of a tile that share their columns, that takes fewer instructions than to read them back.
//!
//! Sums of windows of three go from registers to the map where what they are scaled by is a few vectors ([`Rolling`]); others
//! are stored, and finished a few lines at a time.

use std::hint::select_unpredictable;
use std::ops::Range;

use super::factors::Scale;
use super::finish::{self, End, LANES, Ready, Rows, To, Way};
use super::lanes::{ByteLanes, byte_kernel};
use super::{Call, channels};
use crate::ConvShape;

/// A block of code for each number of a column, which it knows as a constant.
macro_rules! each_column {
    ($($column:literal)*, $body:block) => {
        $({
            const COLUMN: usize = $column;
            $body
        })*
    };
}

/// More than a few threads need, so that one which loses its core does not hold up a large part of a call.
const TASKS: usize = 8;
/// Pixels from which on lines are finished, so that a few short ones are finished together.
const PIXELS: usize = 64;
/// Rows that words are made of, at most: of a window of five and the one below it, whole groups of four.
const ROWS: usize = 8;

/// Lines of output that share words.
const fn lines(stride: usize) -> usize {
    if stride == 1 { 2 } else { 1 }
}

/// Groups of rows that such lines read.
const fn groups<V: ByteLanes>(kernel: usize, stride: usize) -> usize {
    (kernel + lines(stride) - 1).div_ceil(V::GROUP)
}

/// How a convolution is cut into tasks, by its shape alone: along its channels, and as far as that does not do, along its lines. What
/// a block is finished with is made ready once a task, so that tasks of many lines cost less.
pub(super) struct Cut {
    /// Of an image, groups of lines that share words.
    groups: usize,
    /// Groups of lines of all images that a task has, and blocks of channels; the last has more.
    lines: usize,
    blocks: usize,
    /// Tasks along either.
    along_lines: usize,
    along_blocks: usize,
}

impl Cut {
    pub fn new<V: ByteLanes>(shape: &ConvShape) -> Self {
        let groups = shape.out_height().div_ceil(lines(shape.stride));
        let (all, blocks) = (shape.images * groups, shape.output.div_ceil(2 * V::N));
        // Two blocks of the widest vectors are a line of the cache, which two threads had better not write at once.
        let of_task = blocks.div_ceil(TASKS).next_multiple_of(2);
        let along_blocks = (blocks / of_task).max(1);
        let lines = all.div_ceil(TASKS.div_ceil(along_blocks));
        Self { groups, lines, blocks: of_task, along_lines: all.div_ceil(lines), along_blocks }
    }

    pub fn tasks(&self) -> usize {
        self.along_lines * self.along_blocks
    }
}

/// Words of a task's scratch: sums, then copies of rows.
pub(super) fn scratch<V: ByteLanes>(shape: &ConvShape) -> usize {
    sums::<V>(shape) + copies::<V>(shape)
}

/// Sums of the pixels that are finished together, of the lines that made them too many, and of a few pixels that are read with
/// the last ones.
fn sums<V: ByteLanes>(shape: &ConvShape) -> usize {
    (PIXELS + lines(shape.stride) * shape.out_width() + finish::OVER) * 2 * V::N
}

/// Words of copies of rows: of a map with fewer channels than a block.
fn copies<V: ByteLanes>(shape: &ConvShape) -> usize {
    let row = shape.width * shape.output + 2 * V::N;
    if shape.output < 2 * V::N { (ROWS * row).div_ceil(4) } else { 0 }
}

/// The first channel of a block. The last block has as many channels as the others, if there are so many, and makes some again
/// that the one before it made: what is read and written is whole vectors then.
pub(super) fn first_of<V: ByteLanes>(channels: usize, block: usize) -> usize {
    (block * 2 * V::N).min(channels.saturating_sub(2 * V::N))
}

/// Weights [channels, 1, kernel, kernel] as words: blocks of channels, in each the lines that share words, in each the groups of
/// rows, in each the columns, in each a word for every channel.
pub(super) fn pack<V: ByteLanes>(shape: &ConvShape, weights: &[i8]) -> Vec<i32> {
    let ConvShape { output, kernel, stride, .. } = *shape;
    let area = kernel * kernel;
    let mut packed = Vec::new();
    for block in 0..output.div_ceil(2 * V::N) {
        for line in 0..lines(stride) {
            for group in 0..groups::<V>(kernel, stride) {
                for kx in 0..kernel {
                    packed.extend(channels::<V>(shape, first_of::<V>(output, block)).map(|c| {
                        V::word(|at| match ((group * V::GROUP + at).checked_sub(line), c) {
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
    /// The CPU has the instructions of `path`; `call` is checked, and packed for it; the task is one of its [`Cut`]'s, and the
    /// scratch as long as [`scratch`] says.
    pub(super) unsafe fn forward<V>(call: &Call<'_>, task: usize, scratch: &mut [i32]) {
        // SAFETY: the caller's; `check` lets no other kernel pass.
        unsafe {
            match (call.shape.kernel, call.shape.stride) {
                (3, 1) => forward_of::<V, 3, 1, 2>(call, task, scratch),
                (3, _) => forward_of::<V, 3, 2, 1>(call, task, scratch),
                (_, 1) => forward_of::<V, 5, 1, 2>(call, task, scratch),
                _ => forward_of::<V, 5, 2, 1>(call, task, scratch),
            }
        }
    }
}

/// # Safety
/// As for `forward`, of a kernel `K`, a stride `S` and as many lines `L` as share words at that.
#[inline(always)]
unsafe fn forward_of<V: ByteLanes, const K: usize, const S: usize, const L: usize>(
    call: &Call<'_>,
    task: usize,
    scratch: &mut [i32],
) {
    let Call { conv, shape, to, .. } = call;
    let (channels, block, out_height, out_width) = (shape.output, 2 * V::N, shape.out_height(), shape.out_width());
    let cut = Cut::new::<V>(shape);
    let (sums, copies) = scratch.split_at_mut(sums::<V>(shape));
    let (sums, copies) = (sums.as_mut_ptr(), copies.as_mut_ptr().cast());
    let outside = [conv.zero; LANES];
    let (line, part) = (task / cut.along_blocks * cut.lines, task % cut.along_blocks);
    let lines = line..(line + cut.lines).min(shape.images * cut.groups);
    // The last part has what is left too: its last block may make channels of the one before it again.
    let end = if part + 1 == cut.along_blocks { channels.div_ceil(block) } else { (part + 1) * cut.blocks };
    let blocks = part * cut.blocks..end;
    for index in blocks {
        if let To::Bytes(out, finish, skip) = to
            && finish.is_short::<V>()
            && K == 3
        {
            let c = first_of::<V>(channels, index);
            let rows = Rows { pixel: 0, count: 0, channels, c, n: block.min(channels - c) };
            let rolling = Rolling::<S, L> { call, zeros: (outside.as_ptr(), copies), index, lines: lines.clone() };
            // SAFETY: the caller's.
            unsafe { finish::ready::<V, 2>(out, finish, *skip, rows, rolling) };
            continue;
        }
        // The first pixel that is not finished, and how many sums of pixels there are from it on.
        let (mut pixel, mut count) = (0, 0);
        for at in lines.clone() {
            let (image, line) = (at / cut.groups, at % cut.groups * L);
            if count == 0 {
                pixel = (image * out_height + line) * out_width;
            }
            // SAFETY: the caller's; the scratch holds the sums of so many pixels, of the lines that come to them here, and copies.
            let b = unsafe {
                let b = Block::new::<V, K, S, L>(call, (outside.as_ptr(), copies), (image, line), index);
                let sums = sums.add(count * block);
                // As many sums as there are registers for: 16 of 32, or 8 of 16.
                match (out_width, V::N, L) {
                    (..4, ..) => micros::<V, K, S, L, 1>(&b, out_width, sums),
                    (_, 8, 2) => micros::<V, K, S, L, 2>(&b, out_width, sums),
                    _ => micros::<V, K, S, L, 4>(&b, out_width, sums),
                }
                b
            };
            count += L.min(out_height - line) * out_width;
            if count >= PIXELS || at + 1 == lines.end {
                let rows = Rows { pixel, count, channels, c: b.c, n: b.n };
                // SAFETY: as above.
                unsafe { finish::write::<V, 2>(to, sums, rows) };
                count = 0;
            }
        }
    }
}

/// A block of channels of lines of output of windows of three, finished out of registers: column by column, each of which is read
/// by the few outputs that are begun and not done.
struct Rolling<'a, const S: usize, const L: usize> {
    call: &'a Call<'a>,
    zeros: (*const u8, *mut u8),
    index: usize,
    lines: Range<usize>,
}

impl<V: ByteLanes, const S: usize, const L: usize> Way<V, 2> for Rolling<'_, S, L> {
    #[inline(always)]
    unsafe fn go<F: Scale<V>, E: End<V>>(self, ready: &Ready<'_, F, E>) {
        let Self { call, zeros, index, lines } = self;
        let shape = call.shape;
        let (out_height, width, block) = (shape.out_height(), shape.out_width(), 2 * V::N);
        let groups = out_height.div_ceil(L);
        // SAFETY: the caller's.
        unsafe {
            let taps = call.conv.words.as_ptr().add(index * L * 3 * block);
            let start = call.conv.start.as_ptr().add(index * block);
            let start = [V::load(start), V::load(start.add(V::N))];
            // By line, column of the window and vector.
            let mut weights = [[[start[0]; 2]; 3]; L];
            for line in 0..L {
                for kx in 0..3 {
                    for v in 0..2 {
                        weights[line][kx][v] = V::load(taps.add((line * 3 + kx) * block + v * V::N));
                    }
                }
            }
            for at in lines {
                let (image, line) = (at / groups, at % groups * L);
                let b = Block::new::<V, 3, S, L>(call, zeros, (image, line), index);
                let first = (image * out_height + line) * width;
                let count = L.min(out_height - line);
                let mut sums = [[start; 3]; L];
                let mut column = 0usize.wrapping_sub(b.left);
                let mut ahead = words::<V>(&b, 0, column);
                let mut x = 0;
                // The columns that the first output reads and no step has.
                each_column!(0 1, {
                    if COLUMN < 3 - S {
                        column = column.wrapping_add(1);
                        let words = std::mem::replace(&mut ahead, words::<V>(&b, 0, column));
                        for line in 0..L {
                            for m in 0..=COLUMN {
                                for v in 0..2 {
                                    sums[line][m][v] = sums[line][m][v].dot(words[v], weights[line][COLUMN - m][v]);
                                }
                            }
                        }
                    }
                });
                // Three steps, after which sums are where they were.
                'line: loop {
                    each_column!(0 1 2, {
                        // Places of an output's sums, and of those after it.
                        let (this, next, last) = (COLUMN, (COLUMN + 1) % 3, (COLUMN + 2) % 3);
                        for column_of in 0..S {
                            column = column.wrapping_add(1);
                            let words = std::mem::replace(&mut ahead, words::<V>(&b, 0, column));
                            for line in 0..L {
                                let (sums, weights) = (&mut sums[line], &weights[line]);
                                for v in 0..2 {
                                    match (S, column_of) {
                                        (1, _) => {
                                            sums[this][v] = sums[this][v].dot(words[v], weights[2][v]);
                                            sums[next][v] = sums[next][v].dot(words[v], weights[1][v]);
                                            sums[last][v] = start[v].dot(words[v], weights[0][v]);
                                        }
                                        (_, 0) => sums[this][v] = sums[this][v].dot(words[v], weights[1][v]),
                                        _ => {
                                            sums[this][v] = sums[this][v].dot(words[v], weights[2][v]);
                                            sums[next][v] = start[v].dot(words[v], weights[0][v]);
                                        }
                                    }
                                }
                            }
                        }
                        let ([one, two], [three, four]) = (sums[0][this], sums[L - 1][this]);
                        ready.put::<V, 2>([one, two, three, four], first + x, width, count);
                        x += 1;
                        if x == width {
                            break 'line;
                        }
                    });
                }
            }
        }
    }
}

/// A block of channels of lines of output that share words.
struct Block {
    /// The first pixel of each row that words are made of; of those outside, a pixel of zeros.
    rows: [*const u8; ROWS],
    /// All bits, or none: what is left of a distance along a row.
    masks: [usize; ROWS],
    /// A pixel of zeros.
    outside: *const u8,
    /// Of a pixel.
    channels: usize,
    /// Columns to the left of the map, and the map's.
    left: usize,
    width: usize,
    /// The block's first channel, and how many it has.
    c: usize,
    n: usize,
    taps: *const i32,
    /// What sums begin with.
    start: *const i32,
}

impl Block {
    /// Of the windows of an image's lines from `line` on; `outside` is a pixel of zeros, `copies` has room for copies of rows.
    ///
    /// # Safety
    /// As for `forward`.
    #[inline(always)]
    unsafe fn new<V: ByteLanes, const K: usize, const S: usize, const L: usize>(
        call: &Call<'_>,
        (outside, copies): (*const u8, *mut u8),
        (image, line): (usize, usize),
        index: usize,
    ) -> Self {
        let Call { conv, shape, x, .. } = call;
        let ConvShape { height, width, output: channels, .. } = **shape;
        let (block, groups, c) = (2 * V::N, groups::<V>(K, S), first_of::<V>(channels, index));
        let mut b = Self {
            rows: [outside; ROWS],
            masks: [0; ROWS],
            outside,
            channels,
            left: shape.left(),
            width,
            c,
            n: block.min(channels - c),
            taps: conv.words.as_ptr().wrapping_add(index * L * groups * K * block),
            start: conv.start.as_ptr().wrapping_add(index * block),
        };
        for row in 0..groups * V::GROUP {
            // Rows that have no weights may be any.
            let y = (line * S + row.min(K + L - 2)).checked_sub(shape.above()).filter(|y| *y < height);
            if let Some(y) = y {
                let (from, len) = ((image * height + y) * width * channels + c, (width - 1) * channels);
                b.rows[row] = x.as_ptr().wrapping_add(from);
                b.masks[row] = usize::MAX;
                if from + len + block > x.len() {
                    // A narrow block's last rows are copied to where others follow them.
                    let copy = copies.wrapping_add(row * (len + block));
                    // SAFETY: the row is the map's, and there is room for as many as words are made of.
                    unsafe { std::ptr::copy_nonoverlapping(b.rows[row], copy, len + b.n) };
                    b.rows[row] = copy;
                }
            }
        }
        b
    }
}

/// The sums of lines of at least `M` outputs. The last tile may compute again what the one before it did.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn micros<V: ByteLanes, const K: usize, const S: usize, const L: usize, const M: usize>(
    b: &Block,
    width: usize,
    sums: *mut i32,
) {
    for x in (0..width).step_by(M) {
        let x = x.min(width - M);
        // SAFETY: the caller's.
        unsafe { micro::<V, K, S, L, M>(b, x, sums.add(x * 2 * V::N), width * 2 * V::N) };
    }
}

/// The sums of `M` neighbouring outputs of `L` lines from column `x` on; `pitch`: from a line's sums to the next one's.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn micro<V: ByteLanes, const K: usize, const S: usize, const L: usize, const M: usize>(
    b: &Block,
    x: usize,
    to: *mut i32,
    pitch: usize,
) {
    let (block, groups) = (2 * V::N, groups::<V>(K, S));
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[[V::load(b.start), V::load(b.start.add(V::N))]; M]; L];
        for group in 0..groups {
            // Column by column, each a function of its own number: a loop is not unrolled that far, and asks at each column
            // which of the outputs read it.
            each_column!(0 1 2 3 4 5 6 7 8 9 10, {
                if COLUMN < (M - 1) * S + K {
                    let words = words::<V>(b, group, (x * S + COLUMN).wrapping_sub(b.left));
                    for line in 0..L {
                        for m in 0..M {
                            if (m * S..m * S + K).contains(&COLUMN) {
                                let tap = b.taps.add(((line * groups + group) * K + COLUMN - m * S) * block);
                                sums[line][m][0] = sums[line][m][0].dot(words[0], V::load(tap));
                                sums[line][m][1] = sums[line][m][1].dot(words[1], V::load(tap.add(V::N)));
                            }
                        }
                    }
                }
            });
        }
        for line in 0..L {
            for m in 0..M {
                sums[line][m][0].store(to.add(line * pitch + m * block));
                sums[line][m][1].store(to.add(line * pitch + m * block + V::N));
            }
        }
    }
}

/// The words of a column of a group of rows; a column outside the map is one beyond its last.
///
/// # Safety
/// As for `forward`.
#[inline(always)]
unsafe fn words<V: ByteLanes>(b: &Block, group: usize, column: usize) -> [V; 2] {
    let (first, distance) = (group * V::GROUP, column.wrapping_mul(b.channels));
    let mut rows = [b.outside; 4];
    for at in 0..V::GROUP {
        // No branch: with one at each column the words of all of them are made first, and wait in memory.
        let from = b.rows[first + at].wrapping_add(distance & b.masks[first + at]);
        rows[at] = select_unpredictable(column < b.width, from, b.outside);
    }
    // SAFETY: the caller's; what is read beyond a narrow block's channels is the map's, or a copy's.
    unsafe { V::interleave(rows) }
}
