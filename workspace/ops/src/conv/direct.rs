//! Convolutions of inference: from a stored map to a finished one, without scratch.
//!
//! Values stay in registers from the first product to the activation, and maps are read where they lie. An element is the
//! same chain of fused multiply-adds, in the same order, as in the other forms, then the same steps as in [`Finish`]: so are
//! its bits. What a window reads beyond the map is left out of a chain, or zero.
//!
//! A call is cut by shape into parts of the output, pixels by channels, for one image already: where a map is small, its
//! weights are what takes time, and each thread reads only its share of them.

mod depthwise;

use std::ops::Range;

use self::depthwise::{depthwise3, depthwise3_strided, depthwise5, depthwise5_strided};
use crate::gemm::panel_vectors;
use crate::lanes::{Lanes, kernel};
use crate::map::{Finish, load, store};
use crate::shape::product;
use crate::{Activation, ConvShape, Isa, Runtime};

/// Columns of a part: whole panels of packed weights on every instruction set.
const COLUMNS: usize = 48;
/// Pixels of a part are multiples of the tallest tile.
const ROWS: usize = 8;
/// Pixels over which the columns pass while they stay in the second cache.
const TILE: usize = 64;
/// Multiply-adds that are worth a task of their own: some ten microseconds.
pub(super) const WORTH: usize = 1 << 19;
pub(super) const MOST_PARTS: usize = 16;

/// One convolution, its lengths checked.
pub(super) struct Direct<'a> {
    pub shape: ConvShape,
    /// Where the first pixel of both maps would lie: of a chain's inner maps only some lines are there.
    pub x: *const f32,
    pub packed: &'a [f32],
    pub y: *mut f32,
    /// The sums go on from what is in `y`.
    pub onto: bool,
    pub after: Epilogue<'a>,
}

/// What becomes of a sum on its way to memory: `clamp(sum * scale + shift + skip)`, then perhaps more.
///
/// Plain numbers and pointers, which kernels keep in registers; enums they would look up in memory for every vector.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    /// 1, or 0 where all channels share the first vector of both.
    step: usize,
    skip: &'a [f32],
    /// Channels that the shortcut reaches.
    reached: usize,
    low: f32,
    high: f32,
    /// An activation that is more than clamping: a pass of its own over what is stored.
    smooth: Option<Activation>,
}

impl<'a> Epilogue<'a> {
    /// Nothing: adding -0 keeps the sign of a zero.
    pub fn raw() -> Self {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        Self { scale: &[1.0; 16], shift: &[-0.0; 16], step: 0, skip: &[], reached: 0, low, high, smooth: None }
    }

    /// As [`Finish`], once checked; none where the shortcut is not read as it is stored.
    pub fn of(finish: &Finish<'a>) -> Option<Self> {
        let Finish { affine: Some(affine), inner: Activation::None, skip, activation, .. } = finish else {
            return None;
        };
        let (low, high) = activation.range();
        let smooth = activation.is_smooth().then_some(*activation);
        let plain = Self { scale: affine.scale, shift: affine.shift, step: 1, low, high, smooth, ..Self::raw() };
        match skip {
            None => Some(plain),
            Some(skip) => skip.map.is_plain().then_some(Self { skip: skip.map.data, reached: skip.channels, ..plain }),
        }
    }
}

// SAFETY: what the pointers lead to is Sync, and tasks write parts of their own.
unsafe impl Sync for Direct<'_> {}

impl Direct<'_> {
    pub fn run(&self, runtime: &Runtime) {
        let grid = Grid::of(&self.shape);
        runtime.run(grid.rows * grid.columns, &|part| {
            let (rows, columns) = grid.part(part);
            // SAFETY: lengths are checked, parts are disjoint, and the runtime has its instructions.
            unsafe { self.part(runtime.isa(), rows, columns) }
        });
    }

    /// Rows (pixels of a matrix, or lines) and output channels of the call.
    ///
    /// # Safety
    /// The call's lengths were checked, no other task has the part, what it reads and writes is there, and the CPU has the
    /// instructions.
    pub unsafe fn part(&self, isa: Isa, rows: Range<usize>, columns: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            match (self.shape.depthwise, self.shape.kernel, self.shape.stride) {
                (false, ..) if is_matrix(&self.shape) => matrix(isa, self, rows, columns),
                (false, ..) => dense(isa, self, rows, columns),
                (true, 3, 1) => depthwise3(isa, self, rows),
                (true, 3, _) => depthwise3_strided(isa, self, rows),
                (true, _, 1) => depthwise5(isa, self, rows),
                (true, ..) => depthwise5_strided(isa, self, rows),
            }
        }
    }
}

