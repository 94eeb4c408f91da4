//! Inner loops, of integers and of f32. A lane is an output channel or a depthwise channel; every lane adds its terms in
//! one order, so f32 sums have the same bits on every instruction set. The AVX2 forms serve AVX-512 machines too.

use sandglass_models::Conv;
use sandglass_ops::Isa;

use crate::Multiplier;

/// Output channels that are computed together.
const LANES: usize = 16;
/// Pixels that share loaded weights.
const PIXELS: usize = 4;

/// A convolution's windows on a map of one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub conv: Conv,
    pub input: (usize, usize),
    pub output: (usize, usize),
    /// Places above and to the left that lie outside.
    before: (usize, usize),
}

impl Geometry {
    /// None where the window does not fit.
    pub fn new(conv: Conv, (height, width): (usize, usize)) -> Option<Self> {
        let window = conv.window;
        let output = (window.output_size(height)?, window.output_size(width)?);
        let before = (window.padding(height)?.0, window.padding(width)?.0);
        Some(Self { conv, input: (height, width), output, before })
    }

    pub fn pixels(&self) -> usize {
        self.output.0 * self.output.1
    }

    /// Place in the map of tap (`dy`, `dx`) of output pixel (`y`, `x`); none outside.
    fn tap(&self, (y, x): (usize, usize), (dy, dx): (usize, usize)) -> Option<usize> {
        let stride = self.conv.window.stride;
        let row = (y * stride + dy).checked_sub(self.before.0).filter(|row| *row < self.input.0)?;
        let column = (x * stride + dx).checked_sub(self.before.1).filter(|column| *column < self.input.1)?;
        Some(row * self.input.1 + column)
    }

    fn each_pixel(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (height, width) = self.output;
        (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
    }

    fn taps(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let kernel = self.conv.window.kernel;
        (0..kernel).flat_map(move |dy| (0..kernel).map(move |dx| (dy, dx)))
    }

    /// What each output pixel reads, in the order kh, kw, c; `outside` beyond the map and where a row ends at an odd
    /// place and `even` asks for pairs.
    pub fn rows<T: Copy, U: Copy>(
        &self,
        x: &[T],
        [outside, filler]: [U; 2],
        even: bool,
        of: impl Fn(T) -> U,
    ) -> Vec<U> {
        let channels = self.conv.input;
        if self.conv.window.kernel == 1 && self.conv.window.stride == 1 && !(even && channels % 2 == 1) {
            return x.iter().map(|&x| of(x)).collect();
        }
        let mut rows = Vec::with_capacity(self.pixels() * (self.conv.window.kernel.pow(2) * channels + 1));
        for pixel in self.each_pixel() {
            let start = rows.len();
            for tap in self.taps() {
                match self.tap(pixel, tap) {
                    Some(at) => rows.extend(x[at * channels..][..channels].iter().map(|&x| of(x))),
                    None => rows.extend(std::iter::repeat_n(outside, channels)),
                }
            }
            if even && (rows.len() - start) % 2 == 1 {
                rows.push(filler);
            }
        }
        rows
    }
}

/// The place in a PyTorch weight (OIHW) of output `o` and term `t` in the order kh, kw, c.
fn weight_at(conv: &Conv, o: usize, t: usize) -> usize {
    let area = conv.window.kernel.pow(2);
    (o * conv.input + t % conv.input) * area + t / conv.input
}

/// Dense weights in blocks of lanes, neighbouring terms in pairs.
#[derive(Clone, Debug)]
pub(crate) struct IntDense {
    outputs: usize,
    /// Pairs of a block; all blocks one after another.
    pairs: usize,
    weights: Vec<[[i16; 2]; LANES]>,
}

impl IntDense {
    pub fn new(conv: &Conv, weight: &[i8]) -> Self {
        let terms = conv.window.kernel.pow(2) * conv.input;
        let at = |o: usize, t: usize| match o < conv.output && t < terms {
            true => i16::from(weight[weight_at(conv, o, t)]),
            false => 0,
        };
        let pairs = terms.div_ceil(2);
        let blocks = (0..conv.output.div_ceil(LANES)).flat_map(|block| (0..pairs).map(move |pair| (block, pair)));
        let weights = blocks.map(|(block, pair)| {
            std::array::from_fn(|lane| [0, 1].map(|side| at(block * LANES + lane, 2 * pair + side)))
        });
        Self { outputs: conv.output, pairs, weights: weights.collect() }
    }

