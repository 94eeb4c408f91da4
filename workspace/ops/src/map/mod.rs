//! How maps are read and where gradients go: what fuses batch norm and activation into their neighbours.
//!
//! A map is NHWC: pixels one after another, each `channels` floats. Only raw convolution outputs are stored. Batch
//! norm and activation are applied while the next operator loads ([`Operand`]), the backward of batch norm is an
//! affine form applied while its convolution's backward loads ([`Gradient`]), and the mask of the activation and the
//! sums that batch norm needs are taken while a gradient is written ([`Sink`]).

mod load;
mod moments;
mod sink;

pub(crate) use load::{load_gradient, load_operand};
pub(crate) use moments::{MomentWalk, chunk_moments};
pub(crate) use sink::{SinkPart, SinkWalk, chunk_sink};

use load::{load, store};

use crate::lanes::kernel;
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

kernel! {
    /// `to = operand + skip on its first channels`, then clamped: a block's sum, for `pixels` pixels from `start`.
    pub(crate) fn chunk_add<V>(
        operand: &Operand<'_>, skip: &Operand<'_>, first: usize, low: f32, high: f32,
        start: usize, pixels: usize, channels: usize, to: *mut f32, scratch: *mut f32, pitch: usize,
    ) {
        let (low, high) = (V::splat(low), V::splat(high));
        let (main, side) = (scratch, scratch.add(load::BLOCK * pitch));
        let mut pixel = 0;
        while pixel < pixels {
            let block = load::BLOCK.min(pixels - pixel);
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
        scratch::for_task(2 * load::BLOCK * pitch, |scratch| unsafe {
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
