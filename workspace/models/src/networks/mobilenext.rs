//! MobileNeXt (ECCV 2020), Table 2, as the official code builds it (`mnext.py`); and with the paper's block
//! everywhere.

use super::NetworkConfig;
use super::table::{Place, Table, TableBuilder};
use crate::blocks::{Sandglass, SandglassPaper};
use crate::divisible::make_divisible;
use crate::{GraphBuilder, MapId, ModelError};

const STEM: usize = 32;

type Row = (usize, usize, usize, usize);

/// The table's first version repeats 960 twice; the authors confirmed three as meant.
#[rustfmt::skip]
const STAGES: [Row; 8] = [
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

pub(super) fn table(config: &NetworkConfig) -> Result<Table, ModelError> {
    let mut network = TableBuilder::new("features")?;
    stages(&mut network, config)?;
    network.finish(config.name.classifier(), config.classes)
}

pub(super) fn table_paper(config: &NetworkConfig) -> Result<Table, ModelError> {
    let identity_div = config.identity_div;
    let mut network = TableBuilder::new("features")?;
    stages_of(&mut network, config, |g, (t, ..), Place { name, x, input, output, stride }| {
        SandglassPaper { input, output, stride, reduction: t, identity_div }.build(g, name, x)
    })?;
    network.finish(config.name.classifier(), config.classes)
}

/// All but the classifier.
pub(super) fn stages(network: &mut TableBuilder, config: &NetworkConfig) -> Result<(), ModelError> {
    let identity_div = config.identity_div;
    stages_of(network, config, |g, (t, _, n, s), Place { name, x, input, output, stride }| {
        let keep_3x3 = n == 1 && s == 1;
        Sandglass { input, output, stride, reduction: t, keep_3x3, identity_div }.build(g, name, x)
    })
}

fn stages_of(
    network: &mut TableBuilder,
    config: &NetworkConfig,
    block: impl Fn(&mut GraphBuilder, Row, Place) -> Result<MapId, ModelError>,
) -> Result<(), ModelError> {
    let width = config.width;
    let divisor = if width == 0.1 { 4 } else { 8 };
    let scaled = |channels: usize| match channels {
        LAST if width < 1.0 => LAST,
        _ => make_divisible(channels as f64 * width, divisor),
    };
    network.conv("conv2d", scaled(STEM), 3, config.stem_stride)?;
    for row in STAGES {
        let (t, c, n, s) = row;
        network.row("sandglass", Some(t), (scaled(c), n, s), |g, place| block(g, row, place))?;
    }
    Ok(())
}
