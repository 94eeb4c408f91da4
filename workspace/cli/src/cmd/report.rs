//! `sandglass report`: every study's table step, then `report/out` and the README's headline.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use sandglass_study::{Project, Verify};

/// Heads the report.
const TITLE: &str = "Sandglass: MobileNeXt and MobileNetV2 reproduced";

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
    let project = Project::here()?;
    let studies = super::shelf(args.threads).all(&project)?;
    let mut sections = Vec::new();
    for study in &studies {
        study.verify(args.verify).with_context(|| format!("study {}", study.name()))?;
        sections.push(study.section()?);
    }
    // All studies of a project share its rows, so the first one knows all that is wrong with them.
    let names: Vec<&str> = studies.iter().map(|study| study.name()).collect();
    let first = studies.first();
    let mut problems: Vec<String> = first.iter().flat_map(|study| study.problems()).map(ToString::to_string).collect();
    problems.extend(first.iter().flat_map(|study| study.strangers(&names)));
    let report = sandglass_report::build(TITLE, &sections, &problems)?;
    for path in sandglass_report::write(project.root(), &report)? {
        writeln!(io::stdout(), "{}", path.strip_prefix(project.root()).unwrap_or(&path).display())?;
    }
    Ok(ExitCode::SUCCESS)
}
