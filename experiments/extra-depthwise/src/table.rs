//! How the study is laid out: costs and accuracy, then latency, network by network.

use sandglass_lab::told::{Timing, accuracies, times};
use sandglass_lab::{Subject, Trials};
use sandglass_models::{Cost, NetworkConfig};
use sandglass_study::claim::Count;
use sandglass_study::paper::{LEGEND, PaperRow, PaperTable};
use sandglass_study::{Entry, Part, Results, Scale, Section, StudyError, Table, grouped};
use serde_json::json;

use crate::{ExtraDepthwise, Network};

/// The input size of the paper's table.
const PAPER_INPUT: usize = 224;

struct Line<'a> {
    network: &'a Network,
    subject: Subject,
    cost: Cost,
    paper: Option<PaperRow>,
}

pub(crate) fn section(results: &Results<'_, Trials<ExtraDepthwise>>) -> Result<Section, StudyError> {
    let paper = results.head.paper()?;
    let lines = lines(results, &paper)?;
    let (table, notes) = overview(results, &lines, &paper);
    let mut parts = vec![Part::Table(table), Part::Notes(notes)];
    for scale in &results.scales {
        parts.extend(latency(scale, &lines));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    let counts = lines.iter().flat_map(|line| {
        [("parameters", line.cost.params), ("multiply-adds", line.cost.madds_total)].map(|(what, value)| Count {
            what: what.to_owned(),
            axes: vec![("network".to_owned(), line.subject.network.clone())],
            value,
        })
    });
    let counts = counts.collect();
    Ok(Section { parts, counts, data: data(results, &lines), ..Section::default() })
}

fn lines<'a>(results: &Results<'a, Trials<ExtraDepthwise>>, paper: &PaperTable) -> Result<Vec<Line<'a>>, StudyError> {
    let design = results.design;
    let line = |network: &'a Network| {
        let config: NetworkConfig = network.network.parse().map_err(StudyError::refused)?;
        let config = NetworkConfig { width: design.width, ..config };
        let cost =
            config.build().and_then(|graph| graph.cost(PAPER_INPUT, PAPER_INPUT)).map_err(StudyError::refused)?;
        let row = paper.row(
            &[("model", &network.model), ("location", &network.location)],
            &[("depthwise_per_block", network.depthwise_per_block as f64)],
        );
        Ok(Line { network, subject: Subject::new(&network.network, design.width), cost, paper: row.cloned() })
    };
    design.networks.iter().map(line).collect()
}

impl Line<'_> {
    fn words(&self) -> [Entry; 3] {
        let Network { model, depthwise_per_block, location, .. } = self.network;
        [model.clone().into(), depthwise_per_block.to_string().into(), location.clone().into()]
    }

    fn printed(&self, column: &str, digits: usize, paper: &PaperTable) -> Entry {
        // The paper has no such line, or it is not known.
        paper.entry(self.paper.as_ref(), column, digits).unwrap_or_else(Entry::unknown)
    }
}

fn overview(
    results: &Results<'_, Trials<ExtraDepthwise>>,
    lines: &[Line<'_>],
    paper: &PaperTable,
) -> (Table, Vec<String>) {
    let (columns, open) = accuracies(results, &results.design.variants());
    let fixed = [
        ("network", false),
        ("depthwise per block", true),
        ("where", false),
        ("params, exact", true),
        ("multiply-adds, exact", true),
        ("top-1, paper (%)", true),
    ];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let mut table = Table::new(fixed.chain(columns.iter().map(|column| (column.heading.clone(), true))));
    for (at, line) in lines.iter().enumerate() {
        let costs = [line.cost.params, line.cost.madds_total].map(|count| grouped(count).into());
        let ours = columns.iter().filter_map(|column| Some(column.outcomes.get(at)?.entry()));
        table.push(line.words().into_iter().chain(costs).chain([line.printed("top1_pct", 1, paper)]).chain(ours));
    }
    let mut notes = vec![
        format!("Costs are for {PAPER_INPUT} x {PAPER_INPUT} pixels and 1000 classes. {LEGEND} ? not known."),
        "Two in the middle: ours has the stride in the first of the two, the paper's row is counted with it in the second; \
         its multiply-adds are then 331 million."
            .to_owned(),
        "Ours: mean \u{b1} sample standard deviation over n seeds; the last epoch's weights.".to_owned(),
    ];
    notes.extend(columns.into_iter().map(|column| column.note));
    notes.extend(open);
    (table, notes)
}

fn latency(scale: &Scale<'_, Trials<ExtraDepthwise>>, lines: &[Line<'_>]) -> Vec<Part> {
    let timings = scale.cells.iter().filter_map(|result| Some(Timing { latency: result.cell.timed()?, result }));
    let timings: Vec<_> = timings.collect();
    if timings.iter().all(|timing| timing.result.rows.is_empty()) {
        return Vec::new();
    }
    let input = timings.first().map_or(0, |timing| timing.latency.input);
    let fixed = [("network", false), ("depthwise per block", true), ("where", false)];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).to_vec();
    let lines: Vec<_> = lines.iter().map(|line| (line.subject.clone(), line.words().to_vec())).collect();
    let mut notes = vec![format!(
        "One image of {input} x {input} pixels and 1000 classes, f32. Medians of rounds; ratios are of the same round, with the \
         10th and 90th percentile."
    )];
    notes.extend(timings.iter().map(Timing::note));
    notes.extend(Some(scale.profile.note.clone()).filter(|note| !note.is_empty()));
    let table = times(fixed, &lines, &timings);
    vec![Part::Heading(format!("Latency, {}", scale.profile.title)), Part::Table(table), Part::Notes(notes)]
}

fn data(results: &Results<'_, Trials<ExtraDepthwise>>, lines: &[Line<'_>]) -> serde_json::Value {
    let (columns, _) = accuracies(results, &results.design.variants());
    let of_line = |(at, line): (usize, &Line<'_>)| {
        let accuracy = columns.iter().map(|column| json!({"scale": column.heading, "top1": column.outcomes.get(at)}));
        let cells = results.scales.iter().flat_map(|scale| &scale.cells);
        let times = cells.filter_map(|result| {
            let timing = Timing { latency: result.cell.timed()?, result };
            let times = timing.of(&line.subject)?;
            let (threads, input) = (timing.latency.threads, timing.latency.input);
            Some(json!({"threads": threads, "input": input, "ms": times.latency, "ratio": times.ratio}))
        });
        json!({
            "network": line.subject.network, "cost": line.cost, "paper": line.paper,
            "accuracy": accuracy.collect::<Vec<_>>(), "latency": times.collect::<Vec<_>>(),
        })
    };
    json!({"study": results.head.name, "lines": lines.iter().enumerate().map(of_line).collect::<Vec<_>>()})
}
