//! `sandglass cost`: parameters, multiply-adds and memory.

mod rows;

use std::io::{self, Write};
use std::process::ExitCode;

use sandglass_models::{Cost, Counted, DetectorConfig, ModelError, NetworkConfig};
use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: Option<NetworkArgs>,
    /// Every network and size of both papers
    #[arg(long, conflicts_with = "NetworkArgs", required_unless_present = "network")]
    all: bool,
    /// JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct NetworkArgs {
    /// Such as mobilenetv2, mobilenext, mobilenext_div2, mobilenetv2_extra_dw_ends, resnet50; of detectors, whose classes
    /// count the background, ssdlite_mobilenext and others
    #[arg(required = false)]
    pub network: String,
    /// Width multiplier
    #[arg(long, default_value_t = 1.0, value_name = "W")]
    pub width: f64,
    /// Side of the input in pixels; unset: 224, or the one that a detector, or its extra layers and heads, was made for
    #[arg(long, value_name = "PX")]
    pub input: Option<usize>,
    /// Unset: 1000, or those that a detector, or its extra layers and heads, was made for
    #[arg(long, value_name = "K")]
    pub classes: Option<usize>,
    /// Stride of the first convolution, 1 or 2
    #[arg(long, default_value_t = 2, value_name = "S")]
    pub stem_stride: usize,
}

impl NetworkArgs {
    pub fn config(&self) -> Result<NetworkConfig, ModelError> {
        let Self { width, stem_stride, .. } = *self;
        Ok(NetworkConfig { width, classes: self.classes(), stem_stride, ..self.network.parse()? })
    }

    /// Where the name is a detector's.
    ///
    /// # Errors
    /// A stride of the first convolution that detectors do not have.
    pub fn detector(&self) -> Result<Option<DetectorConfig>, ModelError> {
        let Ok(published) = self.network.parse::<DetectorConfig>() else { return Ok(None) };
        match self.stem_stride {
            2 => Ok(Some(DetectorConfig { width: self.width, classes: self.classes(), ..published })),
            stride => Err(ModelError::StemStride { network: published.to_string(), stride }),
        }
    }

    /// Of a name that there is not, a classifier's.
    pub fn input(&self) -> usize {
        self.input.unwrap_or_else(|| self.network.parse::<Counted>().map_or(224, |of| of.input()))
    }

    fn classes(&self) -> usize {
        self.classes.unwrap_or_else(|| self.network.parse::<Counted>().map_or(1000, |of| of.classes()))
    }
}

/// One row, under the column names of the reference figures.
#[derive(Serialize)]
struct Row {
    network: String,
    width: f64,
    input: usize,
    num_classes: usize,
    stem_stride: usize,
    #[serde(flatten)]
    cost: Cost,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rows = match &args.network {
        Some(network) => vec![row(network)?],
        None => rows::all().map(|network| row(&network)).collect::<Result<_, _>>()?,
    };
    let text = match (args.json, rows.as_slice()) {
        (true, [row]) if !args.all => serde_json::to_string(row)?,
        (true, rows) => serde_json::to_string_pretty(rows)?,
        (false, rows) => table(rows),
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn row(args: &NetworkArgs) -> Result<Row, ModelError> {
    let (network, width, stem_stride) = (&args.network, args.width, args.stem_stride);
    let (input, num_classes) = (args.input(), args.classes());
    let cost = network.parse::<Counted>()?.with(width, num_classes, stem_stride)?.cost(input, input)?;
    Ok(Row { network: network.clone(), width, input, num_classes, stem_stride, cost })
}

fn table(rows: &[Row]) -> String {
    let mut table = Builder::default();
    table.push_record([
        "network",
        "width",
        "input",
        "classes",
        "stem stride",
        "params",
        "dense madds",
        "depthwise madds",
        "linear madds",
        "madds",
        "residual adds",
        "peak activations",
    ]);
    for row in rows {
        let mut cells = vec![row.network.clone(), row.width.to_string()];
        cells.extend([row.input, row.num_classes, row.stem_stride].map(|cell| cell.to_string()));
        let cost = row.cost;
        cells.extend(
            [
                cost.params,
                cost.madds_conv_dense,
                cost.madds_depthwise,
                cost.madds_linear,
                cost.madds_total,
                cost.residual_adds,
                cost.peak_activation_elems,
            ]
            .map(|cell| cell.to_string()),
        );
        table.push_record(cells);
    }
    let mut table = table.build();
    table.with(Style::psql()).with(Alignment::right()).modify(Columns::first(), Alignment::left());
    table.to_string()
}
