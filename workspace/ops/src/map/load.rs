//! Loading maps into scratch, factors applied.

use super::{Gradient, Operand};
use crate::lanes::Lanes;

/// Pixels handled together, so that per-channel factors are loaded once for all.
pub(super) const BLOCK: usize = 4;

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
pub(super) unsafe fn load<V: Lanes>(from: *const f32, n: usize) -> V {
    unsafe { if n == V::N { V::load(from) } else { V::load_first(from, n) } }
}

#[inline(always)]
pub(super) unsafe fn store<V: Lanes>(vector: V, to: *mut f32, n: usize) {
    unsafe { if n == V::N { vector.store(to) } else { vector.store_first(to, n) } }
}
