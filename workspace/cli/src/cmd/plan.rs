//! `sandglass plan`: the cells of a study, with state and expected time.

use std::process::ExitCode;

use sandglass_study::PlanArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments, or the path of a study.toml
    study: String,
    #[command(flatten)]
    options: PlanArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(super::shelf(None).find(&args.study)?.plan(&args.options)?)
}
