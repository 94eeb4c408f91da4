//! Loading maps into scratch, factors applied.

use super::{Affine, Gradient, Operand};
use crate::lanes::Lanes;

/// Pixels handled together, so that per-channel factors are loaded once for all.
pub(super) const BLOCK: usize = 4;

/// Writes `pixels` pixels of an operand from pixel `start` on, `pitch` floats apart, whole vectors each: kernels read
/// scratch without a tail, and what lies beyond the channels is theirs to ignore.
///
/// # Safety
/// The CPU has the instructions of `V`. The operand was [checked](Operand::check) for `channels` and holds the pixels. `to`
/// has room for `pixels` pixels `pitch` floats apart, the last with its channels rounded up to 16.
#[inline(always)]
pub(crate) unsafe fn load_operand<V: Lanes>(
    operand: &Operand<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
    pitch: usize,
) {
    // SAFETY: the caller's; a vector that begins at a channel ends within the channels rounded up to 16.
    unsafe { read(operand, start, pixels, channels, |pixel, c, vector: V, _| vector.store(to.add(pixel * pitch + c))) }
}

/// As [`load_operand`] for one pixel, but exactly its channels: for patches, where the next tap follows at once.
///
/// # Safety
/// As for [`load_operand`], with room for `channels` floats.
#[inline(always)]
pub(crate) unsafe fn load_exactly<V: Lanes>(operand: &Operand<'_>, pixel: usize, channels: usize, to: *mut f32) {
    // SAFETY: the caller's.
    unsafe { read(operand, pixel, 1, channels, |_, c, vector: V, n| store(vector, to.add(c), n)) }
}

/// Calls `put(pixel, channel, vector, lanes of it)` for all of some pixels.
///
/// # Safety
/// The CPU has the instructions of `V`; the operand was checked for `channels` and holds the pixels.
#[inline(always)]
unsafe fn read<V: Lanes>(
    operand: &Operand<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    put: impl Fn(usize, usize, V, usize),
) {
    let activation = operand.activation;
    // SAFETY: pixels and channels are the operand's, and its factors are `channels` long.
    unsafe {
        let from = operand.data.as_ptr().add(start * channels);
        let mut first = 0;
        while first < pixels {
            let block = first..pixels.min(first + BLOCK);
            let mut c = 0;
            while c < channels {
                let n = (channels - c).min(V::N);
                match &operand.affine {
                    None => {
                        for pixel in block.clone() {
                            let x = load::<V>(from.add(pixel * channels + c), n);
                            put(pixel, c, activation.apply(x), n);
                        }
                    }
                    Some(affine) => {
                        let (scale, shift) = affine.load::<V>(c, n);
                        for pixel in block.clone() {
                            let x = load::<V>(from.add(pixel * channels + c), n).fma(scale, shift);
                            put(pixel, c, activation.apply(x), n);
                        }
                    }
                }
                c += V::N;
            }
            first += BLOCK;
        }
    }
}

impl Affine<'_> {
    /// Scale and shift of channels `c..c + n`.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and there are such channels.
    #[inline(always)]
    pub(super) unsafe fn load<V: Lanes>(&self, c: usize, n: usize) -> (V, V) {
        // SAFETY: the caller's.
        unsafe { (load(self.scale.as_ptr().add(c), n), load(self.shift.as_ptr().add(c), n)) }
    }
}

/// As [`load_operand`], for a gradient.
///
/// # Safety
/// As for [`load_operand`].
#[inline(always)]
pub(crate) unsafe fn load_gradient<V: Lanes>(
    gradient: &Gradient<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
    pitch: usize,
) {
    let Some(norm) = &gradient.norm else {
        // SAFETY: the caller's.
        return unsafe { load_operand::<V>(&Operand::plain(gradient.data), start, pixels, channels, to, pitch) };
    };
    // SAFETY: as in `read`; `h` is as long as the gradient.
    unsafe {
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

/// `n` lanes, `n` up to `V::N`. Masks cost where they are not needed: almost all vectors are whole.
///
/// # Safety
/// The CPU has the instructions of `V`, and `n` floats can be read.
#[inline(always)]
pub(super) unsafe fn load<V: Lanes>(from: *const f32, n: usize) -> V {
    // SAFETY: the caller's.
    unsafe { if n == V::N { V::load(from) } else { V::load_first(from, n) } }
}

/// The reverse of [`load`].
///
/// # Safety
/// `n` floats can be written.
#[inline(always)]
pub(super) unsafe fn store<V: Lanes>(vector: V, to: *mut f32, n: usize) {
    // SAFETY: the caller's.
    unsafe { if n == V::N { vector.store(to) } else { vector.store_first(to, n) } }
}
