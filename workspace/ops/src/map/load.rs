//! Loading maps into scratch, factors applied.

use super::{Affine, Gradient, Operand};
use crate::Activation;
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
    unsafe { copy::<V, false>(operand, start, pixels, channels, to, pitch) }
}

/// As [`load_operand`], but exactly the channels, without a gap: for patches, where the next tap follows at once.
///
/// # Safety
/// As for [`load_operand`], with room for `pixels * channels` floats.
#[inline(always)]
pub(crate) unsafe fn load_exactly<V: Lanes>(
    operand: &Operand<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        match operand.affine {
            Some(_) => copy::<V, true>(operand, start, pixels, channels, to, channels),
            None if operand.activation == Activation::None => {
                copy_floats(operand.data.as_ptr().add(start * channels), to, pixels * channels);
            }
            // All the same to each float: one long pixel, so that few channels do not mean short vectors.
            None => {
                let run = Operand { data: &operand.data[start * channels..], ..*operand };
                copy::<V, true>(&run, 0, 1, pixels * channels, to, 0)
            }
        }
    }
}

/// Copies `n` floats. A patch of an image is a handful of them, for which a call of `memcpy` takes longer than the copy:
/// eights, the last of which overlaps the one before.
///
/// # Safety
/// They can be read and written, and do not overlap.
#[inline(always)]
unsafe fn copy_floats(from: *const f32, to: *mut f32, n: usize) {
    const EIGHT: usize = 8;
    // SAFETY: the caller's.
    unsafe {
        if n < EIGHT {
            return std::ptr::copy_nonoverlapping(from, to, n);
        }
        let mut i = 0;
        while i < n {
            let at = i.min(n - EIGHT);
            let eight = from.add(at).cast::<[f32; EIGHT]>().read_unaligned();
            to.add(at).cast::<[f32; EIGHT]>().write_unaligned(eight);
            i += EIGHT;
        }
    }
}

/// [`load_exactly`] with a pitch, or [`load_operand`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn copy<V: Lanes, const EXACTLY: bool>(
    operand: &Operand<'_>,
    start: usize,
    pixels: usize,
    channels: usize,
    to: *mut f32,
    pitch: usize,
) {
    let activation = operand.activation;
    // SAFETY: pixels and channels are the operand's, and its factors are `channels` long.
    unsafe {
        let from = operand.data.as_ptr().add(start * channels);
        let (low, high) = activation.bounds::<V>();
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
                            put::<V, EXACTLY>(load(from.add(i * channels + c), n), to.add(i * pitch + c), n);
                        }
                    }
                    Some(affine) => {
                        let (scale, shift) = affine.load::<V>(c, n);
                        for i in 0..block {
                            let x = load::<V>(from.add(i * channels + c), n).fma(scale, shift);
                            put::<V, EXACTLY>(high.min(low.max(x)), to.add(i * pitch + c), n);
                        }
                    }
                }
                c += V::N;
            }
            pixel += block;
        }
        // What is rare is a pass of its own over scratch: the loops above stay short.
        let is_plain = operand.affine.is_none() && activation != Activation::None;
        if activation.is_smooth() || is_plain {
            for pixel in 0..pixels {
                let mut c = 0;
                while c < channels {
                    let (at, n) = (to.add(pixel * pitch + c), (channels - c).min(V::N));
                    put::<V, EXACTLY>(activation.apply(load::<V>(at, n)), at, n);
                    c += V::N;
                }
            }
        }
    }
}

/// Writes `n` lanes, or all.
///
/// # Safety
/// `n` floats can be written, or `V::N` of them unless `EXACTLY`.
#[inline(always)]
unsafe fn put<V: Lanes, const EXACTLY: bool>(vector: V, to: *mut f32, n: usize) {
    // SAFETY: the caller's.
    unsafe { if EXACTLY { store(vector, to, n) } else { vector.store(to) } }
}

impl Affine<'_> {
    /// Scale and shift of channels `c..c + n`.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and there are such channels.
    #[inline(always)]
    pub(crate) unsafe fn load<V: Lanes>(&self, c: usize, n: usize) -> (V, V) {
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
    // SAFETY: as in `copy`; `h` is as long as the gradient.
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
pub(crate) unsafe fn load<V: Lanes>(from: *const f32, n: usize) -> V {
    // SAFETY: the caller's.
    unsafe { if n == V::N { V::load(from) } else { V::load_first(from, n) } }
}

/// The reverse of [`load`].
///
/// # Safety
/// `n` floats can be written.
#[inline(always)]
pub(crate) unsafe fn store<V: Lanes>(vector: V, to: *mut f32, n: usize) {
    // SAFETY: the caller's.
    unsafe { if n == V::N { vector.store(to) } else { vector.store_first(to, n) } }
}
