//! Sandglass with squeeze-and-excite, for EfficientNet's frame: C x H x W -> D x H/s x W/s.
//! MobileNeXt, section 4.4, as the official code builds it (`efficient_mnext`, `MBConvBlockV1`), with its names.

use serde::Deserialize;

use super::squeeze_excite::squeeze_excite;
use super::{Layout, Sequential, check, join, shortcut};
use crate::divisible::make_divisible;
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError, Padding, Window};

/// Depthwise, linear 1x1 reduction, 1x1 expansion, linear depthwise, squeeze-and-excite; SiLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct SandglassSe {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub reduction: usize,
    /// Of the 1x1 convolutions, in layouts A and D alone.
    pub pointwise_groups: usize,
    /// Such a block has no shortcut.
    pub first_of_stage: bool,
}

impl SandglassSe {
    /// As for [`Sandglass`](super::Sandglass), but nothing keeps the depthwise convolutions of a block that widens.
    pub fn layout(&self) -> Layout {
        match (self.stride, self.input == self.output) {
            _ if self.reduction == 2 => Layout::A,
            (1, false) => Layout::B,
            (2, false) => Layout::C,
            _ => Layout::D,
        }
    }

    /// `input / reduction` rounded down and made even. The official code's bound from below never acts.
    pub fn hidden(&self) -> usize {
        make_divisible(self.input.checked_div(self.reduction).unwrap_or(0) as f64, 2)
    }

    /// A quarter of what the output is reduced to.
    pub fn squeezed(&self) -> usize {
        // int(out / t * 0.25), in integers
        self.output.checked_div(self.reduction.saturating_mul(4)).unwrap_or(0).max(1)
    }

    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride, a kernel or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, kernel, stride, reduction, pointwise_groups: groups, first_of_stage } = *self;
        if reduction == 0 {
            return Err(ModelError::Block { block: "sandglass", what: "reduction 0; use 1 or more" });
        }
        if kernel.is_multiple_of(2) {
            return Err(ModelError::Block { block: "sandglass", what: "an even kernel; use 3 or 5" });
        }
        let (layout, hidden) = (self.layout(), self.hidden());
        check("sandglass", &[input, output, hidden], stride)?;
        let grouped = |conv: Conv| match layout {
            Layout::A | Layout::D => Conv { groups, ..conv },
            Layout::B | Layout::C => conv,
        };

        let mut features = Sequential::new(g, join(name, "features"), x);
        if matches!(layout, Layout::A | Layout::D) {
            features.flat(Conv::depthwise(input, kernel, 1), Activation::Silu)?;
        }
        features.flat(grouped(Conv::pointwise(input, hidden)), Activation::None)?;
        features.flat(grouped(Conv::pointwise(hidden, output)), Activation::Silu)?;
        match layout {
            Layout::A | Layout::C => features.flat(strided(output, kernel, stride), Activation::None)?,
            Layout::D => features.flat(Conv::depthwise(output, kernel, 1), Activation::None)?,
            Layout::B => (),
        }
        let y = features.map();
        let names = ["_avg_pooling", "_se_reduce", "_se_expand", "_se_scale"].map(|leaf| join(name, leaf));
        let y = squeeze_excite(g, names, self.squeezed(), y)?;
        let added = if layout == Layout::D && !first_of_stage { input } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}

/// At stride 2 the official code pads for maps of even size, whatever their size is.
fn strided(channels: usize, kernel: usize, stride: usize) -> Conv {
    let conv = Conv::depthwise(channels, kernel, stride);
    Conv { window: for_even_sizes(conv.window), ..conv }
}

/// A window of stride 2 with one place less before the map than after it: TensorFlow's SAME on maps of even size.
pub(crate) fn for_even_sizes(window: Window) -> Window {
    let places = window.kernel.saturating_sub(2);
    match window.stride {
        2 => Window { padding: Padding::Unequal(places / 2, places - places / 2), ..window },
        _ => window,
    }
}
