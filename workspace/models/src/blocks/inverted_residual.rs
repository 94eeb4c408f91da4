//! Inverted residual: C x H x W -> D x H/s x W/s, thin at both ends.
//! MobileNetV2, Table 1; names as in torchvision's `mobilenet_v2`.

use serde::Deserialize;

use super::{Sequential, check, expanded, join};
use crate::{Activation, Block, Conv, ModelError, Shortcut};

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
    pub fn hidden(&self) -> usize {
        expanded(self.input, self.expand_ratio)
    }

    pub fn block(&self, name: &str) -> Result<Block, ModelError> {
        let Self { input, output, stride, expand_ratio } = *self;
        let hidden = self.hidden();
        check("inverted residual", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(join(name, "conv"));
        if expand_ratio != 1.0 {
            conv.nested(Conv::pointwise(input, hidden), Activation::Relu6);
        }
        conv.nested(Conv::depthwise(hidden, 3, stride), Activation::Relu6);
        conv.flat(Conv::pointwise(hidden, output), Activation::None);

        let shortcut = Shortcut::when(stride == 1 && input == output, input);
        Ok(Block::new(name, conv.units(), shortcut))
    }
}
