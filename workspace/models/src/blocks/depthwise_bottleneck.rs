//! Bottleneck with a depthwise convolution: C x H x W -> D x H/s x W/s, wide at both ends.
//! MobileNeXt, section 4 (the sandglass against a bottleneck whose 3x3 has merely become depthwise).

use serde::Deserialize;

use super::{Sequential, check, join, shortcut};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

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
    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, stride, reduction } = *self;
        let hidden = input.checked_div(reduction).unwrap_or(0);
        check("depthwise bottleneck", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(g, join(name, "conv"), x);
        conv.flat(Conv::pointwise(input, hidden), Activation::Relu6)?;
        conv.flat(Conv::depthwise(hidden, 3, stride), Activation::Relu6)?;
        conv.flat(Conv::pointwise(hidden, output), Activation::None)?;

        let y = conv.map();
        let added = if stride == 1 && input == output { input } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}
