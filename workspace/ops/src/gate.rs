//! Gates: each channel of a map times one value of its image (squeeze-and-excite).

use crate::lanes::kernel;
use crate::map::{Operand, Sink, TILE, add_to, load, load_exactly, load_operand, store};
use crate::norm::sink_from;
use crate::scratch::{self, Shared};
use crate::{MapShape, OpError, Runtime};

/// Values of one task of a forward: for two threads to share a map of an inference, of which each has half in its cache.
const PART: usize = 1 << 14;

/// `to` = each channel of `x` times its image's one value in `by` [images, channels].
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn forward(runtime: &Runtime, x: Operand<'_>, by: &[f32], shape: MapShape, to: &mut [f32]) -> Result<(), OpError> {
    check(x, by, shape)?;
    shape.check("gated map", to.len())?;
    let MapShape { images, area, channels } = shape;
    let pixels_of = (PART / channels.max(1)).max(1);
    let (parts, to) = (area.div_ceil(pixels_of), Shared::new(to));
    runtime.run(images * parts, &|task| {
        let (image, part) = (task / parts, task % parts * pixels_of);
        let (start, pixels) = (image * area + part, pixels_of.min(area - part));
        let by = by[image * channels..].as_ptr();
        // SAFETY: lengths are checked, parts are disjoint, and the runtime has its instructions.
        unsafe { gated(runtime.isa(), &x, by, start, pixels, channels, to.at(start * channels)) };
    });
    Ok(())
}

/// Given the gradient of the gated map: that of `x`, into a sink, and that of `by`, [images, channels].
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn backward(
    runtime: &Runtime,
    gradient: &[f32],
    x: Operand<'_>,
    by: &[f32],
    shape: MapShape,
    sink: Sink<'_>,
) -> Result<Vec<f32>, OpError> {
    check(x, by, shape)?;
    shape.check("gradient", gradient.len())?;
    let MapShape { images, area, channels } = shape;
    let mut sums = vec![0f64; images * channels];
    let shared = Shared::new(&mut sums);
    sink_from(runtime, sink, shape, |image, out| {
        let (first, start) = (image * area, image * channels);
        scratch::for_task(TILE * channels.next_multiple_of(16), |tile| {
            // SAFETY: lengths are checked, an image's sums are its own, and the runtime has its instructions.
            unsafe {
                let sums = shared.at(start);
                let (g, by) = (gradient[first * channels..].as_ptr(), by[start..].as_ptr());
                let image = Image { x: &x, first, g, by, out: out.as_mut_ptr(), sums };
                image_back(runtime.isa(), &image, area, channels, tile.as_mut_ptr());
            }
        });
    })?;
    Ok(sums.into_iter().map(|sum| sum as f32).collect())
}

/// Kernels read without bounds: every length is checked before.
fn check(x: Operand<'_>, by: &[f32], shape: MapShape) -> Result<(), OpError> {
    shape.check("map", x.data.len())?;
    x.check(shape.channels)?;
    OpError::length("gate", shape.images * shape.channels, by.len())
}

kernel! {
    /// # Safety
    /// The operand was checked and has the pixels; `by` has the channels, `to` room for the pixels.
    unsafe fn gated<V>(x: &Operand<'_>, by: *const f32, start: usize, pixels: usize, channels: usize, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            load_exactly::<V>(x, start, pixels, channels, to);
            for c in (0..channels).step_by(V::N) {
                let n = (channels - c).min(V::N);
                let by = load::<V>(by.add(c), n);
                for pixel in 0..pixels {
                    let at = to.add(pixel * channels + c);
                    store(load::<V>(at, n).mul(by), at, n);
                }
            }
        }
    }
}

/// One image of a backward: what it reads, and where its gradients go.
struct Image<'a> {
    x: &'a Operand<'a>,
    /// The image's first pixel of the operand.
    first: usize,
    g: *const f32,
    by: *const f32,
    out: *mut f32,
    sums: *mut f64,
}

kernel! {
    /// `out` = `g` times `by`; to `sums` is added that of `g` times `x` over the pixels, in tiles.
    ///
    /// # Safety
    /// The operand was checked and has the `area` pixels; `g` and `out` have as many, `by` and `sums` the channels, `tile`
    /// room for a tile of whole vectors.
    unsafe fn image_back<V>(image: &Image<'_>, area: usize, channels: usize, tile: *mut f32) {
        let Image { x, first, g, by, out, sums } = *image;
        let pitch = channels.next_multiple_of(16);
        for start in (0..area).step_by(TILE) {
            let pixels = TILE.min(area - start);
            // SAFETY: the caller's.
            unsafe {
                load_operand::<V>(x, first + start, pixels, channels, tile, pitch);
                for c in (0..channels).step_by(V::N) {
                    let n = (channels - c).min(V::N);
                    let by = load::<V>(by.add(c), n);
                    let mut sum = V::splat(0.0);
                    for pixel in 0..pixels {
                        let place = (start + pixel) * channels + c;
                        let g = load::<V>(g.add(place), n);
                        sum = V::load(tile.add(pixel * pitch + c)).fma(g, sum);
                        store(g.mul(by), out.add(place), n);
                    }
                    add_to(sum, sums.add(c), n);
                }
            }
        }
    }
}
