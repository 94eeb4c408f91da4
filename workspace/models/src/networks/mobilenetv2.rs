//! MobileNetV2 (CVPR 2018), Table 2, as torchvision builds it; and with a second depthwise convolution in every
//! block (MobileNeXt, section 4).

use super::NetworkConfig;
use super::table::{Place, Table, TableBuilder};
use crate::blocks::{InvertedResidual, InvertedResidualExtraDw, Placement};
use crate::divisible::make_divisible;
use crate::{GraphBuilder, MapId, ModelError};

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

pub(super) fn table(config: &NetworkConfig) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("features")?;
    stages(&mut network, config)?;
    network.finish(config.name.classifier(), config.classes)
}

pub(super) fn table_extra_dw(config: &NetworkConfig, placement: Placement) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("features")?;
    stages_of(&mut network, config, "bottleneck + dw", |g, t, Place { name, x, input, output, stride }| {
        InvertedResidualExtraDw { input, output, stride, expand_ratio: t as f64, placement }.build(g, name, x)
    })?;
    network.finish(config.name.classifier(), config.classes)
}

/// All but the classifier.
pub(super) fn stages(network: &mut TableBuilder, config: &NetworkConfig) -> Result<(), ModelError> {
    stages_of(network, config, "bottleneck", |g, t, Place { name, x, input, output, stride }| {
        InvertedResidual { input, output, stride, expand_ratio: t as f64 }.build(g, name, x)
    })
}

fn stages_of(
    network: &mut TableBuilder,
    config: &NetworkConfig,
    operator: &'static str,
    block: impl Fn(&mut GraphBuilder, usize, Place) -> Result<MapId, ModelError>,
) -> Result<(), ModelError> {
    let scaled = |channels: usize, width: f64| make_divisible(channels as f64 * width, 8);
    network.conv("conv2d", scaled(STEM, config.width), 3, config.stem_stride)?;
    for (t, c, n, s) in STAGES {
        network.row(operator, Some(t), (scaled(c, config.width), n, s), |g, place| block(g, t, place))?;
    }
    network.conv("conv2d 1x1", scaled(HEAD, config.width.max(1.0)), 1, 1)
}
