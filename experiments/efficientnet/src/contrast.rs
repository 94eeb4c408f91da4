//! What the block and what the gates contribute, image by image, and whether the one depends on the other.

use sandglass_lab::told::right;
use sandglass_lab::{Trial, Trials};
use sandglass_ledger::stats::{Interval, bootstrap};
use sandglass_study::{CellResult, Entry, Mark, Results, Scale, Table};
use serde::Serialize;

use crate::EfficientNet;

/// An effect in points of top-1 accuracy, over seeds and images.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Contrast {
    pub title: &'static str,
    /// 95 %; over images alone where there is one seed.
    pub interval: Interval,
    pub seeds: usize,
    pub images: usize,
    #[serde(skip)]
    rows: Vec<String>,
}

/// The four networks at one seed: for each image whether it is named right.
struct Unit {
    plain: [Vec<bool>; 2],
    gated: [Vec<bool>; 2],
}

/// An effect on one image, given who names it right: the inverted residual and the sandglass, plain and gated.
type Effect = fn(plain: [f64; 2], gated: [f64; 2]) -> f64;

const EFFECTS: [(&str, Effect); 5] = [
    ("the sandglass's lead, plain", |[a, b], _| b - a),
    ("the sandglass's lead, gated", |_, [a, b]| b - a),
    ("gates and frame, inverted residual", |[plain, _], [gated, _]| gated - plain),
    ("gates and frame, sandglass", |[_, plain], [_, gated]| gated - plain),
    ("interaction: lead gated less lead plain", |[a, b], [c, d]| (d - c) - (b - a)),
];

/// Of a scale at which all four networks are in, at one seed at least.
pub(crate) fn contrasts(
    results: &Results<'_, Trials<EfficientNet>>,
    scale: &Scale<'_, Trials<EfficientNet>>,
) -> Vec<Contrast> {
    let project = results.experiment.project();
    let design = results.design;
    let names = [&design.plain, &design.gated].map(|pair| [&pair.inverted_residual, &pair.sandglass]);
    let cell = |name: &str, seed: u64| -> Option<&CellResult<'_, Trial>> {
        scale.cells.iter().find(|result| {
            let cell = result.cell.trained();
            cell.is_some_and(|cell| cell.network.to_string() == *name && cell.seed == seed)
        })
    };
    let mut seeds: Vec<u64> = scale.cells.iter().filter_map(|result| Some(result.cell.trained()?.seed)).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let mut rows = Vec::new();
    let units = seeds.into_iter().filter_map(|seed| {
        let [[a, b], [c, d]] = names;
        let cells = [cell(a, seed)?, cell(b, seed)?, cell(c, seed)?, cell(d, seed)?];
        // What cannot be read is told among the problems, see `unreadable`.
        let [a, b, c, d] = cells.map(|cell| right(project, cell).ok());
        let unit = Unit { plain: [a?, b?], gated: [c?, d?] };
        rows.extend(cells.iter().filter_map(|cell| Some(cell.row("top1")?.id())));
        Some(unit)
    });
    let units: Vec<Unit> = units.collect();
    let contrast = |(title, effect): (&'static str, Effect)| {
        let of_seed = units.iter().map(|unit| effects(unit, effect)).collect::<Option<Vec<_>>>()?;
        let images = of_seed.first()?.len();
        let interval = bootstrap(std::slice::from_ref(&of_seed))?;
        Some(Contrast { title, interval, seeds: of_seed.len(), images, rows: rows.clone() })
    };
    EFFECTS.into_iter().filter_map(contrast).collect()
}

/// In points, image by image. None where the networks were not scored on as many images.
fn effects(unit: &Unit, effect: Effect) -> Option<Vec<f64>> {
    let [[a, b], [c, d]] = [&unit.plain, &unit.gated];
    let same = [b, c, d].iter().all(|other| other.len() == a.len());
    let points = |is_right: bool| if is_right { 100.0 } else { 0.0 };
    let of = |at: usize| effect([a, b].map(|of| points(of[at])), [c, d].map(|of| points(of[at])));
    same.then(|| (0..a.len()).map(of).collect())
}

/// One line for each effect.
pub(crate) fn table(contrasts: &[Contrast]) -> Table {
    let columns = [("effect", false), ("points of top-1", true), ("95 % interval", true), ("seeds", true)];
    let mut table = Table::new(columns.map(|(heading, right)| (heading.to_owned(), right)));
    for contrast in contrasts {
        let Interval { effect, low, high } = contrast.interval;
        let ours = |text: String| Entry::new(text, Mark::Ours, contrast.rows.clone());
        table.push([
            contrast.title.to_owned().into(),
            ours(format!("{effect:+.2}")),
            ours(format!("{low:+.2} to {high:+.2}")),
            contrast.seeds.to_string().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_differences_of_differences() {
        let unit = Unit {
            plain: [vec![true, false, false], vec![true, true, false]],
            gated: [vec![false, false, true], vec![true, true, true]],
        };
        let all = EFFECTS.map(|(_, effect)| effects(&unit, effect).unwrap());
        assert_eq!(all[0], [0.0, 100.0, 0.0]);
        assert_eq!(all[1], [100.0, 100.0, 0.0]);
        assert_eq!(all[2], [-100.0, 0.0, 100.0]);
        assert_eq!(all[3], [0.0, 0.0, 100.0]);
        assert_eq!(all[4], [100.0, 0.0, 0.0]);
        let short = Unit { plain: [vec![true], vec![true]], gated: [vec![true], vec![]] };
        assert_eq!(effects(&short, EFFECTS[0].1), None);
    }
}
