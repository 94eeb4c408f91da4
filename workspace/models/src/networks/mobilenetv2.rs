//! MobileNetV2 (CVPR 2018), Table 2, as torchvision builds it; and with a second depthwise convolution in every
//! block (MobileNeXt, section 4).

use super::builder::{Builder, Place};
use super::{NetworkConfig, Plan};
use crate::blocks::{InvertedResidual, InvertedResidualExtraDw, Placement};
use crate::divisible::make_divisible;
use crate::{Block, ModelError};

const STEM: usize = 32;

#[rustfmt::skip]
const STAGES: [(usize, usize, usize, usize); 7] = [
    // t,   c, n, s
    (1,    16, 1, 1),
    (6,    24, 2, 2),
    (6,    32, 3, 2),
    (6,    64, 4, 2),
    (6,    96, 3, 1),
    (6,   160, 3, 2),
    (6,   320, 1, 1),
];

/// Not scaled at widths below 1.
const HEAD: usize = 1280;

pub(super) fn plan(config: &NetworkConfig) -> Result<Plan, ModelError> {
    plan_of(config, "bottleneck", |t, Place { name, input, output, stride }| {
        InvertedResidual { input, output, stride, expand_ratio: t as f64 }.block(name)
    })
}

pub(super) fn plan_extra_dw(config: &NetworkConfig, placement: Placement) -> Result<Plan, ModelError> {
    plan_of(config, "bottleneck + dw", |t, Place { name, input, output, stride }| {
        InvertedResidualExtraDw { input, output, stride, expand_ratio: t as f64, placement }.block(name)
    })
}

fn plan_of(
    config: &NetworkConfig,
    operator: &'static str,
    block: impl Fn(usize, Place) -> Result<Block, ModelError>,
) -> Result<Plan, ModelError> {
    let scaled = |channels: usize, width: f64| make_divisible(channels as f64 * width, 8);
    let mut network = Builder::new("features");
    network.conv("conv2d", scaled(STEM, config.width), 3, config.stem_stride);
    for (t, c, n, s) in STAGES {
        network.row(operator, Some(t), (scaled(c, config.width), n, s), |place| block(t, place))?;
    }
    network.conv("conv2d 1x1", scaled(HEAD, config.width.max(1.0)), 1, 1);
    Ok(network.finish(config.name.classifier(), config.classes))
}
