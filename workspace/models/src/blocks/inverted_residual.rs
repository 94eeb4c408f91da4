//! Inverted residual: C x H x W -> D x H/s x W/s, thin at both ends.
//! MobileNetV2, Table 1; names as in torchvision's `mobilenet_v2`.

use serde::Deserialize;

use super::{Sequential, check, expanded, join, shortcut};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// 1x1 expansion to `input * expand_ratio` (absent at ratio 1), 3x3 depthwise, linear 1x1 projection.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct InvertedResidual {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub stride: usize,
    pub expand_ratio: f64,
}

impl InvertedResidual {
    /// Channels of the expanded tensor.
    pub fn hidden(&self) -> usize {
        expanded(self.input, self.expand_ratio)
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, stride, expand_ratio } = *self;
        let hidden = self.hidden();
        check("inverted residual", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(g, join(name, "conv"), x);
        if expand_ratio != 1.0 {
            conv.nested(Conv::pointwise(input, hidden), Activation::Relu6)?;
        }
        conv.nested(Conv::depthwise(hidden, 3, stride), Activation::Relu6)?;
        conv.flat(Conv::pointwise(hidden, output), Activation::None)?;

        let y = conv.map();
        let added = if stride == 1 && input == output { input } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}
