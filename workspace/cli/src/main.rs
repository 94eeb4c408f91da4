//! `sandglass`: costs, golden cases, evaluation, training, studies.

mod cmd;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "sandglass", version, about = "MobileNeXt's and MobileNetV2's tables, reproduced")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Parameters, multiply-adds and memory of a network
    Cost(cmd::cost::Args),
    /// A network's plan as a table
    Show(cmd::show::Args),
    /// Run golden cases
    Golden(cmd::golden::Args),
    /// Score a checkpoint on images
    Eval(cmd::eval::Args),
    /// Train a network; the same command again resumes
    Train(cmd::train::Args),
    /// The cells of a study, their state and expected time
    Plan(cmd::plan::Args),
    /// Run what is missing of a study
    Run(cmd::run::Args),
    /// Print a study's table from committed rows
    Table(cmd::table::Args),
    /// Write report/out from committed rows
    Report(cmd::report::Args),
}

fn main() -> std::process::ExitCode {
    let result = match Args::parse().verb {
        Verb::Cost(args) => cmd::cost::run(args),
        Verb::Show(args) => cmd::show::run(args),
        Verb::Golden(args) => cmd::golden::run(args),
        Verb::Eval(args) => cmd::eval::run(args),
        Verb::Train(args) => cmd::train::run(args),
        Verb::Plan(args) => cmd::plan::run(args),
        Verb::Run(args) => cmd::run::run(args),
        Verb::Table(args) => cmd::table::run(args),
        Verb::Report(args) => cmd::report::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sandglass: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
