//! How maps are read and where gradients go: what fuses batch norm and activation into their neighbours.
//!
//! A map is NHWC: pixels one after another, each `channels` floats. Only raw convolution outputs are stored. Batch
//! norm and activation are applied while the next operator loads ([`Operand`]), the backward of batch norm is an
//! affine form applied while its convolution's backward loads ([`Gradient`]), and the mask of the activation and the
//! sums that batch norm needs are taken while a gradient is written ([`Sink`]).

mod finish;
mod load;
mod moments;
mod sink;

pub(crate) use finish::{Finish, FinishWalk};
pub(crate) use load::{load, load_exactly, load_gradient, load_operand, store};
pub(crate) use moments::{MomentWalk, chunk_moments};
pub(crate) use sink::{ChunkSink, SinkPart, SinkWalk, add_to, chunk_sink};

use finish::finish_part;

use crate::lanes::kernel;
use crate::scratch::{self, Shared};
use crate::{Activation, OpError, Runtime};

/// Pixels whose sums are kept in f32 before they are added to f64 totals. Part of the definition of the result: a larger
/// tile loses more of a sum, a smaller one adds to the totals more often.
pub(crate) const TILE: usize = 64;

/// Per channel `scale * x + shift`: a batch norm, or a bias where the scale is 1.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
}

/// A map as an operator reads it: `activation(affine(data))`.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// [pixels, channels] of all images.
    pub data: &'a [f32],
    pub affine: Option<Affine<'a>>,
    pub activation: Activation,
}

impl<'a> Operand<'a> {
    /// As it is stored.
    pub fn plain(data: &'a [f32]) -> Self {
        Self { data, affine: None, activation: Activation::None }
    }

    /// True if it is read as it is stored.
    pub(crate) fn is_plain(&self) -> bool {
        self.affine.is_none() && self.activation == Activation::None
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

/// A map whose first `channels` are added to another's: a shortcut.
#[derive(Clone, Copy, Debug)]
pub struct Skip<'a> {
    pub map: Operand<'a>,
    pub channels: usize,
}

/// The backward of batch norm, per channel: `a * g + b * (h - mean) + c` is the gradient of the raw value `h`, where
/// `g` is that of the normalised one.
#[derive(Clone, Copy, Debug)]
pub struct NormGradient<'a> {
    /// As long as the gradient.
    pub h: &'a [f32],
    pub mean: &'a [f32],
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub c: &'a [f32],
}

/// The gradient of a convolution's raw output, as its backward reads it.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    /// Of the raw output itself, or with `norm` of the normalised one.
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

/// What turns the gradient of an activation's output into that of its input.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// The activation's input is `scale * h + shift`, `h` the producer's raw output.
    Norm { affine: Affine<'a>, activation: Activation },
    /// The activation's output is stored. Not every derivative follows from it:
    /// see [`Activation::is_known_by_output`].
    Stored { data: &'a [f32], activation: Activation },
}

impl Mask<'_> {
    fn activation(&self) -> Activation {
        let (Self::Norm { activation, .. } | Self::Stored { activation, .. }) = self;
        *activation
    }
}

/// The batch norm that produced a map: its raw input `h`, and the statistics it was normalised by.
#[derive(Clone, Copy, Debug)]
pub struct Producer<'a> {
    /// As long as the map.
    pub h: &'a [f32],
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    /// Of the activation that follows it, if there is one.
    pub mask: Option<Mask<'a>>,
}

/// Written for a producer, per channel: sums over the gradient `g` that a [`Sink`] writes.
#[derive(Debug)]
pub struct Sums<'a> {
    /// Of `g`.
    pub gradient: &'a mut [f64],
    /// Of `g` times the normalised value.
    pub product: &'a mut [f64],
}

/// Where the gradient of a map goes: a shortcut's share is added, the activation's mask applied, the result written
/// to `out`, and its sums taken for the batch norm that produced the map.
#[derive(Debug)]
pub struct Sink<'a> {
    /// As long as the map; overwritten.
    pub out: &'a mut [f32],
    /// The gradient that arrives by a shortcut, and how many of the first channels it concerns.
    pub skip: Option<(&'a [f32], usize)>,
    /// None where no batch norm made the map.
    pub producer: Option<(Producer<'a>, Sums<'a>)>,
}

impl<'a> Sink<'a> {
    /// The gradient as it is.
    pub fn plain(out: &'a mut [f32]) -> Self {
        Self { out, skip: None, producer: None }
    }

