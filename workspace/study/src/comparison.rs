//! A study's result: per network the paper's values, exact costs, and what was measured at each scale.
//!
//! Made of the study's file, the paper's table, the cost model and committed rows; nothing is trained or evaluated.

use sandglass_ledger::{Ledger, Row, Status, Summary};
use sandglass_models::{Cost, NetworkConfig};
use serde::Serialize;

use crate::cell::{self, Cell};
use crate::paper::{Confidence, LEGEND, PaperRow, PaperTable};
use crate::study::{Profile, Study};
use crate::{StudyError, Table};

/// The input size and number of classes that the papers' costs are for.
const PAPER_INPUT: usize = 224;

/// One scale at which there are rows: a profile's data set.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
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
pub struct Line {
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

/// Top-1 accuracy of one network at one scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Missing,
    /// Cells that failed or were skipped, with the first reason.
    Failed(String),
    /// Seeds, and percent.
    Measured(Vec<(u64, f64)>),
}

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub study: String,
    pub scales: Vec<Scale>,
    pub lines: Vec<Line>,
    /// Profiles with cells that are not done: name and how many of how many.
    pub open: Vec<(String, usize, usize)>,
    /// Rows that are not used, and why.
    pub problems: Vec<String>,
}

impl Comparison {
    /// Of all profiles, or of the one named.
    pub fn of(study: &Study, ledger: &Ledger, only: Option<&str>) -> Result<Self, StudyError> {
        let paper = PaperTable::find(&study.paper_table)?;
        let mut comparison = Self {
            study: study.name.clone(),
            scales: Vec::new(),
            lines: lines(study, &paper)?,
            open: Vec::new(),
            problems: Vec::new(),
        };
        let wanted = only.map(|name| study.profile(Some(name))).transpose()?;
        for profile in study.profile.iter().filter(|profile| wanted.is_none_or(|only| only.name == profile.name)) {
            comparison.add(study, profile, ledger)?;
        }
        Ok(comparison)
    }

    fn add(&mut self, study: &Study, profile: &Profile, ledger: &Ledger) -> Result<(), StudyError> {
        let cells = cell::cells(study, profile)?;
        let mut used: Vec<(&Cell, &Row)> = Vec::new();
        for row in ledger.of(&study.name, &profile.name).filter(|row| is_headline(row)) {
            match cells.iter().find(|cell| cell.id == row.cell) {
                Some(cell) if cell.hash() == row.recipe_hash => used.push((cell, row)),
                Some(_) => self.problems.push(format!("{}: stale, the cell's definition has changed", row.id())),
                None => self.problems.push(format!("{}: the study has no such cell", row.id())),
            }
        }
        let done = used.iter().filter(|(_, row)| row.status == Status::Ok).count();
        if done < cells.len() {
            self.open.push((profile.name.clone(), cells.len() - done, cells.len()));
        }
        let mut sets: Vec<&str> = cells.iter().map(|cell| cell.data.as_str()).collect();
        sets.dedup();
        for set in sets {
            let rows: Vec<&Row> = used.iter().filter(|(cell, _)| cell.data == set).map(|(_, row)| *row).collect();
            let Some(first) = rows.iter().find(|row| row.status == Status::Ok).or(rows.first()) else { continue };
            self.scales.push(Scale {
                profile: profile.name.clone(),
                dataset: set.to_owned(),
                title: title(profile, first),
                synthetic: profile.synthetic,
                note: note(profile, first),
            });
            for line in &mut self.lines {
                let of_line = |row: &&&Row| row.variant == line.network && row.width == line.width;
                line.results.push(outcome(rows.iter().filter(of_line).copied()));
            }
        }
        Ok(())
    }

