//! Accuracy against cost, as SVG.

use plotters::prelude::*;
use sandglass_study::{Comparison, Line};

use crate::{Figure, Panel, ReportError};

/// Width and height of a chart, in SVG units.
const SIZE: (u32, u32) = (520, 380);
/// Stands for the page's text colour and is replaced in the finished SVG: plotters knows no `currentColor`.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Readable on light and on dark, and apart from each other without colour vision.
const FAMILIES: [RGBColor; 4] =
    [RGBColor(0x2b, 0x7b, 0xba), RGBColor(0xd0, 0x6a, 0x1c), RGBColor(0x4c, 0x99, 0x4c), RGBColor(0xa3, 0x5f, 0xb0)];

/// One network: cost, accuracy, spread over seeds.
struct Point {
    family: String,
    cost: f64,
    accuracy: f64,
    spread: Option<f64>,
}

struct Chart {
    title: String,
    points: Vec<Point>,
}

/// What a figure sets accuracy against: file name's end, axis, and the value of a line.
type Axis = (&'static str, &'static str, fn(&Line) -> f64);

const AXES: [Axis; 2] = [
    ("madds", "multiply-adds at 224 x 224 (millions)", |line| line.cost.madds_total as f64 / 1e6),
    ("params", "parameters (millions)", |line| line.cost.params as f64 / 1e6),
];

/// Accuracy against multiply-adds and against parameters: the paper's, and ours at every scale with enough networks.
pub(crate) fn figures(comparison: &Comparison) -> Result<Vec<Figure>, ReportError> {
    AXES.iter().map(|axis| figure(comparison, axis)).collect()
}

fn figure(comparison: &Comparison, (end, axis, cost): &Axis) -> Result<Figure, ReportError> {
    let panels = panels(comparison, *cost);
    let mut drawn = Vec::new();
    for (at, panel) in panels.iter().enumerate() {
        let file = format!("{}-{end}-{at}.svg", comparison.study);
        let mut svg = String::new();
        draw(&mut svg, panel, axis)
            .map_err(|error| ReportError::Figure { name: file.clone(), reason: error.to_string() })?;
        drawn.push(Panel { file, label: sentence(panel, axis), svg: svg.replace("#010101", "currentColor") });
    }
    Ok(Figure {
        panels: drawn,
        caption: format!(
            "Top-1 accuracy against {axis}, counted from the networks' tables. Every panel has an accuracy axis of its own."
        ),
    })
}

fn panels(comparison: &Comparison, cost: fn(&Line) -> f64) -> Vec<Chart> {
    let paper = comparison.lines.iter().filter_map(|line| {
        let accuracy = line.paper.as_ref()?.top1_pct?;
        Some(Point { family: line.model.clone(), cost: cost(line), accuracy, spread: None })
    });
    let mut panels = vec![Chart { title: "paper, ImageNet".into(), points: paper.collect() }];
    for (at, scale) in comparison.scales.iter().enumerate() {
        let ours = comparison.lines.iter().filter_map(|line| {
            let summary = line.results.get(at)?.summary()?;
            Some(Point { family: line.model.clone(), cost: cost(line), accuracy: summary.mean, spread: summary.sd })
        });
        let points: Vec<Point> = ours.collect();
        if points.len() > 1 {
            panels.push(Chart { title: format!("ours, {}", scale.title), points });
        }
    }
    panels.retain(|panel| !panel.points.is_empty());
    panels
}

/// The chart in words: each family's ends.
fn sentence(panel: &Chart, axis: &str) -> String {
    let by_cost = |a: &&&Point, b: &&&Point| a.cost.total_cmp(&b.cost);
    let ends = families(panel).into_iter().filter_map(|family| {
        let points: Vec<&Point> = panel.points.iter().filter(|point| point.family == family).collect();
        let (low, high) = (points.iter().min_by(by_cost)?, points.iter().max_by(by_cost)?);
        Some(format!(
            "{family} from {:.1} % at {:.1} to {:.1} % at {:.1}",
            low.accuracy, low.cost, high.accuracy, high.cost
        ))
    });
    format!("{}: top-1 accuracy against {axis}; {}.", panel.title, ends.collect::<Vec<_>>().join(", "))
}

fn families(panel: &Chart) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for point in &panel.points {
        if !names.contains(&point.family.as_str()) {
            names.push(&point.family);
        }
    }
    names
}

fn draw(svg: &mut String, panel: &Chart, axis: &str) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let accuracies = panel.points.iter().map(|point| point.accuracy);
    let right = panel.points.iter().map(|point| point.cost).fold(0.0, f64::max) * 1.08;
    let low = accuracies.clone().fold(f64::INFINITY, f64::min);
    let high = accuracies.fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.12).max(0.5);
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .caption(&panel.title, text(19))
        .x_label_area_size(52)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..right, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.14))
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .y_labels(7)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .x_desc(axis)
        .y_desc("top-1 (%)")
        .label_style(text(17))
        .axis_desc_style(text(17))
        .draw()?;
    for (at, family) in families(panel).into_iter().enumerate() {
        let colour = FAMILIES[at % FAMILIES.len()];
        let mut points: Vec<&Point> = panel.points.iter().filter(|point| point.family == family).collect();
        points.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let line = LineSeries::new(points.iter().map(|point| (point.cost, point.accuracy)), colour.stroke_width(2));
        chart.draw_series(line)?.label(family).legend(move |(x, y)| {
            EmptyElement::at((x, y))
                + PathElement::new([(0, 0), (20, 0)], colour.stroke_width(2))
                + marker(at, (10, 0), colour)
        });
        chart.draw_series(points.iter().filter_map(|point| {
            let (mean, spread) = (point.accuracy, point.spread?);
            let style = colour.stroke_width(1);
            Some(ErrorBar::new_vertical(point.cost, mean - spread, mean, mean + spread, style, 8))
        }))?;
        let markers =
            points.iter().map(|point| EmptyElement::at((point.cost, point.accuracy)) + marker(at, (0, 0), colour));
        chart.draw_series(markers)?;
    }
    let position = SeriesLabelPosition::LowerRight;
    chart.configure_series_labels().position(position).margin(12).label_font(text(17)).draw()?;
    area.present()?;
    Ok(())
}

/// Without a fraction that is zero.
fn number(value: &f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Families differ in shape as well as in colour: diamonds for the first, squares for the others.
fn marker(family: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let corners = match family {
        0 => [(0, -6), (6, 0), (0, 6), (-6, 0)],
        _ => [(-4, -4), (4, -4), (4, 4), (-4, 4)],
    };
    Polygon::new(corners.map(|(dx, dy)| (x + dx, y + dy)).to_vec(), colour.filled())
}
