//! Accuracy against cost.

use sandglass_ledger::{Row, Summary};
use sandglass_study::{Axis, Chart, Figure, Outcome, Point, Results, Scale, Series};

use crate::Width;
use crate::comparison::{Comparison, Line, is_plain};

/// What a figure sets accuracy against: its name's end, the axis, and the value of a line.
type Cost = (&'static str, &'static str, fn(&Line) -> f64);

const COSTS: [Cost; 2] = [
    ("madds", "multiply-adds at 224 x 224 (millions)", |line| line.cost.madds_total as f64 / 1e6),
    ("params", "parameters (millions)", |line| line.cost.params as f64 / 1e6),
];

/// Accuracy against multiply-adds and against parameters: the paper's, and ours at every scale with enough networks.
pub(crate) fn figures(comparison: &Comparison) -> Vec<Figure> {
    COSTS.iter().map(|cost| figure(comparison, cost)).collect()
}

fn figure(comparison: &Comparison, (end, words, cost): &Cost) -> Figure {
    let paper = series(comparison, |line| {
        let y = line.printed("top1_pct")?;
        Some(Point { x: cost(line), y, spread: None })
    });
    let mut charts = vec![("paper, ImageNet".to_owned(), paper, false)];
    for (at, scale) in comparison.scales.iter().enumerate() {
        let ours = series(comparison, |line| {
            let summary = line.results.get(at)?.summary()?;
            Some(Point { x: cost(line), y: summary.mean, spread: summary.sd })
        });
        if ours.iter().map(|series| series.points.len()).sum::<usize>() > 1 {
            charts.push((format!("ours, {}", scale.title), ours, scale.synthetic));
        }
    }
    charts.retain(|(_, series, _)| !series.is_empty());
    // What says nothing stands last.
    charts.sort_by_key(|(.., is_minor)| *is_minor);
    let chart = |(at, (title, series, is_minor)): (usize, (String, Vec<Series>, bool))| Chart {
        name: at.to_string(),
        title,
        x: Axis { label: (*words).to_owned(), words: (*words).to_owned(), unit: String::new() },
        y: Axis { label: "top-1 (%)".to_owned(), words: "top-1 accuracy".to_owned(), unit: " %".to_owned() },
        series,
        is_minor,
        joined: true,
    };
    Figure {
        name: format!("{}-{end}", comparison.study),
        caption: format!(
            "Top-1 accuracy against {words}, counted from the networks' tables. Every panel has an accuracy axis of its own."
        ),
        charts: charts.into_iter().enumerate().map(chart).collect(),
    }
}

/// A series for each network that has points.
fn series(comparison: &Comparison, point: impl Fn(&Line) -> Option<Point>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for line in &comparison.lines {
        let Some(point) = point(line) else { continue };
        match all.iter_mut().find(|series| series.name == line.model) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name: line.model.clone(), points: vec![point] }),
        }
    }
    all
}

/// Accuracy against the images' size, of profiles that have several, as soon as two of them are measured.
pub(crate) fn resolutions(results: &Results<'_, Width>) -> Vec<Figure> {
    let shown = results.scales.iter().filter(|scale| scale.profile.setup.inputs.len() > 1);
    let figures = shown.filter_map(|scale| {
        let charts: Vec<Chart> =
            results.design.widths.iter().filter_map(|&width| by_input(results, scale, width)).collect();
        let caption =
            format!("{}: top-1 accuracy, means over seeds with their standard deviation.", scale.profile.title);
        let name = format!("{}-{}", results.head.name, scale.profile.name);
        (!charts.is_empty()).then_some(Figure { name, caption, charts })
    });
    figures.collect()
}

/// All networks of one width; none where fewer than two sizes are measured.
fn by_input(results: &Results<'_, Width>, scale: &Scale<'_, Width>, width: f64) -> Option<Chart> {
    let point = |network: &str, input: usize| {
        let cells = scale.cells.iter().filter(|cell| {
            let of = &cell.cell.network;
            of.to_string() == network && of.width == width && cell.cell.input == input
        });
        let summary = Outcome::of("top1", cells).summary()?;
        Some(Point { x: input as f64, y: summary.mean, spread: summary.sd })
    };
    let of_network = |variant: &sandglass_lab::Variant| {
        let inputs = scale.profile.setup.inputs.iter();
        let points = inputs.filter_map(|&input| point(&variant.network, input)).collect();
        Series { name: variant.paper.clone(), points }
    };
    let mut series: Vec<Series> = results.design.networks.iter().map(of_network).collect();
    series.retain(|series| !series.points.is_empty());
    series.iter().any(|series| series.points.len() > 1).then(|| Chart {
        name: format!("{width:?}"),
        title: format!("width {width:?}"),
        x: Axis { label: "pixels a side".into(), words: "pixels a side".into(), unit: String::new() },
        y: Axis { label: "top-1 (%)".into(), words: "top-1 accuracy".into(), unit: " %".into() },
        series,
        is_minor: scale.profile.synthetic,
        joined: true,
    })
}

/// Accuracy on the way, of profiles that say when they looked: it is shown, and decides nothing.
pub(crate) fn curves(results: &Results<'_, Width>) -> Vec<Figure> {
    let shown = results.scales.iter().filter(|scale| is_plain(&scale.profile.setup));
    let figures = shown.filter_map(|scale| {
        let charts: Vec<Chart> = results.design.widths.iter().filter_map(|&width| curve(results, scale, width)).collect();
        let caption = format!(
            "Top-1 accuracy on the way, {}: means over seeds. The last epoch's is what counts; nothing was chosen by these.",
            scale.profile.title
        );
        (!charts.is_empty()).then(|| Figure { name: format!("{}-curves-{}", results.head.name, scale.profile.name), caption, charts })
    });
    figures.collect()
}

/// All networks of one width; none where nobody looked on the way.
fn curve(results: &Results<'_, Width>, scale: &Scale<'_, Width>, width: f64) -> Option<Chart> {
    let series = results.design.networks.iter().filter_map(|variant| {
        let cells = scale
            .cells
            .iter()
            .filter(|cell| cell.cell.network.to_string() == variant.network && cell.cell.network.width == width);
        let rows: Vec<_> = cells.filter_map(|cell| cell.row("top1")).filter(|row| row.samples_at.len() > 1).collect();
        // A seed may have been looked at at other epochs than the first one: how often that is done is free.
        let at = |row: &Row, epoch: f64| {
            row.samples_at.iter().zip(&row.samples).find(|(at, _)| **at == epoch).map(|(_, sample)| *sample)
        };
        let points = rows.first()?.samples_at.iter().filter_map(|&x| {
            let of_seeds: Vec<f64> = rows.iter().filter_map(|row| at(row, x)).collect();
            let summary = Summary::of(&of_seeds)?;
            Some(Point { x, y: summary.mean, spread: summary.sd })
        });
        Some(Series { name: variant.paper.clone(), points: points.collect() })
    });
    let series: Vec<Series> = series.collect();
    (!series.is_empty()).then(|| Chart {
        name: format!("{width:?}"),
        title: format!("width {width:?}"),
        x: Axis { label: "epoch".into(), words: "epochs".into(), unit: String::new() },
        y: Axis { label: "top-1 (%)".into(), words: "top-1 accuracy".into(), unit: " %".into() },
        series,
        is_minor: scale.profile.synthetic,
        joined: true,
    })
}