    /// The table that is printed, and spliced into the README.
    pub fn table(&self) -> Table {
        let fixed = [
            ("network", false),
            ("width", true),
            ("params, paper (M)", true),
            ("params, exact", true),
            ("multiply-adds, paper (M)", true),
            ("multiply-adds, exact", true),
            ("top-1, paper (%)", true),
        ];
        let columns = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
        let scales = self.scales.iter().map(|scale| (format!("top-1, ours, {} (%)", scale.title), true));
        let mut table = Table::new(columns.chain(scales));
        for line in &self.lines {
            let paper = line.paper.as_ref();
            let marked = |text: Option<String>| text.map_or("?".into(), |text| text + line.confidence.mark());
            let fixed = [
                line.model.clone(),
                format!("{:?}", line.width),
                marked(paper.and_then(|row| row.params_m).map(|value| format!("{value:?}"))),
                grouped(line.cost.params),
                marked(paper.and_then(|row| row.madds_m).map(|value| value.to_string())),
                grouped(line.cost.madds_total),
                marked(paper.and_then(|row| row.top1_pct).map(|value| format!("{value:?}"))),
            ];
            table.push(fixed.into_iter().chain(line.results.iter().map(Outcome::text)));
        }
        table
    }

    /// What a reader of the table has to know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            format!(
                "Costs are for {PAPER_INPUT} x {PAPER_INPUT} pixels and 1000 classes, counted from the networks' tables. \
                 {LEGEND} ? not known."
            ),
            "Ours: mean \u{b1} sample standard deviation over n seeds, on the checkpoint file as kept.".to_owned(),
        ];
        notes.extend(self.scales.iter().map(|scale| format!("Ours, {}: {}", scale.title, scale.note)));
        for (profile, open, all) in &self.open {
            notes.push(format!("Not done: {open} of {all} cells of profile {profile}."));
        }
        notes
    }
}

impl Outcome {
    pub fn summary(&self) -> Option<Summary> {
        match self {
            Outcome::Measured(values) => Summary::of(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>()),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Outcome::Failed(_) => "failed".into(),
            _ => self.summary().map_or("\u{2013}".into(), |summary| spread(&summary)),
        }
    }
}

/// Such as `72.90 ± 0.31 (n=3)`.
pub(crate) fn spread(Summary { mean, sd, n, .. }: &Summary) -> String {
    match sd {
        Some(sd) => format!("{mean:.2} \u{b1} {sd:.2} (n={n})"),
        None => format!("{mean:.2} (n={n})"),
    }
}

fn is_headline(row: &Row) -> bool {
    row.metric == "top1"
}

fn lines(study: &Study, paper: &PaperTable) -> Result<Vec<Line>, StudyError> {
    let mut lines = Vec::new();
    for variant in &study.grid.networks {
        for &width in &study.grid.widths {
            let config = NetworkConfig { width, ..variant.network.parse()? };
            let row = paper.row(&variant.paper, width);
            lines.push(Line {
                network: variant.network.clone(),
                model: variant.paper.clone(),
                width,
                paper: row.cloned(),
                confidence: row.map_or(paper.confidence, |row| paper.confidence(row)),
                cost: config.build()?.cost(PAPER_INPUT, PAPER_INPUT)?,
                results: Vec::new(),
            });
        }
    }
    Ok(lines)
}

fn title(profile: &Profile, row: &Row) -> String {
    let images = if profile.given.is_empty() { String::new() } else { format!(", {} images", row.n) };
    format!("{}, {1}x{1}{images}", profile.title, profile.input)
}

fn note(profile: &Profile, row: &Row) -> String {
    let synthetic = if profile.synthetic { " (synthetic)" } else { "" };
    let facts = format!("data set {}{synthetic}, {} classes, {} images.", row.dataset, profile.classes, row.n);
    format!("{facts} {}", profile.note).trim_end().to_owned()
}

fn outcome<'a>(rows: impl Iterator<Item = &'a Row>) -> Outcome {
    let (mut values, mut error) = (Vec::new(), None);
    for row in rows {
        match row.value {
            Some(value) => values.push((row.seed, value)),
            None => error = error.or(row.error.clone()),
        }
    }
    match error {
        _ if !values.is_empty() => Outcome::Measured(values),
        Some(error) => Outcome::Failed(error),
        None => Outcome::Missing,
    }
}

/// Such as `3,504,872`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
