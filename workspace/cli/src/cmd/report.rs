//! `sandglass report`: every study's table step, then `report/out` and the README's headline.

use std::process::ExitCode;

use anyhow::Context;
use sandglass_study::verbs::Opened;
use sandglass_study::{Local, Study, verify::Verify};

#[derive(clap::Args)]
pub struct Args {
    /// Which cached checkpoints are evaluated again and compared with their rows
    #[arg(long, value_enum, default_value_t)]
    verify: Verify,
    /// Threads; all cores if left out
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (root, files) = Study::all()?;
    let bench = Local::new(args.threads)?;
    let mut studies = Vec::new();
    for file in &files {
        let opened = Opened::find(&file.to_string_lossy())?;
        opened.verify(args.verify, None, &bench).with_context(|| format!("study {}", opened.study.name))?;
        studies.push(opened);
    }
    let report = sandglass_report::build(&studies)?;
    for path in sandglass_report::write(&root, &report)? {
        println!("{}", path.strip_prefix(&root).unwrap_or(&path).display());
    }
    Ok(ExitCode::SUCCESS)
}
