//! `sandglass table`: a study's table, from committed rows.

use std::process::ExitCode;

use sandglass_study::Local;
use sandglass_study::verbs::{Opened, TableArgs};

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments, or the path of a study.toml
    study: String,
    #[command(flatten)]
    options: TableArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Opened::find(&args.study)?.table(&args.options, &Local::new(args.options.threads)?)
}
