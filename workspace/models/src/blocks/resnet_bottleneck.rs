//! Classic bottleneck: C x H x W -> 4P x H/s x W/s, wide at both ends.
//! ResNet, Figure 5, with the stride in the 3x3 convolution; names as in torchvision's `Bottleneck`.

use serde::Deserialize;

use super::{check, join};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

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
    /// Channels that the block writes.
    pub fn output(&self) -> usize {
        self.planes.saturating_mul(4)
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels or a stride that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, planes, stride, downsample } = *self;
        let output = self.output();
        check("bottleneck", &[input, planes, output], stride)?;
        if !downsample && (stride != 1 || input != output) {
            return Err(ModelError::Block { block: "bottleneck", what: "its shape changes, so it needs a downsample" });
        }

        let names = |k| [join(name, &format!("conv{k}")), join(name, &format!("bn{k}"))];
        let y = g.conv_norm(Conv::pointwise(input, planes), names(1), Activation::Relu, x)?;
        let y = g.conv_norm(Conv::dense(planes, planes, 3, stride), names(2), Activation::Relu, y)?;
        let y = g.conv_norm(Conv::pointwise(planes, output), names(3), Activation::None, y)?;

        let mut skip = x;
        if downsample {
            let names = [0, 1].map(|k| join(name, &format!("downsample.{k}")));
            skip = g.conv_norm(Conv::dense(input, output, 1, stride), names, Activation::None, x)?;
        }
        g.add(&join(name, "add"), (y, skip), output, Activation::Relu)
    }
}
