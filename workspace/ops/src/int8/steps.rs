//! What networks in 8 bits do between convolutions, value by value. Maps are bytes `q + 128`.

use super::factors::Factors;
use super::lanes::{Span, byte_kernel};
use super::look_up::Way;
use super::{Grid, Multiplier, Path, Sum};
use crate::pool::MaxPoolShape;
use crate::scratch::Shared;
use crate::shape::product;
use crate::{OpError, Runtime};

/// A factor and what it is brought to: `clamp(x * factor + zero)`.
#[derive(Clone, Copy, Debug)]
pub struct Rescale {
    pub multiplier: Multiplier,
    /// The output's zero point, a byte.
    pub zero: u8,
}

impl Rescale {
    fn apply(self, x: i32) -> u8 {
        self.multiplier.apply(x).saturating_add(self.zero.into()).clamp(0, 255) as u8
    }
}

/// Bytes that are worth a task of their own.
const WORTH: usize = 1 << 14;

/// Runs `part(start, place)` for parts of `out`, each whole pixels of `channels`.
fn parts(runtime: &Runtime, out: &mut [u8], channels: usize, part: &(dyn Fn(usize, &mut [u8]) + Sync)) {
    let pixels = out.len() / channels.max(1);
    let tasks = (out.len() / WORTH).clamp(1, 16).min(pixels.max(1));
    let place = Shared::new(out);
    runtime.run(tasks, &|task| {
        let (start, end) = (task * pixels / tasks * channels, (task + 1) * pixels / tasks * channels);
        // SAFETY: parts do not overlap, and the last ends with the place.
        part(start, unsafe { std::slice::from_raw_parts_mut(place.at(start), end - start) });
    });
}

/// Reals as steps of a map, rounded half away from zero: as `Affine::quantise` of `sandglass_quant` has it, in f64. What is no
/// number becomes 0.
///
/// # Errors
/// Maps that differ in length.
pub fn quantise(runtime: &Runtime, x: &[f32], grid: Grid, out: &mut [u8]) -> Result<(), OpError> {
    OpError::length("output", x.len(), out.len())?;
    let path = Path::of(runtime.isa());
    parts(runtime, out, 1, &|start, out| {
        // SAFETY: a runtime is only made where the CPU has its instructions.
        unsafe { round(path, &x[start..start + out.len()], grid, out) }
    });
    Ok(())
}

byte_kernel! {
    /// # Safety
    /// The CPU has the instructions of `path`.
    unsafe fn round<V>(x: &[f32], grid: Grid, out: &mut [u8]) {
        // A product instead of a quotient. What is no half is 2^-26 away from one at least, being a quotient of two numbers of
        // 24 bits; a half must not fall below itself, and is moved away from 0 by more than f64's rounding. So the nearest is the
        // one that is asked for, and there is no tie.
        let factor = 1.0 / f64::from(grid.scale) * (1.0 + 2f64.powi(-48));
        // From 2^52 on numbers are whole: to add this is to round, and what is below is the byte.
        let whole = 1.5 * 2f64.powi(52);
        let zero = whole + f64::from(grid.zero);
        for (out, &x) in out.iter_mut().zip(x) {
            let steps = f64::from(x) * factor;
            let steps = if steps.is_nan() { 0.0 } else { steps };
            *out = (steps + zero).max(whole).min(whole + 255.0).to_bits() as u8;
        }
    }
}

/// `main` [pixels, channels], to whose first channels those of `skip` [pixels, skip_channels] are added.
///
/// # Errors
/// Maps that differ in pixels.
pub fn add(
    runtime: &Runtime,
    (main, channels): (&[u8], usize),
    (skip, skip_channels): (&[u8], usize),
    sum: &Sum,
    out: &mut [u8],
) -> Result<(), OpError> {
    OpError::length("output", main.len(), out.len())?;
    OpError::length("shortcut", product([main.len() / channels.max(1), skip_channels]), skip.len())?;
    OpError::length("channels of the shortcut", sum.added().max(skip_channels), skip_channels)?;
    out.copy_from_slice(main);
    add_to(runtime, (out, channels), (skip, skip_channels), sum);
    Ok(())
}

/// [`add`] to a map where it lies; both fit each other.
pub(super) fn add_to(
    runtime: &Runtime,
    (map, channels): (&mut [u8], usize),
    (skip, skip_channels): (&[u8], usize),
    sum: &Sum,
) {
    let (channels, skip_channels) = (channels.max(1), skip_channels.max(1));
    parts(runtime, map, channels, &|start, map| {
        let skip = skip[start / channels * skip_channels..].chunks_exact(skip_channels);
        for (main, skip) in map.chunks_exact_mut(channels).zip(skip) {
            let (reached, beyond) = main.split_at_mut(sum.added().min(channels));
            reached.iter_mut().zip(skip).for_each(|(main, &skip)| *main = sum.of(*main, Some(skip)));
            beyond.iter_mut().for_each(|main| *main = sum.of(*main, None));
        }
    });
}

