//! One subject at one scale, over its seeds, and how it is printed.

use sandglass_ledger::{Status, Summary};
use serde::Serialize;

use crate::{Axes, CellResult, Entry, Lost, Mark, State};

/// A metric of one subject at one scale: its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Seeds and values.
    pub measured: Vec<(u64, f64)>,
    /// Cells that have a reason in place of a value.
    pub failed: usize,
    pub skipped: usize,
    pub stale: usize,
    /// Cells whose file is there and cannot be used, and cells whose rows are gone.
    #[serde(skip_serializing_if = "is_none")]
    pub damaged: usize,
    #[serde(skip_serializing_if = "is_none")]
    pub gone: usize,
    /// Cells that there are, with rows or without.
    #[serde(skip)]
    cells: usize,
    /// The first reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    rows: Vec<String>,
}

impl Outcome {
    pub fn of<'a, C: Axes + 'a>(metric: &str, cells: impl Iterator<Item = &'a CellResult<'a, C>>) -> Self {
        let mut outcome = Self::default();
        for cell in cells {
            outcome.cells += 1;
            if let Some(row) = cell.row(metric) {
                outcome.rows.push(row.id());
                outcome.measured.extend(row.value.map(|value| (cell.cell.seed(), value)));
            }
            outcome.stale += usize::from(cell.state == State::Stale);
            match &cell.lost {
                Some(Lost::Damaged(_)) => outcome.damaged += 1,
                Some(Lost::Gone) => outcome.gone += 1,
                None => {}
            }
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

    /// Mean and spread, and what is left out of them.
    pub fn entry(&self) -> Entry {
        let Self { failed, skipped, stale, damaged, gone, .. } = *self;
        let lost = [(failed, "failed"), (skipped, "skipped"), (stale, "stale"), (damaged, "damaged"), (gone, "gone")];
        let lost: Vec<String> =
            lost.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let (text, mark) = match self.summary() {
            Some(summary) if lost.is_empty() => (spread(&summary), Mark::Ours),
            // A mean over the seeds that went well is not the mean of all.
            Some(summary) => (format!("{}, {}", spread(&summary), lost.join(", ")), Mark::Partial),
            None if damaged > 0 => ("damaged".into(), Mark::Damaged),
            None if gone > 0 => ("gone".into(), Mark::Gone),
            None if failed > 0 => ("failed".into(), Mark::Failed),
            None if skipped > 0 => ("skipped".into(), Mark::Skipped),
            None if stale > 0 => ("stale".into(), Mark::Stale),
            None if self.cells > 0 => ("not run".into(), Mark::Missing),
            // No such cell is planned.
            None => ("\u{2013}".into(), Mark::Plain),
        };
        Entry::new(text, mark, self.rows.clone())
    }

    /// `other` minus this, between runs of one seed, in the order of this one's seeds.
    pub fn differences(&self, other: &Self) -> Vec<f64> {
        let of_seed = |seed: u64| other.measured.iter().find(|(of, _)| *of == seed).map(|(_, value)| *value);
        self.measured.iter().filter_map(|(seed, value)| Some(of_seed(*seed)? - value)).collect()
    }

    /// Mean and spread of the differences between runs of one seed, `other` minus this.
    pub fn difference(&self, other: &Self) -> Entry {
        let rows = [self.rows.clone(), other.rows.clone()].concat();
        match Summary::of(&self.differences(other)) {
            Some(summary) if summary.mean >= 0.0 => Entry::new(format!("+{}", spread(&summary)), Mark::Ours, rows),
            Some(summary) => Entry::new(spread(&summary), Mark::Ours, rows),
            None => Entry::new("\u{2013}", Mark::Missing, Vec::new()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Such as `72.90 ± 0.31 (n=3)`.
fn spread(Summary { mean, sd, n, .. }: &Summary) -> String {
    match sd {
        Some(sd) => format!("{mean:.2} \u{b1} {sd:.2} (n={n})"),
        None => format!("{mean:.2} (n={n})"),
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
        let difference = |a: &[(u64, f64)], b: &[(u64, f64)]| outcome(a).difference(&outcome(b)).text;
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
