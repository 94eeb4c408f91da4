//! Per network the paper's values, exact costs, and what was measured at each scale.

use sandglass_lab::ImageSetup;
use sandglass_ledger::{Status, Summary};
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::paper::{Confidence, PaperRow, PaperTable};
use sandglass_study::{CellResult, Entry, Mark, Profile, Results, State, StudyError};
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
    /// At 224 x 224 with 1000 classes.
    pub cost: Cost,
    /// Parallel to the comparison's scales.
    pub results: Vec<Outcome>,
}

/// Top-1 accuracy of one network at one scale: its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// Seeds, and percent.
    pub measured: Vec<(u64, f64)>,
    /// Cells that have a reason in place of a value.
    pub failed: usize,
    pub skipped: usize,
    pub stale: usize,
    /// The first reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    rows: Vec<String>,
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
            if !is_plain(&scale.profile.setup) {
                continue;
            }
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
                    line.results.push(Outcome::of(cells().filter(of_line)));
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

/// None where there are no rows.
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
    let row = rows.iter().find(|row| row.status == Status::Ok).or(rows.first())?;
    let setup = &profile.setup;
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
    let paper =
        results.head.paper_table.as_deref().ok_or_else(|| StudyError::refused("this method needs a paper_table"))?;
    let paper = PaperTable::find(paper)?;
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

impl Outcome {
    pub fn of<'a>(cells: impl Iterator<Item = &'a CellResult<'a, sandglass_lab::Classifier>>) -> Self {
        let mut outcome = Self::default();
        for cell in cells {
            if let Some(row) = cell.row("top1") {
                outcome.rows.push(row.id());
                outcome.measured.extend(row.value.map(|value| (cell.cell.seed, value)));
            }
            outcome.stale += usize::from(cell.state == State::Stale);
            match cell.reason() {
                Some((Status::Skipped, _)) => outcome.skipped += 1,
                Some(_) => outcome.failed += 1,
                None => continue,
            }
            let reason = cell.reason().map(|(_, reason)| reason.to_owned());
            outcome.reason = outcome.reason.take().or(reason);
        }
        outcome
    }

    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.measured.iter().map(|(_, value)| *value).collect::<Vec<_>>())
    }

    pub fn entry(&self) -> Entry {
        let lost = [(self.failed, "failed"), (self.skipped, "skipped"), (self.stale, "stale")];
        let lost: Vec<String> =
            lost.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let (text, mark) = match (self.summary(), self.failed, self.skipped, self.stale) {
            (Some(summary), 0, 0, 0) => (spread(&summary), Mark::Ours),
            // A mean over the seeds that went well is not the mean of all.
            (Some(summary), ..) => (format!("{}, {}", spread(&summary), lost.join(", ")), Mark::Partial),
            (None, 0, 0, 0) => ("\u{2013}".into(), Mark::Missing),
            (None, 0, 0, _) => ("stale".into(), Mark::Stale),
            (None, 0, ..) => ("skipped".into(), Mark::Skipped),
            (None, ..) => ("failed".into(), Mark::Failed),
        };
        Entry::new(text, mark, self.rows.clone())
    }
}

/// Such as `72.90 ± 0.31 (n=3)`.
pub(crate) fn spread(Summary { mean, sd, n, .. }: &Summary) -> String {
    match sd {
        Some(sd) => format!("{mean:.2} \u{b1} {sd:.2} (n={n})"),
        None => format!("{mean:.2} (n={n})"),
    }
}

/// Differences between runs of one seed, in the order of the first's.
pub(crate) fn differences(first: &Outcome, second: &Outcome) -> Vec<f64> {
    let of_seed = |seed: u64| second.measured.iter().find(|(other, _)| *other == seed).map(|(_, value)| *value);
    first.measured.iter().filter_map(|(seed, value)| Some(of_seed(*seed)? - value)).collect()
}

/// Mean and spread of the differences between runs of one seed.
pub(crate) fn difference(first: &Outcome, second: &Outcome) -> Entry {
    let rows = [first.rows.clone(), second.rows.clone()].concat();
    match Summary::of(&differences(first, second)) {
        Some(summary) if summary.mean >= 0.0 => Entry::new(format!("+{}", spread(&summary)), Mark::Ours, rows),
        Some(summary) => Entry::new(spread(&summary), Mark::Ours, rows),
        None => Entry::new("\u{2013}", Mark::Missing, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(measured: &[(u64, f64)]) -> Outcome {
        Outcome { measured: measured.to_vec(), ..Outcome::default() }
    }

    #[test]
    fn differences_pair_seeds() {
        let difference = |a: &[(u64, f64)], b: &[(u64, f64)]| difference(&outcome(a), &outcome(b)).text;
        assert_eq!(difference(&[(0, 70.0), (1, 71.0)], &[(1, 73.0), (0, 71.0)]), "+1.50 \u{b1} 0.71 (n=2)");
        assert_eq!(difference(&[(0, 70.0), (1, 71.0)], &[(1, 70.5)]), "-0.50 (n=1)");
        assert_eq!(difference(&[(0, 70.0)], &[(1, 70.5)]), "\u{2013}");
    }

    #[test]
    fn a_mean_says_what_it_leaves_out() {
        let partial = Outcome { failed: 1, ..outcome(&[(0, 70.0), (1, 72.0)]) };
        assert_eq!(partial.entry().text, "71.00 \u{b1} 1.41 (n=2), 1 failed");
        assert_eq!(Outcome { skipped: 2, ..Outcome::default() }.entry().text, "skipped");
    }
}
