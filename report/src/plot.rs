//! Charts as SVG.

use plotters::prelude::*;
use sandglass_study::{Chart, Figure, Point};

use crate::ReportError;
use crate::colours::{Colours, colour};

/// Width and height of a chart, in SVG units.
const SIZE: (u32, u32) = (520, 380);
/// Width and height of the field within it, about.
const FIELD: (f64, f64) = (430.0, 265.0);
/// Of the names of series, in SVG units: a line's height, a letter's width, and what stands beside the letters.
const LEGEND: (f64, f64, f64) = (22.0, 8.5, 62.0);
/// Stands for the page's text colour and is replaced in the finished SVG: plotters knows no `currentColor`.
const INK: RGBColor = RGBColor(1, 1, 1);
/// A picture as SVG, with words for those who cannot see it.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    /// File name beside the markdown.
    pub file: String,
    /// What it shows, in one sentence.
    pub label: String,
    /// Text and axes in `currentColor`.
    pub svg: String,
    /// A chart's points as text: series, x, y.
    pub points: Vec<[String; 3]>,
    /// It says nothing of the question, and is shown small.
    pub is_minor: bool,
}

impl Drawn {
    /// With a grey that is readable on light and on dark, for use outside the page.
    pub fn standalone(&self) -> String {
        self.svg.replace("currentColor", "#767676")
    }
}

/// The charts of a figure.
pub(crate) fn draw_all(figure: &Figure, colours: &Colours) -> Result<Vec<Drawn>, ReportError> {
    let drawn = figure.charts.iter().map(|chart| {
        let file = format!("{}-{}.svg", figure.name, chart.name);
        let mut svg = String::new();
        draw(&mut svg, chart, colours)
            .map_err(|error| ReportError::Figure { name: file.clone(), reason: error.to_string() })?;
        let svg = svg.replace("#010101", "currentColor");
        Ok(Drawn { file, label: sentence(chart), svg, points: points(chart), is_minor: chart.is_minor })
    });
    drawn.collect()
}

/// The chart in words: the ends of each series.
fn sentence(chart: &Chart) -> String {
    let by_x = |a: &&Point, b: &&Point| a.x.total_cmp(&b.x);
    let unit = &chart.y.unit;
    let ends = chart.series.iter().filter_map(|series| {
        let (low, high) = (series.points.iter().min_by(by_x)?, series.points.iter().max_by(by_x)?);
        let name = &series.name;
        let at = |point: &Point| format!("{:.1}{unit} at {:.1}", point.y, point.x);
        Some(match low.x == high.x {
            true => format!("{name} {}", at(low)),
            false => format!("{name} from {} to {}", at(low), at(high)),
        })
    });
    let ends = ends.collect::<Vec<_>>().join(", ");
    format!("{}: {} against {}; {ends}.", chart.title, chart.y.words, chart.x.words)
}

fn points(chart: &Chart) -> Vec<[String; 3]> {
    let of_series = |series: &sandglass_study::Series| {
        let mut points: Vec<&Point> = series.points.iter().collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let text = |point: &Point| {
            let spread = point.spread.map_or_else(String::new, |spread| format!(" \u{b1} {spread:.2}"));
            [series.name.clone(), trimmed(point.x), format!("{}{spread}", trimmed(point.y))]
        };
        points.into_iter().map(text).collect::<Vec<_>>()
    };
    chart.series.iter().flat_map(of_series).collect()
}

