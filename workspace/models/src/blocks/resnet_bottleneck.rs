//! Classic bottleneck: C x H x W -> 4P x H/s x W/s, wide at both ends.
//! ResNet, Figure 5, with the stride in the 3x3 convolution; names as in torchvision's `Bottleneck`.

use serde::Deserialize;

use super::{check, join};
use crate::{Activation, Block, Conv, ModelError, Shortcut, Unit};

/// 1x1 to `planes`, 3x3, linear 1x1 to `4 * planes`; ReLU after the addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct ResNetBottleneck {
    #[serde(rename = "in")]
    pub input: usize,
    pub planes: usize,
    pub stride: usize,
    /// A 1x1 convolution in the shortcut, needed wherever the shape changes.
    pub downsample: bool,
}

impl ResNetBottleneck {
    pub fn output(&self) -> usize {
        self.planes.saturating_mul(4)
    }

    pub fn block(&self, name: &str) -> Result<Block, ModelError> {
        let Self { input, planes, stride, downsample } = *self;
        let output = self.output();
        check("bottleneck", &[input, planes, output], stride)?;
        if !downsample && (stride != 1 || input != output) {
            return Err(ModelError::Block { block: "bottleneck", what: "its shape changes, so it needs a downsample" });
        }

        let unit = |k, conv, activation| {
            Unit::new(conv, join(name, &format!("conv{k}")), join(name, &format!("bn{k}")), activation)
        };
        let units = vec![
            unit(1, Conv::pointwise(input, planes), Activation::Relu),
            unit(2, Conv::dense(planes, planes, 3, stride), Activation::Relu),
            unit(3, Conv::pointwise(planes, output), Activation::None),
        ];
        let shortcut = if downsample {
            let conv = Conv::dense(input, output, 1, stride);
            let place = join(name, "downsample");
            Shortcut::Projection(Unit::new(conv, format!("{place}.0"), format!("{place}.1"), Activation::None))
        } else {
            Shortcut::Identity { channels: input }
        };
        Ok(Block { activation: Activation::Relu, ..Block::new(name, units, shortcut) })
    }
}
