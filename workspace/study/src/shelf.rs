//! The list of studies, and the door through which a program reaches each of them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use sandglass_ledger::{Ledger, Problem, Row};
use serde::Deserialize;

use crate::borrow::Lent;
use crate::claim::Evidence;
use crate::file::read_toml;
use crate::{Build, Experiment, Opened, PlanArgs, Project, RunArgs, Section, StudyError, TableArgs, Verify, tell};

/// A study's method by name: one line of a program's list, whose order is the report's.
#[derive(Clone, Copy)]
pub struct StudyEntry {
    pub name: &'static str,
    open: Open,
}

type Open = fn(&Path, &Shelf<'_>) -> Result<Box<dyn Study>, StudyError>;

impl StudyEntry {
    pub const fn of<E: Experiment>(name: &'static str) -> Self {
        Self { name, open: open::<E> }
    }
}

fn open<E: Experiment>(path: &Path, shelf: &Shelf<'_>) -> Result<Box<dyn Study>, StudyError> {
    let project = Project::around(path)?;
    let experiment = E::new(shelf.threads, &shelf.build, &project)?;
    let lender = |study: &str, profile: &str| shelf.at(&project, path, study)?.lend(profile);
    let ledger = shelf.ledger.get_or_init(|| Rc::new(Ledger::read(&project.rows())));
    Ok(Box::new(Opened::open(path, experiment, shelf.build.clone(), Rc::clone(ledger), &lender)?))
}

/// The studies that a program knows.
#[derive(Clone)]
pub struct Shelf<'a> {
    entries: &'a [StudyEntry],
    build: Build,
    threads: Option<usize>,
    /// Studies that are being opened, each for the one before it to borrow from.
    opening: Vec<String>,
    /// The project's rows: those that are opened together share one reading.
    ledger: Rc<OnceCell<Rc<Ledger>>>,
}

/// The little of a study's file that says whose method it is.
#[derive(Deserialize)]
struct Title {
    name: String,
    method: Option<String>,
}

impl<'a> Shelf<'a> {
    /// `threads` None: all cores.
    pub fn new(entries: &'a [StudyEntry], build: Build, threads: Option<usize>) -> Self {
        Self { entries, build, threads, opening: Vec::new(), ledger: Rc::default() }
    }

    /// For one opening: rows may be written between two.
    fn anew(&self) -> Self {
        Self { ledger: Rc::default(), ..self.clone() }
    }

    /// Opens a study by name (`experiments/NAME/study.toml` here or in a folder above), or by the path of its file or
    /// folder.
    ///
    /// # Errors
    /// None is there, it is wrong, or no method of this program is its.
    pub fn find(&self, name: &str) -> Result<Box<dyn Study>, StudyError> {
        let given = Path::new(name);
        if given.join("study.toml").is_file() {
            return self.anew().open(&given.join("study.toml"));
        }
        if given.is_file() {
            return self.anew().open(given);
        }
        let here = std::env::current_dir().map_err(StudyError::io(Path::new(".")))?;
        let mut places = here.ancestors().map(|folder| folder.join("experiments").join(name).join("study.toml"));
        let path = places.find(|path| path.is_file()).ok_or_else(|| StudyError::Unknown { name: name.to_owned() })?;
        self.anew().open(&path)
    }

    /// Opens all studies of a project: those of the list in its order, then others by name.
    ///
    /// # Errors
    /// As [`Shelf::find`].
    pub fn all(&self, project: &Project) -> Result<Vec<Box<dyn Study>>, StudyError> {
        let mut files: Vec<(usize, PathBuf)> = Vec::new();
        for path in project.studies()? {
            let name = read_toml::<Title>(&path)?.name;
            let place = self.entries.iter().position(|entry| entry.name == name);
            files.push((place.unwrap_or(self.entries.len()), path));
        }
        files.sort();
        let shelf = self.anew();
        files.iter().map(|(_, path)| shelf.open(path)).collect()
    }

    /// The study that the one at `path` borrows from.
    fn at(&self, project: &Project, path: &Path, name: &str) -> Result<Box<dyn Study>, StudyError> {
        let mut opening = self.opening.clone();
        opening.push(read_toml::<Title>(path)?.name);
        if opening.iter().any(|other| other == name) {
            opening.push(name.to_owned());
            return Err(StudyError::Circle { path: path.into(), names: opening });
        }
        let path = project.root().join("experiments").join(name).join("study.toml");
        let shelf = Self { opening, ..self.clone() };
        if path.is_file() { shelf.open(&path) } else { Err(StudyError::Unknown { name: name.to_owned() }) }
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Study>, StudyError> {
        let Title { name, method } = read_toml(path)?;
        // Rows are found by the study's name, studies by their folder's.
        let folder = std::path::absolute(path).map_err(StudyError::io(path))?;
        let mut above = folder.ancestors().skip(1).filter_map(Path::file_name);
        if let (Some(folder), Some(parent)) = (above.next(), above.next())
            && parent == "experiments"
            && folder != name.as_str()
        {
            let folder = folder.to_string_lossy();
            let message =
                format!("name = {name:?}, but its folder is {folder:?}: two studies of one name would share rows");
            return Err(StudyError::Invalid { path: path.into(), message });
        }
        let method = method.unwrap_or(name);
        let Some(entry) = self.entries.iter().find(|entry| entry.name == method) else {
            let known = self.entries.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
            return Err(StudyError::Method { path: path.into(), method, known });
        };
        (entry.open)(path, self)
    }
}

/// A study, whatever its method.
pub trait Study {
    fn name(&self) -> &str;