    pub(crate) fn check(&self, len: usize, channels: usize) -> Result<(), OpError> {
        OpError::length("input's gradient", len, self.out.len())?;
        if let Some((skip, first)) = self.skip {
            OpError::length("shortcut's gradient", len, skip.len())?;
            OpError::length("shortcut's channels", first.min(channels), first)?;
        }
        let Some((Producer { h, mean, inv_std, mask }, sums)) = &self.producer else { return Ok(()) };
        OpError::length("producer's output", len, h.len())?;
        for found in [mean.len(), inv_std.len(), sums.gradient.len(), sums.product.len()] {
            OpError::length("producer's batch norm", channels, found)?;
        }
        match mask {
            Some(Mask::Norm { affine, .. }) => affine.check(channels),
            Some(Mask::Stored { activation, .. }) if !activation.is_known_by_output() => {
                Err(OpError::MaskByOutput(*activation))
            }
            Some(Mask::Stored { data, .. }) => OpError::length("activation", len, data.len()),
            None => Ok(()),
        }
    }
}

kernel! {
    /// `to = gradient`, exactly its channels, for `pixels` pixels from `start`.
    ///
    /// # Safety
    /// The gradient was checked and holds the pixels; `to` has room for them, `scratch` for one, rounded up to 16.
    unsafe fn chunk_gradient<V>(
        gradient: &Gradient<'_>, start: usize, pixels: usize, channels: usize, to: *mut f32, scratch: *mut f32,
    ) {
        for pixel in 0..pixels {
            // SAFETY: the caller's.
            unsafe {
                load_gradient::<V>(gradient, start + pixel, 1, channels, scratch, 0);
                std::ptr::copy_nonoverlapping(scratch, to.add(pixel * channels), channels);
            }
        }
    }
}

/// Pixels of one task where no sum is taken.
const PART: usize = 1024;

/// Calls `part(first pixel, pixels)` for all pixels of a map of `len` floats.
fn in_parts(runtime: &Runtime, len: usize, channels: usize, part: impl Fn(usize, usize) + Sync) -> Result<(), OpError> {
    let pixels = len.checked_div(channels).unwrap_or(0);
    OpError::length("whole pixels", pixels * channels, len)?;
    runtime.run(pixels.div_ceil(PART), &|index| part(index * PART, PART.min(pixels - index * PART)));
    Ok(())
}

/// `to = activation(operand + skip)`, `skip` on its first channels only: a block's sum.
///
/// # Errors
/// Lengths that do not fit each other or `channels`.
pub fn write(
    runtime: &Runtime,
    operand: Operand<'_>,
    skip: Option<Skip<'_>>,
    activation: Activation,
    channels: usize,
    to: &mut [f32],
) -> Result<(), OpError> {
    let finish = Finish { channels, affine: operand.affine, inner: operand.activation, skip, activation };
    OpError::length("map", operand.data.len(), to.len())?;
    finish.check(to.len())?;
    let (len, to) = (to.len(), Shared::new(to));
    in_parts(runtime, len, channels, |start, pixels| {
        let from = operand.data[start * channels..].as_ptr();
        // SAFETY: lengths are checked, parts are disjoint, and the runtime has its instructions.
        unsafe { finish_part(runtime.isa(), &finish, from, start, pixels, to.at(start * channels)) };
    })
}

/// Channels `first..` of `to`, a map of `channels`, become those of `from`, a map of `own`: a part of a concatenation.
///
/// # Errors
/// Lengths that do not fit each other, or channels beyond the last.
pub fn join(
    runtime: &Runtime,
    (from, own): (&[f32], usize),
    (to, channels): (&mut [f32], usize),
    first: usize,
) -> Result<(), OpError> {
    let end = first.saturating_add(own);
    OpError::length("joined channels", end.min(channels), end)?;
    let pixels = to.len().checked_div(channels).unwrap_or(0);
    OpError::length("part of a map", pixels * own, from.len())?;
    let (len, to) = (to.len(), Shared::new(to));
    in_parts(runtime, len, channels, |start, pixels| {
        for pixel in start..start + pixels {
            // SAFETY: channels of a pixel of the part.
            let to = unsafe { std::slice::from_raw_parts_mut(to.at(pixel * channels + first), own) };
            to.copy_from_slice(&from[pixel * own..][..own]);
        }
    })
}

/// `to = gradient`.
///
/// # Errors
/// Lengths that do not fit each other or `channels`.
pub fn write_gradient(
    runtime: &Runtime,
    gradient: Gradient<'_>,
    channels: usize,
    to: &mut [f32],
) -> Result<(), OpError> {
    OpError::length("gradient", gradient.data.len(), to.len())?;
    gradient.check(channels)?;
    let (len, to) = (to.len(), Shared::new(to));
    in_parts(runtime, len, channels, |start, pixels| {
        // SAFETY: as in `write`.
        scratch::for_task(channels.next_multiple_of(16), |scratch| unsafe {
            let to = to.at(start * channels);
            chunk_gradient(runtime.isa(), &gradient, start, pixels, channels, to, scratch.as_mut_ptr());
        });
    })
}
