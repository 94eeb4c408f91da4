//! Sums of values and squares, for batch norm.

use super::TILE;
use super::load::load;
use crate::lanes::{Lanes, kernel};

/// Adds one tile's sum and sum of squares per channel to `totals` ([2, channels]).
///
/// Squares are taken about the tile's own mean and moved in f64, so that a large mean costs no precision.
///
/// # Safety
/// The CPU has the instructions of `V`; `data` holds `pixels` pixels of `channels` floats.
#[inline(always)]
unsafe fn tile_moments<V: Lanes>(data: *const f32, pixels: usize, channels: usize, totals: *mut f64) {
    // SAFETY: the caller's; no vector has more than 16 lanes.
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

    /// `written` pixels of the chunk are there, `last`: all of them. Tiles begin with the chunk, whatever is written at once.
    ///
    /// # Safety
    /// They are there, and the CPU has the instructions of `V`.
    #[inline(always)]
    pub unsafe fn advance<V: Lanes>(&mut self, written: usize, last: bool) {
        // SAFETY: the caller's.
        unsafe {
            while self.done + TILE <= written || (last && self.done < written) {
                let pixels = TILE.min(written - self.done);
                tile_moments::<V>(self.data.add(self.done * self.channels), pixels, self.channels, self.totals);
                self.done += pixels;
            }
        }
    }
}

kernel! {
    /// Moments of a chunk that is already there.
    ///
    /// # Safety
    /// `data` holds the pixels, `totals` is [2, channels].
    pub(crate) unsafe fn chunk_moments<V>(data: *const f32, pixels: usize, channels: usize, totals: *mut f64) {
        // SAFETY: the caller's.
        unsafe { MomentWalk::new(data, channels, totals).advance::<V>(pixels, true) }
    }
}