    /// For each row its products with all outputs, added to `out` [rows, outputs].
    pub fn multiply(&self, isa: Isa, saturate: bool, rows: &[u8], out: &mut [i32]) {
        #[cfg(target_arch = "x86_64")]
        if isa != Isa::Portable && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe {
                match saturate {
                    true => avx2::multiply::<true>(self, rows, out),
                    false => avx2::multiply::<false>(self, rows, out),
                }
            };
        }
        let _ = isa;
        match saturate {
            true => self.tiles(rows, out, tile::<true>),
            false => self.tiles(rows, out, tile::<false>),
        }
    }

    /// Pairs that 16 bits do not hold, over all rows and outputs.
    pub fn saturated(&self, rows: &[u8]) -> u64 {
        let mut count = 0;
        for row in rows.chunks_exact(2 * self.pairs) {
            for block in self.weights.chunks_exact(self.pairs) {
                for (x, weights) in row.as_chunks::<2>().0.iter().zip(block) {
                    let beyond = |w: &&[i16; 2]| i16::try_from(pair(*x, **w)).is_err();
                    count += weights.iter().filter(beyond).count() as u64;
                }
            }
        }
        count
    }

    #[inline(always)]
    fn tiles(
        &self,
        rows: &[u8],
        out: &mut [i32],
        tile: impl Fn([&[[u8; 2]]; PIXELS], &[[[i16; 2]; LANES]]) -> [[i32; LANES]; PIXELS],
    ) {
        let row = |at: usize| rows[at * 2 * self.pairs..][..2 * self.pairs].as_chunks::<2>().0;
        let count = rows.len() / (2 * self.pairs);
        for first in (0..count).step_by(PIXELS) {
            let used = PIXELS.min(count - first);
            // The last tile computes its last pixel again in place of those that are not there.
            let rows: [&[[u8; 2]]; PIXELS] = std::array::from_fn(|pixel| row(first + pixel.min(used - 1)));
            for (block, weights) in self.weights.chunks_exact(self.pairs).enumerate() {
                let sums = tile(rows, weights);
                let lanes = LANES.min(self.outputs - block * LANES);
                for (pixel, sums) in sums.iter().take(used).enumerate() {
                    let out = &mut out[(first + pixel) * self.outputs + block * LANES..][..lanes];
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = out.wrapping_add(*sum));
                }
            }
        }
    }
}

#[inline(always)]
fn pair(x: [u8; 2], w: [i16; 2]) -> i32 {
    i32::from(x[0]) * i32::from(w[0]) + i32::from(x[1]) * i32::from(w[1])
}

