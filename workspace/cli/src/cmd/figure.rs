//! `sandglass figure`: a study's figures as the report has them, from committed rows.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use sandglass_study::{Part, Project, Section};

use super::report::make;

#[derive(clap::Args)]
pub struct Args {
    /// Name of a folder below experiments
    study: String,
}

/// The whole report is made, for a family's colour is the same in all of its figures.
pub fn run(Args { study: name }: Args) -> anyhow::Result<ExitCode> {
    let project = Project::here()?;
    let studies = super::shelf(None).all(&project)?;
    let known = || studies.iter().map(|study| study.name()).collect::<Vec<_>>().join(", ");
    let study = studies.iter().find(|study| study.name() == name);
    let study = study.with_context(|| format!("no study {name} in this project; there are {}", known()))?;
    let section = study.section()?;
    let figures = figures(&section);
    let made = make(&project, &studies)?;
    let wanted = made.files.iter().filter(|(path, _)| figures.iter().any(|figure| is_of(path, figure)));
    let mut drawn = 0;
    for (path, svg) in wanted {
        sandglass_files::write(path, svg.as_bytes()).with_context(|| path.display().to_string())?;
        writeln!(io::stdout(), "{}", path.strip_prefix(project.root()).unwrap_or(path).display())?;
        drawn += 1;
    }
    if drawn == 0 {
        bail!("study {name} has nothing to draw; `sandglass plan {name}` says what is not run");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the files of a section's pictures are called after.
fn figures(section: &Section) -> Vec<&str> {
    let names = section.parts.iter().filter_map(|part| match part {
        Part::Figure(figure) => Some(figure.name.as_str()),
        Part::Drawing(drawing) => Some(drawing.name.as_str()),
        Part::Curves(curves) => Some(curves.name.as_str()),
        _ => None,
    });
    names.collect()
}

/// A drawing's file has its name, others have a panel's behind it.
fn is_of(path: &Path, figure: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let panel = name.and_then(|name| name.strip_suffix(".svg")?.strip_prefix(figure));
    panel.is_some_and(|panel| panel.is_empty() || panel.starts_with('-'))
}
