//! Blocks and networks as plain candle: slow, readable, on any device and in any float type.
//!
//! Maps are N x C x H x W. `forward_t(x, true)` trains: batch statistics, running statistics updated in place.
//! There is no dropout, for candle's cannot be seeded; put `candle_nn::Dropout` before the classifier if need be.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::{BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Func, Linear, Module, ModuleT, VarBuilder};

use crate::{Activation, MaxPool, Shortcut};

/// Convolution, batch norm, activation.
#[derive(Clone, Debug)]
pub struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
    activation: Activation,
}

impl Unit {
    pub fn new(unit: &crate::Unit, vb: &VarBuilder) -> Result<Self> {
        let crate::Conv { input, output, kernel, stride, groups } = unit.conv;
        let config = Conv2dConfig { padding: unit.conv.padding(), stride, groups, ..Default::default() };
        let norm = BatchNormConfig {
            eps: f64::from(unit.norm_eps),
            momentum: f64::from(unit.norm_momentum),
            ..Default::default()
        };
        Ok(Self {
            conv: candle_nn::conv2d_no_bias(input, output, kernel, config, vb.pp(&unit.conv_name))?,
            norm: candle_nn::batch_norm(output, norm, vb.pp(&unit.norm_name))?,
            activation: unit.activation,
        })
    }
}

impl ModuleT for Unit {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = conv2d(&self.conv, x)?;
        activate(&batch_norm(&self.norm, &x, train)?, self.activation)
    }
}

/// A chain of units with at most one shortcut around them.
#[derive(Clone, Debug)]
pub struct Block {
    units: Vec<Unit>,
    /// Channels of the input that are added as they are.
    identity: usize,
    projection: Option<Unit>,
    activation: Activation,
    max_pool: Option<MaxPool>,
}

impl Block {
    pub fn new(block: &crate::Block, vb: &VarBuilder) -> Result<Self> {
        let (identity, projection) = match &block.shortcut {
            Shortcut::None => (0, None),
            Shortcut::Identity { channels } => (*channels, None),
            Shortcut::Projection(unit) => (0, Some(Unit::new(unit, vb)?)),
        };
        let units = block.units.iter().map(|unit| Unit::new(unit, vb)).collect::<Result<_>>()?;
        Ok(Self { units, identity, projection, activation: block.activation, max_pool: block.max_pool })
    }

    /// In evaluation mode, as a `Module`.
    pub fn into_module(self) -> Func<'static> {
        candle_nn::func(move |x| self.forward_t(x, false))
    }
}

impl ModuleT for Block {
    fn forward_t(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = input.clone();
        for unit in &self.units {
            x = unit.forward_t(&x, train)?;
        }
        x = match &self.projection {
            Some(projection) => (x + projection.forward_t(input, train)?)?,
            None => residual_add(input, &x, self.identity)?,
        };
        x = activate(&x, self.activation)?;
        match self.max_pool {
            Some(pool) => max_pool(&x, pool),
            None => Ok(x),
        }
    }
}

/// Blocks, global average pooling, classifier.
#[derive(Clone, Debug)]
pub struct Network {
    blocks: Vec<Block>,
    classifier: Linear,
}

impl Network {
    pub fn new(network: &crate::Network, vb: &VarBuilder) -> Result<Self> {
        let blocks = network.blocks.iter().map(|block| Block::new(block, vb)).collect::<Result<_>>()?;
        let crate::Linear { name, input, output } = &network.classifier;
        Ok(Self { blocks, classifier: candle_nn::linear(*input, *output, vb.pp(name))? })
    }

    /// In evaluation mode, as a `Module`.
    pub fn into_module(self) -> Func<'static> {
        candle_nn::func(move |x| self.forward_t(x, false))
    }
}

impl ModuleT for Network {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        self.classifier.forward(&global_avg_pool(&x)?)
    }
}

/// N x C x H x W -> N x C.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.mean(D::Minus1)
}

/// The first `channels` of `x` added to those of `branch`; the others of `branch` pass through.
pub fn residual_add(x: &Tensor, branch: &Tensor, channels: usize) -> Result<Tensor> {
    let all = branch.dim(1)?;
    if channels == 0 {
        return Ok(branch.clone());
    }
    let sum = (x.narrow(1, 0, channels)? + branch.narrow(1, 0, channels)?)?;
    if channels == all { Ok(sum) } else { Tensor::cat(&[&sum, &branch.narrow(1, channels, all - channels)?], 1) }
}

/// Zero gradient at 0 and at 6, as in PyTorch; candle's `clamp` has a half there.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    let inside = (x.gt(0.0)? * x.lt(6.0)?)?;
    inside.where_cond(x, &x.detach().clamp(0.0, 6.0)?)
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x.clone()),
        // candle's own has gradient 1 at 0.
        Activation::Relu => x.gt(0.0)?.where_cond(x, &x.zeros_like()?),
        Activation::Relu6 => relu6(x),
    }
}

/// candle's backward takes the width's remainder at stride 2 to be the height's: a row or column of zeros, which no
/// tap reaches, makes them equal.
pub fn conv2d(conv: &Conv2d, x: &Tensor) -> Result<Tensor> {
    let Conv2dConfig { padding, stride, .. } = *conv.config();
    let (_, _, height, width) = x.dims4()?;
    let (_, _, kernel, _) = conv.weight().dims4()?;
    if height.min(width) + 2 * padding < kernel {
        bail!("a {kernel} x {kernel} kernel does not fit on {height} x {width} with padding {padding}")
    }
    let [below, right] = [height, width].map(|side| (side + 2 * padding - kernel) % stride);
    let x = x.pad_with_zeros(2, 0, right.saturating_sub(below))?;
    conv.forward(&x.pad_with_zeros(3, 0, below.saturating_sub(right))?)
}

/// candle's own, except that training on one value per channel is an error; candle makes the variance NaN.
pub fn batch_norm(norm: &BatchNorm, x: &Tensor, train: bool) -> Result<Tensor> {
    if train && x.elem_count() <= x.dim(1)? {
        bail!("batch norm in training needs more than one value per channel")
    }
    norm.forward_t(x, train)
}

/// The largest of the shifted maps. candle's own has neither padding nor, for overlapping windows, a gradient.
/// Zeros pad it, so it is right after a ReLU only.
fn max_pool(x: &Tensor, pool: MaxPool) -> Result<Tensor> {
    let MaxPool { kernel, stride, padding } = pool;
    let (_, _, height, width) = x.dims4()?;
    let x = x.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
    let places = |first: usize, side: usize| -> Result<Tensor> {
        let places: Vec<u32> = (0..pool.output_size(side)).map(|place| (place * stride + first) as u32).collect();
        Tensor::new(places, x.device())
    };
    let mut largest: Option<Tensor> = None;
    for dy in 0..kernel {
        let rows = x.index_select(&places(dy, height)?, 2)?;
        for dx in 0..kernel {
            let shifted = rows.index_select(&places(dx, width)?, 3)?;
            largest = Some(match largest {
                Some(largest) => largest.maximum(&shifted)?,
                None => shifted,
            });
        }
    }
    largest.map_or_else(|| bail!("a max pool of kernel 0"), Ok)
}
