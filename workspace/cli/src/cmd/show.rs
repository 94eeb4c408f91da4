//! `sandglass show`: a network's table as the papers print theirs, with what each stage costs; or its compiled plan.

mod plan;

use std::io::{self, Write};
use std::process::ExitCode;

use sandglass_models::{Cost, Node};
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
    let config = args.config()?;
    if plan.wanted() {
        plan.run(&config, args.input)?;
        return Ok(ExitCode::SUCCESS);
    }
    let network = config.table()?;
    let (graph, sizes) = (&network.graph, network.graph.sizes(args.input, args.input)?);
    let costs = graph.node_costs(args.input, args.input)?;
    let mut table = Builder::default();
    // As in the papers: the size is that of the stage's input; t, c, n and s are ratio, channels, repeats and stride.
    table.push_record(["stage", "size", "operator", "t", "c", "n", "s", "parameters", "multiply-adds"]);

    let (mut map, mut total) = (graph.images(), Cost::default());
    let dash = || "-".to_owned();
    let classifier =
        (network.classifier(), "average pool, linear", [dash(), config.classes.to_string(), dash(), dash()]);
    let stages = network.stages.iter().map(|stage| {
        let t = stage.t.map_or_else(dash, |t| t.to_string());
        (stage.nodes.clone(), stage.operator, [t, stage.c.to_string(), stage.n.to_string(), stage.s.to_string()])
    });
    for (number, (nodes, operator, columns)) in stages.chain([classifier]).enumerate() {
        let (height, width) = sizes[map.index()];
        let channels = graph.maps()[map.index()].channels;
        let cost = costs[nodes.clone()].iter().try_fold(Cost::default(), |sum, cost| sum.plus(*cost))?;
        let head = [number.to_string(), format!("{height} x {width} x {channels}"), operator.to_owned()];
        table.push_record(head.into_iter().chain(columns).chain(figures(cost)));
        (total, map) = (total.plus(cost)?, graph.nodes()[nodes].last().map_or(map, Node::writes));
    }
    let blanks = [String::new(), String::new(), "total".to_owned()].into_iter().chain((0..4).map(|_| String::new()));
    table.push_record(blanks.chain(figures(total)));

    let mut table = table.build();
    table.with(Style::psql()).with(Alignment::right()).modify(Columns::one(2), Alignment::left());
    writeln!(io::stdout(), "{config}, width {}, {} classes\n{table}", config.width, config.classes)?;
    Ok(ExitCode::SUCCESS)
}

fn figures(cost: Cost) -> [String; 2] {
    [cost.params, cost.madds_total].map(|figure| figure.to_string())
}
