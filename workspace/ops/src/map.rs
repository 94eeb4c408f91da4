//! How maps are read and where gradients go: what fuses batch norm and activation into their neighbours.
//!
//! A map is NHWC: pixels one after another, each `channels` floats. Only raw convolution outputs are stored. Batch
//! norm and activation are applied while the next operator loads ([`Operand`]), the backward of batch norm is an
//! affine form applied while its convolution's backward loads ([`Gradient`]), and the mask of the activation and the
//! sums that batch norm needs are taken while a gradient is written ([`Sink`]).

use crate::lanes::{Lanes, kernel};
use crate::scratch::{self, Shared};
use crate::{OpError, Runtime};

/// Pixels whose sums are kept in f32 before they are added to f64 totals. Part of the definition of the result.
pub(crate) const TILE: usize = 64;

/// Per channel `scale * x + shift`, clamped to `low..=high`: batch norm and activation.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub low: f32,
    pub high: f32,
}

/// A map as an operator reads it.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    pub data: &'a [f32],
    pub affine: Option<Affine<'a>>,
}

impl<'a> Operand<'a> {
    pub fn plain(data: &'a [f32]) -> Self {
        Self { data, affine: None }
    }

    /// Kernels read without bounds: every length is checked before.
    pub(crate) fn check(&self, channels: usize) -> Result<(), OpError> {
        self.affine.as_ref().map_or(Ok(()), |affine| affine.check(channels))
    }
}

impl Affine<'_> {
    fn check(&self, channels: usize) -> Result<(), OpError> {
        OpError::length("scale", channels, self.scale.len())?;
        OpError::length("shift", channels, self.shift.len())
    }
}

/// The backward of batch norm, per channel: `a * g + b * (h - mean) + c` is the gradient of the raw value `h`, where
/// `g` is that of the normalised one.
#[derive(Clone, Copy, Debug)]
pub struct NormGradient<'a> {
    pub h: &'a [f32],
    pub mean: &'a [f32],
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub c: &'a [f32],
}

/// The gradient of a convolution's raw output, as its backward reads it.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    pub data: &'a [f32],
    pub norm: Option<NormGradient<'a>>,
}

impl Gradient<'_> {
    pub(crate) fn check(&self, channels: usize) -> Result<(), OpError> {
        let Some(NormGradient { h, mean, a, b, c }) = self.norm else { return Ok(()) };
        OpError::length("batch norm's input", self.data.len(), h.len())?;
        [mean, a, b, c].into_iter().try_for_each(|factors| OpError::length("batch norm", channels, factors.len()))
    }
}

/// Where an activation let the gradient through: strictly between its borders.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// The activation's input is `scale * h + shift`, `h` the producer's raw output.
    Norm(Affine<'a>),
    /// The activation's output is stored.
    Stored { data: &'a [f32], low: f32, high: f32 },
}

/// The batch norm that produced a map: its raw input `h`, and the statistics it was normalised by.
#[derive(Clone, Copy, Debug)]
pub struct Producer<'a> {
    pub h: &'a [f32],
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    pub mask: Option<Mask<'a>>,
}

/// Where the gradient of a map goes: a shortcut's share is added, the activation's mask applied, the result written
/// to `out`, and its sums taken for the batch norm that produced the map.
#[derive(Debug)]
pub struct Sink<'a> {
    pub out: &'a mut [f32],
    /// The gradient that arrives by a shortcut, and how many of the first channels it concerns.
    pub skip: Option<(&'a [f32], usize)>,
    pub producer: Option<Producer<'a>>,
    /// Per channel the sum of the written gradient, and of its product with the normalised value: what is written
    /// when there is a producer. Both `channels` long.
    pub sums: (&'a mut [f64], &'a mut [f64]),
}

