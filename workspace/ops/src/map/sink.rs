//! Gradients on their way into a map: shares added, masks applied, sums taken.

use std::ops::Range;

use super::load::{load, store};
use super::{Mask, Producer, TILE};
use crate::Activation;
use crate::lanes::{Lanes, kernel};
use crate::scratch::Shared;

/// A [`Sink`](super::Sink) as its tasks see it: what they only read.
#[derive(Clone, Copy)]
pub(crate) struct SinkPart<'a> {
    pub skip: Option<(&'a [f32], usize)>,
    pub producer: Option<Producer<'a>>,
}

/// Where one chunk's gradient goes.
#[derive(Clone, Copy)]
pub(crate) struct ChunkSink<'a> {
    pub part: SinkPart<'a>,
    /// The whole map's gradient.
    pub out: Shared<f32>,
    /// The chunk's sums, [2, channels], zero at first.
    pub totals: *mut f64,
}

/// Adds a vector's lanes to f64 totals.
///
/// # Safety
/// `totals` holds `n` numbers.
#[inline(always)]
pub(crate) unsafe fn add_to<V: Lanes>(vector: V, totals: *mut f64, n: usize) {
    let mut lanes = [0f32; 16];
    // SAFETY: no vector has more than 16 lanes; the totals are the caller's.
    unsafe {
        vector.store(lanes.as_mut_ptr());
        for (i, lane) in lanes.iter().enumerate().take(n) {
            *totals.add(i) += f64::from(*lane);
        }
    }
}

/// Turns gradients of a chunk that lie in `out` into what a [`Sink`](super::Sink) promises, tile by tile, as they are
/// written and still in cache.
pub(crate) struct SinkWalk<'a> {
    sink: ChunkSink<'a>,
    channels: usize,
    /// First pixel of the chunk, and how many are done.
    start: usize,
    done: usize,
}

impl<'a> SinkWalk<'a> {
    pub fn new(sink: ChunkSink<'a>, channels: usize, start: usize) -> Self {
        Self { sink, channels, start, done: 0 }
    }

    /// `written` pixels of the chunk are there, `last`: all of them.
    ///
    /// # Safety
    /// They are; the CPU has the instructions of `V`; the sink was [checked](super::Sink) for the map.
    #[inline(always)]
    pub unsafe fn advance<V: Lanes>(&mut self, written: usize, last: bool) {
        let SinkPart { skip, producer } = &self.sink.part;
        if skip.is_none() && producer.is_none() {
            return;
        }
        while self.done + TILE <= written || (last && self.done < written) {
            let pixels = TILE.min(written - self.done);
            // SAFETY: the caller's.
            unsafe { self.tile::<V>(self.start + self.done, pixels) };
            self.done += pixels;
        }
    }

    /// `pixels` pixels from pixel `start` of the map on, all channels.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; the sink was [checked](super::Sink) for the map, which has the pixels; they are
    /// this task's.
    #[inline(always)]
    unsafe fn tile<V: Lanes>(&self, start: usize, pixels: usize) {
        let channels = self.channels;
        let mut c = 0;
        while c < channels {
            let n = (channels - c).min(V::N);
            // SAFETY: the caller's.
            unsafe {
                if let Some((skip, reached)) = self.sink.part.skip
                    && c < reached
                {
                    self.add_skip::<V>(skip, start, pixels, c, n.min(reached - c));
                }
                if let Some(producer) = &self.sink.part.producer {
                    self.mask_and_sum::<V>(producer, start, pixels, c, n);
                }
            }
            c += V::N;
        }
    }

    /// Adds the shortcut's share to channels `c..c + n`.
    ///
    /// # Safety
    /// As for [`SinkWalk::tile`], `c + n` is at most the map's channels, and `n` at most `V::N`.
    #[inline(always)]
    unsafe fn add_skip<V: Lanes>(&self, skip: &[f32], start: usize, pixels: usize, c: usize, n: usize) {
        for pixel in start..start + pixels {
            let place = pixel * self.channels + c;
            // SAFETY: the shortcut's map is as long as `out`.
            unsafe {
                let at = self.sink.out.at(place);
                store(load::<V>(at, n).add(load::<V>(skip.as_ptr().add(place), n)), at, n);
            }
        }
    }

