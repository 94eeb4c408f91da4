//! Single layers in integers, one image at a time: what golden cases check, and what networks are made of. Maps are HWC.

use sandglass_models::{Activation, Conv};
use sandglass_ops::Isa;

use crate::arith::round;
use crate::kernel::{Depthwise, Geometry, IntDense, Rounding, finish};
use crate::net::smooth;
use crate::{Affine, Multiplier, QuantError};

/// Sums of so many products of 8 bits, and a bias of 30 bits, fit 32 bits.
const MAX_TERMS: usize = 33_000;

/// A convolution, or a linear layer as a pointwise one, up to its accumulators.
#[derive(Clone, Debug)]
pub struct IntConv {
    conv: Conv,
    bias: Vec<i32>,
    /// Of each output.
    weight_sums: Vec<i32>,
    weights: Weights,
}

#[derive(Clone, Debug)]
enum Weights {
    Dense(IntDense),
    Depthwise(Depthwise<i16>),
}

impl IntConv {
    /// `weight` in PyTorch's order (OIHW).
    ///
    /// # Errors
    /// Another number of weights or biases, too many terms for 32 bits.
    pub fn new(name: &str, conv: Conv, weight: &[i8], bias: &[i32]) -> Result<Self, QuantError> {
        let length = |what: &str, expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => Err(QuantError::Length { what: format!("{name}.{what}"), expected, found }),
        };
        length("weight", conv.weight_shape().iter().product(), weight.len())?;
        length("bias", conv.output, bias.len())?;
        let terms = weight.len() / conv.output.max(1);
        if terms > MAX_TERMS {
            return Err(QuantError::Accumulator { layer: name.to_owned(), terms });
        }
        let weights = match conv.is_depthwise() {
            true => Weights::Depthwise(Depthwise::new(&conv, weight, i16::from)),
            false => Weights::Dense(IntDense::new(&conv.ungrouped(), &conv.ungroup(weight))),
        };
        let weight_sums = weight.chunks_exact(terms.max(1)).map(|of| of.iter().map(|&w| i32::from(w)).sum());
        let conv = conv.ungrouped();
        Ok(Self { conv, bias: bias.to_vec(), weight_sums: weight_sums.collect(), weights })
    }

    /// `bias + sum of (x - zero_point) * w` [height, width, output] of one image; real zeros lie around the map.
    ///
    /// `saturate`: products of terms 2i and 2i + 1 of a dense layer, with x as q + 128, are added in 16 bits that
    /// saturate. None where the window does not fit.
    pub fn accumulate(
        &self,
        isa: Isa,
        x: &[i8],
        size: (usize, usize),
        zero_point: i32,
        saturate: bool,
    ) -> Option<Vec<i32>> {
        let g = Geometry::new(self.conv, size).filter(|g| x.len() == g.input.0 * g.input.1 * self.conv.input)?;
        let mut sums = Vec::with_capacity(g.pixels() * self.conv.output);
        match &self.weights {
            Weights::Dense(dense) => {
                // As bytes from 0 on, x is 128 more, and so is its zero point.
                let zero = (zero_point + 128) as u8;
                let start = self.bias.iter().zip(&self.weight_sums);
                let start = start.map(|(bias, sum)| bias.wrapping_sub(i32::from(zero).wrapping_mul(*sum)));
                let start: Vec<i32> = start.collect();
                (0..g.pixels()).for_each(|_| sums.extend(&start));
                dense.multiply(isa, saturate, &bytes(&g, x, zero), &mut sums);
            }
            Weights::Depthwise(depthwise) => {
                (0..g.pixels()).for_each(|_| sums.extend(&self.bias));
                let x: Vec<i16> = x.iter().map(|&x| i16::from(x) - zero_point as i16).collect();
                depthwise.multiply(isa, &x, &g, &mut sums);
            }
        }
        Some(sums)
    }

    /// How many pairs of products 16 bits do not hold, of how many; none of a depthwise layer.
    pub fn saturated(&self, x: &[i8], size: (usize, usize), zero_point: i32) -> (u64, u64) {
        let Weights::Dense(dense) = &self.weights else { return (0, 0) };
        let Some(g) = Geometry::new(self.conv, size) else { return (0, 0) };
        let rows = bytes(&g, x, (zero_point + 128) as u8);
        (dense.saturated(&rows), (rows.len() / 2 * self.conv.output) as u64)
    }
}

/// Rows of `q + 128`, of even length.
fn bytes(g: &Geometry, x: &[i8], zero: u8) -> Vec<u8> {
    g.rows(x, [zero, 0], true, |x| x.cast_unsigned() ^ 0x80)
}

/// From accumulators to a map: a factor a channel, the zero point, and the clamp that an activation is.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// One a channel.
    pub multipliers: Vec<Multiplier>,
    pub zero_point: i32,
    /// In steps of the map, as `high`.
    pub low: i32,
    /// One a channel.
    pub high: Vec<i32>,
}