/// A gate: each channel of `x` times its one value in `by`, in one requantisation of the product. `zeros` are those of both.
///
/// # Errors
/// Maps that differ in channels.
pub fn gate(
    runtime: &Runtime,
    (x, by): (&[u8], &[u8]),
    zeros: (u8, u8),
    to: Rescale,
    out: &mut [u8],
) -> Result<(), OpError> {
    OpError::length("output", x.len(), out.len())?;
    OpError::length("gate", by.len().max(1), by.len())?;
    OpError::length("gated map", x.len().next_multiple_of(by.len().max(1)), x.len())?;
    let (path, factors) = (Path::of(runtime.isa()), Factors::splat(to.multiplier, 255 * 255));
    parts(runtime, out, by.len(), &|start, out| match &factors {
        // SAFETY: a runtime is only made where the CPU has its instructions; both maps are whole pixels of the gate's channels.
        Some(factors) => unsafe { gated(path, &x[start..start + out.len()], by, zeros, (factors, to.zero), out) },
        None => {
            for ((out, &x), &by) in out.iter_mut().zip(&x[start..]).zip(by.iter().cycle()) {
                *out = to.apply((i32::from(x) - i32::from(zeros.0)) * (i32::from(by) - i32::from(zeros.1)));
            }
        }
    });
    Ok(())
}

byte_kernel! {
    /// A block of channels over all pixels, then the next: a block's gate stays where it is.
    ///
    /// # Safety
    /// The CPU has the instructions of `path`; `x` and `out` are as long as each other, whole pixels of the channels of `by`.
    unsafe fn gated<V>(x: &[u8], by: &[u8], zeros: (u8, u8), to: (&Factors, u8), out: &mut [u8]) {
        let channels = by.len();
        // SAFETY: the caller's; factors that are splat are as many as any vector has lanes.
        unsafe {
            let (of_x, of_by) = (V::splat_short(zeros.0.into()), V::splat_short(zeros.1.into()));
            let (zero, factors) = (V::splat_short(to.1.into()), to.0.at::<V, false>(0));
            for c in (0..channels).step_by(2 * V::N) {
                let n = (channels - c).min(2 * V::N);
                // Two pixels at a time.
                let by = V::load_bytes::<2>(by.as_ptr().add(c), Span { pitch: 0, count: 2, n }, zeros.1);
                let by = V::unpack(V::sub_short(V::shorts::<2>(by)[0], of_by));
                for at in (c..x.len()).step_by(2 * channels) {
                    let count = if at + channels < x.len() { 2 } else { 1 };
                    let span = Span { pitch: channels, count, n };
                    let mut shorts = V::shorts::<2>(V::load_bytes::<2>(x.as_ptr().add(at), span, zeros.0));
                    for pixel in 0..2 {
                        let x = V::unpack(V::sub_short(shorts[pixel], of_x));
                        let one = x[0].times_above(by[0]).scale::<false>(&factors);
                        let other = x[1].times_above(by[1]).scale::<false>(&factors);
                        shorts[pixel] = V::add_short(V::pack([one, other]), zero);
                    }
                    V::store_bytes::<2>(V::bytes::<2>(shorts), out.as_mut_ptr().add(at), span);
                }
            }
        }
    }
}

/// An activation that is no clamp: what each byte becomes.
///
/// # Errors
/// Maps that differ in length.
pub fn look_up(runtime: &Runtime, x: &[u8], table: &[u8; 256], out: &mut [u8]) -> Result<(), OpError> {
    OpError::length("output", x.len(), out.len())?;
    let way = Way::of(runtime.isa());
    parts(runtime, out, 1, &|start, out| {
        // SAFETY: a runtime is only made where the CPU has its instructions.
        unsafe { way.run(&x[start..start + out.len()], table, out) }
    });
    Ok(())
}

/// The mean of each channel of one map [pixels, channels], whose zero point is `zero`; `to` divides by the pixels.
///
/// # Errors
/// A map of other channels.
pub fn average(x: &[u8], zero: u8, to: Rescale, out: &mut [u8]) -> Result<(), OpError> {
    let channels = out.len().max(1);
    OpError::length("map", x.len().next_multiple_of(channels), x.len())?;
    let nothing = i32::from(zero).wrapping_mul((x.len() / channels) as i32);
    // A few channels at a time, whose sums need no memory.
    for (block, out) in out.chunks_mut(64).enumerate() {
        let mut sums = [0i32; 64];
        for pixel in x.chunks_exact(channels) {
            for (sum, &q) in sums.iter_mut().zip(&pixel[block * 64..][..out.len()]) {
                *sum = sum.wrapping_add(i32::from(q));
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = to.apply(sum.wrapping_sub(nothing)));
    }
    Ok(())
}

/// The largest of each window; what lies outside never wins.
///
/// # Errors
/// Maps that do not fit the shape.
pub fn max_pool(shape: &MaxPoolShape, x: &[u8], out: &mut [u8]) -> Result<(), OpError> {
    shape.check(x.len(), out.len())?;
    let MaxPoolShape { height, width, channels, .. } = *shape;
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
        let (image, y, ox) = (pixel / (out_height * out_width), pixel / out_width % out_height, pixel % out_width);
        out.fill(0);
        for read in shape.window(y, ox) {
            let from = &x[(image * height * width + read) * channels..];
            out.iter_mut().zip(from).for_each(|(largest, &x)| *largest = x.max(*largest));
        }
    }
    Ok(())
}
