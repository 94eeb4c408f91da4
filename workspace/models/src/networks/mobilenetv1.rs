//! MobileNetV1 (arXiv 1704.04861), Table 1, with ReLU6.

use super::NetworkConfig;
use super::table::{Place, Table, TableBuilder};
use crate::blocks::Sequential;
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

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

pub(super) fn table(config: &NetworkConfig) -> Result<Table, ModelError> {
    let scaled = |channels: usize| ((channels as f64 * config.width) as usize).max(8);
    let mut network = TableBuilder::new("features")?;
    network.conv("conv2d", scaled(STEM), 3, config.stem_stride)?;
    for (c, n, s) in STAGES {
        network.row("separable conv", None, (scaled(c), n, s), separable)?;
    }
    network.finish(config.name.classifier(), config.classes)
}

/// 3x3 depthwise, then 1x1.
fn separable(g: &mut GraphBuilder, Place { name, x, input, output, stride }: Place) -> Result<MapId, ModelError> {
    let mut units = Sequential::new(g, name.to_owned(), x);
    units.flat(Conv::depthwise(input, 3, stride), Activation::Relu6)?;
    units.flat(Conv::pointwise(input, output), Activation::Relu6)?;
    Ok(units.map())
}
