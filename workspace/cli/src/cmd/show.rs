//! `sandglass show`: a network's table as the papers print theirs, with what each stage costs; or its compiled plan.

mod plan;

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

use anyhow::ensure;
use sandglass_models::{Cost, DetectorConfig, Graph, NetworkConfig, Stage};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

use super::cost::NetworkArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    plan: plan::PlanArgs,
}

pub fn run(Args { network: args, plan }: Args) -> anyhow::Result<ExitCode> {
    if let Some(config) = args.detector()? {
        ensure!(!plan.wanted(), "{config}: --plan is of classifiers");
        writeln!(io::stdout(), "{}", detector(&config, args.input())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = args.config()?;
    if plan.wanted() {
        plan.run(&config, args.input())?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stdout(), "{}", classifier(&config, args.input())?)?;
    Ok(ExitCode::SUCCESS)
}

/// A line of a table: its nodes, its operator, and t, c, n and s.
struct Line {
    nodes: Range<usize>,
    operator: &'static str,
    columns: [String; 4],
}

const DASH: &str = "-";

impl Line {
    fn of(stage: &Stage) -> Self {
        let t = stage.t.map_or_else(|| DASH.to_owned(), |t| t.to_string());
        let columns = [t, stage.c.to_string(), stage.n.to_string(), stage.s.to_string()];
        Self { nodes: stage.nodes.clone(), operator: stage.operator, columns }
    }
}

fn classifier(config: &NetworkConfig, input: usize) -> anyhow::Result<String> {
    let network = config.table()?;
    let columns = [DASH.to_owned(), config.classes.to_string(), DASH.to_owned(), DASH.to_owned()];
    let last = Line { nodes: network.classifier(), operator: "average pool, linear", columns };
    let lines = network.stages.iter().map(Line::of).chain([last]);
    let table = table(&network.graph, lines, input)?;
    Ok(format!("{config}, width {}, {} classes\n{table}", config.width, config.classes))
}

/// Backbone, extra layers and heads, and what the heads read.
fn detector(config: &DetectorConfig, input: usize) -> anyhow::Result<String> {
    let detector = config.build()?;
    let maps = detector.graph.maps();
    let taps: Vec<&str> = detector.taps.iter().map(|tap| maps[tap.index()].name.as_str()).collect();
    let table = table(&detector.graph, detector.stages.iter().map(Line::of), input)?;
    let (taps, boxes) = (taps.join(", "), detector.boxes.map(|boxes| boxes.to_string()).join(", "));
    let head = format!("{config}, width {}, {} classes with the background", config.width, config.classes);
    Ok(format!("{head}\n{table}\nheads read {taps}; boxes of a place: {boxes}"))
}

fn table(graph: &Graph, lines: impl Iterator<Item = Line>, input: usize) -> anyhow::Result<String> {
    let sizes = graph.sizes(input, input)?;
    let costs = graph.node_costs(input, input)?;
    let mut table = Builder::default();
    // As in the papers: the size is that of the stage's input; t, c, n and s are ratio, channels, repeats and stride.
    table.push_record(["stage", "size", "operator", "t", "c", "n", "s", "parameters", "multiply-adds"]);
    let mut total = Cost::default();
    for (number, Line { nodes, operator, columns }) in lines.enumerate() {
        let map = graph.nodes()[nodes.start].reads()[0];
        let ((height, width), channels) = (sizes[map.index()], graph.maps()[map.index()].channels);
        let cost = costs[nodes].iter().try_fold(Cost::default(), |sum, cost| sum.plus(*cost))?;
        let head = [number.to_string(), format!("{height} x {width} x {channels}"), operator.to_owned()];
        table.push_record(head.into_iter().chain(columns).chain(figures(cost)));
        total = total.plus(cost)?;
    }
    let blanks = [String::new(), String::new(), "total".to_owned()].into_iter().chain((0..4).map(|_| String::new()));
    table.push_record(blanks.chain(figures(total)));
    let mut table = table.build();
    table.with(Style::psql()).with(Alignment::right()).modify(Columns::one(2), Alignment::left());
    Ok(table.to_string())
}

fn figures(cost: Cost) -> [String; 2] {
    [cost.params, cost.madds_total].map(|figure| figure.to_string())
}
