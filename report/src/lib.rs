//! Sections to markdown and HTML. The same rows give the same bytes: nothing here looks at the clock or at HEAD, and
//! nothing here could train: it knows sections and no more.

mod error;
mod html;
mod markdown;
mod plot;
mod splice;

use std::path::{Path, PathBuf};

use sandglass_study::{Part, Section};

use crate::html::Shown;

pub use error::ReportError;
pub use splice::splice;

/// All that is written, in memory.
#[derive(Clone, Debug)]
pub struct Report {
    pub markdown: String,
    pub html: String,
    /// File name and SVG, as the markdown links them.
    pub figures: Vec<(String, String)>,
    /// The first section's table, for the README.
    pub headline: String,
}

/// Builds the report of this title on these sections, in their order. `problems` are those of row files, whoever's they are; each is
/// told once.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn build(title: &str, sections: &[Section], problems: &[String]) -> Result<Report, ReportError> {
    let mut shown = Vec::new();
    for section in sections {
        let figures = section.parts.iter().filter_map(|part| match part {
            Part::Figure(figure) => Some(plot::draw_all(figure)),
            _ => None,
        });
        shown.push(Shown { section, figures: figures.collect::<Result<_, _>>()? });
    }
    let mut all: Vec<String> = Vec::new();
    for problem in problems.iter().chain(sections.iter().flat_map(|section| &section.problems)) {
        if !all.contains(problem) {
            all.push(problem.clone());
        }
    }
    let charts = shown.iter().flat_map(|shown| &shown.figures).flatten();
    Ok(Report {
        markdown: markdown::page(title, &shown, &all),
        html: html::page(title, &shown, &all)?,
        figures: charts.map(|chart| (chart.file.clone(), chart.standalone())).collect(),
        headline: sections.first().map(markdown::headline).unwrap_or_default(),
    })
}

/// Writes `report/out` below the project's root, removes figures there that are no longer shown, splices the README's
/// headline, and returns the paths that were written.
///
/// # Errors
/// A file that cannot be read or written, or a README without the lines to put the headline between.
pub fn write(root: &Path, report: &Report) -> Result<Vec<PathBuf>, ReportError> {
    let folder = root.join("report/out");
    let mut files =
        vec![(folder.join("report.md"), report.markdown.clone()), (folder.join("index.html"), report.html.clone())];
    files.extend(report.figures.iter().map(|(name, svg)| (folder.join(name), svg.clone())));
    let readme = root.join("README.md");
    if readme.exists() {
        let text = std::fs::read_to_string(&readme).map_err(ReportError::io(&readme))?;
        let spliced = splice(&text, "headline", &report.headline)
            .ok_or_else(|| ReportError::Markers { path: readme.clone(), name: "headline" })?;
        files.push((readme, spliced));
    }
    for (path, text) in &files {
        if std::fs::read_to_string(path).is_ok_and(|old| old == *text) {
            continue;
        }
        sandglass_files::write(path, text.as_bytes()).map_err(ReportError::io(path))?;
    }
    remove_other_figures(&folder, &files)?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// A scale more or less gives figures other names: the old ones would stay committed and be nobody's.
fn remove_other_figures(folder: &Path, files: &[(PathBuf, String)]) -> Result<(), ReportError> {
    for entry in std::fs::read_dir(folder).map_err(ReportError::io(folder))? {
        let path = entry.map_err(ReportError::io(folder))?.path();
        let is_figure = path.extension().is_some_and(|extension| extension == "svg");
        if is_figure && files.iter().all(|(other, _)| *other != path) {
            std::fs::remove_file(&path).map_err(ReportError::io(&path))?;
        }
    }
    Ok(())
}