impl Finish {
    /// One map of accumulators [pixels, channels].
    pub fn apply(&self, isa: Isa, sums: &[i32]) -> Vec<i8> {
        let mut map = vec![0; sums.len()];
        let lanes: Option<Vec<Rounding>> = self.multipliers.iter().map(Rounding::of).collect();
        match lanes {
            Some(lanes) => finish(isa, sums, &lanes, (self.zero_point, self.low, &self.high), &mut map),
            // A factor of 1 or more, which no trained layer has.
            None => {
                let channels = self.multipliers.len().max(1);
                for (map, sums) in map.chunks_exact_mut(channels).zip(sums.chunks_exact(channels)) {
                    let lanes = sums.iter().zip(&self.multipliers).zip(&self.high);
                    for (map, ((&sum, multiplier), &high)) in map.iter_mut().zip(lanes) {
                        *map = clamp(multiplier.apply(sum), self.zero_point, (self.low, high));
                    }
                }
            }
        }
        map
    }
}

fn clamp(x: i32, zero_point: i32, (low, high): (i32, i32)) -> i8 {
    x.saturating_add(zero_point).min(high).max(low) as i8
}

/// A residual sum: both sides with 20 bits of headroom at twice the larger scale.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    main: (Affine, Multiplier),
    skip: (Affine, Multiplier),
    output: (i32, Multiplier),
}

impl Sum {
    const HEADROOM: i32 = 20;

    /// Of maps with these scales.
    pub fn new(main: Affine, skip: Affine, output: Affine) -> Self {
        let twice = 2.0 * f64::from(main.scale.max(skip.scale));
        let side = |of: Affine| (of, Multiplier::of(f64::from(of.scale) / twice));
        let back = twice / (f64::from(output.scale) * f64::from(1 << Self::HEADROOM));
        Self { main: side(main), skip: side(skip), output: (output.zero_point, Multiplier::of(back)) }
    }

    /// `main` [pixels, channels], to whose first `added` channels those of `skip` [pixels, skip_channels] are added.
    pub fn apply(
        &self,
        (main, channels): (&[i8], usize),
        (skip, skip_channels): (&[i8], usize),
        added: usize,
        (low, high): (i32, i32),
    ) -> Vec<i8> {
        let side = |q: i8, (affine, multiplier): (Affine, Multiplier)| {
            multiplier.apply((i32::from(q) - affine.zero_point) << Self::HEADROOM)
        };
        let mut map = Vec::with_capacity(main.len());
        for (main, skip) in main.chunks_exact(channels.max(1)).zip(skip.chunks_exact(skip_channels.max(1))) {
            for (at, &q) in main.iter().enumerate() {
                let skip = skip.get(at).filter(|_| at < added).map_or(0, |&q| side(q, self.skip));
                let sum = self.output.1.apply(side(q, self.main).wrapping_add(skip));
                map.push(clamp(sum, self.output.0, (low, high)));
            }
        }
        map
    }
}

/// A gate: each channel times one value, in one requantisation of the product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    from: i32,
    by: i32,
    output: (i32, Multiplier),
}

impl Product {
    /// Of maps with these scales.
    pub fn new(from: Affine, by: Affine, output: Affine) -> Self {
        let real = f64::from(from.scale) * f64::from(by.scale) / f64::from(output.scale);
        Self { from: from.zero_point, by: by.zero_point, output: (output.zero_point, Multiplier::of(real)) }
    }

    /// `map` is [pixels, channels]; `by` has a value for each channel.
    pub fn apply(&self, map: &[i8], by: &[i8]) -> Vec<i8> {
        let (zero_point, multiplier) = self.output;
        let of = |(&q, &by): (&i8, &i8)| {
            let product = (i32::from(q) - self.from) * (i32::from(by) - self.by);
            clamp(multiplier.apply(product), zero_point, (-128, 127))
        };
        map.iter().zip(by.iter().cycle()).map(of).collect()
    }
}

/// An activation that is no clamp: what each of the 256 inputs becomes, from -128 on.
pub fn table(activation: Activation, input: Affine, output: Affine) -> [i8; 256] {
    let of = |at: usize| output.quantise(smooth(activation, input.dequantise((at as i32 - 128) as i8).into()) as f32);
    std::array::from_fn(of)
}

/// The mean of each channel of a map [pixels, channels].
pub fn global_pool(map: &[i8], channels: usize, input: Affine, output: Affine) -> Vec<i8> {
    let pixels = map.len() / channels.max(1);
    let real = f64::from(input.scale) / (pixels as f64 * f64::from(output.scale));
    let multiplier = Multiplier::of(real);
    let of = |sum: i32| {
        let x = sum.wrapping_sub((pixels as i32).wrapping_mul(input.zero_point));
        clamp(multiplier.apply(x), output.zero_point, (-128, 127))
    };
    channel_sums(map, channels).into_iter().map(of).collect()
}

/// The mean of each channel where input and output share scale and zero point: rounded once.
pub fn global_pool_same(map: &[i8], channels: usize) -> Vec<i8> {
    let pixels = map.len() / channels.max(1);
    channel_sums(map, channels).into_iter().map(|sum| round(f64::from(sum) / pixels as f64) as i8).collect()
}

fn channel_sums(map: &[i8], channels: usize) -> Vec<i32> {
    let mut sums = vec![0i32; channels];
    for pixel in map.chunks_exact(channels.max(1)) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &q)| *sum = sum.wrapping_add(i32::from(q)));
    }
    sums
}
