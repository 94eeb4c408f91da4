//! MobileNetV2 against MobileNeXt over width multipliers: the paper's comparison of the two networks at equal width.
//!
//! Subjects: both networks at five widths. Method: one recipe for all networks of a profile; the last epoch's weights,
//! rounded to f16 and written to a file, are what is scored. Measure: top-1 accuracy on the validation images, one cell
//! per network, width and seed. All that decides a number stands in `study.toml` and in the recipe that it names.

use std::process::ExitCode;

use clap::Parser;
use sandglass_study::Local;
use sandglass_study::verbs::{Opened, PlanArgs, RunArgs, TableArgs};

#[derive(Parser)]
#[command(about = "MobileNetV2 against MobileNeXt over width multipliers")]
enum Verb {
    /// The cells, their state and expected time
    Plan(PlanArgs),
    /// Train and score what is missing
    Run(RunArgs),
    /// The paper's values, exact costs and our accuracies, from committed rows
    Table(TableArgs),
}

fn main() -> ExitCode {
    experiment().unwrap_or_else(|error| {
        eprintln!("width: {error:#}");
        ExitCode::FAILURE
    })
}

fn experiment() -> anyhow::Result<ExitCode> {
    let verb = Verb::parse();
    let study = Opened::find("width")?;
    match verb {
        Verb::Plan(args) => study.plan(&args),
        Verb::Run(args) => study.run(&args, &Local::new(args.threads)?),
        Verb::Table(args) => study.table(&args, &Local::new(args.threads)?),
    }
}
