//! Gradients on their way into a map: shares added, masks applied, sums taken.

use super::load::{load, store};
use super::{Mask, Producer, TILE};
use crate::lanes::{Lanes, kernel};
use crate::scratch::Shared;

/// A [`Sink`] as its tasks see it: all but the two things that they write.
#[derive(Clone, Copy)]
pub(crate) struct SinkPart<'a> {
    pub skip: Option<(&'a [f32], usize)>,
    pub producer: Option<Producer<'a>>,
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
    /// A sink's work on a chunk whose gradients are already in `out`.
    pub(crate) fn chunk_sink<V>(
        part: SinkPart<'_>, out: Shared<f32>, channels: usize, start: usize, pixels: usize, totals: *mut f64,
    ) {
        SinkWalk::new(part, out, channels, start, totals).advance::<V>(pixels, true);
    }
}
