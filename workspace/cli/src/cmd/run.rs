//! `sandglass run`: runs what is missing of a study.

use std::process::ExitCode;

use sandglass_study::RunArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments, or the path of a study.toml
    study: String,
    #[command(flatten)]
    options: RunArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(super::shelf(args.options.threads).find(&args.study)?.run(&args.options)?)
}
