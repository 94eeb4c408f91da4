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
    let is_of = |path: &Path| path.file_name().is_some_and(|name| figures.iter().any(|figure| **figure == *name));
    let wanted = made.files.iter().filter(|(path, _)| is_of(path));
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

/// The files of a section's pictures: a drawing's has its name, others have a panel's behind it.
fn figures(section: &Section) -> Vec<String> {
    let of_panel = |name: &String, panel: &String| format!("{name}-{panel}.svg");
    let names = section.parts.iter().flat_map(|part| match part {
        Part::Figure(figure) => figure.charts.iter().map(|chart| of_panel(&figure.name, &chart.name)).collect(),
        Part::Curves(curves) => curves.panels.iter().map(|panel| of_panel(&curves.name, &panel.name)).collect(),
        Part::Pictures(pictures) => pictures.photos.iter().map(|photo| of_panel(&pictures.name, &photo.name)).collect(),
        Part::Drawing(drawing) => vec![format!("{}.svg", drawing.name)],
        _ => Vec::new(),
    });
    names.collect()
}
