//! How the study is laid out: a line for each width and input size.

use sandglass_lab::{Classifier, Trials};
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::paper::{LEGEND, PaperTable};
use sandglass_study::{
    Axis, Chart, Entry, Figure, Outcome, Part, Point, Results, Scale, Section, Series, StudyError, Table, grouped,
};
use serde_json::json;

use crate::WidthResolution;

/// TensorFlow's released checkpoints, scored by others.
const PUBLISHED: &str = "tflite_published";

struct Line {
    width: f64,
    input: usize,
    cost: Cost,
    /// Printed multiply-adds in millions, and accuracies: the authors', and others' of the same checkpoints in floats and of
    /// those trained for 8 bits.
    madds: Entry,
    printed: Entry,
    float: Entry,
    uint8: Entry,
    top1: Option<f64>,
}

pub(crate) fn section(results: &Results<'_, Trials<WidthResolution>>) -> Result<Section, StudyError> {
    let lines = lines(results)?;
    let scales: Vec<_> = results.scales.iter().filter(|scale| has_rows(scale)).collect();
    let fixed = [
        ("width", true),
        ("input", true),
        ("params, exact", true),
        ("multiply-adds, exact", true),
        ("multiply-adds, paper's authors (M)", true),
        ("top-1, paper's authors (%)", true),
        ("top-1, float, others (%)", true),
        ("top-1, trained for uint8, others (%)", true),
    ];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let heading =
        |scale: &&Scale<'_, Trials<WidthResolution>>| (format!("top-1, ours, {} (%)", scale.profile.title), true);
    let mut table = Table::new(fixed.chain(scales.iter().map(heading)));
    for line in &lines {
        let fixed: [Entry; 8] = [
            format!("{:?}", line.width).into(),
            line.input.to_string().into(),
            grouped(line.cost.params).into(),
            grouped(line.cost.madds_total).into(),
            line.madds.clone(),
            line.printed.clone(),
            line.float.clone(),
            line.uint8.clone(),
        ];
        table.push(fixed.into_iter().chain(scales.iter().map(|scale| outcome(scale, line).entry())));
    }
    let mut notes = vec![
        format!("Costs are for 1000 classes. {LEGEND}"),
        format!("Others': {}.", PaperTable::find(PUBLISHED)?.source),
    ];
    notes.extend(scales.iter().filter_map(|scale| {
        let row = scale.cells.iter().find_map(|result| result.row("top1"))?;
        Some(format!(
            "Ours, {}: data set {}, {} images. {}",
            scale.profile.title, row.dataset, row.n, scale.profile.note
        ))
    }));
    notes.extend(results.scales.iter().filter_map(|scale| {
        let (open, all) = scale.open();
        (open > 0).then(|| format!("Not done: {open} of {all} cells of profile {}.", scale.profile.name))
    }));
    let parts = vec![
        Part::Table(table),
        Part::Notes(notes),
        Part::Prose(results.head.analysis.clone()),
        Part::Figure(figure(results, &lines)),
    ];
    let of = |line: &Line| {
        let ours = scales.iter().map(|scale| json!({"scale": scale.profile.name, "top1": outcome(scale, line)}));
        json!({"width": line.width, "input": line.input, "cost": line.cost, "ours": ours.collect::<Vec<_>>()})
    };
    let data = json!({"study": results.head.name, "lines": lines.iter().map(of).collect::<Vec<_>>()});
    Ok(Section { parts, data, ..Section::default() })
}

fn has_rows(scale: &Scale<'_, Trials<WidthResolution>>) -> bool {
    scale.cells.iter().any(|result| !result.rows.is_empty())
}

fn outcome(scale: &Scale<'_, Trials<WidthResolution>>, line: &Line) -> Outcome {
    let is_own = |cell: &Classifier| cell.network.width == line.width && cell.input == line.input;
    Outcome::of("top1", scale.cells.iter().filter(|result| result.cell.trained().is_some_and(is_own)))
}

fn lines(results: &Results<'_, Trials<WidthResolution>>) -> Result<Vec<Line>, StudyError> {
    let design = results.design;
    let (paper, published) = (results.head.paper()?, PaperTable::find(PUBLISHED)?);
    let entry = |table: &PaperTable, texts: &[(&str, &str)], place: &[(&str, f64)], column: &str, digits: usize| {
        table.entry(table.row(texts, place), column, digits).unwrap_or_else(Entry::dash)
    };
    let config: NetworkConfig = design.network.parse().map_err(StudyError::refused)?;
    let mut lines = Vec::new();
    for &width in &design.widths {
        let graph = NetworkConfig { width, ..config }.build().map_err(StudyError::refused)?;
        for &input in &design.inputs {
            let place = [("width", width), ("input_px", input as f64)];
            let of = |precision| {
                entry(&published, &[("model", &design.published), ("precision", precision)], &place, "top1_pct", 1)
            };
            lines.push(Line {
                width,
                input,
                cost: graph.cost(input, input).map_err(StudyError::refused)?,
                madds: entry(&paper, &[], &place, "madds_m", 0),
                printed: entry(&paper, &[], &place, "top1_pct", 1),
                float: of("float"),
                uint8: of("uint8_qat"),
                top1: paper.row(&[], &place).and_then(|row| row.number("top1_pct")),
            });
        }
    }
    Ok(lines)
}

/// Accuracy against multiply-adds, a line for each width.
fn figure(results: &Results<'_, Trials<WidthResolution>>, lines: &[Line]) -> Figure {
    let series = |&width: &f64| {
        let own = lines.iter().filter(|line| line.width == width).rev();
        let point = |line: &Line| Some(Point { x: line.cost.madds_total as f64 / 1e6, y: line.top1?, spread: None });
        Series { name: format!("width {width:?}, paper's authors"), points: own.filter_map(point).collect() }
    };
    let mut series: Vec<Series> = results.design.widths.iter().map(series).collect();
    series.retain(|series| series.points.len() > 1);
    Figure {
        name: results.head.name.clone(),
        caption: "Published accuracy against exact multiply-adds: along a line the input grows from 96 to 224 pixels."
            .to_owned(),
        charts: vec![Chart {
            name: "madds".to_owned(),
            title: "accuracy against multiply-adds".to_owned(),
            x: Axis {
                label: "multiply-adds (M)".to_owned(),
                words: "multiply-adds".to_owned(),
                unit: " million".to_owned(),
            },
            y: Axis { label: "top-1 (%)".to_owned(), words: "top-1 accuracy".to_owned(), unit: " %".to_owned() },
            series,
            is_minor: false,
            joined: true,
        }],
    }
}
