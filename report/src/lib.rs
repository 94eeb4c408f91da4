//! Sections to markdown and HTML. The same rows give the same bytes: nothing here looks at the clock or at HEAD, and
//! nothing here could train: it knows sections and no more.

mod colours;
mod curves;
mod drawing;
mod error;
mod html;
mod markdown;
mod origins;
mod pictures;
mod plot;
mod splice;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandglass_study::{Part, Record, Section};

use crate::colours::Colours;
use crate::html::Shown;

pub use error::ReportError;
pub use splice::splice;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub title: &'a str,
    /// In reading order; the first is the answer.
    pub sections: &'a [Section],
    /// Of row files, whoever's they are; each is told once.
    pub problems: &'a [String],
    /// All that is known of rows, by id.
    pub records: &'a BTreeMap<String, Record>,
}

/// All that is written, in memory.
#[derive(Clone, Debug)]
pub struct Report {
    pub markdown: String,
    pub html: String,
    /// File name and SVG, as the markdown links them.
    pub figures: Vec<(String, String)>,
    /// The first two sections' headline tables, for the README.
    pub headline: String,
}

/// Builds the report.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn build(content: &Content<'_>) -> Result<Report, ReportError> {
    let colours = Colours::of(content.sections);
    let mut shown = Vec::new();
    for section in content.sections {
        let pictures = section.parts.iter().filter_map(|part| match part {
            Part::Figure(figure) => Some(plot::draw_all(figure, &colours)),
            Part::Drawing(drawing) => Some(Ok(vec![drawing::draw(drawing, &colours)])),
            Part::Curves(curves) => Some(Ok(curves::draw_all(curves))),
            Part::Pictures(pictures) => Some(Ok(pictures::draw_all(pictures, &colours))),
            _ => None,
        });
        shown.push(Shown { section, pictures: pictures.collect::<Result<_, _>>()? });
    }
    let mut problems: Vec<String> = Vec::new();
    for problem in content.problems.iter().chain(content.sections.iter().flat_map(|section| &section.problems)) {
        if !problems.contains(problem) {
            problems.push(problem.clone());
        }
    }
    let pictures = shown.iter().flat_map(|shown| &shown.pictures).flatten();
    Ok(Report {
        markdown: markdown::page(content.title, &shown, &problems),
        html: html::page(content, &shown, &problems)?,
        figures: pictures.map(|picture| (picture.file.clone(), picture.standalone())).collect(),
        headline: markdown::headline(content.sections),
    })
}

impl Report {
    /// What is written where, below the project's root: `report/out`, and the README with its headline spliced.
    ///
    /// # Errors
    /// A README that cannot be read, or that has no lines to put the headline between.
    pub fn files(&self, root: &Path) -> Result<Vec<(PathBuf, String)>, ReportError> {
        let folder = root.join("report/out");
        let mut files =
            vec![(folder.join("report.md"), self.markdown.clone()), (folder.join("index.html"), self.html.clone())];
        files.extend(self.figures.iter().map(|(name, svg)| (folder.join(name), svg.clone())));
        let readme = root.join("README.md");
        if readme.exists() {
            let text = std::fs::read_to_string(&readme).map_err(ReportError::io(&readme))?;
            let spliced = splice(&text, "headline", &self.headline)
                .ok_or_else(|| ReportError::Markers { path: readme.clone(), name: "headline" })?;
            files.push((readme, spliced));
        }
        Ok(files)
    }
}

/// Writes files that differ from what is there, removes figures from `report/out` that are not among them, and returns the
/// paths.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(root: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, ReportError> {
    for (path, text) in files {
        if std::fs::read_to_string(path).is_ok_and(|old| old == *text) {
            continue;
        }
        sandglass_files::write(path, text.as_bytes()).map_err(ReportError::io(path))?;
    }
    for path in other_figures(root, files)? {
        std::fs::remove_file(&path).map_err(ReportError::io(&path))?;
    }
    Ok(files.iter().map(|(path, _)| path.clone()).collect())
}

/// What of `files` is not what lies there, and figures that lie there and are not among them.
///
/// # Errors
/// A folder that cannot be read.
pub fn drift(root: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, ReportError> {
    let differs = |(path, text): &&(PathBuf, String)| std::fs::read_to_string(path).ok().as_ref() != Some(text);
    let mut drift: Vec<PathBuf> = files.iter().filter(differs).map(|(path, _)| path.clone()).collect();
    drift.extend(other_figures(root, files)?);
    Ok(drift)
}

/// A scale more or less gives figures other names: the old ones would stay committed and be nobody's.
fn other_figures(root: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, ReportError> {
    let folder = root.join("report/out");
    let mut others = Vec::new();
    if !folder.is_dir() {
        return Ok(others);
    }
    for entry in std::fs::read_dir(&folder).map_err(ReportError::io(&folder))? {
        let path = entry.map_err(ReportError::io(&folder))?.path();
        let is_figure = path.extension().is_some_and(|extension| extension == "svg");
        if is_figure && files.iter().all(|(other, _)| *other != path) {
            others.push(path);
        }
    }
    others.sort();
    Ok(others)
}
