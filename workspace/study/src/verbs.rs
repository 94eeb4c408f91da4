//! The verbs of a study, for the `sandglass` binary and for an experiment's own.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sandglass_ledger::Ledger;

use crate::bench::Bench;
use crate::run::{RunError, Tally, run};
use crate::study::Study;
use crate::verify::{Verify, verify};
use crate::{Comparison, Home, Plan, plan};

#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// Profile of the study; its first one if left out
    #[arg(long)]
    pub profile: Option<String>,
    /// JSON for schedulers: every cell with its state and the command that runs it alone
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Profile of the study; its first one if left out
    #[arg(long)]
    pub profile: Option<String>,
    /// Run this cell alone
    #[arg(long)]
    pub cell: Option<String>,
    /// Threads; all cores if left out
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// Show this profile alone
    #[arg(long)]
    pub profile: Option<String>,
    /// Which cached checkpoints are evaluated again and compared with their rows
    #[arg(long, value_enum, default_value_t)]
    pub verify: Verify,
    #[arg(long)]
    pub json: bool,
    /// Threads; all cores if left out
    #[arg(long)]
    pub threads: Option<usize>,
}

/// A study with its place and rows.
pub struct Opened {
    pub study: Study,
    pub path: PathBuf,
    pub home: Home,
    pub ledger: Ledger,
}

impl Opened {
    /// By name or path, see [`Study::find`].
    pub fn find(name: &str) -> anyhow::Result<Self> {
        let (study, path) = Study::find(name)?;
        let home = Home::above(&path)?;
        let ledger = Ledger::read(&home.rows());
        Ok(Self { study, path, home, ledger })
    }

    /// Prints the plan of a profile.
    pub fn plan(&self, args: &PlanArgs) -> anyhow::Result<ExitCode> {
        let profile = self.study.profile(args.profile.as_deref())?;
        let plan = Plan::of(&self.study, profile, &self.ledger)?;
        if args.json {
            return print(&(serde_json::to_string_pretty(&plan)? + "\n"));
        }
        let table = plan.table().markdown();
        print(&format!("{table}\nto do: {} on two cores\n", plan::duration(plan.remaining_seconds)))
    }

    /// Runs what is missing; fails if a cell failed or was skipped.
    pub fn run(&self, args: &RunArgs, bench: &dyn Bench) -> anyhow::Result<ExitCode> {
        let profile = self.study.profile(args.profile.as_deref())?;
        let mut note = |line: &str| tell(line);
        match run(&self.home, &self.study, profile, args.cell.as_deref(), bench, &mut note) {
            Ok(tally) => {
                let Tally { done, kept, failed, skipped } = tally;
                tell(format_args!("{done} done, {kept} kept, {failed} failed, {skipped} skipped"));
                Ok(if tally.failed + tally.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Err(RunError::Interrupted(signal)) => {
                tell(RunError::Interrupted(signal));
                Ok(ExitCode::from(128 + signal as u8))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Prints the study's table from committed rows; fails if a cached checkpoint disagrees with its row.
    pub fn table(&self, args: &TableArgs, bench: &dyn Bench) -> anyhow::Result<ExitCode> {
        let comparison = Comparison::of(&self.study, &self.ledger, args.profile.as_deref())?;
        if args.json {
            print(&(serde_json::to_string_pretty(&comparison)? + "\n"))?;
        } else {
            print(&self.text(&comparison))?;
        }
        for problem in &self.ledger.problems {
            tell(format_args!("not used: {problem}"));
        }
        for problem in &comparison.problems {
            tell(format_args!("not used: {problem}"));
        }
        self.verify(args.verify, args.profile.as_deref(), bench)?;
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, comparison: &Comparison) -> String {
        let mut text = format!("{}\n\n{}\n", self.study.title, comparison.table().markdown());
        comparison.notes().iter().for_each(|note| text.push_str(&format!("{note}\n")));
        if let Some((heading, gaps)) = comparison.gaps() {
            text.push_str(&format!("\n{heading}\n\n{}", gaps.markdown()));
        }
        text
    }

    /// Compares cached checkpoints with their rows, tells what was compared, and fails on any difference.
    pub fn verify(&self, which: Verify, only: Option<&str>, bench: &dyn Bench) -> anyhow::Result<()> {
        let mut different = Vec::new();
        for profile in self.study.profile.iter().filter(|profile| only.is_none_or(|only| profile.name == only)) {
            let verdict = verify(&self.home, &self.study, profile, &self.ledger, which, bench)
                .with_context(|| format!("checkpoints of {}", profile.name))?;
            for cell in &verdict.equal {
                tell(format_args!("evaluated again, equal to its row: {}/{cell}", profile.name));
            }
            for reason in &verdict.unavailable {
                tell(format_args!("not evaluated: {}/{reason}", profile.name));
            }
            different.extend(verdict.different.iter().map(|reason| format!("{}/{reason}", profile.name)));
        }
        anyhow::ensure!(different.is_empty(), "checkpoints disagree with their rows: {}", different.join("; "));
        Ok(())
    }
}

/// A reader who has seen enough, as in `| head`, is no error.
/// A line on standard error; one that nobody reads is no reason to stop.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
