//! Batch norm per channel: from sums to factors, in f64. The passes over maps are fused elsewhere ([`crate::map`]).

use crate::conv::add_chunks;
use crate::map::{
    Affine, ChunkSink, Gradient, NormGradient, Operand, Producer, Sink, SinkPart, Sums, chunk_moments, chunk_sink,
    write, write_gradient,
};
use crate::scratch::Shared;
use crate::{Activation, MapShape, Moments, OpError, Runtime};

/// What a batch norm subtracts, divides by, scales and adds: all per channel.
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

    /// A bias: as a batch norm of mean 0 and variance 1 in evaluation mode.
    pub fn bias(bias: &[f32]) -> Self {
        let all = |value: f32| vec![value; bias.len()];
        Self { mean: all(0.0), inv_std: all(1.0), scale: all(1.0), shift: bias.to_vec() }
    }

    /// By the batch's own statistics over `count` values a channel: training mode. The running statistics move towards
    /// them, the variance unbiased, as in PyTorch.
    ///
    /// # Errors
    /// Fewer than two values a channel, or lengths that differ.
    pub fn train(
        moments: &Moments,
        count: usize,
        eps: f32,
        weight: &[f32],
        bias: &[f32],
        running: Running<'_>,
    ) -> Result<Self, OpError> {
        if count < 2 {
            return Err(OpError::OneValuePerChannel);
        }
        let channels = moments.sum.len();
        let Running { mean: running_mean, var: running_var, momentum } = running;
        for found in [moments.square.len(), weight.len(), bias.len(), running_mean.len(), running_var.len()] {
            OpError::length("batch norm", channels, found)?;
        }
        let n = count as f64;
        let mean: Vec<_> = moments.sum.iter().map(|sum| sum / n).collect();
        let var: Vec<_> = moments.square.iter().zip(&mean).map(|(square, mean)| square / n - mean * mean).collect();
        let var: Vec<_> = var.into_iter().map(|var| if var < 0.0 { 0.0 } else { var }).collect();
        let step = f64::from(momentum);
        for c in 0..channels {
            running_mean[c] = (f64::from(running_mean[c]) * (1.0 - step) + mean[c] * step) as f32;
            let unbiased = var[c] * n / (n - 1.0);
            running_var[c] = (f64::from(running_var[c]) * (1.0 - step) + unbiased * step) as f32;
        }
        Ok(Self::new(mean.into_iter(), var.into_iter(), eps, weight, bias))
    }

    /// The batch norm as its output is read.
    pub fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift }
    }
}

/// Running statistics, and the share of a batch's own in what they become.
#[derive(Debug)]
pub struct Running<'a> {
    pub mean: &'a mut [f32],
    pub var: &'a mut [f32],
    pub momentum: f32,
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

/// Sums of a map that is already there.
///
/// # Errors
/// A map of another length.
pub fn moments(runtime: &Runtime, x: &[f32], shape: MapShape) -> Result<Moments, OpError> {
    shape.check("map", x.len())?;
    let MapShape { images, area, channels } = shape;
    let chunks = image_chunks(images);
    let mut totals = vec![0f64; chunks * 2 * channels];
    let shared = Shared::new(&mut totals);
    runtime.run(chunks, &|chunk| {
        let (start, end) = (chunk * images / chunks * area, (chunk + 1) * images / chunks * area);
        // SAFETY: a chunk's own totals, and pixels of a map whose length was checked.
        unsafe {
            let totals = shared.at(chunk * 2 * channels);
            chunk_moments(runtime.isa(), x[start * channels..].as_ptr(), end - start, channels, totals);
        }
    });
    let mut moments = Moments { sum: vec![0.0; channels], square: vec![0.0; channels] };
    add_chunks(&totals, [&mut moments.sum, &mut moments.square]);
    Ok(moments)
}

/// A sink's work where `out` already holds the gradient.
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn sink(runtime: &Runtime, sink: Sink<'_>, shape: MapShape) -> Result<(), OpError> {
    sink_from(runtime, sink, shape, |_, _| ())
}

/// As [`sink`], after `fill(image, its gradient)` has written each image.
pub(crate) fn sink_from(
    runtime: &Runtime,
    sink: Sink<'_>,
    shape: MapShape,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), OpError> {
    shape.check("gradient", sink.out.len())?;
    sink.check(shape.len(), shape.channels)?;
    let MapShape { images, area, channels } = shape;
    let Sink { out, skip, producer } = sink;
    let (producer, sums) = producer.unzip();
    let chunks = image_chunks(images);
    let mut totals = vec![0f64; chunks * 2 * channels];
    let (shared, out) = (Shared::new(&mut totals), Shared::new(out));
    let part = SinkPart { skip, producer };
    let len = shape.image_len();
    runtime.run(chunks, &|chunk| {
        let (first, end) = (chunk * images / chunks, (chunk + 1) * images / chunks);
        for image in first..end {
            // SAFETY: an image of the chunk's own, in a map whose length was checked.
            fill(image, unsafe { std::slice::from_raw_parts_mut(out.at(image * len), len) });
        }
        // SAFETY: the sink was checked; a chunk's own totals.
        unsafe {
            let sink = ChunkSink { part, out, totals: shared.at(chunk * 2 * channels) };
            chunk_sink(runtime.isa(), sink, channels, first * area, (end - first) * area);
        }
    });
    if let Some(Sums { gradient, product }) = sums {
        add_chunks(&totals, [gradient, product]);
    }
    Ok(())
}

/// The gradient of a batch norm's input, and the two sums, for code that does not fuse; `dy` is left as it is.
///
/// # Errors
/// Lengths that do not fit the shape.
pub fn backward(
    runtime: &Runtime,
    norm: &Norm,
    x: &[f32],
    dy: &[f32],
    shape: MapShape,
    training: bool,
) -> Result<BatchNormGradient, OpError> {
    let MapShape { images, area, channels } = shape;
    shape.check("map", x.len())?;
    shape.check("gradient", dy.len())?;
    let mut input = dy.to_vec();
    let (mut bias, mut weight) = (vec![0.0; channels], vec![0.0; channels]);
    let producer = Producer { h: x, mean: &norm.mean, inv_std: &norm.inv_std, mask: None };
    let sums = Sums { gradient: &mut bias, product: &mut weight };
    sink(runtime, Sink { out: &mut input, skip: None, producer: Some((producer, sums)) }, shape)?;
    let factors = match training {
        true => NormFactors::train(norm, &bias, &weight, images * area),
        false => NormFactors::eval(norm),
    };
    write_gradient(runtime, factors.gradient(norm, x, dy), channels, &mut input)?;
    Ok(BatchNormGradient { input, weight, bias })
}

/// Gradients of a batch norm: of its input, as long as that, and of its weight and bias, per channel.
pub struct BatchNormGradient {
    pub input: Vec<f32>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// `y` = `x` normalised and written out, for code that does not fuse.
///
/// # Errors
/// Lengths that differ.
pub fn forward(runtime: &Runtime, norm: &Norm, x: &[f32], y: &mut [f32]) -> Result<(), OpError> {
    let operand = Operand { data: x, affine: Some(norm.affine()), activation: Activation::None };
    write(runtime, operand, None, Activation::None, norm.mean.len(), y)
}
