//! Sandglass as the paper writes it, one form everywhere: C x H x W -> D x H/s x W/s.
//! MobileNeXt, section 3.2 and Table 2; names as in the official code's fullest layout.

use super::{Sequential, check, join, shortcut};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// 3x3 depthwise, linear 1x1 to `input / reduction`, 1x1 expansion, linear 3x3 depthwise with the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandglassPaper {
    pub input: usize,
    pub output: usize,
    pub stride: usize,
    pub reduction: usize,
    /// The identity tensor multiplier's inverse: the first `input / identity_div` channels are added.
    pub identity_div: usize,
}

impl SandglassPaper {
    /// Writes the block, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels, a stride or a ratio that the block cannot have, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, stride, reduction, identity_div } = *self;
        if identity_div == 0 {
            return Err(ModelError::IdentityDiv(identity_div));
        }
        let hidden = input.checked_div(reduction).unwrap_or(0);
        check("sandglass", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(g, join(name, "conv"), x);
        conv.flat(Conv::depthwise(input, 3, 1), Activation::Relu6)?;
        conv.flat(Conv::pointwise(input, hidden), Activation::None)?;
        conv.flat(Conv::pointwise(hidden, output), Activation::Relu6)?;
        conv.flat(Conv::depthwise(output, 3, stride), Activation::None)?;

        let y = conv.map();
        let added = if stride == 1 && input == output { input / identity_div } else { 0 };
        shortcut(g, name, (y, x), added)
    }
}
