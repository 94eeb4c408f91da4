//! How the study is laid out: accuracy, then latency, multiplier by multiplier.

use sandglass_lab::told::{Timing, accuracies, ratio, times};
use sandglass_lab::{Subject, Times, Trial, Trials, Variant};
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::claim::Count;
use sandglass_study::paper::{LEGEND, PaperRow, PaperTable};
use sandglass_study::{
    Axis, Chart, Entry, Figure, Part, Point, Results, Scale, Section, Series, StudyError, Table, grouped,
};
use serde_json::json;

use crate::{Design, Identity};

/// The input size of the paper's table.
const PAPER_INPUT: usize = 224;

/// A multiplier: what is compared.
struct Line {
    multiplier: String,
    subject: Subject,
    cost: Cost,
    /// Its inverse.
    divisor: usize,
    paper: Option<PaperRow>,
}

pub(crate) fn section(results: &Results<'_, Trials<Identity>>) -> Result<Section, StudyError> {
    let paper = results.head.paper()?;
    let lines = lines(results.design, &paper)?;
    let (table, mut notes) = accuracy(results, &lines, &paper);
    notes.splice(0..0, answers(results, &lines));
    let mut parts = vec![Part::Table(table), Part::Notes(notes)];
    for scale in &results.scales {
        parts.extend(latency(scale, &lines, &paper));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.extend(figure(results, &lines).map(Part::Figure));
    let width = format!("{:?}", results.design.width);
    let counts = lines.iter().map(|line| Count {
        what: "additions in shortcuts".to_owned(),
        axes: vec![("network".to_owned(), line.subject.network.clone()), ("width".to_owned(), width.clone())],
        value: line.cost.residual_adds,
    });
    Ok(Section { parts, counts: counts.collect(), data: data(results, &lines), ..Section::default() })
}

fn lines(design: &Design, paper: &PaperTable) -> Result<Vec<Line>, StudyError> {
    let line = |variant: &Variant| {
        let config: NetworkConfig = variant.network.parse().map_err(StudyError::refused)?;
        let config = NetworkConfig { width: design.width, ..config };
        let cost =
            config.build().and_then(|graph| graph.cost(PAPER_INPUT, PAPER_INPUT)).map_err(StudyError::refused)?;
        // The paper's fractions, as its table has them: four digits.
        let multiplier = (1e4 / config.identity_div as f64).round() / 1e4;
        Ok(Line {
            multiplier: variant.paper.clone(),
            subject: Subject::new(&variant.network, design.width),
            cost,
            divisor: config.identity_div,
            paper: paper.row(&[], &[("multiplier", multiplier)]).cloned(),
        })
    };
    design.networks.iter().map(line).collect()
}

impl Line {
    fn printed(&self, column: &str) -> Option<f64> {
        self.paper.as_ref()?.number(column)
    }

    fn entry(&self, column: &str, digits: usize, paper: &PaperTable) -> Entry {
        paper.entry(self.paper.as_ref(), column, digits).unwrap_or_else(Entry::unknown)
    }
}

fn accuracy(results: &Results<'_, Trials<Identity>>, lines: &[Line], paper: &PaperTable) -> (Table, Vec<String>) {
    let (columns, open) = accuracies(results, &results.design.networks);
    let fixed = [
        ("identity multiplier", true),
        ("residual additions, exact", true),
        ("multiply-adds, exact", true),
        ("top-1, paper (%)", true),
    ];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let mut table = Table::new(fixed.chain(columns.iter().map(|column| (column.heading.clone(), true))));
    for (at, line) in lines.iter().enumerate() {
        let fixed: [Entry; 4] = [
            line.multiplier.clone().into(),
            grouped(line.cost.residual_adds).into(),
            grouped(line.cost.madds_total).into(),
            line.entry("top1_pct", 2, paper),
        ];
        table.push(fixed.into_iter().chain(columns.iter().map(|column| column.outcomes[at].entry())));
    }
    let mut notes = vec![
        format!("Costs are for {PAPER_INPUT} x {PAPER_INPUT} pixels and 1000 classes. {LEGEND}"),
        "Ours: mean \u{b1} sample standard deviation over n seeds; the last epoch's weights.".to_owned(),
    ];
    notes.extend(columns.into_iter().map(|column| column.note));
    notes.extend(open);
    (table, notes)
}

fn timings<'a>(scale: &'a Scale<'a, Trials<Identity>>) -> Vec<Timing<'a, Trial>> {
    scale.cells.iter().filter_map(|result| Some(Timing { latency: result.cell.timed()?, result })).collect()
}

/// What a fused engine leaves of the paper's saving, and what an unfused one makes of it: the scales that have real sizes.
fn answers(results: &Results<'_, Trials<Identity>>, lines: &[Line]) -> Vec<String> {
    let mut answers = Vec::new();
    let whole = lines.iter().find(|line| line.divisor == 1);
    let scales = results.scales.iter().filter(|scale| !scale.profile.synthetic);
    for timing in scales.flat_map(timings) {
        for line in lines.iter().filter(|line| line.divisor == 2) {
            let Some(Times { ratio: ours, onnxruntime, .. }) = timing.of(&line.subject) else { continue };
            let threads = timing.latency.threads;
            let paper = match (line.printed("latency_ms"), whole.and_then(|whole| whole.printed("latency_ms"))) {
                (Some(half), Some(whole)) => format!(" The paper's phone: {:.3}.", half / whole),
                _ => String::new(),
            };
            let peer =
                onnxruntime.map_or_else(String::new, |peer| format!(", {} of it in ONNX Runtime", ratio(peer.ratio)));
            answers.push(format!(
                "Half of the identity, {threads} thread{}: {} of the time of all of it where the sum is fused{peer}.{paper}",
                if threads == 1 { "" } else { "s" },
                ratio(ours)
            ));
        }
    }
    answers
}

fn latency(scale: &Scale<'_, Trials<Identity>>, lines: &[Line], paper: &PaperTable) -> Vec<Part> {
    let timings = timings(scale);
    if timings.iter().all(|timing| timing.result.rows.is_empty()) {
        return Vec::new();
    }
    let input = timings.first().map_or(0, |timing| timing.latency.input);
    let fixed = vec![("identity multiplier".to_owned(), true), ("paper, Pixel 4 (ms)".to_owned(), true)];
    let lines: Vec<(Subject, Vec<Entry>)> = lines
        .iter()
        .map(|line| (line.subject.clone(), vec![line.multiplier.clone().into(), line.entry("latency_ms", 0, paper)]))
        .collect();
    let table = times(fixed, &lines, &timings);
    let mut notes = vec![format!(
        "One image of {input} x {input} pixels and 1000 classes, f32. Medians of rounds; ratios are of the same round, with the \
         10th and 90th percentile. ONNX Runtime runs the same weights in the same rounds."
    )];
    notes.extend(timings.iter().map(Timing::note));
    notes.extend(Some(scale.profile.note.clone()).filter(|note| !note.is_empty()));
    vec![Part::Heading(format!("Latency, {}", scale.profile.title)), Part::Table(table), Part::Notes(notes)]
}

/// Latency against the multiplier, each to its own at multiplier 1.
fn figure(results: &Results<'_, Trials<Identity>>, lines: &[Line]) -> Option<Figure> {
    let whole = lines.iter().find(|line| line.divisor == 1)?;
    let series = |name: String, value: &dyn Fn(&Line) -> Option<f64>| {
        let point = |line: &Line| Some(Point { x: 1.0 / line.divisor as f64, y: value(line)?, spread: None });
        Series { name, points: lines.iter().filter_map(point).collect() }
    };
    let paper = |line: &Line| Some(line.printed("latency_ms")? / whole.printed("latency_ms")?);
    let mut all = vec![series("paper, Pixel 4".to_owned(), &paper)];
    let scales = results.scales.iter().filter(|scale| !scale.profile.synthetic);
    for timing in scales.flat_map(timings) {
        let threads = timing.latency.threads;
        let ours = |line: &Line| Some(timing.of(&line.subject)?.ratio[1]);
        let peer = |line: &Line| Some(timing.of(&line.subject)?.onnxruntime?.ratio[1]);
        all.push(series(format!("ours, threads: {threads}"), &ours));
        all.push(series(format!("ONNX Runtime, threads: {threads}"), &peer));
    }
    all.retain(|series| !series.points.is_empty());
    let chart = Chart {
        name: "ratio".to_owned(),
        title: "latency to that of the whole identity".to_owned(),
        x: Axis {
            label: "identity multiplier".to_owned(),
            words: "identity multiplier".to_owned(),
            unit: String::new(),
        },
        y: Axis { label: "latency, ratio".to_owned(), words: "latency ratio".to_owned(), unit: String::new() },
        series: all,
        is_minor: false,
        joined: true,
    };
    (chart.series.len() > 1).then(|| Figure {
        name: format!("{}-latency", results.head.name),
        caption: "What adding less of the identity saves: each engine's latency to its own at multiplier 1.".to_owned(),
        charts: vec![chart],
    })
}

fn data(results: &Results<'_, Trials<Identity>>, lines: &[Line]) -> serde_json::Value {
    let (columns, _) = accuracies(results, &results.design.networks);
    let of_line = |(at, line): (usize, &Line)| {
        let accuracy = columns.iter().map(|column| json!({"scale": column.heading, "top1": column.outcomes.get(at)}));
        let times = results.scales.iter().flat_map(timings).filter_map(|timing| {
            let times = timing.of(&line.subject)?;
            Some(json!({
                "threads": timing.latency.threads, "input": timing.latency.input, "ms": times.latency,
                "ratio": times.ratio, "onnxruntime_ratio": times.onnxruntime.map(|peer| peer.ratio),
            }))
        });
        json!({
            "network": line.subject.network, "multiplier": line.multiplier, "cost": line.cost, "paper": line.paper,
            "accuracy": accuracy.collect::<Vec<_>>(), "latency": times.collect::<Vec<_>>(),
        })
    };
    json!({"study": results.head.name, "lines": lines.iter().enumerate().map(of_line).collect::<Vec<_>>()})
}