    /// # Errors
    /// There is no such profile.
    fn plan(&self, args: &PlanArgs) -> Result<ExitCode, StudyError>;

    /// # Errors
    /// There is no such profile or cell, or a row cannot be written.
    fn run(&self, args: &RunArgs) -> Result<ExitCode, StudyError>;

    /// # Errors
    /// There is no such profile, or a checkpoint disagrees with its row.
    fn table(&self, args: &TableArgs) -> Result<ExitCode, StudyError>;

    /// # Errors
    /// A checkpoint disagrees with its row.
    fn verify(&self, which: Verify) -> Result<(), StudyError>;

    /// # Errors
    /// What the section needs and is not there.
    fn section(&self) -> Result<Section, StudyError>;

    /// Row files and rows of the whole project that are not used, and why.
    fn problems(&self) -> &[Problem];

    /// Every sound row of the project, whoever's it is.
    fn rows(&self) -> &[Row];

    /// The rows that are the study's, of cells as they are defined today; borrowed ones under the profile that borrows.
    fn evidence(&self) -> Vec<Evidence<'_>>;

    /// Rows of the project whose study is none of `known`.
    fn strangers(&self, known: &[&str]) -> Vec<String>;

    /// The cells of a profile, for one that borrows.
    ///
    /// # Errors
    /// There is no such profile.
    fn lend(&self, profile: &str) -> Result<Vec<Lent>, StudyError>;
}

impl<E: Experiment> Study for Opened<E> {
    fn name(&self) -> &str {
        &self.head.name
    }

    fn plan(&self, args: &PlanArgs) -> Result<ExitCode, StudyError> {
        self.print_plan(args)
    }

    fn run(&self, args: &RunArgs) -> Result<ExitCode, StudyError> {
        self.run_missing(args)
    }

    fn table(&self, args: &TableArgs) -> Result<ExitCode, StudyError> {
        self.print_table(args)
    }

    fn verify(&self, which: Verify) -> Result<(), StudyError> {
        self.verify_kept(which, None)
    }

    fn section(&self) -> Result<Section, StudyError> {
        self.section_of(None)
    }

    fn problems(&self) -> &[Problem] {
        &self.ledger.problems
    }

    fn rows(&self) -> &[Row] {
        &self.ledger.rows
    }

    fn evidence(&self) -> Vec<Evidence<'_>> {
        self.seen()
    }

    fn strangers(&self, known: &[&str]) -> Vec<String> {
        let mut names: Vec<&str> = self.ledger.rows.iter().map(|row| row.study.as_str()).collect();
        names.dedup();
        names.retain(|name| !known.contains(name));
        names.into_iter().map(|name| format!("{name}: rows of a study that is not here")).collect()
    }

    fn lend(&self, profile: &str) -> Result<Vec<Lent>, StudyError> {
        self.lent_by(profile)
    }
}

#[derive(clap::Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// The cells, their state and expected time
    Plan(PlanArgs),
    /// Prepare and measure what is missing
    Run(RunArgs),
    /// The paper's values and ours, from committed rows
    Table(TableArgs),
}

/// An experiment's own program: the verbs of the first study of the list; the others are there to be borrowed from.
pub fn main(entries: &[StudyEntry], build: Build) -> ExitCode {
    let Some(name) = entries.first().map(|entry| entry.name) else { return ExitCode::FAILURE };
    let verb = <Args as clap::Parser>::parse().verb;
    let threads = match &verb {
        Verb::Plan(_) => None,
        Verb::Run(args) => args.threads,
        Verb::Table(args) => args.threads,
    };
    let study = Shelf::new(entries, build, threads).find(name);
    let outcome = study.and_then(|study| match &verb {
        Verb::Plan(args) => study.plan(args),
        Verb::Run(args) => study.run(args),
        Verb::Table(args) => study.table(args),
    });
    outcome.unwrap_or_else(|error| {
        tell(format_args!("{name}: {error}"));
        ExitCode::FAILURE
    })
}
