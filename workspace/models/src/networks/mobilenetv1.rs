//! MobileNetV1 (arXiv 1704.04861), Table 1, with ReLU6.

use super::builder::{Builder, Place};
use super::{NetworkConfig, Plan};
use crate::blocks::Sequential;
use crate::{Activation, Block, Conv, ModelError, Shortcut};

const STEM: usize = 32;

#[rustfmt::skip]
const STAGES: [(usize, usize, usize); 5] = [
    //  c, n, s
    (  64, 1, 1),
    ( 128, 2, 2),
    ( 256, 2, 2),
    ( 512, 6, 2),
    (1024, 2, 2),
];

pub(super) fn plan(config: &NetworkConfig) -> Result<Plan, ModelError> {
    let scaled = |channels: usize| ((channels as f64 * config.width) as usize).max(8);
    let mut network = Builder::new("features");
    network.conv("conv2d", scaled(STEM), 3, config.stem_stride);
    for (c, n, s) in STAGES {
        network.row("separable conv", None, (scaled(c), n, s), |place| Ok(separable(place)))?;
    }
    Ok(network.finish(config.name.classifier(), config.classes))
}

/// 3x3 depthwise, then 1x1.
fn separable(Place { name, input, output, stride }: Place) -> Block {
    let mut units = Sequential::new(name.to_owned());
    units.flat(Conv::depthwise(input, 3, stride), Activation::Relu6);
    units.flat(Conv::pointwise(input, output), Activation::Relu6);
    Block::new(name, units.units(), Shortcut::None)
}
