//! What becomes of a raw map once it is there: batch norm, a shortcut's sum, an activation.

use std::ops::Range;

use super::load::{BLOCK, load, store};
use super::{Affine, Operand, Skip};
use crate::lanes::{Lanes, kernel};
use crate::{Activation, OpError};

/// `activation(inner(affine(x)) + skip on its first channels)`, elementwise; the skip is read at the same pixel.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub channels: usize,
    pub affine: Option<Affine<'a>>,
    /// Before the sum. A block that ends in a sum has none there, but what is read may be any map.
    pub inner: Activation,
    pub skip: Option<Skip<'a>>,
    pub activation: Activation,
}

impl<'a> Finish<'a> {
    /// Of a raw map of `channels`.
    pub fn of(channels: usize, affine: Affine<'a>, skip: Option<Skip<'a>>, activation: Activation) -> Self {
        Self { channels, affine: Some(affine), inner: Activation::None, skip, activation }
    }
}

impl Finish<'_> {
    /// `len`: floats of the map.
    pub fn check(&self, len: usize) -> Result<(), OpError> {
        if let Some(affine) = &self.affine {
            affine.check(self.channels)?;
        }
        let Some(Skip { map, channels }) = &self.skip else { return Ok(()) };
        OpError::length("shortcut", len, map.data.len())?;
        OpError::length("shortcut's channels", (*channels).min(self.channels), *channels)?;
        map.check(self.channels)
    }

    /// Writes `pixels` pixels, from pixel `start` of the whole map on, of which `from` and `to` are the first; the two may
    /// be the same.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; this was checked for the map's length; the pixels can be read and written.
    #[inline(always)]
    pub unsafe fn run<V: Lanes>(&self, from: *const f32, start: usize, pixels: usize, to: *mut f32) {
        let mut done = 0;
        while done < pixels {
            let block = BLOCK.min(pixels - done);
            // SAFETY: the caller's.
            unsafe {
                let (from, to) = (from.add(done * self.channels), to.add(done * self.channels));
                // Where the shortcut does not reach, adding 0 would turn -0 into 0.
                let reached = self.skip.map_or(0, |skip| skip.channels);
                if let Some(skip) = &self.skip {
                    self.span::<V>(from, Some(&skip.map), start + done, block, 0..reached, to);
                }
                self.span::<V>(from, None, start + done, block, reached..self.channels, to);
            }
            done += block;
        }
    }

    /// Channels `span` of `block` pixels, up to [`BLOCK`], from pixel `start` of the map on.
    ///
    /// # Safety
    /// As for [`Finish::run`]; `span` lies within the channels, and a skip's map is as long as the map.
    #[inline(always)]
    unsafe fn span<V: Lanes>(
        &self,
        from: *const f32,
        skip: Option<&Operand<'_>>,
        start: usize,
        block: usize,
        span: Range<usize>,
        to: *mut f32,
    ) {
        let channels = self.channels;
        let mut c = span.start;
        while c < span.end {
            let n = (span.end - c).min(V::N);
            // SAFETY: the pixels are there, and factors are as long as a pixel.
            unsafe {
                let affine = factors::<V>(&self.affine, c, n);
                match skip {
                    None => {
                        for i in 0..block {
                            let place = i * channels + c;
                            let x = value(from.add(place), affine, self.inner, n);
                            store(self.activation.apply(x), to.add(place), n);
                        }
                    }
                    Some(skip) => {
                        let side = factors::<V>(&skip.affine, c, n);
                        let other = skip.data.as_ptr().add(start * channels);
                        for i in 0..block {
                            let place = i * channels + c;
                            let x = value(from.add(place), affine, self.inner, n);
                            let x = x.add(value(other.add(place), side, skip.activation, n));
                            store(self.activation.apply(x), to.add(place), n);
                        }
                    }
                }
            }
            c += V::N;
        }
    }
}

/// Scale and shift of channels `c..c + n`, if there are any.
///
/// # Safety
/// As for [`Affine::load`].
#[inline(always)]
unsafe fn factors<V: Lanes>(affine: &Option<Affine<'_>>, c: usize, n: usize) -> Option<(V, V)> {
    let affine = affine.as_ref()?;
    // SAFETY: the caller's.
    Some(unsafe { affine.load(c, n) })
}

/// `activation(affine(x))` of `n` floats.
///
/// # Safety
/// The CPU has the instructions of `V`, and `n` floats can be read.
#[inline(always)]
unsafe fn value<V: Lanes>(x: *const f32, affine: Option<(V, V)>, activation: Activation, n: usize) -> V {
    // SAFETY: the caller's.
    unsafe {
        let x = load::<V>(x, n);
        match affine {
            Some((scale, shift)) => activation.apply(x.fma(scale, shift)),
            None => activation.apply(x),
        }
    }
}

/// Finishes a chunk's pixels in place, as they are written and still in cache.
pub(crate) struct FinishWalk<'a> {
    finish: Finish<'a>,
    data: *mut f32,
    start: usize,
    done: usize,
}

impl<'a> FinishWalk<'a> {
    /// `data`: the chunk's first pixel, pixel `start` of the map.
    pub fn new(finish: Finish<'a>, data: *mut f32, start: usize) -> Self {
        Self { finish, data, start, done: 0 }
    }

    /// `written` pixels of the chunk are there.
    ///
    /// # Safety
    /// They are, and the safety of [`Finish::run`].
    #[inline(always)]
    pub unsafe fn advance<V: Lanes>(&mut self, written: usize) {
        // SAFETY: the caller's.
        unsafe {
            let data = self.data.add(self.done * self.finish.channels);
            self.finish.run::<V>(data, self.start + self.done, written - self.done, data);
        }
        self.done = written;
    }
}

kernel! {
    /// [`Finish::run`] on a part of a map.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn finish_part<V>(
        finish: &Finish<'_>, from: *const f32, start: usize, pixels: usize, to: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe { finish.run::<V>(from, start, pixels, to) }
    }
}