impl Sink<'_> {
    pub(crate) fn check(&self, len: usize, channels: usize) -> Result<(), OpError> {
        OpError::length("input's gradient", len, self.out.len())?;
        if let Some((skip, first)) = self.skip {
            OpError::length("shortcut's gradient", len, skip.len())?;
            OpError::length("shortcut's channels", first.min(channels), first)?;
        }
        let Some(Producer { h, mean, inv_std, mask }) = self.producer else { return Ok(()) };
        OpError::length("producer's output", len, h.len())?;
        let (sum, product) = &self.sums;
        for found in [mean.len(), inv_std.len(), sum.len(), product.len()] {
            OpError::length("producer's batch norm", channels, found)?;
        }
        match mask {
            Some(Mask::Norm(affine)) => affine.check(channels),
            Some(Mask::Stored { data, .. }) => OpError::length("activation", len, data.len()),
            None => Ok(()),
        }
    }
}

/// A [`Sink`] as its tasks see it: all but the two things that they write.
#[derive(Clone, Copy)]
pub(crate) struct SinkPart<'a> {
    pub skip: Option<(&'a [f32], usize)>,
    pub producer: Option<Producer<'a>>,
}

/// Pixels handled together, so that per-channel factors are loaded once for all.
const BLOCK: usize = 4;

/// Writes `pixels` pixels of an operand from pixel `start` on, `pitch` floats apart, whole vectors each.
#[inline(always)]
pub(crate) unsafe fn load_operand<V: Lanes>(
    operand: &Operand<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
    pitch: usize,
) {
    unsafe {
        let from = operand.data.as_ptr().add(start * channels);
        let mut pixel = 0;
        while pixel < pixels {
            let block = BLOCK.min(pixels - pixel);
            let (from, to) = (from.add(pixel * channels), to.add(pixel * pitch));
            let mut c = 0;
            while c < channels {
                let n = (channels - c).min(V::N);
                match &operand.affine {
                    None => {
                        for i in 0..block {
                            load::<V>(from.add(i * channels + c), n).store(to.add(i * pitch + c));
                        }
                    }
                    Some(affine) => {
                        let (low, high) = (V::splat(affine.low), V::splat(affine.high));
                        let scale = load::<V>(affine.scale.as_ptr().add(c), n);
                        let shift = load::<V>(affine.shift.as_ptr().add(c), n);
                        for i in 0..block {
                            let x = load::<V>(from.add(i * channels + c), n).fma(scale, shift);
                            high.min(low.max(x)).store(to.add(i * pitch + c));
                        }
                    }
                }
                c += V::N;
            }
            pixel += block;
        }
    }
}

/// As [`load_operand`], for a gradient.
#[inline(always)]
pub(crate) unsafe fn load_gradient<V: Lanes>(
    gradient: &Gradient<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
    pitch: usize,
) {
    unsafe {
        let Some(norm) = &gradient.norm else {
            let plain = Operand { data: gradient.data, affine: None };
            return load_operand::<V>(&plain, start, pixels, channels, to, pitch);
        };
        let from = gradient.data.as_ptr().add(start * channels);
        let raw = norm.h.as_ptr().add(start * channels);
        let mut pixel = 0;
        while pixel < pixels {
            let block = BLOCK.min(pixels - pixel);
            let (from, raw, to) = (from.add(pixel * channels), raw.add(pixel * channels), to.add(pixel * pitch));
            let mut c = 0;
            while c < channels {
                let n = (channels - c).min(V::N);
                let mean = load::<V>(norm.mean.as_ptr().add(c), n);
                let a = load::<V>(norm.a.as_ptr().add(c), n);
                let b = load::<V>(norm.b.as_ptr().add(c), n);
                let shift = load::<V>(norm.c.as_ptr().add(c), n);
                for i in 0..block {
                    let h = load::<V>(raw.add(i * channels + c), n).sub(mean);
                    let g = load::<V>(from.add(i * channels + c), n);
                    g.fma(a, h.fma(b, shift)).store(to.add(i * pitch + c));
                }
                c += V::N;
            }
            pixel += block;
        }
    }
}

