//! Sandglass as the paper writes it, one form everywhere: C x H x W -> D x H/s x W/s.
//! MobileNeXt, section 3.2 and Table 2; names as in the official code's fullest layout.

use super::{Sequential, check, join};
use crate::{Activation, Block, Conv, ModelError, Shortcut};

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
    pub fn block(&self, name: &str) -> Result<Block, ModelError> {
        let Self { input, output, stride, reduction, identity_div } = *self;
        if identity_div == 0 {
            return Err(ModelError::IdentityDiv(identity_div));
        }
        let hidden = input.checked_div(reduction).unwrap_or(0);
        check("sandglass", &[input, output, hidden], stride)?;

        let mut conv = Sequential::new(join(name, "conv"));
        conv.flat(Conv::depthwise(input, 3, 1), Activation::Relu6);
        conv.flat(Conv::pointwise(input, hidden), Activation::None);
        conv.flat(Conv::pointwise(hidden, output), Activation::Relu6);
        conv.flat(Conv::depthwise(output, 3, stride), Activation::None);

        let shortcut = Shortcut::when(stride == 1 && input == output, input / identity_div);
        Ok(Block::new(name, conv.units(), shortcut))
    }
}
