//! Per network the paper's values, exact costs, and what was measured at each scale.

use sandglass_lab::ImageSetup;
use sandglass_ledger::Status;
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::paper::{Confidence, PaperRow};
use sandglass_study::{CellResult, Outcome, Profile, Results, Scale, StudyError};
use serde::Serialize;

use crate::Width;

/// The input size and number of classes that the papers' costs are for.
pub(crate) const PAPER_INPUT: usize = 224;

/// One scale at which there are rows: a profile's data set.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Column {
    pub profile: String,
    pub dataset: String,
    /// Such as `synthetic, 32x32`; heads the column.
    pub title: String,
    pub synthetic: bool,
    /// What to know of it: data set, classes, images, and the profile's own note.
    pub note: String,
}

/// One network.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub network: String,
    /// The paper's name for it.
    pub model: String,
    pub width: f64,
    pub paper: Option<PaperRow>,
    pub confidence: Confidence,
    /// Where the paper's values stand.
    #[serde(skip)]
    pub stands: String,
    /// At 224 x 224 with 1000 classes.
    pub cost: Cost,
    /// Top-1 accuracy, parallel to the comparison's scales.
    pub results: Vec<Outcome>,
}

/// The whole study at its common recipes; what `table --json` prints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub study: String,
    pub scales: Vec<Column>,
    pub lines: Vec<Line>,
    /// Profiles with cells that are not done: name and how many of how many.
    pub open: Vec<(String, usize, usize)>,
    /// Rows that are not used, and why.
    pub problems: Vec<String>,
}

/// Profiles that compare all networks on one footing; the others have tables of their own.
pub(crate) fn is_plain(setup: &ImageSetup) -> bool {
    setup.vary.is_empty() && setup.inputs.is_empty() && setup.own_recipe.is_empty()
}

impl Comparison {
    pub fn of(results: &Results<'_, Width>) -> Result<Self, StudyError> {
        let mut comparison = Self {
            study: results.head.name.clone(),
            scales: Vec::new(),
            lines: lines(results)?,
            open: Vec::new(),
            problems: results.scales.iter().flat_map(|scale| scale.problems()).collect(),
        };
        for scale in &results.scales {
            let (open, all) = scale.open();
            if open > 0 {
                comparison.open.push((scale.profile.name.clone(), open, all));
            }
        }
        let plain = || results.scales.iter().filter(|scale| is_plain(&scale.profile.setup));
        let measured =
            |scale: &Scale<'_, Width>| scale.cells.iter().filter(|cell| cell.value("top1").is_some()).count();
        // The scale at which most was measured stands beside the paper's values, the others in their order.
        let most = plain().map(measured).max();
        let first = plain().position(|scale| Some(measured(scale)) == most);
        let mut scales: Vec<_> = plain().enumerate().collect();
        scales.sort_by_key(|(at, _)| Some(*at) != first);
        for (_, scale) in scales {
            let mut sets: Vec<&str> = scale.cells.iter().map(|cell| cell.cell.data.as_str()).collect();
            sets.dedup();
            for set in sets {
                let cells = || scale.cells.iter().filter(|cell| cell.cell.data == set);
                let Some(column) = column(scale.profile, set, cells()) else { continue };
                comparison.problems.extend(other_data(cells()));
                comparison.scales.push(column);
                for line in &mut comparison.lines {
                    let of_line = |cell: &&CellResult<'_, sandglass_lab::Classifier>| {
                        cell.cell.network.to_string() == line.network && cell.cell.network.width == line.width
                    };
                    line.results.push(Outcome::of("top1", cells().filter(of_line)));
                }
            }
        }
        Ok(comparison)
    }
}

/// Cells that were measured on other data than the first: they are not to be compared.
fn other_data<'a>(cells: impl Iterator<Item = &'a CellResult<'a, sandglass_lab::Classifier>>) -> Vec<String> {
    let rows: Vec<_> = cells.filter_map(|cell| cell.row("top1")).filter(|row| row.value.is_some()).collect();
    let Some(first) = rows.first() else { return Vec::new() };
    let other = rows.iter().filter(|row| (&row.data_hash, row.n) != (&first.data_hash, first.n));
    other.map(|row| format!("{}: was measured on other images than {}", row.id(), first.id())).collect()
}

/// None where there are no rows, and never were.
fn column<'a>(
    profile: &Profile<ImageSetup>,
    set: &str,
    cells: impl Iterator<Item = &'a CellResult<'a, sandglass_lab::Classifier>>,
) -> Option<Column> {
    let cells: Vec<_> = cells.collect();
    let rows: Vec<_> = cells.iter().filter_map(|cell| cell.row("top1")).collect();
    let copies = cells.iter().find_map(|cell| cell.value("copies_left_out")).map_or_else(String::new, |count| {
        format!(" {count} training images are left out, for a validation image repeats them under another label.")
    });
    let setup = &profile.setup;
    let Some(row) = rows.iter().find(|row| row.status == Status::Ok).or(rows.first()) else {
        return cells.iter().any(|cell| cell.lost.is_some()).then(|| Column {
            profile: profile.name.clone(),
            dataset: set.to_owned(),
            title: format!("{}, {1}x{1}", profile.title, setup.input),
            synthetic: profile.synthetic,
            note: "All of its rows are damaged or gone.".to_owned(),
        });
    };
    let images = if setup.given.is_empty() { String::new() } else { format!(", {} images", row.n) };
    let synthetic = if profile.synthetic { " (synthetic)" } else { "" };
    let facts = format!("data set {}{synthetic}, {} classes, {} images.", row.dataset, setup.classes, row.n);
    Some(Column {
        profile: profile.name.clone(),
        dataset: set.to_owned(),
        title: format!("{}, {1}x{1}{images}", profile.title, setup.input),
        synthetic: profile.synthetic,
        note: format!("{facts}{copies} {}", profile.note).trim_end().to_owned(),
    })
}

fn lines(results: &Results<'_, Width>) -> Result<Vec<Line>, StudyError> {
    let paper = results.head.paper()?;
    let mut lines = Vec::new();
    for variant in &results.design.networks {
        for &width in &results.design.widths {
            let config = variant.network.parse().map_err(StudyError::refused)?;
            let config = NetworkConfig { width, ..config };
            let row = paper.row(&[("model", &variant.paper)], &[("width", width)]);
            let cost = config.build().and_then(|network| network.cost(PAPER_INPUT, PAPER_INPUT));
            lines.push(Line {
                network: variant.network.clone(),
                model: variant.paper.clone(),
                width,
                paper: row.cloned(),
                confidence: row.map_or(paper.confidence, |row| paper.confidence(row)),
                stands: row.map(|row| paper.stands(row)).unwrap_or_default(),
                cost: cost.map_err(StudyError::refused)?,
                results: Vec::new(),
            });
        }
    }
    Ok(lines)
}

impl Line {
    /// A value that the paper prints.
    pub fn printed(&self, column: &str) -> Option<f64> {
        self.paper.as_ref()?.number(column)
    }
}
