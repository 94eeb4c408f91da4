//! Bottleneck with a depthwise convolution: C x H x W -> D x H/s x W/s, wide at both ends.
//! MobileNeXt, section 4 (the sandglass against a bottleneck whose 3x3 has merely become depthwise).

use serde::Deserialize;

use super::{Sequential, check, join};
use crate::{Activation, Block, Conv, ModelError, Shortcut};

/// 1x1 to `input / reduction`, 3x3 depthwise, linear 1x1; no activation after the addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct DepthwiseBottleneck {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub stride: usize,
    pub reduction: usize,
}

impl DepthwiseBottleneck {
    pub fn block(&self, name: &str) -> Result<Block, ModelError> {
        let Self { input, output, stride, reduction } = *self;
        let hidden = input.checked_div(reduction).unwrap_or(0);
        check("depthwise bottleneck", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(join(name, "conv"));
        conv.flat(Conv::pointwise(input, hidden), Activation::Relu6);
        conv.flat(Conv::depthwise(hidden, 3, stride), Activation::Relu6);
        conv.flat(Conv::pointwise(hidden, output), Activation::None);

        let shortcut = Shortcut::when(stride == 1 && input == output, input);
        Ok(Block::new(name, conv.units(), shortcut))
    }
}
