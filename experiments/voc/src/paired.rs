//! How sure a mean average precision is, and two detectors on the same images, drawn anew together.

use sandglass_ledger::stats::{Interval, mean, percentiles};
use sandglass_study::{CellResult, Entry, Mark, Scale, Table};
use serde::Serialize;

use crate::{Cell, Detector, Voc};

/// A detector's mean average precision, in percent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Score {
    pub of: String,
    pub run: String,
    /// 95 %.
    pub interval: Interval,
    pub seeds: Vec<(u64, f64)>,
    pub images: u64,
    /// Hash of these.
    #[serde(skip)]
    pub data: String,
    #[serde(skip)]
    rows: Vec<String>,
}

/// By how much a detector's mean average precision exceeds another's that started from the same, in points.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lead {
    pub run: String,
    pub of: String,
    pub over: String,
    /// 95 %.
    pub interval: Interval,
    /// Of each seed that both have.
    pub seeds: Vec<(u64, f64)>,
    pub images: u64,
    #[serde(skip)]
    rows: Vec<String>,
}

/// Cells of a detector that differ in their seed alone.
struct Group<'a> {
    detector: &'a Detector,
    cells: Vec<&'a CellResult<'a, Cell>>,
}

impl<'a> Group<'a> {
    fn first(&self) -> Option<&'a Cell> {
        self.cells.first().map(|result| result.cell)
    }

    /// The run's name, and the recipe's where there are several.
    fn run(&self) -> String {
        let Some(Cell { name, variation, .. }) = self.first() else { return String::new() };
        variation.as_ref().map_or_else(|| name.clone(), |variation| format!("{name}, {variation}"))
    }

    /// Whether both learnt the same way from the same: runs may have other names.
    fn pairs_with(&self, other: &Self) -> bool {
        let (Some(own), Some(other)) = (self.first(), other.first()) else { return false };
        own.work.start().is_some() && own.work.start() == other.work.start() && own.variation == other.variation
    }
}

fn groups<'a>(scale: &'a Scale<'a, Voc>, detectors: &'a [Detector]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = Vec::new();
    for result in &scale.cells {
        let cell = result.cell;
        let is_of = |group: &&mut Group| {
            group.first().is_some_and(|first| {
                (&first.network, &first.name, &first.variation) == (&cell.network, &cell.name, &cell.variation)
            })
        };
        match groups.iter_mut().find(is_of) {
            Some(group) => group.cells.push(result),
            None => {
                let detector = detectors.iter().find(|detector| detector.network == cell.network);
                groups.extend(detector.map(|detector| Group { detector, cells: vec![result] }));
            }
        }
    }
    groups
}

/// Every detector that has a score, and what of others is to be told.
pub(crate) fn scores(scale: &Scale<'_, Voc>, detectors: &[Detector]) -> (Vec<Score>, Vec<String>) {
    let (mut scores, mut notes) = (Vec::new(), Vec::new());
    for group in groups(scale, detectors) {
        match score(&group) {
            Ok(score) => scores.extend(score),
            Err(note) => notes.push(note),
        }
    }
    (scores, notes)
}

/// None of what is not scored.
///
/// # Errors
/// What to tell of seeds that cannot be averaged.
fn score(group: &Group) -> Result<Option<Score>, String> {
    let rows: Vec<_> =
        group.cells.iter().filter_map(|result| Some((result.cell.seed, result.row("map_drawn")?))).collect();
    let Some((_, first)) = rows.first() else { return Ok(None) };
    let (of, run) = (group.detector.title.clone(), group.run());
    if rows.iter().any(|(_, row)| (&row.data_hash, &row.samples_at) != (&first.data_hash, &first.samples_at)) {
        return Err(format!(
            "{of}, {run}: left out, for its seeds were scored on other images or other draws of them."
        ));
    }
    let units: Vec<(f64, Vec<f64>)> =
        rows.iter().filter_map(|(_, row)| Some((row.value?, row.samples.clone()))).collect();
    let Some(found) = interval(&units) else { return Ok(None) };
    // Moved draws may leave what a share can be.
    let interval = Interval { low: found.low.max(0.0), high: found.high.min(100.0), ..found };
    let (images, data) = (first.n, first.data_hash.clone());
    let seeds = rows.iter().filter_map(|(seed, row)| Some((*seed, row.value?))).collect();
    let rows = rows.iter().map(|(_, row)| row.id()).collect();
    Ok(Some(Score { of, run, interval, seeds, images, data, rows }))
}

/// Every two detectors that started from the same and learnt by one recipe: the later of the design over the earlier.
pub(crate) fn leads(scale: &Scale<'_, Voc>, detectors: &[Detector]) -> Vec<Lead> {
    let groups = groups(scale, detectors);
    let place = |group: &Group| detectors.iter().position(|of| of.network == group.detector.network);
    let mut leads = Vec::new();
    for over in &groups {
        let later = groups.iter().filter(|of| of.pairs_with(over) && place(of) > place(over));
        leads.extend(later.filter_map(|of| lead(of, over)));
    }
    leads
}