/// Pixels of a 1x1 convolution are rows of one matrix, whatever the map's shape.
pub(super) fn is_matrix(shape: &ConvShape) -> bool {
    matches!(shape, ConvShape { depthwise: false, kernel: 1, stride: 1, padding: 0, .. })
}

/// How a call is cut: by what it is cut into rows (pixels of a matrix, rows of maps), and by output channels.
struct Grid {
    /// What there is to cut.
    of: [usize; 2],
    /// Whole multiples of these.
    unit: [usize; 2],
    rows: usize,
    columns: usize,
}

impl Grid {
    fn of(shape: &ConvShape) -> Self {
        let pixels = product([shape.images, shape.out_height(), shape.out_width()]);
        let parts = (product([pixels, shape.weight_len()]) / WORTH).clamp(1, MOST_PARTS);
        let lines = shape.images * shape.out_height();
        let (all, unit) = match is_matrix(shape) {
            true => (pixels, ROWS),
            // Depthwise lines go in pairs.
            false => (lines, if shape.depthwise { 2 } else { 1 }),
        };
        let units = all.div_ceil(unit);
        // Down to full tiles, then across: but for depthwise convolutions, which read no weights to speak of.
        let (rows, columns) = match shape.depthwise {
            true => (parts.min(units), 1),
            false => {
                let rows = parts.min(pixels.div_ceil(TILE)).min(units);
                (rows, (parts / rows).clamp(1, shape.output.div_ceil(COLUMNS)))
            }
        };
        Self { of: [all, shape.output], unit: [unit, COLUMNS], rows, columns }
    }

    fn part(&self, part: usize) -> (Range<usize>, Range<usize>) {
        let cut = |axis: usize, index: usize, parts: usize| {
            let (of, unit) = (self.of[axis], self.unit[axis]);
            let units = of.div_ceil(unit);
            (index * units / parts * unit)..of.min((index + 1) * units / parts * unit)
        };
        (cut(0, part / self.columns, self.rows), cut(1, part % self.columns, self.columns))
    }
}

/// Finishes `n` lanes of `P` pixels' sums and writes them, the first to `y + place`, the others `pitch` floats apart; the
/// shortcut is read at the same places.
///
/// Sums come by value, and each loop over them is short enough to be unrolled: an array that is indexed in a loop would lie
/// in memory, and the loop over products store all of it at every step.
///
/// # Safety
/// The CPU has the instructions of `V`, and the places are those of both maps, which have `n` channels left.
#[inline(always)]
unsafe fn put<V: Lanes, const P: usize>(
    sums: [V; P],
    after: &Epilogue<'_>,
    (y, place, pitch): (*mut f32, usize, usize),
    c: usize,
    n: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let factor = |of: &[f32]| load::<V>(of.as_ptr().add(c * after.step), n);
        let (scale, shift) = (factor(after.scale), factor(after.shift));
        let skip = after.skip.as_ptr();
        let mut values = sums;
        for p in 0..P {
            values[p] = values[p].fma(scale, shift);
        }
        if c + n <= after.reached {
            for p in 0..P {
                values[p] = values[p].add(load::<V>(skip.wrapping_add(place + p * pitch), n));
            }
        } else if c < after.reached {
            // Where the shortcut does not reach, adding 0 would turn -0 into 0.
            for p in 0..P {
                let (mut parts, at, reached) = ([0f32; 16], place + p * pitch, after.reached - c);
                let sum = values[p].add(V::load_first(skip.add(at), reached));
                values[p].store(parts.as_mut_ptr());
                sum.store_first(parts.as_mut_ptr(), reached);
                values[p] = V::load(parts.as_ptr());
            }
        }
        let (low, high) = (V::splat(after.low), V::splat(after.high));
        for p in 0..P {
            values[p] = high.min(low.max(values[p]));
        }
        if n == V::N {
            for p in 0..P {
                values[p].store(y.wrapping_add(place + p * pitch));
            }
        } else {
            for p in 0..P {
                values[p].store_first(y.wrapping_add(place + p * pitch), n);
            }
        }
    }
}

/// The sums so far of `n` lanes of `P` pixels.
///
/// # Safety
/// As for [`put`].
#[inline(always)]
unsafe fn take<V: Lanes, const P: usize>((y, place, pitch): (*mut f32, usize, usize), n: usize) -> [V; P] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [V::splat(0.0); P];
        for p in 0..P {
            sums[p] = V::load_first(y.wrapping_add(place + p * pitch), n);
        }
        sums
    }
}