    /// Turns the gradients of channels `c..c + n` by a derivative that is more than a mask.
    ///
    /// # Safety
    /// As for [`SinkWalk::add_skip`].
    #[inline(always)]
    unsafe fn turn<V: Lanes>(
        &self,
        producer: &Producer<'_>,
        mask: &Mask<'_>,
        pixels: Range<usize>,
        c: usize,
        n: usize,
    ) {
        for pixel in pixels {
            let place = pixel * self.channels + c;
            // SAFETY: the producer's maps are as long as `out`, its factors as long as a pixel.
            unsafe {
                let at = self.sink.out.at(place);
                let g = load::<V>(at, n);
                let g = match mask {
                    Mask::Norm { affine, activation } => {
                        let (scale, shift) = affine.load::<V>(c, n);
                        let x = load::<V>(producer.h.as_ptr().add(place), n).fma(scale, shift);
                        activation.backward(x, g)
                    }
                    Mask::Stored { data, activation } => {
                        activation.backward_by_output(load::<V>(data.as_ptr().add(place), n), g)
                    }
                };
                store(g, at, n);
            }
        }
    }

    /// Masks channels `c..c + n`, and adds what is left to the totals.
    ///
    /// # Safety
    /// As for [`SinkWalk::add_skip`], and no other task has the chunk's totals.
    #[inline(always)]
    unsafe fn mask_and_sum<V: Lanes>(&self, producer: &Producer<'_>, start: usize, pixels: usize, c: usize, n: usize) {
        let (base, step) = (start * self.channels + c, self.channels);
        // SAFETY: the producer's maps are as long as `out`, its factors as long as a pixel.
        unsafe {
            let (out, h) = (self.sink.out.at(base), producer.h.as_ptr().add(base));
            let mean = load::<V>(producer.mean.as_ptr().add(c), n);
            let inv_std = load::<V>(producer.inv_std.as_ptr().add(c), n);
            let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
            // What is left of the mask, if it does more than clamp, is nothing.
            let mask = match &producer.mask {
                Some(mask) if mask.activation().is_smooth() => {
                    self.turn::<V>(producer, mask, start..start + pixels, c, n);
                    None
                }
                Some(mask) if mask.activation() == Activation::None => None,
                mask => mask.as_ref(),
            };
            // One loop for each kind of mask: what they load differs.
            match mask {
                None => {
                    for pixel in 0..pixels {
                        let (g, h) = (load::<V>(out.add(pixel * step), n), load::<V>(h.add(pixel * step), n));
                        sum = sum.add(g);
                        product = h.sub(mean).fma(g, product);
                    }
                }
                Some(Mask::Norm { affine, activation }) => {
                    let (scale, shift) = affine.load::<V>(c, n);
                    let (low, high) = activation.bounds::<V>();
                    for pixel in 0..pixels {
                        let at = out.add(pixel * step);
                        let h = load::<V>(h.add(pixel * step), n);
                        let g = h.fma(scale, shift).open(low, high, load::<V>(at, n));
                        store(g, at, n);
                        sum = sum.add(g);
                        product = h.sub(mean).fma(g, product);
                    }
                }
                Some(Mask::Stored { data, activation }) => {
                    let data = data.as_ptr().add(base);
                    let (low, high) = activation.bounds::<V>();
                    for pixel in 0..pixels {
                        let at = out.add(pixel * step);
                        let g = load::<V>(data.add(pixel * step), n).open(low, high, load::<V>(at, n));
                        store(g, at, n);
                        sum = sum.add(g);
                        product = load::<V>(h.add(pixel * step), n).sub(mean).fma(g, product);
                    }
                }
            }
            add_to(sum, self.sink.totals.add(c), n);
            add_to(product.mul(inv_std), self.sink.totals.add(self.channels + c), n);
        }
    }
}

kernel! {
    /// A sink's work on a chunk whose gradients are already in `out`.
    ///
    /// # Safety
    /// The sink was checked for the map, which has the pixels.
    pub(crate) unsafe fn chunk_sink<V>(sink: ChunkSink<'_>, channels: usize, start: usize, pixels: usize) {
        // SAFETY: the caller's.
        unsafe { SinkWalk::new(sink, channels, start).advance::<V>(pixels, true) }
    }
}