/// Of the seeds that both have. None where there is none, or they were scored on other images.
fn lead(of: &Group, over: &Group) -> Option<Lead> {
    let (mut seeds, mut rows, mut images) = (Vec::new(), Vec::new(), 0);
    let mut units = Vec::new();
    for result in &of.cells {
        let Some(other) = over.cells.iter().find(|other| other.cell.seed == result.cell.seed) else { continue };
        let (Some(a), Some(b)) = (other.row("map_drawn"), result.row("map_drawn")) else { continue };
        let is_same = (&a.data_hash, &a.samples_at) == (&b.data_hash, &b.samples_at);
        let (Some(x), Some(y), true) = (a.value, b.value, is_same) else { continue };
        seeds.push((result.cell.seed, y - x));
        rows.extend([a.id(), b.id()]);
        images = a.n;
        units.push((y - x, a.samples.iter().zip(&b.samples).map(|(a, b)| b - a).collect()));
    }
    let interval = interval(&units)?;
    let [of, named] = [of, over].map(|group| group.detector.title.clone());
    Some(Lead { run: over.run(), of, over: named, interval, seeds, images, rows })
}

/// The mean over seeds, of each its value and what it is on each draw of images. The interval is that over images, by the
/// draws' percentiles; of several seeds together with that over seeds, by Student's t. None where seeds were drawn otherwise.
fn interval(seeds: &[(f64, Vec<f64>)]) -> Option<Interval> {
    let replicates = seeds.first()?.1.len();
    if seeds.iter().any(|(_, drawn)| drawn.len() != replicates) {
        return None;
    }
    let values: Vec<f64> = seeds.iter().map(|(value, _)| *value).collect();
    let average = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / seeds.len() as f64;
    let effect = average(&mut values.iter().copied());
    let of_replicate = |at: usize| average(&mut seeds.iter().filter_map(|(_, drawn)| drawn.get(at).copied()));
    let images = percentiles(effect, (0..replicates).map(of_replicate).collect())?;
    let over_seeds = mean(&values).map_or(0.0, |seeds| seeds.high - effect);
    // Percentiles need not lie around the effect.
    let (below, above) = ((effect - images.low).max(0.0), (images.high - effect).max(0.0));
    Some(Interval { effect, low: effect - below.hypot(over_seeds), high: effect + above.hypot(over_seeds) })
}

/// A line for each score.
pub(crate) fn scores_table(scores: &[Score]) -> Table {
    let columns = [("detector", false), ("start", false), ("mAP (%)", true), ("95 % interval", true), ("seeds", true)];
    let mut table = Table::new(columns.map(|(heading, right)| (heading.to_owned(), right)));
    for score in scores {
        let Interval { effect, low, high } = score.interval;
        let ours = |text: String| Entry::new(text, Mark::Ours, score.rows.clone());
        table.push([
            score.of.clone().into(),
            score.run.clone().into(),
            ours(format!("{effect:.2}")),
            ours(format!("{low:.2} to {high:.2}")),
            score.seeds.len().to_string().into(),
        ]);
    }
    table
}

/// A line for each lead.
pub(crate) fn leads_table(leads: &[Lead]) -> Table {
    let columns = [
        ("detector", false),
        ("over", false),
        ("start", false),
        ("points of mAP", true),
        ("95 % interval", true),
        ("seeds", true),
    ];
    let mut table = Table::new(columns.map(|(heading, right)| (heading.to_owned(), right)));
    for lead in leads {
        let Interval { effect, low, high } = lead.interval;
        let ours = |text: String| Entry::new(text, Mark::Ours, lead.rows.clone());
        table.push([
            lead.of.clone().into(),
            lead.over.clone().into(),
            lead.run.clone().into(),
            ours(format!("{effect:+.2}")),
            ours(format!("{low:+.2} to {high:+.2}")),
            lead.seeds.len().to_string().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws 0, 1, ..., 1000: percentiles at 25 and 975.
    fn unit(value: f64) -> (f64, Vec<f64>) {
        (value, (0..=1000).rev().map(f64::from).collect())
    }

    #[test]
    fn one_seed_has_the_interval_of_its_images() {
        let found = interval(&[unit(480.0)]).unwrap();
        assert_eq!((found.effect, found.low, found.high), (480.0, 25.0, 975.0));
        // A value outside its draws' percentiles is still in its interval.
        assert_eq!(interval(&[unit(990.0)]).unwrap().high, 990.0);
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&[unit(1.0), (1.0, vec![1.0])]), None);
    }

    /// Student's t at one degree of freedom, 12.706, on a standard error of 10.
    #[test]
    fn several_seeds_add_their_own_spread() {
        let found = interval(&[unit(490.0), unit(510.0)]).unwrap();
        let half = 475.0f64.hypot(12.706_204_736 * 10.0);
        assert_eq!(found.effect, 500.0);
        assert!((found.low - (500.0 - half)).abs() < 1e-6 && (found.high - (500.0 + half)).abs() < 1e-6, "{found:?}");
        let equal = interval(&[unit(500.0), unit(500.0)]).unwrap();
        assert_eq!((equal.low, equal.high), (25.0, 975.0));
    }
}
