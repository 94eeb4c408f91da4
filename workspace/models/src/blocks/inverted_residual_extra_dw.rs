//! Inverted residual with one more depthwise convolution: C x H x W -> D x H/s x W/s.
//! MobileNeXt, section 4 (is a second depthwise convolution all that the sandglass adds?).

use serde::Deserialize;

use super::{Sequential, check, expanded, join, shortcut};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// Where the depthwise convolutions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Two in the middle, on the expanded tensor; the first has the stride.
    DwDw,
    /// One before the expansion and one after the projection, on the thin ends, none between; the last has the stride.
    Ends,
}

/// [`super::InvertedResidual`] with the depthwise convolutions where `placement` says.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct InvertedResidualExtraDw {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub stride: usize,
    pub expand_ratio: f64,
    pub placement: Placement,
}

impl InvertedResidualExtraDw {
    /// Channels of the expanded tensor.
    pub fn hidden(&self) -> usize {
        expanded(self.input, self.expand_ratio)
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, stride, expand_ratio, placement } = *self;
        let hidden = self.hidden();
        check("inverted residual with an extra depthwise", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(g, join(name, "conv"), x);
        if placement == Placement::Ends {
            conv.nested(Conv::depthwise(input, 3, 1), Activation::Relu6)?;
        }
        if expand_ratio != 1.0 {
            conv.nested(Conv::pointwise(input, hidden), Activation::Relu6)?;
        }
        if placement == Placement::DwDw {
            conv.nested(Conv::depthwise(hidden, 3, stride), Activation::Relu6)?;
            conv.nested(Conv::depthwise(hidden, 3, 1), Activation::Relu6)?;
        }
        conv.flat(Conv::pointwise(hidden, output), Activation::None)?;
        if placement == Placement::Ends {
            conv.flat(Conv::depthwise(output, 3, stride), Activation::None)?;
        }

        let y = conv.map();
        let added = if stride == 1 && input == output { input } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}
