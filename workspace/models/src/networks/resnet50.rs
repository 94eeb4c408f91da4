//! ResNet-50 (CVPR 2016), Table 1, as torchvision builds it.

use super::builder::{Builder, Place};
use super::{NetworkConfig, Plan};
use crate::blocks::ResNetBottleneck;
use crate::{Activation, Block, Conv, MaxPool, ModelError, Shortcut, Unit};

#[rustfmt::skip]
const STAGES: [(usize, usize, usize); 4] = [
    // planes, n, s
    ( 64, 3, 1),
    (128, 4, 2),
    (256, 6, 2),
    (512, 3, 2),
];

pub(super) fn plan(config: &NetworkConfig) -> Result<Plan, ModelError> {
    let conv = Conv::dense(3, 64, 7, config.stem_stride);
    let units = vec![Unit::new(conv, "conv1".to_owned(), "bn1".to_owned(), Activation::Relu)];
    let max_pool = Some(MaxPool { kernel: 3, stride: 2, padding: 1 });
    let stem = Block { max_pool, ..Block::new("stem", units, Shortcut::None) };

    let mut network = Builder::new("stem");
    network.push("conv2d 7x7, max pool", stem, config.stem_stride);
    for (layer, (planes, n, s)) in (1..).zip(STAGES) {
        network.rename(format!("layer{layer}"));
        network.row("bottleneck", None, (4 * planes, n, s), |Place { name, input, output, stride }| {
            ResNetBottleneck { input, planes, stride, downsample: input != output }.block(name)
        })?;
    }
    Ok(network.finish(config.name.classifier(), config.classes))
}