#[inline(always)]
fn tile<const SATURATE: bool>(rows: [&[[u8; 2]]; PIXELS], weights: &[[[i16; 2]; LANES]]) -> [[i32; LANES]; PIXELS] {
    let mut sums = [[0i32; LANES]; PIXELS];
    for (at, weights) in weights.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, &weights) in sums.iter_mut().zip(weights) {
                let pair = pair(row[at], weights);
                let pair = if SATURATE { pair.clamp(i16::MIN.into(), i16::MAX.into()) } else { pair };
                *sum = sum.wrapping_add(pair);
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{IntDense, LANES, PIXELS};

    /// The pair of products is exact in 32 bits (`vpmaddwd`); to saturate it is what clamping it to 16 bits does.
    #[target_feature(enable = "avx2")]
    pub(super) fn multiply<const SATURATE: bool>(dense: &IntDense, rows: &[u8], out: &mut [i32]) {
        dense.tiles(rows, out, |rows, weights| {
            let (low, high) = (_mm256_set1_epi32(i16::MIN.into()), _mm256_set1_epi32(i16::MAX.into()));
            let mut sums = [[_mm256_setzero_si256(); 2]; PIXELS];
            for (at, weights) in weights.iter().enumerate() {
                let start = weights.as_ptr().cast::<__m256i>();
                // SAFETY: a block of weights is 16 pairs of i16, two vectors; loads need no alignment.
                let weights = unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] };
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let [first, second] = row[at].map(i32::from);
                    let x = _mm256_set1_epi32(first | second << 16);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        let mut pair = _mm256_madd_epi16(x, weights);
                        if SATURATE {
                            pair = _mm256_max_epi32(low, _mm256_min_epi32(high, pair));
                        }
                        *sum = _mm256_add_epi32(*sum, pair);
                    }
                }
            }
            sums.map(|sums| {
                let mut lanes = [0; LANES];
                let start = lanes.as_mut_ptr().cast::<__m256i>();
                // SAFETY: 16 lanes of i32 are two vectors; stores need no alignment.
                unsafe {
                    _mm256_storeu_si256(start, sums[0]);
                    _mm256_storeu_si256(start.add(1), sums[1]);
                }
                lanes
            })
        });
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn finish(sums: &[i32], lanes: &[super::Rounding], bounds: (i32, i32, &[i32]), map: &mut [i8]) {
        super::finish_each(sums, lanes, bounds, map);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
    pub(super) fn finish_512(sums: &[i32], lanes: &[super::Rounding], bounds: (i32, i32, &[i32]), map: &mut [i8]) {
        super::finish_each(sums, lanes, bounds, map);
    }

    /// Multiplied and added apart, as the portable loops do it: a fused operation would round otherwise.
    #[target_feature(enable = "avx2")]
    pub(super) fn float(dense: &super::FloatDense, rows: &[f32], out: &mut [f32]) {
        dense.tiles(rows, out, |rows, weights| {
            let mut sums = [[_mm256_setzero_ps(); 2]; PIXELS];
            for (at, weights) in weights.iter().enumerate() {
                let start = weights.as_ptr();
                // SAFETY: a block of weights is 16 f32, two vectors; loads need no alignment.
                let weights = unsafe { [_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))] };
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let x = _mm256_set1_ps(row[at]);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm256_add_ps(*sum, _mm256_mul_ps(x, weights));
                    }
                }
            }
            sums.map(|sums| {
                let mut lanes = [0.0; LANES];
                let start = lanes.as_mut_ptr();
                // SAFETY: 16 lanes of f32 are two vectors; stores need no alignment.
                unsafe {
                    _mm256_storeu_ps(start, sums[0]);
                    _mm256_storeu_ps(start.add(8), sums[1]);
                }
                lanes
            })
        });
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn depthwise<T: super::Number>(
        depthwise: &super::Depthwise<T>,
        x: &[T],
        g: &super::Geometry,
        out: &mut [T::Sum],
    ) {
        depthwise.each(x, g, out);
    }
}

/// Dense f32 weights in blocks of lanes.
#[derive(Clone, Debug)]
pub(crate) struct FloatDense {
    outputs: usize,
    terms: usize,
    weights: Vec<[f32; LANES]>,
}

impl FloatDense {
    pub fn new(conv: &Conv, weight: &[f32]) -> Self {
        let terms = conv.window.kernel.pow(2) * conv.input;
        let blocks = (0..conv.output.div_ceil(LANES)).flat_map(|block| (0..terms).map(move |term| (block, term)));
        let weights = blocks.map(|(block, term)| {
            std::array::from_fn(|lane| match block * LANES + lane {
                o if o < conv.output => weight[weight_at(conv, o, term)],
                _ => 0.0,
            })
        });
        Self { outputs: conv.output, terms, weights: weights.collect() }
    }

    /// As for integers.
    pub fn multiply(&self, isa: Isa, rows: &[f32], out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if isa != Isa::Portable && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe { avx2::float(self, rows, out) };
        }
        let _ = isa;
        self.tiles(rows, out, float_tile);
    }

    #[inline(always)]
    fn tiles(
        &self,
        rows: &[f32],
        out: &mut [f32],
        tile: impl Fn([&[f32]; PIXELS], &[[f32; LANES]]) -> [[f32; LANES]; PIXELS],
    ) {
        let count = rows.len() / self.terms;
        for first in (0..count).step_by(PIXELS) {
            let used = PIXELS.min(count - first);
            let rows: [&[f32]; PIXELS] =
                std::array::from_fn(|pixel| &rows[(first + pixel.min(used - 1)) * self.terms..][..self.terms]);
            for (block, weights) in self.weights.chunks_exact(self.terms).enumerate() {
                let sums = tile(rows, weights);
                let lanes = LANES.min(self.outputs - block * LANES);
                for (pixel, sums) in sums.iter().take(used).enumerate() {
                    let out = &mut out[(first + pixel) * self.outputs + block * LANES..][..lanes];
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                }
            }
        }
    }
}

#[inline(always)]
fn float_tile(rows: [&[f32]; PIXELS], weights: &[[f32; LANES]]) -> [[f32; LANES]; PIXELS] {
    let mut sums = [[0f32; LANES]; PIXELS];
    for (at, weights) in weights.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += row[at] * weight);
        }
    }
    sums
}