#[inline(always)]
unsafe fn load<V: Lanes>(from: *const f32, n: usize) -> V {
    unsafe { if n == V::N { V::load(from) } else { V::load_first(from, n) } }
}

#[inline(always)]
unsafe fn store<V: Lanes>(vector: V, to: *mut f32, n: usize) {
    unsafe { if n == V::N { vector.store(to) } else { vector.store_first(to, n) } }
}

/// Adds a vector's lanes to f64 totals.
#[inline(always)]
unsafe fn add_to<V: Lanes>(vector: V, totals: *mut f64, n: usize) {
    unsafe {
        let mut lanes = [0f32; 16];
        vector.store(lanes.as_mut_ptr());
        for (i, lane) in lanes.iter().enumerate().take(n) {
            *totals.add(i) += f64::from(*lane);
        }
    }
}

/// Adds one tile's sum and sum of squares per channel to `totals` ([2, channels]).
///
/// Squares are taken about the tile's own mean and moved in f64, so that a large mean costs no precision.
#[inline(always)]
unsafe fn tile_moments<V: Lanes>(data: *const f32, pixels: usize, channels: usize, totals: *mut f64) {
    unsafe {
        let share = V::splat(1.0 / pixels as f32);
        let mut c = 0;
        while c < channels {
            let n = (channels - c).min(V::N);
            let from = data.add(c);
            let mut sum = V::splat(0.0);
            for pixel in 0..pixels {
                sum = sum.add(load::<V>(from.add(pixel * channels), n));
            }
            let mean = sum.mul(share);
            let mut square = V::splat(0.0);
            for pixel in 0..pixels {
                let offset = load::<V>(from.add(pixel * channels), n).sub(mean);
                square = offset.fma(offset, square);
            }
            let (mut sums, mut means, mut squares) = ([0f32; 16], [0f32; 16], [0f32; 16]);
            sum.store(sums.as_mut_ptr());
            mean.store(means.as_mut_ptr());
            square.store(squares.as_mut_ptr());
            for i in 0..n {
                let (sum, mean) = (f64::from(sums[i]), f64::from(means[i]));
                *totals.add(c + i) += sum;
                *totals.add(channels + c + i) += f64::from(squares[i]) + mean * (2.0 * sum - pixels as f64 * mean);
            }
            c += V::N;
        }
    }
}

/// Takes moments of a chunk's pixels tile by tile, as they are written.
pub(crate) struct MomentWalk {
    data: *const f32,
    channels: usize,
    done: usize,
    totals: *mut f64,
}

impl MomentWalk {
    /// `data`: the chunk's first pixel; `totals`: [2, channels], zero.
    pub fn new(data: *const f32, channels: usize, totals: *mut f64) -> Self {
        Self { data, channels, done: 0, totals }
    }

    /// `written` pixels of the chunk are there, `last`: all of them.
    #[inline(always)]
    pub unsafe fn advance<V: Lanes>(&mut self, written: usize, last: bool) {
        unsafe {
            while self.done + TILE <= written || (last && self.done < written) {
                let pixels = TILE.min(written - self.done);
                tile_moments::<V>(self.data.add(self.done * self.channels), pixels, self.channels, self.totals);
                self.done += pixels;
            }
        }
    }
}

/// Turns gradients of a chunk that lie in `out` into what a [`Sink`] promises, tile by tile, as they are written.
pub(crate) struct SinkWalk<'a> {
    part: SinkPart<'a>,
    out: Shared<f32>,
    channels: usize,
    /// First pixel of the chunk, and how many are done.
    start: usize,
    done: usize,
    totals: *mut f64,
}

impl<'a> SinkWalk<'a> {
    /// `totals`: [2, channels], zero.
    pub fn new(part: SinkPart<'a>, out: Shared<f32>, channels: usize, start: usize, totals: *mut f64) -> Self {
        Self { part, out, channels, start, done: 0, totals }
    }

