//! `sandglass table`: a study's table, from committed rows.

use std::process::ExitCode;

use sandglass_study::TableArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments, or the path of a study.toml
    study: String,
    #[command(flatten)]
    options: TableArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(super::shelf(args.options.threads).find(&args.study)?.table(&args.options)?)
}
