//! ResNet-50 (CVPR 2016), Table 1, as torchvision builds it.

use super::NetworkConfig;
use super::table::{Place, Table, TableBuilder};
use crate::blocks::ResNetBottleneck;
use crate::{Activation, Conv, ModelError, Pool, Window};

#[rustfmt::skip]
const STAGES: [(usize, usize, usize); 4] = [
    // planes, n, s
    ( 64, 3, 1),
    (128, 4, 2),
    (256, 6, 2),
    (512, 3, 2),
];

pub(super) fn table(config: &NetworkConfig) -> Result<Table, ModelError> {
    let stem_stride = config.stem_stride;
    let mut network = TableBuilder::new("stem")?;
    network.push("conv2d 7x7, max pool", stem_stride, |g, x| {
        let names = ["conv1".to_owned(), "bn1".to_owned()];
        let y = g.conv_norm(Conv::dense(3, 64, 7, stem_stride), names, Activation::Relu, x)?;
        g.pool("maxpool", Pool::Max(Window::centred(3, 2)), y)
    })?;
    for (layer, (planes, n, s)) in (1..).zip(STAGES) {
        network.rename(format!("layer{layer}"));
        network.row("bottleneck", None, (4 * planes, n, s), |g, Place { name, x, input, output, stride }| {
            ResNetBottleneck { input, planes, stride, downsample: input != output }.build(g, name, x)
        })?;
    }
    network.finish(config.name.classifier(), config.classes)
}