    /// `written` pixels of the chunk are there, `last`: all of them.
    #[inline(always)]
    pub unsafe fn advance<V: Lanes>(&mut self, written: usize, last: bool) {
        if self.part.skip.is_none() && self.part.producer.is_none() {
            return;
        }
        unsafe {
            while self.done + TILE <= written || (last && self.done < written) {
                let pixels = TILE.min(written - self.done);
                self.tile::<V>(self.start + self.done, pixels);
                self.done += pixels;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&self, start: usize, pixels: usize) {
        unsafe {
            let channels = self.channels;
            let base = start * channels;
            let out = self.out.at(base);
            let mut c = 0;
            while c < channels {
                let n = (channels - c).min(V::N);
                if let Some((skip, first)) = self.part.skip
                    && c < first
                {
                    let m = (first - c).min(n);
                    for pixel in 0..pixels {
                        let at = out.add(pixel * channels + c);
                        let share = load::<V>(skip.as_ptr().add(base + pixel * channels + c), m);
                        store(load::<V>(at, m).add(share), at, m);
                    }
                }
                if let Some(producer) = &self.part.producer {
                    let h = producer.h.as_ptr().add(base + c);
                    let mean = load::<V>(producer.mean.as_ptr().add(c), n);
                    let inv_std = load::<V>(producer.inv_std.as_ptr().add(c), n);
                    let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
                    match &producer.mask {
                        None => {
                            for pixel in 0..pixels {
                                let g = load::<V>(out.add(pixel * channels + c), n);
                                let h = load::<V>(h.add(pixel * channels), n).sub(mean);
                                sum = sum.add(g);
                                product = h.fma(g, product);
                            }
                        }
                        Some(Mask::Norm(affine)) => {
                            let (low, high) = (V::splat(affine.low), V::splat(affine.high));
                            let scale = load::<V>(affine.scale.as_ptr().add(c), n);
                            let shift = load::<V>(affine.shift.as_ptr().add(c), n);
                            for pixel in 0..pixels {
                                let at = out.add(pixel * channels + c);
                                let h = load::<V>(h.add(pixel * channels), n);
                                let g = h.fma(scale, shift).open(low, high, load::<V>(at, n));
                                store(g, at, n);
                                sum = sum.add(g);
                                product = h.sub(mean).fma(g, product);
                            }
                        }
                        Some(Mask::Stored { data, low, high }) => {
                            let (low, high) = (V::splat(*low), V::splat(*high));
                            let data = data.as_ptr().add(base + c);
                            for pixel in 0..pixels {
                                let at = out.add(pixel * channels + c);
                                let g = load::<V>(data.add(pixel * channels), n).open(low, high, load::<V>(at, n));
                                store(g, at, n);
                                sum = sum.add(g);
                                let h = load::<V>(h.add(pixel * channels), n).sub(mean);
                                product = h.fma(g, product);
                            }
                        }
                    }
                    add_to(sum, self.totals.add(c), n);
                    add_to(product.mul(inv_std), self.totals.add(channels + c), n);
                }
                c += V::N;
            }
        }
    }
}

kernel! {
    /// Moments of a chunk that is already there.
    pub(crate) fn chunk_moments<V>(data: *const f32, pixels: usize, channels: usize, totals: *mut f64) {
        MomentWalk::new(data, channels, totals).advance::<V>(pixels, true);
    }
}

kernel! {
    /// A sink's work on a chunk whose gradients are already in `out`.
    pub(crate) fn chunk_sink<V>(
        part: SinkPart<'_>, out: Shared<f32>, channels: usize, start: usize, pixels: usize, totals: *mut f64,
    ) {
        SinkWalk::new(part, out, channels, start, totals).advance::<V>(pixels, true);
    }
}

kernel! {
    /// `to = operand + skip on its first channels`, then clamped: a block's sum, for `pixels` pixels from `start`.
    pub(crate) fn chunk_add<V>(
        operand: &Operand<'_>, skip: &Operand<'_>, first: usize, low: f32, high: f32,
        start: usize, pixels: usize, channels: usize, to: *mut f32, scratch: *mut f32, pitch: usize,
    ) {
        let (low, high) = (V::splat(low), V::splat(high));
        let (main, side) = (scratch, scratch.add(BLOCK * pitch));
        let mut pixel = 0;
        while pixel < pixels {
            let block = BLOCK.min(pixels - pixel);
            load_operand::<V>(operand, start + pixel, block, channels, main, pitch);
            load_operand::<V>(skip, start + pixel, block, channels, side, pitch);
            for i in 0..block {
                let mut c = 0;
                while c < channels {
                    let n = (channels - c).min(V::N);
                    let at = main.add(i * pitch + c);
                    if c < first {
                        // Only the lanes that the shortcut reaches: adding 0 would turn -0 into 0.
                        let m = (first - c).min(n);
                        store(load::<V>(at, m).add(load::<V>(side.add(i * pitch + c), m)), at, m);
                    }
                    store(high.min(low.max(V::load(at))), to.add((pixel + i) * channels + c), n);
                    c += V::N;
                }
            }
            pixel += block;
        }
    }
}

kernel! {
    /// `to = gradient`, exactly its channels, for `pixels` pixels from `start`.
    fn chunk_gradient<V>(
        gradient: &Gradient<'_>, start: usize, pixels: usize, channels: usize, to: *mut f32, scratch: *mut f32,
    ) {
        for pixel in 0..pixels {
            load_gradient::<V>(gradient, start + pixel, 1, channels, scratch, 0);
            std::ptr::copy_nonoverlapping(scratch, to.add(pixel * channels), channels);
        }
    }
}

/// Pixels of one task where no sum is taken.
const PART: usize = 1024;

/// `to = clamp(operand + skip)`, `skip` on its first channels only: a block's sum.
pub fn write(
    runtime: &Runtime,
    operand: Operand<'_>,
    skip: Option<(Operand<'_>, usize)>,
    (low, high): (f32, f32),
    channels: usize,
    to: &mut [f32],
) -> Result<(), OpError> {
    OpError::length("map", operand.data.len(), to.len())?;
    let (skip, first) = skip.unwrap_or((operand, 0));
    OpError::length("shortcut", operand.data.len(), skip.data.len())?;
    OpError::length("shortcut's channels", first.min(channels), first)?;
    operand.check(channels)?;
    skip.check(channels)?;
    let pixels = to.len().checked_div(channels).unwrap_or(0);
    let pitch = channels.next_multiple_of(16);
    let to = Shared::new(to);
    runtime.run(pixels.div_ceil(PART), &|part| {
        let (start, count) = (part * PART, PART.min(pixels - part * PART));
        scratch::for_task(2 * BLOCK * pitch, |scratch| unsafe {
            let to = to.at(start * channels);
            let scratch = scratch.as_mut_ptr();
            chunk_add(runtime.isa(), &operand, &skip, first, low, high, start, count, channels, to, scratch, pitch);
        });
    });
    Ok(())
}

/// `to = gradient`.
pub fn write_gradient(
    runtime: &Runtime,
    gradient: Gradient<'_>,
    channels: usize,
    to: &mut [f32],
) -> Result<(), OpError> {
    OpError::length("gradient", gradient.data.len(), to.len())?;
    gradient.check(channels)?;
    let pixels = to.len().checked_div(channels).unwrap_or(0);
    let to = Shared::new(to);
    runtime.run(pixels.div_ceil(PART), &|part| {
        let (start, count) = (part * PART, PART.min(pixels - part * PART));
        scratch::for_task(channels.next_multiple_of(16), |scratch| unsafe {
            let to = to.at(start * channels);
            chunk_gradient(runtime.isa(), &gradient, start, count, channels, to, scratch.as_mut_ptr());
        });
    });
    Ok(())
}