/// What a depthwise convolution multiplies: f32, or an activation less its zero point (9 bits) with a weight of 8.
pub(crate) trait Number: Copy {
    type Sum: Copy;
    fn add_product(sum: &mut Self::Sum, x: Self, w: Self);
}

impl Number for f32 {
    type Sum = f32;
    #[inline(always)]
    fn add_product(sum: &mut f32, x: f32, w: f32) {
        *sum += x * w;
    }
}

impl Number for i16 {
    type Sum = i32;
    #[inline(always)]
    fn add_product(sum: &mut i32, x: i16, w: i16) {
        // 255 * 127 fits 16 bits.
        *sum = sum.wrapping_add(i32::from(x.wrapping_mul(w)));
    }
}

/// Depthwise weights, tap by tap.
#[derive(Clone, Debug)]
pub(crate) struct Depthwise<T>(Vec<Vec<T>>);

impl<T: Number> Depthwise<T> {
    pub fn new<W: Copy>(conv: &Conv, weight: &[W], of: impl Fn(W) -> T) -> Self {
        let taps = conv.window.kernel.pow(2);
        let tap = |tap: usize| weight.iter().skip(tap).step_by(taps).map(|&w| of(w)).collect();
        Self((0..taps).map(tap).collect())
    }

    /// Sums over the taps within the map, added to `out`.
    pub fn multiply(&self, isa: Isa, x: &[T], g: &Geometry, out: &mut [T::Sum]) {
        #[cfg(target_arch = "x86_64")]
        if isa != Isa::Portable && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe { avx2::depthwise(self, x, g, out) };
        }
        let _ = isa;
        self.each(x, g, out);
    }

    #[inline(always)]
    fn each(&self, x: &[T], g: &Geometry, out: &mut [T::Sum]) {
        let channels = g.conv.input;
        for (pixel, out) in g.each_pixel().zip(out.chunks_exact_mut(channels)) {
            for (tap, weights) in g.taps().zip(&self.0) {
                let Some(at) = g.tap(pixel, tap) else { continue };
                let x = &x[at * channels..][..channels];
                for ((sum, &x), &w) in out.iter_mut().zip(x).zip(weights) {
                    T::add_product(sum, x, w);
                }
            }
        }
    }
}

/// A [`Multiplier`] below 1, made ready: the second rounding's shift, half of it, and -1 where there is a half at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounding {
    q: i64,
    shift: i64,
    half: i64,
    below: i64,
}

impl Rounding {
    /// None for a multiplier that shifts to the left.
    pub fn of(multiplier: &Multiplier) -> Option<Self> {
        let shift = i64::from(-multiplier.shift).min(62);
        (shift >= 0).then(|| Self {
            q: multiplier.q.into(),
            shift,
            half: (1 << shift) >> 1,
            below: if shift > 0 { -1 } else { 0 },
        })
    }
}

/// What [`Multiplier::apply`] does to each accumulator, and the clamp: `bounds` are the zero point, the lowest step and the
/// highest of each channel.
pub(crate) fn finish(isa: Isa, sums: &[i32], lanes: &[Rounding], bounds: (i32, i32, &[i32]), map: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    {
        let has_512 = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
        };
        if isa == Isa::Avx512 && has_512() {
            // SAFETY: the CPU has what the function is compiled for.
            return unsafe { avx2::finish_512(sums, lanes, bounds, map) };
        }
        if isa != Isa::Portable && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe { avx2::finish(sums, lanes, bounds, map) };
        }
    }
    let _ = isa;
    finish_each(sums, lanes, bounds, map);
}

#[inline(always)]
fn finish_each(sums: &[i32], lanes: &[Rounding], (zero_point, low, high): (i32, i32, &[i32]), map: &mut [i8]) {
    let channels = lanes.len().max(1);
    for (map, sums) in map.chunks_exact_mut(channels).zip(sums.chunks_exact(channels)) {
        for (((map, &sum), lane), &high) in map.iter_mut().zip(sums).zip(lanes).zip(high) {
            let product = (i64::from(sum) * lane.q + (1 << 30)) >> 31;
            // The sign as 0 or -1: halves below zero go down.
            let rounded = (product + lane.half + ((product >> 63) & lane.below)) >> lane.shift;
            let x = (rounded as i32).saturating_add(zero_point);
            *map = x.min(high).max(low) as i8;
        }
    }
}
