//! `sandglass`: costs, golden cases, evaluation, detection, training, studies.

mod cmd;

use std::io::{self, Write};
use std::process::ExitCode;

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
    /// Find objects in images
    Detect(cmd::detect::Args),
    /// Write a network and its checkpoint as an ONNX file
    Export(cmd::export::Args),
    /// Train a network; the same command again resumes
    Train(cmd::train::Args),
    /// Quantise a checkpoint to 8 bits
    Quantise(cmd::quantise::Args),
    /// The cells of a study, their state and expected time
    Plan(cmd::plan::Args),
    /// Run what is missing of a study
    Run(cmd::run::Args),
    /// Print a study's table from committed rows
    Table(cmd::table::Args),
    /// Draw a study's figures into report/out, from committed rows
    Figure(cmd::figure::Args),
    /// Write report/out from committed rows, or check it
    Report(cmd::report::Args),
    /// What changed between two folders of results, or two commits
    Diff(cmd::diff::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Cost(args) => cmd::cost::run(args),
        Verb::Show(args) => cmd::show::run(args),
        Verb::Golden(args) => cmd::golden::run(args),
        Verb::Eval(args) => cmd::eval::run(args),
        Verb::Detect(args) => cmd::detect::run(args),
        Verb::Export(args) => cmd::export::run(args),
        Verb::Train(args) => cmd::train::run(args),
        Verb::Quantise(args) => cmd::quantise::run(args),
        Verb::Plan(args) => cmd::plan::run(args),
        Verb::Run(args) => cmd::run::run(args),
        Verb::Table(args) => cmd::table::run(args),
        Verb::Figure(args) => cmd::figure::run(args),
        Verb::Report(args) => cmd::report::run(args),
        Verb::Diff(args) => cmd::diff::run(args),
    };
    match result {
        Ok(code) => code,
        // Whoever reads the output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sandglass: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes; a cause that the text before it already tells is not told twice.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        _ if tells(&line, &cause) => line,
        _ => format!("{line}: {cause}"),
    })
}

/// Whether the cause stands there as a sentence of its own: `empty.jpg` does not tell that a file is empty.
fn tells(line: &str, cause: &str) -> bool {
    line.match_indices(cause).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + cause.len()..]);
        (before.is_empty() || before.ends_with(": ")) && (after.is_empty() || after.starts_with([':', ';', ',']))
    })
}
