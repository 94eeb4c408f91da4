//! MobileNeXt (ECCV 2020), Table 2, as the official code builds it (`mnext.py`); and with the paper's block
//! everywhere.

use super::builder::{Builder, Place};
use super::{NetworkConfig, Plan};
use crate::blocks::{Sandglass, SandglassPaper};
use crate::divisible::make_divisible;
use crate::{Block, ModelError};

const STEM: usize = 32;

/// The table's first version repeats 960 twice; the authors confirmed three as meant.
#[rustfmt::skip]
const STAGES: [(usize, usize, usize, usize); 8] = [
    // t,    c, n, s
    (2,     96, 1, 2),
    (6,    144, 1, 1),
    (6,    192, 3, 2),
    (6,    288, 3, 2),
    (6,    384, 4, 1),
    (6,    576, 4, 2),
    (6,    960, 3, 1),
    (6,   LAST, 1, 1),
];

/// Not scaled at widths below 1.
const LAST: usize = 1280;

pub(super) fn plan(config: &NetworkConfig) -> Result<Plan, ModelError> {
    let identity_div = config.identity_div;
    plan_of(config, |(t, _, n, s), Place { name, input, output, stride }| {
        let keep_3x3 = n == 1 && s == 1;
        Sandglass { input, output, stride, reduction: t, keep_3x3, identity_div }.block(name)
    })
}

pub(super) fn plan_paper(config: &NetworkConfig) -> Result<Plan, ModelError> {
    let identity_div = config.identity_div;
    plan_of(config, |(t, ..), Place { name, input, output, stride }| {
        SandglassPaper { input, output, stride, reduction: t, identity_div }.block(name)
    })
}

fn plan_of(
    config: &NetworkConfig,
    block: impl Fn((usize, usize, usize, usize), Place) -> Result<Block, ModelError>,
) -> Result<Plan, ModelError> {
    let width = config.width;
    let divisor = if width == 0.1 { 4 } else { 8 };
    let scaled = |channels: usize| match channels {
        LAST if width < 1.0 => LAST,
        _ => make_divisible(channels as f64 * width, divisor),
    };
    let mut network = Builder::new("features");
    network.conv("conv2d", scaled(STEM), 3, config.stem_stride);
    for row in STAGES {
        let (t, c, n, s) = row;
        network.row("sandglass", Some(t), (scaled(c), n, s), |place| block(row, place))?;
    }
    Ok(network.finish(config.name.classifier(), config.classes))
}