/// An activation of channels `columns` of pixels `pixels`, in place.
///
/// # Safety
/// The CPU has the instructions of `V`, and the map has them.
#[inline(always)]
unsafe fn activate<V: Lanes>(
    activation: Activation,
    y: *mut f32,
    channels: usize,
    pixels: Range<usize>,
    columns: Range<usize>,
) {
    for pixel in pixels {
        for c in columns.clone().step_by(V::N) {
            // SAFETY: the caller's.
            unsafe {
                let (at, n) = (y.wrapping_add(pixel * channels + c), (columns.end - c).min(V::N));
                store(activation.apply(load::<V>(at, n)), at, n);
            }
        }
    }
}

/// What one element of a product sums over: `count` runs of `len` products each. Of a matrix it is one run; of a patch, one
/// run for each row of the kernel.
#[derive(Clone, Copy)]
struct Runs {
    count: usize,
    len: usize,
    /// Floats from one run of the left side to the next.
    step: usize,
    /// Rows of the packed weights before the first run, and from one run to the next.
    first: usize,
    rows: usize,
}

/// Pixels that lie `pitch` floats apart, and where their outputs go.
#[derive(Clone, Copy)]
struct Line {
    from: *const f32,
    pitch: usize,
    /// The first output pixel.
    pixel: usize,
    pixels: usize,
}

kernel! {
    /// Pixels `rows` of a 1x1 convolution, output channels `columns`.
    ///
    /// # Safety
    /// The call's lengths were checked, and no other task has the part.
    unsafe fn matrix<V>(call: &Direct<'_>, rows: Range<usize>, columns: Range<usize>) {
        let input = call.shape.input;
        let runs = Runs { count: 1, len: input, step: 0, first: 0, rows: 0 };
        for pixel in rows.clone().step_by(TILE) {
            let pixels = TILE.min(rows.end - pixel);
            // SAFETY: the caller's.
            unsafe {
                let line = Line { from: call.x.wrapping_add(pixel * input), pitch: input, pixel, pixels };
                lines::<V>(call, runs, line, columns.clone());
            }
        }
        if let Some(activation) = call.after.smooth {
            // SAFETY: the caller's.
            unsafe { activate::<V>(activation, call.y, call.shape.output, rows, columns) }
        }
    }
}

kernel! {
    /// Lines `rows` (counted over all images) of a convolution over all channels, output channels `columns`.
    ///
    /// # Safety
    /// As for [`matrix`].
    unsafe fn dense<V>(call: &Direct<'_>, rows: Range<usize>, columns: Range<usize>) {
        let ConvShape { height, width, input, kernel, stride, .. } = call.shape;
        let (above, left) = (call.shape.above(), call.shape.left());
        let (out_height, out_width) = (call.shape.out_height(), call.shape.out_width());
        let (inner, line) = (inner(&call.shape), width * input);
        for row in rows.clone() {
            let (image, top) = (row / out_height, row % out_height * stride);
            let ky = inside(top, height, kernel, above);
            let first = (image * height + top + ky.start - above) * line;
            let from = |x: usize| call.x.wrapping_add(first + (x * stride - left) * input);
            // Outputs whose patch reaches over the side, one by one.
            for x in (0..inner.start).chain(inner.end..out_width) {
                let kx = inside(x * stride, width, kernel, left);
                let runs = Runs {
                    count: ky.len(),
                    len: kx.len() * input,
                    step: line,
                    first: (ky.start * kernel + kx.start) * input,
                    rows: kernel * input,
                };
                let from = call.x.wrapping_add(first + (x * stride + kx.start - left) * input);
                let line = Line { from, pitch: 0, pixel: row * out_width + x, pixels: 1 };
                // SAFETY: the caller's; taps outside the map are left out.
                unsafe { lines::<V>(call, runs, line, columns.clone()) }
            }
            if !inner.is_empty() {
                let runs = Runs {
                    count: ky.len(),
                    len: kernel * input,
                    step: line,
                    first: ky.start * kernel * input,
                    rows: kernel * input,
                };
                let (from, pixel) = (from(inner.start), row * out_width + inner.start);
                let line = Line { from, pitch: stride * input, pixel, pixels: inner.len() };
                // SAFETY: the caller's.
                unsafe { lines::<V>(call, runs, line, columns.clone()) }
            }
        }
        if let Some(activation) = call.after.smooth {
            let pixels = rows.start * out_width..rows.end * out_width;
            // SAFETY: the caller's.
            unsafe { activate::<V>(activation, call.y, call.shape.output, pixels, columns) }
        }
    }
}

/// The taps of a window at padded place `at` that lie on a side of length `size`, `before` places from the first.
fn inside(at: usize, size: usize, kernel: usize, before: usize) -> Range<usize> {
    before.saturating_sub(at).min(kernel)..kernel.min((size + before).saturating_sub(at))
}

