//! Batch norm per channel: from sums to factors, in f64. The passes over maps are fused elsewhere ([`crate::map`]).

use crate::map::{Affine, Gradient, NormGradient, Operand, Producer, Sink, SinkPart, chunk_moments, chunk_sink};
use crate::scratch::Shared;
use crate::{Moments, OpError, Runtime};

/// What a batch norm divides by and adds: all per channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Norm {
    pub mean: Vec<f32>,
    pub inv_std: Vec<f32>,
    /// `weight * inv_std`.
    pub scale: Vec<f32>,
    /// `bias - mean * scale`.
    pub shift: Vec<f32>,
}

impl Norm {
    fn new(
        mean: impl Iterator<Item = f64>,
        var: impl Iterator<Item = f64>,
        eps: f32,
        weight: &[f32],
        bias: &[f32],
    ) -> Self {
        let mut norm = Self::default();
        for ((mean, var), (weight, bias)) in mean.zip(var).zip(weight.iter().zip(bias)) {
            let inv_std = 1.0 / (var + f64::from(eps)).sqrt();
            let scale = f64::from(*weight) * inv_std;
            norm.mean.push(mean as f32);
            norm.inv_std.push(inv_std as f32);
            norm.scale.push(scale as f32);
            norm.shift.push((f64::from(*bias) - mean * scale) as f32);
        }
        norm
    }

    /// By running statistics: evaluation mode.
    pub fn eval(running_mean: &[f32], running_var: &[f32], eps: f32, weight: &[f32], bias: &[f32]) -> Self {
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        Self::new(wide(running_mean).into_iter(), wide(running_var).into_iter(), eps, weight, bias)
    }

    /// By the batch's own statistics over `count` values a channel: training mode. The running statistics move by
    /// `momentum` towards them, the variance unbiased, as in PyTorch.
    pub fn train(
        moments: &Moments,
        count: usize,
        eps: f32,
        weight: &[f32],
        bias: &[f32],
        momentum: f32,
        running_mean: &mut [f32],
        running_var: &mut [f32],
    ) -> Result<Self, OpError> {
        if count < 2 {
            return Err(OpError::OneValuePerChannel);
        }
        let n = count as f64;
        let mean: Vec<_> = moments.sum.iter().map(|sum| sum / n).collect();
        let var: Vec<_> = moments.square.iter().zip(&mean).map(|(square, mean)| square / n - mean * mean).collect();
        let var: Vec<_> = var.into_iter().map(|var| if var < 0.0 { 0.0 } else { var }).collect();
        let step = f64::from(momentum);
        for c in 0..mean.len() {
            running_mean[c] = (f64::from(running_mean[c]) * (1.0 - step) + mean[c] * step) as f32;
            let unbiased = var[c] * n / (n - 1.0);
            running_var[c] = (f64::from(running_var[c]) * (1.0 - step) + unbiased * step) as f32;
        }
        Ok(Self::new(mean.into_iter(), var.into_iter(), eps, weight, bias))
    }

    /// The batch norm as its output is read, clamped to `low..=high`.
    pub fn affine(&self, low: f32, high: f32) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift, low, high }
    }
}

/// The backward of a batch norm: factors of [`NormGradient`]. The gradients of bias and weight are the two sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormFactors {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
}

impl NormFactors {
    /// In training mode, from the sums over `count` values of `g` and of `g` times the normalised value.
    pub fn train(norm: &Norm, sum: &[f64], product: &[f64], count: usize) -> Self {
        let n = count as f64;
        let mut factors = Self { a: norm.scale.clone(), ..Self::default() };
        for c in 0..sum.len() {
            let scale = f64::from(norm.scale[c]);
            factors.b.push((-scale * f64::from(norm.inv_std[c]) * product[c] / n) as f32);
            factors.c.push((-scale * sum[c] / n) as f32);
        }
        factors
    }

    /// In evaluation mode, where the statistics are constants.
    pub fn eval(norm: &Norm) -> Self {
        let zeros = vec![0.0; norm.scale.len()];
        Self { a: norm.scale.clone(), b: zeros.clone(), c: zeros }
    }

    /// As a convolution's backward reads it: `h` is the batch norm's input.
    pub fn gradient<'a>(&'a self, norm: &'a Norm, h: &'a [f32], g: &'a [f32]) -> Gradient<'a> {
        let norm = NormGradient { h, mean: &norm.mean, a: &self.a, b: &self.b, c: &self.c };
        Gradient { data: g, norm: Some(norm) }
    }
}

