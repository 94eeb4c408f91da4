//! `sandglass show`: a network's plan as the papers print theirs, with what each stage costs.

use std::io::{self, Write};
use std::process::ExitCode;

use sandglass_models::{Cost, Size};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

use super::cost::NetworkArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
}

pub fn run(Args { network: args }: Args) -> anyhow::Result<ExitCode> {
    let config = args.config()?;
    let plan = config.plan()?;
    let mut table = Builder::default();
    // As in the papers: the size is that of the stage's input; t, c, n and s are ratio, channels, repeats and stride.
    table.push_record(["stage", "size", "operator", "t", "c", "n", "s", "parameters", "multiply-adds"]);

    let (mut size, mut channels, mut total) = ((args.input, args.input), 3, Cost::default());
    for (number, stage) in plan.stages.iter().enumerate() {
        let input = map(size, channels);
        let mut cost = Cost::default();
        for block in &stage.blocks {
            let (of_block, output) = block.cost(size)?;
            (cost, size) = (cost.plus(of_block)?, output);
        }
        (total, channels) = (total.plus(cost)?, stage.c);
        let t = stage.t.map_or("-".to_owned(), |t| t.to_string());
        let [c, n, s] = [stage.c, stage.n, stage.s].map(|cell| cell.to_string());
        table.push_record(
            [number.to_string(), input, stage.operator.to_owned(), t, c, n, s].into_iter().chain(figures(cost)),
        );
    }
    let classifier = Cost::of_linear(&plan.classifier)?;
    let [number, classes] = [plan.stages.len(), plan.classifier.output].map(|cell| cell.to_string());
    let dash = || "-".to_owned();
    let operator = "average pool, linear".to_owned();
    table.push_record(
        [number, map(size, channels), operator, dash(), classes, dash(), dash()].into_iter().chain(figures(classifier)),
    );
    let blanks = [String::new(), String::new(), "total".to_owned()].into_iter().chain((0..4).map(|_| String::new()));
    table.push_record(blanks.chain(figures(total.plus(classifier)?)));

    let mut table = table.build();
    table.with(Style::psql()).with(Alignment::right()).modify(Columns::one(2), Alignment::left());
    writeln!(io::stdout(), "{config}, width {}, {} classes\n{table}", config.width, config.classes)?;
    Ok(ExitCode::SUCCESS)
}

fn map((height, width): Size, channels: usize) -> String {
    format!("{height} x {width} x {channels}")
}

fn figures(cost: Cost) -> [String; 2] {
    [cost.params, cost.madds_total].map(|figure| figure.to_string())
}
