//! A detector's head on one map: C x H x W -> D x H x W, where D is so many numbers for each box of a place.
//! SSD (ECCV 2016); SSDLite (MobileNetV2, section 6.2), as the official detection code of MobileNeXt has it with its names
//! (`box_predictor.py`), and as TensorFlow's does.

use serde::Deserialize;

use super::{check, join};
use crate::{Activation, After, BatchNorm, Conv, GraphBuilder, MapId, ModelError, Unit};

/// What stands between a map and the numbers of its boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxHead {
    /// A 3x3 convolution.
    Ssd,
    /// 3x3 depthwise with bias and batch norm, ReLU6, then 1x1.
    Ssdlite,
    /// The same without a bias before the batch norm.
    SsdliteTf,
    /// A 1x1 convolution: the official SSDLite's on its last level.
    Pointwise,
}

impl BoxHead {
    /// Writes the head of `output` channels, which reads `x`, under `name`; gives the map that it writes.
    ///
    /// # Errors
    /// A number of channels out of range.
    pub fn build(self, g: &mut GraphBuilder, name: &str, x: MapId, output: usize) -> Result<MapId, ModelError> {
        let input = g.channels(x)?;
        check("box head", &[input, output], 1)?;
        let biased = |g: &mut GraphBuilder, name: String, conv, x| {
            g.unit(Unit { conv, name, after: After::Bias, activation: Activation::None }, x)
        };
        let [depthwise, norm, pointwise] = ["conv.0", "conv.1", "conv.3"].map(|leaf| join(name, leaf));
        let separable = Conv::depthwise(input, 3, 1);
        let filtered = match self {
            Self::Ssd => return biased(g, name.to_owned(), Conv::dense(input, output, 3, 1), x),
            Self::Pointwise => return biased(g, name.to_owned(), Conv::pointwise(input, output), x),
            Self::SsdliteTf => g.conv_norm(separable, [depthwise, norm], Activation::Relu6, x)?,
            Self::Ssdlite => {
                let after = After::BiasNorm(BatchNorm { name: norm, ..g.norm() });
                g.unit(Unit { conv: separable, name: depthwise, after, activation: Activation::Relu6 }, x)?
            }
        };
        biased(g, pointwise, Conv::pointwise(input, output), filtered)
    }
}
