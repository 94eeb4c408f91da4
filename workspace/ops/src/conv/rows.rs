//! Rows of depthwise convolutions, forward and backward.
//!
//! All maps here are scratch: rows of pixels, each pixel `pitch` floats (the channels, rounded up to whole vectors),
//! with zeros where the map is padded. A tap is one (row, column) of the kernel, in row-major order.
//!
//! Safety, of all functions here: the CPU has the instructions of `V`; a row has a pixel for every tap of every output (its
//! padding included), each of `pitch` floats; weights and sums are [K * K, pitch].

use crate::lanes::Lanes;

/// Output pixels that share loads of the same weights: as many sums as hide the latency of a multiply-add, few enough for
/// 16 registers.
const BLOCK: usize = 4;

/// One output row: `to[x] = sum over taps of rows[ky][x * S + kx] * weights[ky, kx]`.
/// `to` has pixels of `channels` floats, the last vector cut: it is a map, where the next pixel follows at once.
///
/// # Safety
/// See the head of this file; `to` has room for `width` pixels.
#[inline(always)]
pub(crate) unsafe fn convolve<V: Lanes, const K: usize, const S: usize>(
    rows: &[*const f32; K],
    weights: *const f32,
    pitch: usize,
    channels: usize,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's; a vector at channel `c` ends inside `pitch`.
    unsafe {
        let mut c = 0;
        while c < channels {
            let last = (channels - c).min(V::N);
            let rows = rows.map(|row| row.add(c));
            let (weights, to) = (weights.add(c), to.add(c));
            let mut x = 0;
            while x + BLOCK <= width {
                pixels::<V, K, S, BLOCK>(&rows, weights, pitch, channels, last, x, to);
                x += BLOCK;
            }
            while x < width {
                pixels::<V, K, S, 1>(&rows, weights, pitch, channels, last, x, to);
                x += 1;
            }
            c += V::N;
        }
    }
}

/// `B` output pixels from `x` on, for one vector of channels, of which `last` lanes are written.
///
/// # Safety
/// As for [`convolve`].
#[inline(always)]
unsafe fn pixels<V: Lanes, const K: usize, const S: usize, const B: usize>(
    rows: &[*const f32; K],
    weights: *const f32,
    pitch: usize,
    channels: usize,
    last: usize,
    x: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [V::splat(0.0); B];
        for ky in 0..K {
            let row = rows[ky].add(x * S * pitch);
            for kx in 0..K {
                let weight = V::load(weights.add((ky * K + kx) * pitch));
                for b in 0..B {
                    sums[b] = V::load(row.add((b * S + kx) * pitch)).fma(weight, sums[b]);
                }
            }
        }
        for b in 0..B {
            let at = to.add((x + b) * channels);
            if last == V::N { sums[b].store(at) } else { sums[b].store_first(at, last) }
        }
    }
}

/// Sums over one row: `sums[ky, kx] += sum over x of rows[ky][x * S + kx] * other[x]`; `sums` is [K * K, pitch].
///
/// One row of the kernel at a time: K sums stay in registers, where K * K would not fit AVX2's sixteen.
///
/// # Safety
/// See the head of this file; `other` has `width` pixels.
#[inline(always)]
pub(crate) unsafe fn correlate<V: Lanes, const K: usize, const S: usize>(
    rows: &[*const f32; K],
    other: *const f32,
    pitch: usize,
    channels: usize,
    width: usize,
    sums: *mut f32,
) {
    // SAFETY: the caller's; a vector at channel `c` ends inside `pitch`.
    unsafe {
        let mut c = 0;
        while c < channels {
            for ky in 0..K {
                let sums = sums.add(ky * K * pitch + c);
                let row = rows[ky].add(c);
                let mut taps = [V::splat(0.0); K];
                for kx in 0..K {
                    taps[kx] = V::load(sums.add(kx * pitch));
                }
                let other = other.add(c);
                let mut x = 0;
                while x + BLOCK <= width {
                    products::<V, K, S, BLOCK>(row, other, pitch, x, &mut taps);
                    x += BLOCK;
                }
                while x < width {
                    products::<V, K, S, 1>(row, other, pitch, x, &mut taps);
                    x += 1;
                }
                for kx in 0..K {
                    taps[kx].store(sums.add(kx * pitch));
                }
            }
            c += V::N;
        }
    }
}

/// `B` pixels of one row of [`correlate`], in order.
///
/// # Safety
/// As for [`correlate`].
#[inline(always)]
unsafe fn products<V: Lanes, const K: usize, const S: usize, const B: usize>(
    row: *const f32,
    other: *const f32,
    pitch: usize,
    x: usize,
    taps: &mut [V; K],
) {
    // SAFETY: the caller's.
    unsafe {
        for b in 0..B {
            let factor = V::load(other.add((x + b) * pitch));
            for kx in 0..K {
                taps[kx] = V::load(row.add(((x + b) * S + kx) * pitch)).fma(factor, taps[kx]);
            }
        }
    }
}

/// One pixel: `to = sum over terms of values * weights`, each term a pair of pointers to pixels.
///
/// # Safety
/// The CPU has the instructions of `V`; terms point at pixels of whole vectors; `to` has room for `channels` floats.
#[inline(always)]
pub(crate) unsafe fn gather<V: Lanes>(terms: &[(*const f32, *const f32)], channels: usize, to: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let mut c = 0;
        while c < channels {
            let mut sum = V::splat(0.0);
            for (value, weight) in terms {
                sum = V::load(value.add(c)).fma(V::load(weight.add(c)), sum);
            }
            let last = (channels - c).min(V::N);
            if last == V::N {
                sum.store(to.add(c))
            } else {
                sum.store_first(to.add(c), last)
            }
            c += V::N;
        }
    }
}
