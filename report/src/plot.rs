//! Accuracy against cost, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use sandglass_study::{Comparison, Line};

use crate::{Figure, ReportError};

/// Width of a panel and height of a figure, in SVG units.
const PANEL: (u32, u32) = (460, 340);
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

struct Panel {
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
    let file = format!("{}-{end}.svg", comparison.study);
    let mut svg = String::new();
    draw(&mut svg, &panels, axis).map_err(|reason| ReportError::Figure { name: file.clone(), reason })?;
    let shown: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    Ok(Figure {
        file,
        caption: format!(
            "Top-1 accuracy against {axis}, both counted from the networks' tables. Panels: {}. Each has an accuracy \
             axis of its own.",
            shown.join("; ")
        ),
        label: format!("Line charts of top-1 accuracy against {axis}: {}", sentence(&panels)),
        svg: svg.replace("#010101", "currentColor"),
    })
}

fn panels(comparison: &Comparison, cost: fn(&Line) -> f64) -> Vec<Panel> {
    let paper = comparison.lines.iter().filter_map(|line| {
        let accuracy = line.paper.as_ref()?.top1_pct?;
        Some(Point { family: line.model.clone(), cost: cost(line), accuracy, spread: None })
    });
    let mut panels = vec![Panel { title: "paper, ImageNet".into(), points: paper.collect() }];
    for (at, scale) in comparison.scales.iter().enumerate() {
        let ours = comparison.lines.iter().filter_map(|line| {
            let summary = line.results.get(at)?.summary()?;
            Some(Point { family: line.model.clone(), cost: cost(line), accuracy: summary.mean, spread: summary.sd })
        });
        let points: Vec<Point> = ours.collect();
        if points.len() > 1 {
            panels.push(Panel { title: format!("ours, {}", scale.title), points });
        }
    }
    panels.retain(|panel| !panel.points.is_empty());
    panels
}

/// The figure in words: each family's ends in each panel.
fn sentence(panels: &[Panel]) -> String {
    let mut parts = Vec::new();
    for panel in panels {
        for family in families(panel) {
            let points: Vec<&Point> = panel.points.iter().filter(|point| point.family == family).collect();
            let by_cost = |a: &&&Point, b: &&&Point| a.cost.total_cmp(&b.cost);
            if let (Some(low), Some(high)) = (points.iter().min_by(by_cost), points.iter().max_by(by_cost)) {
                parts.push(format!(
                    "{}, {family} from {:.1} % at {:.1} to {:.1} % at {:.1}",
                    panel.title, low.accuracy, low.cost, high.accuracy, high.cost
                ));
            }
        }
    }
    parts.join("; ") + "."
}

fn families(panel: &Panel) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for point in &panel.points {
        if !names.contains(&point.family.as_str()) {
            names.push(&point.family);
        }
    }
    names
}

fn draw(svg: &mut String, panels: &[Panel], axis: &str) -> Result<(), String> {
    let size = (PANEL.0 * panels.len().max(1) as u32, PANEL.1);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    let areas = root.split_evenly((1, panels.len().max(1)));
    for (panel, area) in panels.iter().zip(&areas) {
        draw_panel(area, panel, axis).map_err(|error| error.to_string())?;
    }
    root.present().map_err(|error| error.to_string())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_panel(area: &Area<'_>, panel: &Panel, axis: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let costs = panel.points.iter().map(|point| point.cost);
    let accuracies = panel.points.iter().map(|point| point.accuracy);
    let right = costs.fold(0.0, f64::max) * 1.08;
    let low = accuracies.clone().fold(f64::INFINITY, f64::min);
    let high = accuracies.fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.12).max(0.5);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(&panel.title, text(16))
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.14))
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .y_labels(7)
        .x_desc(axis)
        .y_desc("top-1 (%)")
        .label_style(text(14))
        .axis_desc_style(text(14))
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
            let spread = point.spread?;
            let ends = (point.accuracy - spread, point.accuracy, point.accuracy + spread);
            Some(ErrorBar::new_vertical(point.cost, ends.0, ends.1, ends.2, colour.stroke_width(1), 8))
        }))?;
        let markers =
            points.iter().map(|point| EmptyElement::at((point.cost, point.accuracy)) + marker(at, (0, 0), colour));
        chart.draw_series(markers)?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).margin(12).label_font(text(14)).draw()?;
    Ok(())
}

/// Families differ in shape as well as in colour: diamonds for the first, squares for the others.
fn marker(family: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let corners = match family {
        0 => [(0, -6), (6, 0), (0, 6), (-6, 0)],
        _ => [(-4, -4), (4, -4), (4, 4), (-4, 4)],
    };
    Polygon::new(corners.map(|(dx, dy)| (x + dx, y + dy)).to_vec(), colour.filled())
}