/// Three digits after the point, less those that are zero.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn draw(svg: &mut String, wanted: &Chart, colours: &Colours) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let points = || wanted.series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.x).fold(0.0, f64::max) * 1.08;
    let low = points().map(|point| point.y).fold(f64::INFINITY, f64::min);
    let high = points().map(|point| point.y).fold(f64::NEG_INFINITY, f64::max);
    let margin = if high > low { (high - low) * 0.12 } else { 0.5 };
    // A bar that is cut off looks like a shorter one.
    let bars = points().map(bar);
    let (low, high) = bars.fold((low - margin, high + margin), |(low, high), bar| (low.min(bar.0), high.max(bar.1)));
    let legend = legend_size(wanted);
    let corner = free_corner(wanted, legend, (0.0, right), (low, high));
    // Where something is drawn in all corners, names stand above.
    let room = if corner.is_none() { (high - low) * legend.1 / (1.0 - legend.1.min(0.6)) } else { 0.0 };
    let (position, high) = (corner.unwrap_or(SeriesLabelPosition::UpperRight), high + room);
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .caption(&wanted.title, text(if wanted.title.chars().count() > 48 { 15 } else { 19 }))
        .x_label_area_size(52)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..right, low..high)?;
    chart
        .configure_mesh()
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.14))
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .y_labels(7)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .x_desc(&wanted.x.label)
        .y_desc(&wanted.y.label)
        .label_style(text(17))
        .axis_desc_style(text(17))
        .draw()?;
    let places = colours.places(wanted.series.iter().map(|series| series.name.as_str()));
    for (series, at) in wanted.series.iter().zip(places) {
        let colour = colour(at);
        let mut points: Vec<&Point> = series.points.iter().collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        // What is not joined has a line of no length, for its name.
        let joined = if wanted.joined { points.len() } else { 0 };
        let line = points.iter().take(joined).map(|point| (point.x, point.y));
        let length = if wanted.joined { 20 } else { 0 };
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?.label(&series.name).legend(move |(x, y)| {
            EmptyElement::at((x, y))
                + PathElement::new([(0, 0), (length, 0)], colour.stroke_width(2))
                + marker(at, (10, 0), colour)
        });
        chart.draw_series(points.iter().filter_map(|point| {
            let (y, spread) = (point.y, point.spread?);
            Some(ErrorBar::new_vertical(point.x, y - spread, y, y + spread, colour.stroke_width(1), 8))
        }))?;
        chart.draw_series(
            marked(&points).map(|point| EmptyElement::at((point.x, point.y)) + marker(at, (0, 0), colour)),
        )?;
    }
    chart.configure_series_labels().position(position).margin(12).label_font(text(17)).draw()?;
    area.present()?;
    Ok(())
}

/// The points that have a marker: all, or about a dozen of many.
fn marked<'p>(points: &'p [&'p Point]) -> impl Iterator<Item = &'p &'p Point> {
    points.iter().step_by(points.len().div_ceil(24).max(1))
}

/// The ends of a point's bar.
fn bar(point: &Point) -> (f64, f64) {
    let spread = point.spread.unwrap_or(0.0);
    (point.y - spread, point.y + spread)
}

/// Width and height of the names of series, as shares of the field's.
fn legend_size(chart: &Chart) -> (f64, f64) {
    let (line, letter, beside) = LEGEND;
    let longest = chart.series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0) as f64;
    ((letter * longest + beside) / FIELD.0, (line * chart.series.len() as f64 + 2.0 * line) / FIELD.1)
}

/// The first corner, from the lower right, in which a legend of this size lies over no point, bar or line.
fn free_corner(
    chart: &Chart,
    (width, height): (f64, f64),
    (left, right): (f64, f64),
    (low, high): (f64, f64),
) -> Option<SeriesLabelPosition> {
    const STEPS: usize = 24;
    let place = |x: f64, y: f64| ((x - left) / (right - left), (y - low) / (high - low));
    let mut drawn: Vec<(f64, f64)> = Vec::new();
    for series in &chart.series {
        let mut points: Vec<&Point> = series.points.iter().collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        for point in &points {
            let (from, to) = bar(point);
            drawn.extend((0..=STEPS).map(|step| place(point.x, from + (to - from) * step as f64 / STEPS as f64)));
        }
        for (a, b) in points.iter().zip(points.iter().skip(1)).filter(|_| chart.joined) {
            let part = |step: usize| step as f64 / STEPS as f64;
            drawn.extend((0..=STEPS).map(part).map(|part| place(a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part)));
        }
    }
    let corners = [
        (SeriesLabelPosition::LowerRight, true, true),
        (SeriesLabelPosition::UpperRight, true, false),
        (SeriesLabelPosition::LowerLeft, false, true),
        (SeriesLabelPosition::UpperLeft, false, false),
    ];
    let is_free = |is_right: bool, is_low: bool| {
        drawn.iter().all(|(x, y)| {
            let beside = if is_right { *x < 1.0 - width } else { *x > width };
            let beyond = if is_low { *y > height } else { *y < 1.0 - height };
            beside || beyond
        })
    };
    corners.into_iter().find(|(_, is_right, is_low)| is_free(*is_right, *is_low)).map(|(corner, ..)| corner)
}

/// Without a fraction that is zero.
fn number(value: &f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    // A tick near 0 may be a hair below it.
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Series differ in shape as well as in colour: diamonds, squares, triangles up and down.
fn marker(series: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let corners: &[(i32, i32)] = match series % 4 {
        0 => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => &[(0, -6), (6, 5), (-6, 5)],
        _ => &[(0, 6), (6, -5), (-6, -5)],
    };
    Polygon::new(corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>(), colour.filled())
}
