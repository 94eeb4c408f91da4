//! Rows to markdown and HTML. The same rows give the same bytes: nothing here looks at the clock, at HEAD, or trains.

mod error;
mod html;
mod markdown;
mod plot;
mod section;
mod splice;

use std::path::{Path, PathBuf};

use sandglass_ledger::write_atomically;
use sandglass_study::verbs::Opened;

pub use error::ReportError;
pub use section::{Figure, Panel, Section};
pub use splice::splice;

/// All that is written, in memory.
#[derive(Clone, Debug)]
pub struct Report {
    pub markdown: String,
    pub html: String,
    /// File name and SVG, as the markdown links them.
    pub figures: Vec<(String, String)>,
    /// The first study's table, for the README.
    pub headline: String,
}

/// Builds the report on these studies. All belong to one project, and so share rows.
pub fn build(studies: &[Opened]) -> Result<Report, ReportError> {
    let sections = studies.iter().map(Section::of).collect::<Result<Vec<_>, _>>()?;
    let mut problems: Vec<String> = Vec::new();
    for opened in studies {
        problems.extend(opened.ledger.problems.iter().map(ToString::to_string));
    }
    problems.dedup();
    problems.extend(sections.iter().flat_map(|section| section.comparison.problems.clone()));
    let panels = sections.iter().flat_map(|section| &section.figures).flat_map(|figure| &figure.panels);
    Ok(Report {
        markdown: markdown::page(&sections, &problems),
        html: html::page(&sections, &problems)?,
        figures: panels.map(|panel| (panel.file.clone(), panel.standalone())).collect(),
        headline: sections.first().map(markdown::headline).unwrap_or_default(),
    })
}

/// Writes `report/out` below the project's root, splices the README's headline, and returns the paths.
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
        write_atomically(path, text.as_bytes()).map_err(ReportError::io(path))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}
