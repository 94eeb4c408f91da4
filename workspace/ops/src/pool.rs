//! Pooling: the global average before a classifier, and ResNet's max-pool.

use crate::lanes::kernel;
use crate::map::{Operand, Sink};
use crate::norm::sink_from;
use crate::scratch::{self, Shared};
use crate::{OpError, Runtime};

/// `y` [images, channels] = mean over the pixels of `x` [images, area, channels].
pub fn average(
    runtime: &Runtime,
    x: Operand<'_>,
    images: usize,
    area: usize,
    channels: usize,
    y: &mut [f32],
) -> Result<(), OpError> {
    OpError::length("map", images * area * channels, x.data.len())?;
    OpError::length("means", images * channels, y.len())?;
    x.check(channels)?;
    let out = Shared::new(y);
    runtime.run(images, &|image| {
        scratch::for_task(channels.next_multiple_of(16), |scratch| unsafe {
            average_image(
                runtime.isa(),
                &x,
                image * area,
                area,
                channels,
                out.at(image * channels),
                scratch.as_mut_ptr(),
            );
        });
    });
    Ok(())
}

kernel! {
    fn average_image<V>(
        x: &Operand<'_>, start: usize, area: usize, channels: usize, y: *mut f32, scratch: *mut f32,
    ) {
        for c in 0..channels {
            *y.add(c) = 0.0;
        }
        for pixel in 0..area {
            crate::map::load_operand::<V>(x, start + pixel, 1, channels, scratch, 0);
            for c in 0..channels {
                *y.add(c) += *scratch.add(c);
            }
        }
        for c in 0..channels {
            *y.add(c) /= area as f32;
        }
        let _ = V::N;
    }
}

/// The gradient of [`average`]'s input, into a sink.
pub fn average_backward(
    runtime: &Runtime,
    gradient: &[f32],
    images: usize,
    area: usize,
    channels: usize,
    sink: Sink<'_>,
) -> Result<(), OpError> {
    OpError::length("gradient", images * channels, gradient.len())?;
    sink_from(runtime, sink, images, area, channels, |image, out| {
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
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl MaxPoolShape {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Input pixels of the window of output pixel (`oy`, `ox`), in order.
    fn window(&self, oy: usize, ox: usize) -> impl Iterator<Item = usize> {
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
pub fn max(runtime: &Runtime, shape: &MaxPoolShape, x: &[f32], y: &mut [f32]) -> Result<(), OpError> {
    let (area, out_width) = (shape.height * shape.width, shape.out_width());
    let out_len = shape.out_height() * out_width * shape.channels;
    OpError::length("map", shape.images * area * shape.channels, x.len())?;
    OpError::length("maxima", shape.images * out_len, y.len())?;
    let out = Shared::new(y);
    runtime.run(shape.images, &|image| {
        let x = &x[image * area * shape.channels..][..area * shape.channels];
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
pub fn max_backward(
    runtime: &Runtime,
    shape: &MaxPoolShape,
    x: &[f32],
    gradient: &[f32],
    sink: Sink<'_>,
) -> Result<(), OpError> {
    let (area, out_width, channels) = (shape.height * shape.width, shape.out_width(), shape.channels);
    let out_len = shape.out_height() * out_width * channels;
    OpError::length("map", shape.images * area * channels, x.len())?;
    OpError::length("gradient", shape.images * out_len, gradient.len())?;
    sink_from(runtime, sink, shape.images, area, channels, |image, out| {
        let x = &x[image * area * channels..][..area * channels];
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
