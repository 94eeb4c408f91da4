//! Pooling: the global average before a classifier, and ResNet's max-pool.

use crate::lanes::kernel;
use crate::map::{Operand, Sink, load, load_operand, store};
use crate::norm::sink_from;
use crate::scratch::{self, Shared};
use crate::shape::{outputs, product};
use crate::{MapShape, OpError, Runtime};

/// `y` [images, channels] = mean over the pixels of `x`.
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn average(runtime: &Runtime, x: Operand<'_>, shape: MapShape, y: &mut [f32]) -> Result<(), OpError> {
    let MapShape { images, area, channels } = shape;
    shape.check("map", x.data.len())?;
    OpError::length("means", images * channels, y.len())?;
    x.check(channels)?;
    let out = Shared::new(y);
    if x.is_plain() {
        // SAFETY: lengths are checked, and an image's mean is its own.
        runtime.run(images, &|image| unsafe {
            let from = x.data[image * area * channels..].as_ptr();
            stored_average(runtime.isa(), from, area, channels, out.at(image * channels));
        });
        return Ok(());
    }
    runtime.run(images, &|image| {
        scratch::for_task(channels.next_multiple_of(16), |scratch| {
            // SAFETY: an image's own row of `y`.
            let row = unsafe { std::slice::from_raw_parts_mut(out.at(image * channels), channels) };
            row.fill(0.0);
            for pixel in image * area..(image + 1) * area {
                // SAFETY: lengths are checked, and the scratch is one pixel.
                unsafe { load_pixel(runtime.isa(), &x, pixel, channels, scratch) };
                row.iter_mut().zip(&*scratch).for_each(|(sum, x)| *sum += x);
            }
            row.iter_mut().for_each(|sum| *sum /= area as f32);
        });
    });
    Ok(())
}

kernel! {
    /// The mean of a map that is stored as it is read, without scratch.
    ///
    /// # Safety
    /// `from` holds `area` pixels, `to` one.
    unsafe fn stored_average<V>(from: *const f32, area: usize, channels: usize, to: *mut f32) {
        for c in (0..channels).step_by(V::N) {
            let n = (channels - c).min(V::N);
            // SAFETY: the caller's.
            unsafe {
                let mut sum = V::splat(0.0);
                for pixel in 0..area {
                    sum = sum.add(load(from.add(pixel * channels + c), n));
                }
                store(sum.div(V::splat(area as f32)), to.add(c), n);
            }
        }
    }
}

kernel! {
    /// # Safety
    /// As for [`load_operand`].
    unsafe fn load_pixel<V>(x: &Operand<'_>, pixel: usize, channels: usize, to: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { load_operand::<V>(x, pixel, 1, channels, to.as_mut_ptr(), 0) }
    }
}

/// The gradient of [`average`]'s input, into a sink. `gradient` is [images, channels].
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn average_backward(runtime: &Runtime, gradient: &[f32], shape: MapShape, sink: Sink<'_>) -> Result<(), OpError> {
    let MapShape { area, channels, .. } = shape;
    MapShape { area: 1, ..shape }.check("gradient", gradient.len())?;
    sink_from(runtime, sink, shape, |image, out| {
        let row = &gradient[image * channels..][..channels];
        for pixel in out.chunks_exact_mut(channels) {
            for (to, g) in pixel.iter_mut().zip(row) {
                *to = g / area as f32;
            }
        }
    })
}

/// A max-pool over square windows with `padding` places around the map that never win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPoolShape {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Side of a window.
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl MaxPoolShape {
    /// 0 where the kernel does not fit.
    pub fn out_height(&self) -> usize {
        outputs(self.height, self.kernel, self.stride, [self.padding; 2])
    }

    /// 0 where the kernel does not fit.
    pub fn out_width(&self) -> usize {
        outputs(self.width, self.kernel, self.stride, [self.padding; 2])
    }

    fn input(&self) -> MapShape {
        MapShape { images: self.images, area: product([self.height, self.width]), channels: self.channels }
    }

    fn output(&self) -> MapShape {
        MapShape { area: product([self.out_height(), self.out_width()]), ..self.input() }
    }

    /// Every window has a pixel of the map: padding alone does not fill one.
    pub(crate) fn check(&self, input: usize, output: usize) -> Result<(), OpError> {
        if self.output().is_empty() || self.padding >= self.kernel {
            return Err(OpError::MaxPool(*self));
        }
        self.input().check("map", input)?;
        self.output().check("maxima", output)
    }

    /// Input pixels of the window of output pixel (`oy`, `ox`), in order.
    pub(crate) fn window(&self, oy: usize, ox: usize) -> impl Iterator<Item = usize> {
        let Self { height, width, kernel, stride, padding, .. } = *self;
        let rows = (oy * stride).saturating_sub(padding)..(oy * stride + kernel).saturating_sub(padding).min(height);
        let columns = (ox * stride).saturating_sub(padding)..(ox * stride + kernel).saturating_sub(padding).min(width);
        rows.flat_map(move |y| columns.clone().map(move |x| y * width + x))
    }

    /// The first of the greatest values, or a NaN if there is one, as in PyTorch.
    fn winner(&self, x: &[f32], oy: usize, ox: usize, c: usize) -> Option<usize> {
        let at = |pixel: usize| x[pixel * self.channels + c];
        self.window(oy, ox).reduce(|best, pixel| if at(pixel) > at(best) || at(pixel).is_nan() { pixel } else { best })
    }
}

/// `y` = the greatest value of each window of `x`, both NHWC.
///
/// # Errors
/// A window that does not fit, or lengths that do not fit the shape.
pub fn max(runtime: &Runtime, shape: &MaxPoolShape, x: &[f32], y: &mut [f32]) -> Result<(), OpError> {
    shape.check(x.len(), y.len())?;
    let (out_width, len, out_len) = (shape.out_width(), shape.input().image_len(), shape.output().image_len());
    let out = Shared::new(y);
    runtime.run(shape.images, &|image| {
        let x = &x[image * len..][..len];
        // SAFETY: an image's own part of `y`, whose length was checked.
        let y = unsafe { std::slice::from_raw_parts_mut(out.at(image * out_len), out_len) };
        for (pixel, y) in y.chunks_exact_mut(shape.channels).enumerate() {
            for (c, y) in y.iter_mut().enumerate() {
                let winner = shape.winner(x, pixel / out_width, pixel % out_width, c);
                *y = winner.map_or(f32::NEG_INFINITY, |pixel| x[pixel * shape.channels + c]);
            }
        }
    });
    Ok(())
}

/// The gradient of [`max`]'s input, into a sink.
///
/// # Errors
/// As for [`max`].
pub fn max_backward(
    runtime: &Runtime,
    shape: &MaxPoolShape,
    x: &[f32],
    gradient: &[f32],
    sink: Sink<'_>,
) -> Result<(), OpError> {
    shape.check(x.len(), gradient.len())?;
    let (out_width, channels) = (shape.out_width(), shape.channels);
    let (len, out_len) = (shape.input().image_len(), shape.output().image_len());
    sink_from(runtime, sink, shape.input(), |image, out| {
        let x = &x[image * len..][..len];
        out.fill(0.0);
        for (pixel, row) in gradient[image * out_len..][..out_len].chunks_exact(channels).enumerate() {
            for (c, g) in row.iter().enumerate() {
                if let Some(winner) = shape.winner(x, pixel / out_width, pixel % out_width, c) {
                    out[winner * channels + c] += g;
                }
            }
        }
    })
}
