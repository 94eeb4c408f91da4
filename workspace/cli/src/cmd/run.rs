//! `sandglass run`: runs what is missing of a study.

use std::process::ExitCode;

use sandglass_study::Local;
use sandglass_study::verbs::{Opened, RunArgs};

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments, or the path of a study.toml
    study: String,
    #[command(flatten)]
    options: RunArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Opened::find(&args.study)?.run(&args.options, &Local::new(args.options.threads)?)
}
