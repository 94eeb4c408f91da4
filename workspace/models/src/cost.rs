//! What a network costs: parameters, multiply-adds by kind, additions in shortcuts, peak memory.
//!
//! A multiply-add is one multiplication of a convolution or of the classifier; biases, batch norm, activations,
//! pooling and shortcuts have none.

use serde::Serialize;

use crate::{Block, Conv, Linear, ModelError, Network, Shortcut, Unit};

/// For one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Elements of all trained tensors; running statistics are not counted.
    pub params: u64,
    /// All convolutions that are not depthwise.
    pub madds_conv_dense: u64,
    pub madds_depthwise: u64,
    /// The classifier.
    pub madds_linear: u64,
    pub madds_total: u64,
    /// Elements that shortcuts add.
    pub residual_adds: u64,
    /// Largest sum of a layer's input and output elements. A shortcut that is kept meanwhile is not counted.
    pub peak_activation_elems: u64,
}

/// Height and width of a map.
pub type Size = (usize, usize);

impl Cost {
    /// Both, one after the other.
    pub fn plus(self, other: Self) -> Result<Self, ModelError> {
        let sum = |a: u64, b: u64| a.checked_add(b).ok_or(ModelError::Overflow);
        Ok(Self {
            params: sum(self.params, other.params)?,
            madds_conv_dense: sum(self.madds_conv_dense, other.madds_conv_dense)?,
            madds_depthwise: sum(self.madds_depthwise, other.madds_depthwise)?,
            madds_linear: sum(self.madds_linear, other.madds_linear)?,
            madds_total: sum(self.madds_total, other.madds_total)?,
            residual_adds: sum(self.residual_adds, other.residual_adds)?,
            peak_activation_elems: self.peak_activation_elems.max(other.peak_activation_elems),
        })
    }

    fn of_unit(unit: &Unit, input: Size) -> Result<Self, ModelError> {
        let conv = &unit.conv;
        let output = conv_size(conv, input);
        let [out, per_group, height, width] = conv.weight_shape();
        let weights = product(&[out, per_group, height, width])?;
        let madds = checked_mul(weights, product(&[output.0, output.1])?)?;
        let scale_and_bias = product(&[2, out])?;
        let read = product(&[conv.input, input.0, input.1])?;
        let written = product(&[conv.output, output.0, output.1])?;
        Ok(Self {
            params: checked_add(weights, scale_and_bias)?,
            madds_conv_dense: if conv.is_depthwise() { 0 } else { madds },
            madds_depthwise: if conv.is_depthwise() { madds } else { 0 },
            madds_total: madds,
            peak_activation_elems: checked_add(read, written)?,
            ..Self::default()
        })
    }

    pub fn of_linear(linear: &Linear) -> Result<Self, ModelError> {
        let weights = product(&[linear.input, linear.output])?;
        Ok(Self {
            params: checked_add(weights, product(&[linear.output])?)?,
            madds_linear: weights,
            madds_total: weights,
            peak_activation_elems: checked_add(product(&[linear.input])?, product(&[linear.output])?)?,
            ..Self::default()
        })
    }
}

impl Block {
    /// The block's cost on a map of this size, and the size of the map it writes.
    pub fn cost(&self, input: Size) -> Result<(Cost, Size), ModelError> {
        let (mut cost, mut size) = (Cost::default(), input);
        for unit in &self.units {
            cost = cost.plus(Cost::of_unit(unit, size)?)?;
            size = conv_size(&unit.conv, size);
        }
        let added = match &self.shortcut {
            Shortcut::None => 0,
            Shortcut::Identity { channels } => *channels,
            Shortcut::Projection(unit) => {
                cost = cost.plus(Cost::of_unit(unit, input)?)?;
                unit.conv.output
            }
        };
        cost.residual_adds = product(&[added, size.0, size.1])?;
        if let Some(pool) = self.max_pool {
            size = (pool.output_size(size.0), pool.output_size(size.1));
        }
        Ok((cost, size))
    }
}

impl Network {
    /// For one image of this size in pixels.
    pub fn cost(&self, height: usize, width: usize) -> Result<Cost, ModelError> {
        check_input(height, width)?;
        let (mut cost, mut size) = (Cost::default(), (height, width));
        for block in &self.blocks {
            let (of_block, output) = block.cost(size)?;
            (cost, size) = (cost.plus(of_block)?, output);
        }
        cost.plus(Cost::of_linear(&self.classifier)?)
    }
}

/// Side lengths beyond this overflow somewhere in any network.
const MAX_SIDE: usize = 1 << 31;

fn check_input(height: usize, width: usize) -> Result<(), ModelError> {
    if height == 0 || width == 0 {
        return Err(ModelError::EmptyInput { height, width });
    }
    if height > MAX_SIDE || width > MAX_SIDE { Err(ModelError::Overflow) } else { Ok(()) }
}

fn conv_size(conv: &Conv, (height, width): Size) -> Size {
    (conv.output_size(height), conv.output_size(width))
}

fn product(factors: &[usize]) -> Result<u64, ModelError> {
    factors.iter().try_fold(1, |product, &factor| checked_mul(product, factor as u64))
}

fn checked_mul(a: u64, b: u64) -> Result<u64, ModelError> {
    a.checked_mul(b).ok_or(ModelError::Overflow)
}

fn checked_add(a: u64, b: u64) -> Result<u64, ModelError> {
    a.checked_add(b).ok_or(ModelError::Overflow)
}
