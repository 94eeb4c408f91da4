//! Drop against width, noise layer by layer, accuracy against the number of calibration images.

use std::collections::BTreeMap;

use sandglass_lab::Variant;
use sandglass_study::{Axis, Chart, Figure, Point, Series};

use crate::cell::Design;
use crate::measurements::{Measured, Measurements};

pub(crate) fn figures(study: &str, scales: &[Measurements], design: &Design) -> Vec<Figure> {
    let Design { networks, plain, .. } = design;
    let figures = [
        figure(
            study,
            "drop",
            "What each scheme takes from top-1 accuracy, by width; bars are intervals of 95 % on the same images, of the first seed.",
            scales,
            |scale| drops(scale, networks),
        ),
        figure(
            study,
            "noise",
            "Signal to quantisation noise of each map, from the images to the scores: the narrowest networks at the first seed.",
            scales,
            |scale| noise(scale, plain, networks),
        ),
        figure(
            study,
            "calibration",
            "Top-1 accuracy against the number of calibration images: the narrowest networks at the first seed.",
            scales,
            |scale| calibration(scale, plain, networks),
        ),
    ];
    figures.into_iter().filter(|figure| !figure.charts.is_empty()).collect()
}

fn figure<'a>(
    study: &str,
    end: &str,
    caption: &str,
    scales: &[Measurements<'a>],
    charts: impl Fn(&Measurements<'a>) -> Vec<Chart>,
) -> Figure {
    // What was drawn by code is shown where there is nothing real.
    let families = || scales.iter().filter(|scale| scale.compares_families());
    let has_real = families().any(|scale| !scale.synthetic && !scale.cells.is_empty());
    let families = families().filter(|scale| !(has_real && scale.synthetic));
    let of_scale = |scale: &Measurements<'a>| {
        let mut charts = charts(scale);
        charts.iter_mut().for_each(|chart| chart.is_minor = scale.synthetic);
        charts
    };
    let mut charts: Vec<Chart> = families.flat_map(of_scale).collect();
    for (at, chart) in charts.iter_mut().enumerate() {
        chart.name = at.to_string();
    }
    Figure { name: format!("{study}-{end}"), caption: caption.to_owned(), charts }
}

fn axis(label: &str, unit: &str) -> Axis {
    Axis { label: label.to_owned(), words: label.to_owned(), unit: unit.to_owned() }
}

fn chart(title: String, x: Axis, y: Axis, series: Vec<Series>) -> Option<Chart> {
    let points = series.iter().map(|series| series.points.len()).max().unwrap_or(0);
    (points > 1).then(|| Chart { name: String::new(), title, x, y, series, is_minor: false, joined: true })
}

/// What the paper calls the network.
fn title(measured: &Measured, networks: &[Variant]) -> String {
    let network = measured.network();
    networks.iter().find(|of| of.network == network).map_or(network, |of| of.paper.clone())
}

/// A series for each network.
fn by_network<'m, 'a: 'm>(
    cells: impl Iterator<Item = &'m Measured<'a>>,
    networks: &[Variant],
    point: impl Fn(&Measured<'a>) -> Option<Point>,
) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for measured in cells {
        let Some(point) = point(measured) else { continue };
        let name = title(measured, networks);
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name, points: vec![point] }),
        }
    }
    for series in &mut all {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    all
}

/// A chart for each scheme.
fn drops(scale: &Measurements, networks: &[Variant]) -> Vec<Chart> {
    let of_scheme = |scheme: String| {
        let cells = scale.cells.iter().filter(|measured| measured.scheme() == scheme && measured.cell.seed == 0);
        let series = by_network(cells, networks, |measured| {
            let drop = scale.drop(measured)?;
            Some(Point { x: measured.cell.network.width, y: drop.mean, spread: Some(drop.half) })
        });
        chart(
            format!("{}, {scheme}", scale.title),
            axis("width", ""),
            axis("drop of top-1 (points)", " points"),
            series,
        )
    };
    scale.schemes().into_iter().filter_map(of_scheme).collect()
}

fn narrowest(scale: &Measurements) -> f64 {
    scale.cells.iter().map(|measured| measured.cell.network.width).fold(f64::INFINITY, f64::min)
}

fn noise(scale: &Measurements, plain: &[String], networks: &[Variant]) -> Vec<Chart> {
    let width = narrowest(scale);
    let of_scheme = |scheme: &String| {
        let cells = scale.cells.iter().filter(|measured| {
            measured.scheme() == *scheme && measured.cell.network.width == width && measured.cell.seed == 0
        });
        let series = cells.filter_map(|measured| {
            // Rows come back by name; the order of the maps is the network's.
            let found: BTreeMap<&str, f64> = measured.parts("sqnr").into_iter().collect();
            let graph = measured.cell.network.build().ok()?.folded().activations_apart();
            let last = graph.maps().len().saturating_sub(1).max(1) as f64;
            let points = graph.maps().iter().enumerate().filter_map(|(at, map)| {
                Some(Point { x: 100.0 * at as f64 / last, y: *found.get(map.name.as_str())?, spread: None })
            });
            let points: Vec<Point> = points.collect();
            (!points.is_empty()).then(|| Series { name: title(measured, networks), points })
        });
        chart(
            format!("{}, {scheme}, width {width:?}", scale.title),
            axis("way through the network (%)", " %"),
            axis("signal to noise (dB)", " dB"),
            series.collect(),
        )
    };
    plain.iter().filter_map(of_scheme).collect()
}

fn calibration(scale: &Measurements, plain: &[String], networks: &[Variant]) -> Vec<Chart> {
    let width = narrowest(scale);
    let of_scheme = |scheme: &String| {
        let cells = scale.cells.iter().filter(|measured| {
            let cell = measured.cell;
            cell.scheme_name == *scheme && cell.network.width == width && cell.seed == 0
        });
        let series = by_network(cells, networks, |measured| {
            let x = (measured.cell.images as f64).log2();
            Some(Point { x, y: measured.value("top1")?, spread: None })
        });
        chart(
            format!("{}, {scheme}, width {width:?}", scale.title),
            axis("calibration images (log2)", ""),
            axis("top-1 (%)", " %"),
            series,
        )
    };
    plain.iter().filter_map(of_scheme).collect()
}
