//! The verbs of a study, for the `sandglass` binary and for an experiment's own.

use std::io::{self, Write};
use std::process::ExitCode;

use sandglass_ledger::{Row, Status};

use crate::opened::Placed;
use crate::paper::PaperTable;
use crate::run::{RunError, Tally, run};
use crate::{Experiment, Headline, Opened, Part, Plan, Section, State, StudyError, Table, Verify, duration};

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
    /// Run the cell though it is done: from the start, in place of the rows that are there
    #[arg(long, requires = "cell")]
    pub again: bool,
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

impl<E: Experiment> Opened<E> {
    /// Prints the plan of a profile.
    pub(crate) fn print_plan(&self, args: &PlanArgs) -> Result<ExitCode, StudyError> {
        let plan = Plan::of(self, args.profile.as_deref())?;
        if args.json {
            return print(&(serde_json::to_string_pretty(&plan).map_err(StudyError::Unwritable)? + "\n"));
        }
        let table = plan.table().markdown();
        let others = plan.cells.iter().any(|cell| cell.after.is_some());
        let without = if others { ", without what must be done before" } else { "" };
        print(&format!("{table}\nto do: {} on two cores{without}\n", duration(plan.remaining_seconds)))
    }

    /// Runs what is missing; fails if a cell failed or was skipped.
    pub(crate) fn run_missing(&self, args: &RunArgs) -> Result<ExitCode, StudyError> {
        match run(self, args.profile.as_deref(), args.cell.as_deref(), args.again, &mut |line| tell(line)) {
            Ok(tally) => {
                tell(words(&tally));
                Ok(if tally.failed + tally.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Err(RunError::Interrupted(signal)) => {
                match args.again {
                    // The rows that are there stand until all is done.
                    true => tell(format_args!(
                        "stopped by signal {signal}; its rows are as they were, and the same command resumes"
                    )),
                    false => tell(RunError::Interrupted(signal)),
                }
                Ok(ExitCode::from(128 + signal as u8))
            }
            Err(RunError::Study(error)) => Err(error),
        }
    }

    /// Prints the study's table from committed rows; fails if a cached checkpoint disagrees with its row.
    pub(crate) fn print_table(&self, args: &TableArgs) -> Result<ExitCode, StudyError> {
        let section = self.section_of(args.profile.as_deref())?;
        if args.json {
            print(&(serde_json::to_string_pretty(&section.data).map_err(StudyError::Unwritable)? + "\n"))?;
        } else {
            print(&text(&section))?;
        }
        for problem in &self.ledger.problems {
            tell(format_args!("not used: {problem}"));
        }
        for problem in &section.problems {
            tell(format_args!("not used: {problem}"));
        }
        self.verify_kept(args.verify, args.profile.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }

    /// The study's part of the report: what the experiment says, and what is the same for all.
    pub(crate) fn section_of(&self, only: Option<&str>) -> Result<Section, StudyError> {
        let results = self.results(only)?;
        let mut section = self.experiment.section(&results)?;
        let name = &self.head.name;
        section.name = name.clone();
        section.title = self.head.title.clone();
        section.question = self.head.question.clone();
        section.sources = self.sources()?;
        section.problems.extend(results.scales.iter().flat_map(|scale| scale.problems()));
        section.problems.extend(self.rows_of_no_profile());
        section.provenance = self.provenance(only);
        section.commands.push((
            "Print this table and evaluate its cached checkpoints again".to_owned(),
            format!("sandglass table {name} --verify all"),
        ));
        section.commands.extend(self.file.profile.iter().map(|profile| {
            let what = format!("Measure what is missing of profile {} ({})", profile.name, profile.title);
            (what, format!("sandglass run {name} --profile {}", profile.name))
        }));
        Ok(section)
    }

    /// Where the paper has it, and what is done otherwise.
    fn sources(&self) -> Result<Vec<String>, StudyError> {
        let mut sources = Vec::new();
        if let Some(id) = &self.head.paper_table {
            sources.push(PaperTable::find(id)?.origin());
        }
        if !self.head.differs.is_empty() {
            sources.push(format!("Done differently here: {}", self.head.differs));
        }
        Ok(sources)
    }

    fn rows_of_no_profile(&self) -> Vec<String> {
        let of_study = self.ledger.rows.iter().filter(|row| row.study == self.head.name);
        let mut names: Vec<&str> = of_study.map(|row| row.profile.as_str()).collect();
        names.dedup();
        names.retain(|name| self.file.profile.iter().all(|profile| profile.name != *name));
        names.into_iter().map(|name| format!("{}/{name}: the study has no such profile", self.head.name)).collect()
    }

    /// The headline's row of every cell, wherever it lies. The first cell's heads the column; others stand by name.
    fn provenance(&self, only: Option<&str>) -> Table {
        let placed = self.file.profile.iter().zip(&self.cells);
        let placed = placed.filter(|(profile, _)| only.is_none_or(|only| profile.name == only));
        let cells: Vec<&Placed<E::Cell>> = placed.flat_map(|(_, cells)| cells).collect();
        let Some(first) = cells.first().map(|cell| self.experiment.headline(&cell.keyed.cell)) else {
            return Table::default();
        };
        let mut table = Table::new([
            ("row", false),
            (first.title, true),
            (first.counted, true),
            ("commit", false),
            ("checkpoint", false),
            ("data", false),
            ("machine", false),
            ("took", true),
            ("runs it again", false),
        ]);
        let of_cell = |row: &Row| {
            cells.iter().find(|cell| cell.place.names() == [&row.study, &row.profile, &row.cell].map(String::as_str))
        };
        for row in self.ledger.rows.iter().filter(|row| row.part.is_none()) {
            let Some(cell) = of_cell(row) else { continue };
            let headline = self.experiment.headline(&cell.keyed.cell);
            if row.metric == headline.metric {
                let named = (headline != first).then_some(headline);
                table.push(origin(row, named, self.state(cell, &self.ledger) == State::Stale));
            }
        }
        table
    }
}

fn words(tally: &Tally) -> String {
    let Tally { done, kept, failed, skipped, busy, waiting } = tally;
    let mut line = format!("{done} done, {kept} kept, {failed} failed, {skipped} skipped");
    if *busy > 0 {
        line += &format!(", {busy} busy");
    }
    if *waiting > 0 {
        line += &format!(", {waiting} not done where they are borrowed from");
    }
    line
}

/// `named` is a headline that the column's heading does not say.
fn origin(row: &Row, named: Option<Headline>, is_stale: bool) -> [String; 9] {
    let stale = if is_stale { ", stale" } else { "" };
    let value = match (row.status, row.value, named) {
        (Status::Ok, Some(value), None) => format!("{value:.2}{stale}"),
        (Status::Ok, Some(value), Some(Headline { title, .. })) => format!("{title} {value:.3}{stale}"),
        (status, ..) => format!("{}: {}", status.word(), row.error.as_deref().unwrap_or("no reason given")),
    };
    [
        row.id(),
        value,
        named.map_or_else(|| row.n.to_string(), |headline| format!("{} {}", row.n, headline.counted)),
        format!("{}{}", short(&row.commit), if row.dirty { " with changes" } else { "" }),
        short(row.checkpoint_hash.as_deref().unwrap_or("\u{2013}")).to_owned(),
        short(&row.data_hash).to_owned(),
        format!("{}, {}, {} threads", row.machine, row.isa, row.threads),
        duration(row.seconds),
        row.command.clone(),
    ]
}

/// The first digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..10).unwrap_or(hash)
}

/// Tables and notes for a terminal; figures and prose are the report's.
fn text(section: &Section) -> String {
    let mut text = format!("{}\n", section.title);
    for part in &section.parts {
        match part {
            Part::Heading(heading) | Part::Claim { says: heading, .. } => text.push_str(&format!("\n{heading}\n")),
            Part::Table(table) => text.push_str(&format!("\n{}", table.markdown())),
            Part::Notes(notes) => {
                text.push('\n');
                notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
            }
            Part::Prose(_) | Part::Figure(_) | Part::Drawing(_) | Part::Curves(_) | Part::Pictures(_) => {}
        }
    }
    text
}

/// A line on standard error; one that nobody reads is no reason to stop.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A reader who has seen enough, as in `| head`, is no error.
fn print(text: &str) -> Result<ExitCode, StudyError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(StudyError::Output(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