/// Outputs of a line whose windows lie wholly on the map.
fn inner(shape: &ConvShape) -> Range<usize> {
    let ConvShape { width, kernel, stride, .. } = *shape;
    let left = shape.left();
    let start = left.div_ceil(stride);
    let end = (width + left).checked_sub(kernel).map_or(0, |room| room / stride + 1).min(shape.out_width());
    start.min(end)..end
}

/// All `columns` of a line's outputs.
///
/// # Safety
/// The CPU has the instructions of `V`; the runs can be read from every pixel of the line, and the part is this task's.
#[inline(always)]
unsafe fn lines<V: Lanes>(call: &Direct<'_>, runs: Runs, line: Line, columns: Range<usize>) {
    let (output, depth) = (call.shape.output, call.shape.weight_len() / call.shape.output);
    let mut start = columns.start;
    while start < columns.end {
        let vectors = (columns.end - start).div_ceil(V::N).min(panel_vectors::<V>());
        let last = (columns.end - start - (vectors - 1) * V::N).min(V::N);
        // SAFETY: the caller's; a part begins with a panel, and panels before it are `depth` rows of whole vectors.
        unsafe {
            let b = call.packed.as_ptr().add(depth * start + runs.first * vectors * V::N);
            match vectors {
                3 => panel::<V, 3>(call, runs, line, b, (start, last), output),
                2 => panel::<V, 2>(call, runs, line, b, (start, last), output),
                _ => panel::<V, 1>(call, runs, line, b, (start, last), output),
            }
        }
        start += vectors * V::N;
    }
}

/// One panel of `NV` vectors of channels from `c` on, the last of them with `last` lanes.
///
/// # Safety
/// As for [`lines`].
#[inline(always)]
unsafe fn panel<V: Lanes, const NV: usize>(
    call: &Direct<'_>,
    runs: Runs,
    line: Line,
    b: *const f32,
    (c, last): (usize, usize),
    output: usize,
) {
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        let at = |done: usize| (line.from.add(done * line.pitch), (line.pixel + done) * output + c);
        if V::N == 16 {
            while done + 8 <= line.pixels {
                tile::<V, 8, NV>(call, runs, at(done), line.pitch, b, (c, last), output);
                done += 8;
            }
        } else {
            while done + 6 <= line.pixels {
                tile::<V, 6, NV>(call, runs, at(done), line.pitch, b, (c, last), output);
                done += 6;
            }
        }
        while done + 4 <= line.pixels {
            tile::<V, 4, NV>(call, runs, at(done), line.pitch, b, (c, last), output);
            done += 4;
        }
        while done < line.pixels {
            tile::<V, 1, NV>(call, runs, at(done), line.pitch, b, (c, last), output);
            done += 1;
        }
    }
}

/// `MR` pixels by `NV` vectors, held in registers from the first product to the activation.
///
/// # Safety
/// As for [`lines`].
#[inline(always)]
unsafe fn tile<V: Lanes, const MR: usize, const NV: usize>(
    call: &Direct<'_>,
    runs: Runs,
    (from, place): (*const f32, usize),
    pitch: usize,
    b: *const f32,
    (c, last): (usize, usize),
    output: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let y = call.y;
        // Of one vector of channels: where its pixels lie, its first channel, how many it has.
        let vector = |v: usize| {
            let (offset, n) = (v * V::N, if v + 1 == NV { last } else { V::N });
            ((y, place + offset, output), c + offset, n)
        };
        let mut sums = [[V::splat(0.0); MR]; NV];
        if call.onto {
            for v in 0..NV {
                let (at, _, n) = vector(v);
                sums[v] = take(at, n);
            }
        }
        for run in 0..runs.count {
            let mut a_at = from.add(run * runs.step);
            let mut b_at = b.add(run * runs.rows * NV * V::N);
            for _ in 0..runs.len {
                let mut vectors = [V::splat(0.0); NV];
                for v in 0..NV {
                    vectors[v] = V::load(b_at.add(v * V::N));
                }
                for r in 0..MR {
                    let factor = V::splat(*a_at.add(r * pitch));
                    for v in 0..NV {
                        sums[v][r] = vectors[v].fma(factor, sums[v][r]);
                    }
                }
                a_at = a_at.add(1);
                b_at = b_at.add(NV * V::N);
            }
        }
        // Written out: as a loop, its body is too long to be unrolled.
        let (at, c, n) = vector(0);
        put(sums[0], &call.after, at, c, n);
        if NV > 1 {
            let (at, c, n) = vector(1);
            put(sums[1 % NV], &call.after, at, c, n);
        }
        if NV > 2 {
            let (at, c, n) = vector(2);
            put(sums[2 % NV], &call.after, at, c, n);
        }
    }
}
