//! Extra layers of a detector, each halving the map: C x H x W -> D x H/2 x W/2, without shortcuts.
//! Those of MobileNetV2's official detector are inverted residuals; here are MobileNeXt's (`sg_block_extra`, with its names)
//! and TensorFlow's.

use super::{Sequential, check, join};
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// 3x3 depthwise of stride 2, linear 1x1 reduction, 1x1 expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandglassExtra {
    pub input: usize,
    pub hidden: usize,
    pub output: usize,
}

impl SandglassExtra {
    /// Writes the layer, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// Channels out of range, or a map of other channels than `input`.
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, hidden, output } = *self;
        check("extra layer", &[input, hidden, output], 2)?;
        let mut layer = Sequential::new(g, name.to_owned(), x);
        layer.flat(Conv::depthwise(input, 3, 2), Activation::Relu6)?;
        layer.flat(Conv::pointwise(input, hidden), Activation::None)?;
        layer.flat(Conv::pointwise(hidden, output), Activation::Relu6)?;
        Ok(layer.map())
    }
}

/// 1x1 to half the output, then 3x3 of stride 2, either separable or over all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvExtra {
    pub input: usize,
    pub output: usize,
    /// 3x3 depthwise and 1x1 in place of the 3x3 convolution.
    pub separable: bool,
}

impl ConvExtra {
    /// Writes the layer, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// As for [`SandglassExtra::build`].
    pub fn build(&self, g: &mut GraphBuilder, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let Self { input, output, separable } = *self;
        let hidden = output / 2;
        check("extra layer", &[input, hidden, output], 2)?;
        let mut layer = Sequential::new(g, join(name, "conv"), x);
        layer.nested(Conv::pointwise(input, hidden), Activation::Relu6)?;
        if separable {
            layer.nested(Conv::depthwise(hidden, 3, 2), Activation::Relu6)?;
            layer.nested(Conv::pointwise(hidden, output), Activation::Relu6)?;
        } else {
            layer.nested(Conv::dense(hidden, output, 3, 2), Activation::Relu6)?;
        }
        Ok(layer.map())
    }
}