/// Images of a map that one task sums over, by shape alone.
pub(crate) fn image_chunks(images: usize) -> usize {
    images.min(16)
}

/// Sums of a map [images, area, channels] that is already there.
pub fn moments(runtime: &Runtime, x: &[f32], images: usize, area: usize, channels: usize) -> Result<Moments, OpError> {
    OpError::length("map", images * area * channels, x.len())?;
    let chunks = image_chunks(images);
    let mut totals = vec![0f64; chunks * 2 * channels];
    let shared = Shared::new(&mut totals);
    runtime.run(chunks, &|chunk| {
        let (start, end) = (chunk * images / chunks * area, (chunk + 1) * images / chunks * area);
        let totals = unsafe { shared.at(chunk * 2 * channels) };
        unsafe { chunk_moments(runtime.isa(), x[start * channels..].as_ptr(), end - start, channels, totals) };
    });
    let mut moments = Moments { sum: vec![0.0; channels], square: vec![0.0; channels] };
    crate::conv::add_chunks(&totals, channels, &mut moments.sum, &mut moments.square);
    Ok(moments)
}

/// A sink's work where `out` [images, area, channels] already holds the gradient.
pub fn sink(runtime: &Runtime, sink: Sink<'_>, images: usize, area: usize, channels: usize) -> Result<(), OpError> {
    sink_from(runtime, sink, images, area, channels, |_, _| ())
}

/// As [`sink`], after `fill(image, its gradient)` has written each image.
pub(crate) fn sink_from(
    runtime: &Runtime,
    sink: Sink<'_>,
    images: usize,
    area: usize,
    channels: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), OpError> {
    sink.check(images * area * channels, channels)?;
    let Sink { out, skip, producer, sums } = sink;
    let chunks = image_chunks(images);
    let mut totals = vec![0f64; chunks * 2 * channels];
    let (shared, out) = (Shared::new(&mut totals), Shared::new(out));
    let part = SinkPart { skip, producer };
    let len = area * channels;
    runtime.run(chunks, &|chunk| {
        let (first, end) = (chunk * images / chunks, (chunk + 1) * images / chunks);
        for image in first..end {
            fill(image, unsafe { std::slice::from_raw_parts_mut(out.at(image * len), len) });
        }
        unsafe {
            let totals = shared.at(chunk * 2 * channels);
            chunk_sink(runtime.isa(), part, out, channels, first * area, (end - first) * area, totals);
        }
    });
    if producer.is_some() {
        crate::conv::add_chunks(&totals, channels, sums.0, sums.1);
    }
    Ok(())
}

/// The gradient of a batch norm's input, and the two sums, for code that does not fuse: `dy` is [images, area,
/// channels] and is left as it is.
pub fn backward(
    runtime: &Runtime,
    norm: &Norm,
    x: &[f32],
    dy: &[f32],
    images: usize,
    area: usize,
    training: bool,
) -> Result<BatchNormGradient, OpError> {
    let channels = norm.mean.len();
    OpError::length("map", images * area * channels, x.len())?;
    OpError::length("gradient", x.len(), dy.len())?;
    let mut input = dy.to_vec();
    let (mut bias, mut weight) = (vec![0.0; channels], vec![0.0; channels]);
    let producer = Producer { h: x, mean: &norm.mean, inv_std: &norm.inv_std, mask: None };
    let place = Sink { out: &mut input, skip: None, producer: Some(producer), sums: (&mut bias, &mut weight) };
    sink(runtime, place, images, area, channels)?;
    let factors = match training {
        true => NormFactors::train(norm, &bias, &weight, images * area),
        false => NormFactors::eval(norm),
    };
    crate::map::write_gradient(runtime, factors.gradient(norm, x, dy), channels, &mut input)?;
    Ok(BatchNormGradient { input, weight, bias })
}

/// Gradients of a batch norm.
pub struct BatchNormGradient {
    pub input: Vec<f32>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// `y = operand`, normalised, activated and written out: see [`crate::map::write`].
pub fn forward(runtime: &Runtime, norm: &Norm, x: &[f32], low: f32, high: f32, y: &mut [f32]) -> Result<(), OpError> {
    let operand = Operand { data: x, affine: Some(norm.affine(low, high)) };
    crate::map::write(runtime, operand, None, (f32::NEG_INFINITY, f32::INFINITY), norm.mean.len(), y)
}
