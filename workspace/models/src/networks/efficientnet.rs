//! EfficientNet-b0 (ICML 2019), Table 1, as torchvision builds it; EfficientNet-lite0, the same frame without gates and with
//! ReLU6 and SAME padding; and the sandglass in that frame (MobileNeXt, section 4.4), as the official code builds it
//! (`efficient_mnext`, configuration "large").

use super::NetworkConfig;
use super::table::{Place, Table, TableBuilder};
use crate::blocks::{MbConv, MbConvLite, MbConvSe, SandglassSe, for_even_sizes};
use crate::{Activation, Conv, Graph, ModelError, PaddingRule};

const STEM: usize = 32;
const HEAD: usize = 1280;

/// TensorFlow's batch norms.
const NORM: (f32, f32) = (1e-3, 0.01);

#[rustfmt::skip]
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    // t, k,   c, n, s
    (1,   3,  16, 1, 1),
    (6,   3,  24, 2, 2),
    (6,   5,  40, 2, 2),
    (6,   3,  80, 3, 2),
    (6,   5, 112, 3, 1),
    (6,   5, 192, 4, 2),
    (6,   3, 320, 1, 1),
];

/// Not b0's channels, nor its places of the stride.
#[rustfmt::skip]
const SANDGLASS_STAGES: [(usize, usize, usize, usize, usize); 8] = [
    // t, k,    c, n, s
    (2,   3,   96, 1, 1),
    (6,   3,  144, 1, 2),
    (6,   5,  192, 3, 2),
    (6,   3,  288, 3, 2),
    (6,   5,  384, 4, 1),
    (6,   5,  576, 4, 2),
    (6,   3,  960, 3, 1),
    (6,   3, 1280, 1, 1),
];

/// `drop_connect` as in [`NetworkConfig::build_with_drop_connect`], here and below.
pub(super) fn b0(config: &NetworkConfig, drop_connect: f64) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("features")?;
    network.activation(Activation::Silu);
    network.drop_connect(drop_connect, STAGES.iter().map(|&(.., n, _)| n).sum());
    network.conv("conv2d", STEM, 3, config.stem_stride)?;
    for (stage, (t, k, c, n, s)) in (1..).zip(STAGES) {
        network.rename(format!("features.{stage}"));
        network.row(operator(k), Some(t), (c, n, s), |g, Place { name, x, input, output, stride }| {
            let block = MbConv { input, output, kernel: k, stride, expand_ratio: t };
            MbConvSe(block).build(g, name, x)
        })?;
    }
    network.rename("features".to_owned());
    network.skip_to(STAGES.len() + 1);
    network.conv("conv2d 1x1", HEAD, 1, 1)?;
    network.finish(config.name.classifier(), config.classes)
}

pub(super) fn lite0(config: &NetworkConfig, drop_connect: f64) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("_blocks")?;
    network.norm(NORM);
    network.drop_connect(drop_connect, STAGES.iter().map(|&(.., n, _)| n).sum());
    let conv = Conv::dense(3, STEM, 3, config.stem_stride);
    network.push("conv2d", config.stem_stride, |g, x| {
        g.conv_norm(conv, ["_conv_stem".into(), "_bn0".into()], Activation::Relu6, x)
    })?;
    for (t, k, c, n, s) in STAGES {
        network.row(operator(k), Some(t), (c, n, s), |g, Place { name, x, input, output, stride }| {
            let block = MbConv { input, output, kernel: k, stride, expand_ratio: t };
            MbConvLite(block).build(g, name, x)
        })?;
    }
    network.push("conv2d 1x1", 1, |g, x| {
        let conv = Conv::pointwise(g.channels(x)?, HEAD);
        g.conv_norm(conv, ["_conv_head".into(), "_bn1".into()], Activation::Relu6, x)
    })?;
    let Table { stages, graph } = network.finish(config.name.classifier(), config.classes)?;
    Ok(Table { stages, graph: Graph::with_padding(graph, PaddingRule::Same) })
}

/// `repeats` of a stage's blocks, and groups of its 1x1 convolutions: what tells the small network from the large one.
pub(super) fn sandglass(
    config: &NetworkConfig,
    drop_connect: f64,
    repeats: impl Fn(usize) -> usize,
    pointwise_groups: usize,
) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("_blocks")?;
    network.norm(NORM);
    network.drop_connect(drop_connect, SANDGLASS_STAGES.iter().map(|&(.., n, _)| repeats(n)).sum());
    let conv = Conv::dense(3, STEM, 3, config.stem_stride);
    let conv = Conv { window: for_even_sizes(conv.window), ..conv };
    network.push("conv2d", config.stem_stride, |g, x| {
        g.conv_norm(conv, ["_conv_stem".into(), "_bn0".into()], Activation::Silu, x)
    })?;
    for (t, k, c, n, s) in SANDGLASS_STAGES {
        // The first block of a stage never has a shortcut.
        let first = network.next_index();
        network.row(
            "sandglass, gated",
            Some(t),
            (c, repeats(n), s),
            |g, Place { name, x, input, output, stride }| {
                let first_of_stage = name.ends_with(&format!(".{first}"));
                let block =
                    SandglassSe { input, output, kernel: k, stride, reduction: t, pointwise_groups, first_of_stage };
                block.build(g, name, x)
            },
        )?;
    }
    network.push("batch norm, never run", 1, |g, x| g.idle_norm("_bn1", x))?;
    network.finish(config.name.classifier(), config.classes)
}

const fn operator(kernel: usize) -> &'static str {
    if kernel == 3 { "MBConv, 3x3" } else { "MBConv, 5x5" }
}
