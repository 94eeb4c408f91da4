//! How the study is laid out: all networks of the paper's table, then what gates and blocks contribute.

use sandglass_lab::told::{Accuracy, accuracies, unreadable};
use sandglass_lab::{Trials, Variants};
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::paper::{LEGEND, PaperRow, PaperTable};
use sandglass_study::{Axis, Chart, Entry, Figure, Part, Point, Results, Section, Series, StudyError, Table, grouped};
use serde_json::json;

use crate::contrast::{Contrast, contrasts, table as contrast_table};
use crate::{EfficientNet, Network};

/// The input size of the paper's table.
const PAPER_INPUT: usize = 224;

/// TensorFlow's released checkpoints.
const PUBLISHED: &str = "tflite_published";

/// A line of the paper's table, a network that is built here, or both.
struct Line {
    title: String,
    /// Its place among the design's networks, and its costs.
    built: Option<(usize, Cost)>,
    paper: Option<PaperRow>,
}

pub(crate) fn section(results: &Results<'_, Trials<EfficientNet>>) -> Result<Section, StudyError> {
    let paper = results.head.paper()?;
    let lines = lines(results, &paper)?;
    let (columns, open) = accuracies(results, &EfficientNet::networks(results.design));
    let mut parts = vec![Part::Table(overview(&lines, &paper, &columns)), Part::Notes(notes(results, &columns, open)?)];
    let mut all = Vec::new();
    for scale in &results.scales {
        let contrasts = contrasts(results, scale);
        if let Some(first) = contrasts.first() {
            let synthetic = if scale.profile.synthetic { " (synthetic)" } else { "" };
            let over = if first.seeds == 1 { "images; one seed" } else { "seeds and images" };
            parts.push(Part::Heading(format!("Block and frame, {}{synthetic}", scale.profile.title)));
            parts.push(Part::Table(contrast_table(&contrasts)));
            parts.push(Part::Notes(vec![format!(
                "Differences on the same {} images, with bootstrap intervals over {over}.",
                first.images
            )]));
            all.push((scale.profile.name.clone(), contrasts));
        }
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.push(Part::Figure(figure(results, &lines, &columns)));
    let problems = unreadable(results.experiment.project(), results);
    Ok(Section { parts, problems, data: data(results, &lines, &columns, &all), ..Section::default() })
}

/// All of the paper's lines in its order, then what is built here and not in it.
fn lines(results: &Results<'_, Trials<EfficientNet>>, paper: &PaperTable) -> Result<Vec<Line>, StudyError> {
    let design = results.design;
    let row = |network: &Network| {
        paper.row.iter().find(|row| row.text("model") == Some(&network.model) && row.flag("se") == network.se)
    };
    let mut lines = Vec::new();
    for row in &paper.row {
        lines.push(Line { title: title(row), built: None, paper: Some(row.clone()) });
    }
    for (at, network) in design.networks.iter().enumerate() {
        let config: NetworkConfig = network.network.parse().map_err(StudyError::refused)?;
        let config = NetworkConfig { width: design.width, ..config };
        let graph = config.build().map_err(StudyError::refused)?;
        let built = Some((at, graph.cost(PAPER_INPUT, PAPER_INPUT).map_err(StudyError::refused)?));
        match row(network).and_then(|row| lines.iter().position(|line| line.title == title(row))) {
            Some(line) => lines[line].built = built,
            None if network.model.is_empty() => {
                lines.push(Line { title: network.network.clone(), built, paper: None });
            }
            None => return Err(StudyError::refused(format!("the paper's table has no {}", network.model))),
        }
    }
    Ok(lines)
}

fn title(row: &PaperRow) -> String {
    let gates = if row.flag("se") == Some(true) { ", gated" } else { "" };
    format!("{}{gates}", row.text("model").unwrap_or_default())
}

impl Line {
    fn printed(&self, column: &str, digits: usize, paper: &PaperTable) -> Entry {
        paper.entry(self.paper.as_ref(), column, digits).unwrap_or_else(Entry::dash)
    }
}

fn overview(lines: &[Line], paper: &PaperTable, columns: &[Accuracy]) -> Table {
    let fixed = [
        ("network", false),
        ("params, paper (M)", true),
        ("params, exact", true),
        ("multiply-adds, paper (M)", true),
        ("multiply-adds, exact", true),
        ("top-1, paper (%)", true),
    ];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let mut table = Table::new(fixed.chain(columns.iter().map(|column| (column.heading.clone(), true))));
    for line in lines {
        let exact =
            |of: fn(&Cost) -> u64| line.built.as_ref().map_or_else(Entry::dash, |(_, cost)| grouped(of(cost)).into());
        let fixed: [Entry; 6] = [
            line.title.clone().into(),
            line.printed("params_m", 2, paper),
            exact(|cost| cost.params),
            line.printed("madds_m", 0, paper),
            exact(|cost| cost.madds_total),
            line.printed("top1_pct", 2, paper),
        ];
        let ours = columns.iter().map(|column| match &line.built {
            Some((at, _)) => column.outcomes[*at].entry(),
            None => Entry::dash(),
        });
        table.push(fixed.into_iter().chain(ours));
    }
    table
}

fn notes(
    results: &Results<'_, Trials<EfficientNet>>,
    columns: &[Accuracy],
    open: Vec<String>,
) -> Result<Vec<String>, StudyError> {
    let mut notes = vec![
        format!(
            "Costs are for {PAPER_INPUT} x {PAPER_INPUT} pixels and 1000 classes. Lines without exact counts are literature: \
             networks that are not built here. {LEGEND}"
        ),
        "Ours: mean \u{b1} sample standard deviation over n seeds; the last epoch's weights.".to_owned(),
    ];
    let published = PaperTable::find(PUBLISHED)?;
    for network in &results.design.networks {
        let Some(name) = &network.published else { continue };
        let row = published.row(&[("model", name), ("precision", "float")], &[]);
        let top1 = row.and_then(|row| row.number("top1_pct"));
        let top1 =
            top1.ok_or_else(|| StudyError::refused(format!("{PUBLISHED} has no accuracy of {name} in floats")))?;
        notes.push(format!(
            "{name}, published for all of ImageNet's validation images: {top1:.2} % ({}).",
            published.source
        ));
    }
    notes.extend(columns.iter().map(|column| column.note.clone()));
    notes.extend(open);
    Ok(notes)
}

/// Accuracy against cost, a family each: the paper's table, and each scale by itself, for they share no axis.
fn figure(results: &Results<'_, Trials<EfficientNet>>, lines: &[Line], columns: &[Accuracy]) -> Figure {
    type Count = fn(&Cost) -> u64;
    let printed = |line: &Line, column: &str| line.paper.as_ref()?.number(column);
    let of_paper = |line: &Line, column: &str| {
        Some(Point { x: printed(line, column)?, y: printed(line, "top1_pct")?, spread: None })
    };
    let ours = |line: &Line, column: &Accuracy, of: Count| {
        let (at, cost) = line.built.as_ref()?;
        let summary = column.outcomes[*at].summary()?;
        Some(Point { x: of(cost) as f64 / 1e6, y: summary.mean, spread: summary.sd })
    };
    let chart = |name: String, of: &str, label: &str, point: &dyn Fn(&Line) -> Option<Point>| {
        let family = |(name, wanted): (&str, bool)| {
            let family = lines.iter().filter(|line| line.title.starts_with("MobileNeXt") == wanted);
            Series { name: name.to_owned(), points: family.filter_map(point).collect() }
        };
        let series = [("other networks", false), ("sandglass", true)].map(family);
        Chart {
            name,
            title: format!("{of}: accuracy against {label}"),
            x: Axis { label: format!("{label} (M)"), words: label.to_owned(), unit: " million".to_owned() },
            y: Axis { label: "top-1 (%)".to_owned(), words: "top-1 accuracy".to_owned(), unit: " %".to_owned() },
            series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
            is_minor: false,
            joined: false,
        }
    };
    let real = results.scales.iter().filter(|scale| !scale.profile.synthetic);
    let titles: Vec<&str> = real.map(|scale| scale.profile.title.as_str()).collect();
    let real = || columns.iter().filter(|column| titles.iter().any(|title| column.heading.contains(title)));
    let costs: [(&str, &str, &str, Count); 2] = [
        ("madds", "multiply-adds", "madds_m", |cost| cost.madds_total),
        ("params", "parameters", "params_m", |cost| cost.params),
    ];
    let charts = costs.into_iter().flat_map(|(name, label, column, of)| {
        let paper = chart(name.to_owned(), "paper, ImageNet", label, &|line| of_paper(line, column));
        let scales = real().enumerate().map(move |(at, scale)| {
            chart(format!("{name}-{at}"), &scale.heading, label, &|line| ours(line, scale, of))
        });
        let points = |chart: &Chart| chart.series.iter().map(|series| series.points.len()).sum::<usize>();
        std::iter::once(paper).chain(scales.filter(move |chart| points(chart) > 1)).collect::<Vec<_>>()
    });
    Figure {
        name: results.head.name.clone(),
        caption: "Accuracy against cost: the paper's table, and ours at each scale of which two networks are in."
            .to_owned(),
        charts: charts.collect(),
    }
}

fn data(
    results: &Results<'_, Trials<EfficientNet>>,
    lines: &[Line],
    columns: &[Accuracy],
    contrasts: &[(String, Vec<Contrast>)],
) -> serde_json::Value {
    let of_line = |line: &Line| {
        let ours = line.built.as_ref().map(|(at, _)| {
            let of = |column: &Accuracy| json!({"scale": column.heading, "top1": column.outcomes[*at]});
            columns.iter().map(of).collect::<Vec<_>>()
        });
        json!({
            "network": line.title, "paper": line.paper, "cost": line.built.as_ref().map(|(_, cost)| cost), "ours": ours,
        })
    };
    let contrasts = contrasts.iter().map(|(scale, of)| json!({"scale": scale, "effects": of})).collect::<Vec<_>>();
    json!({
        "study": results.head.name, "lines": lines.iter().map(of_line).collect::<Vec<_>>(), "contrasts": contrasts,
    })
}
