//! Sandglass: C x H x W -> D x H/s x W/s, wide at both ends.
//! MobileNeXt, Figure 3, in the four layouts of the official code (`mnext.py`, `SGBlock`), with its names.

use serde::Deserialize;

use super::{Sequential, check, join, shortcut};
use crate::divisible::make_divisible;
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// Which of the block's convolutions the official code keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Reduction 2: all of them, the last depthwise with the stride, never a shortcut.
    A,
    /// More channels at stride 1: the two 1x1 alone.
    B,
    /// More channels at stride 2: no first depthwise.
    C,
    /// All of them at stride 1, and the shortcut unless `keep_3x3`.
    D,
}

/// 3x3 depthwise, linear 1x1 reduction, 1x1 expansion, linear 3x3 depthwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Sandglass {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub stride: usize,
    pub reduction: usize,
    /// Set on the only block of a stage of stride 1: both depthwise convolutions, no shortcut.
    #[serde(default)]
    pub keep_3x3: bool,
    /// The identity tensor multiplier's inverse: the first `input / identity_div` channels are added.
    pub identity_div: usize,
}

impl Sandglass {
    /// The layout that ratio, channels and stride lead to.
    pub fn layout(&self) -> Layout {
        let widens = self.input != self.output && !self.keep_3x3;
        match self.stride {
            _ if self.reduction == 2 => Layout::A,
            1 if widens => Layout::B,
            2 if widens => Layout::C,
            _ => Layout::D,
        }
    }

    /// `input / reduction` rounded down, but not below a sixth of the output, which is then rounded to 16.
    pub fn hidden(&self) -> usize {
        let hidden = self.input.checked_div(self.reduction).unwrap_or(0);
        // hidden < output / 6, in integers
        if hidden.saturating_mul(6) < self.output { make_divisible(self.output.div_ceil(6) as f64, 16) } else { hidden }
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, stride, reduction, keep_3x3, identity_div } = *self;
        if reduction == 0 {
            return Err(ModelError::Block { block: "sandglass", what: "reduction 0; use 1 or more" });
        }
        if identity_div == 0 {
            return Err(ModelError::IdentityDiv(identity_div));
        }
        let (layout, hidden) = (self.layout(), self.hidden());
        check("sandglass", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(g, join(name, "conv"), x);
        if matches!(layout, Layout::A | Layout::D) {
            conv.flat(Conv::depthwise(input, 3, 1), Activation::Relu6)?;
        }
        conv.flat(Conv::pointwise(input, hidden), Activation::None)?;
        conv.flat(Conv::pointwise(hidden, output), Activation::Relu6)?;
        match layout {
            Layout::A | Layout::C => conv.flat(Conv::depthwise(output, 3, stride), Activation::None)?,
            // The official code gives no stride here: a block of stride 2 and equal channels stays at stride 1.
            Layout::D => conv.flat(Conv::depthwise(output, 3, 1), Activation::None)?,
            Layout::B => (),
        }

        let y = conv.map();
        let added = if layout == Layout::D && !keep_3x3 { input / identity_div } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}
