//! Two detectors on the same images, drawn anew together.

use sandglass_ledger::stats::{Interval, percentiles};
use sandglass_study::{CellResult, Entry, Mark, Scale, Table};
use serde::Serialize;

use crate::{Cell, Detector, Voc};

/// By how much a detector's mean average precision exceeds the first's, in points.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lead {
    pub run: String,
    pub of: String,
    pub over: String,
    /// 95 %, over images; seeds are averaged.
    pub interval: Interval,
    /// Of each seed that both have.
    pub seeds: Vec<(u64, f64)>,
    pub images: u64,
    #[serde(skip)]
    rows: Vec<String>,
}

/// Every detector of a run against the first of the design, recipe by recipe.
pub(crate) fn leads(scale: &Scale<'_, Voc>, detectors: &[Detector]) -> Vec<Lead> {
    let mut names: Vec<(&str, Option<&str>)> = Vec::new();
    for result in &scale.cells {
        let name = (result.cell.name.as_str(), result.cell.variation.as_deref());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let Some((first, others)) = detectors.split_first() else { return Vec::new() };
    let of = |name: (&str, Option<&str>), detector: &Detector| -> Vec<&CellResult<'_, Cell>> {
        let is_here = |result: &&CellResult<'_, Cell>| {
            let cell = result.cell;
            cell.network == detector.network && (cell.name.as_str(), cell.variation.as_deref()) == name
        };
        scale.cells.iter().filter(is_here).collect()
    };
    let mut leads = Vec::new();
    for name in names {
        let run = name.1.map_or_else(|| name.0.to_owned(), |variation| format!("{}, {variation}", name.0));
        for other in others {
            leads.extend(lead(&of(name, first), &of(name, other)).map(|lead| Lead {
                run: run.clone(),
                of: other.title.clone(),
                over: first.title.clone(),
                ..lead
            }));
        }
    }
    leads
}

/// Of the seeds that both have. None where there is none, or they were scored on other images.
fn lead(first: &[&CellResult<'_, Cell>], other: &[&CellResult<'_, Cell>]) -> Option<Lead> {
    let (mut seeds, mut rows, mut images) = (Vec::new(), Vec::new(), 0);
    let mut drawn: Vec<Vec<f64>> = Vec::new();
    for other in other {
        let Some(first) = first.iter().find(|first| first.cell.seed == other.cell.seed) else { continue };
        let (Some(a), Some(b)) = (first.row("map_drawn"), other.row("map_drawn")) else { continue };
        let is_same = (&a.data_hash, &a.samples_at) == (&b.data_hash, &b.samples_at);
        let (Some(x), Some(y), true) = (a.value, b.value, is_same) else { continue };
        seeds.push((other.cell.seed, y - x));
        rows.extend([a.id(), b.id()]);
        drawn.push(a.samples.iter().zip(&b.samples).map(|(a, b)| b - a).collect());
        images = a.n;
    }
    let effect = mean(seeds.iter().map(|(_, difference)| *difference));
    let replicates = drawn.first()?.len();
    let of_replicate = |at: usize| mean(drawn.iter().filter_map(|seed| seed.get(at).copied()));
    let interval = percentiles(effect, (0..replicates).map(of_replicate).collect())?;
    Some(Lead { run: String::new(), of: String::new(), over: String::new(), interval, seeds, images, rows })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// One line for each.
pub(crate) fn table(leads: &[Lead]) -> Table {
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
