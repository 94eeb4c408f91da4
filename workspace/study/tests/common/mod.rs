#![allow(dead_code, reason = "each test uses its part")]
//! A study of numbers in a folder of its own: nothing is trained, and no network or data set is known.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sandglass_ledger::{Ledger, Prediction, Row};
use sandglass_study::{
    Artefact, Axes, Build, CellError, Experiment, Facts, Headline, Measurement, Part, Place, Project, Results, RunArgs,
    Section, Shelf, Study, StudyEntry, StudyError, Table, Value,
};
use serde::{Deserialize, Serialize};

pub const MICRO: &str = include_str!("micro.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    sizes: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    seeds: Vec<u64>,
    #[serde(default)]
    keep: bool,
    #[serde(default)]
    broken: Vec<u64>,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    once: bool,
    /// `study/profile` whose kept files are measured.
    on: Option<String>,
}

#[derive(Clone, Serialize)]
pub struct Number {
    size: u64,
    seed: u64,
    #[serde(skip)]
    broken: bool,
    #[serde(skip)]
    absent: bool,
    #[serde(skip)]
    once: bool,
    #[serde(skip)]
    on: Option<Place>,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}-s{}", self.size, self.seed)
    }
}

impl Axes for Number {
    fn axes(&self) -> Vec<(&'static str, String)> {
        vec![("kind", (self.size % 2).to_string()), ("size", self.size.to_string())]
    }

    fn dataset(&self) -> String {
        "numbers".into()
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

type During = Rc<dyn Fn(&str)>;

thread_local! {
    /// Cells that were made, in order.
    pub static MADE: RefCell<Vec<String>> = RefCell::default();
    /// Is asked while a cell is being made.
    pub static DURING: RefCell<Option<During>> = RefCell::default();
    /// Making a cell is stopped by a signal, after it has left something.
    pub static STOPPED: Cell<bool> = Cell::default();
}

pub struct Numbers(Project);

pub const NUMBERS: StudyEntry = StudyEntry::of::<Numbers>("micro");
/// The same method as another study.
pub const OTHER: StudyEntry = StudyEntry::of::<Numbers>("other");

impl Experiment for Numbers {
    type Design = Design;
    type Setup = Setup;
    type Cell = Number;

    fn new(_: Option<usize>, _: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self(project.clone()))
    }

    fn cells(&self, design: &Design, setup: &Setup) -> Result<Vec<Number>, StudyError> {
        let cell = |&seed: &u64| {
            design.sizes.iter().map(move |&size| Number {
                size,
                seed,
                broken: setup.broken.contains(&size),
                absent: setup.absent,
                once: setup.once,
                on: setup.on.as_ref().map(|on| Place::new(on, format!("n{size}-s{seed}"))),
            })
        };
        Ok(setup.seeds.iter().flat_map(cell).collect())
    }

    fn prepare(&self, cell: &Number, folder: &Path) -> Result<Artefact, CellError> {
        MADE.with_borrow_mut(|made| made.push(cell.to_string()));
        let during = DURING.with_borrow(Clone::clone);
        during.iter().for_each(|during| during(&cell.to_string()));
        if STOPPED.get() {
            std::fs::write(folder.join("left"), "to go on from").map_err(CellError::failed)?;
            return Err(CellError::Interrupted(15));
        }
        if cell.broken {
            return Err(CellError::Failed("a number | is odd\n".into()));
        }
        if cell.absent {
            return Err(CellError::Skipped("no numbers here".into()));
        }
        if let Some(on) = &cell.on {
            let file = format!("{}.safetensors", on.names().join("/"));
            return Ok(Artefact::found(self.0.checkpoints().join(file)));
        }
        let path = folder.join("number");
        std::fs::write(&path, (100 * cell.size + cell.seed).to_string()).map_err(CellError::failed)?;
        Ok(Artefact {
            history: vec![(5.0, 1.0), (7.0, 2.0)],
            seconds: Some(3600.0),
            made_by: vec!["earlier".into(), "later".into()],
            made_from: Some("numbers".into()),
            values: vec![Value { again: sandglass_study::Again::Once, ..Value::exact("left_out", "items", 4.0, 9) }],
            ..Artefact::found(path)
        })
    }

    fn measure(&self, cell: &Number, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        if engine.is_some() {
            return Err(CellError::Skipped("no such engine".into()));
        }
        let text = std::fs::read_to_string(&file.path).map_err(CellError::failed)?;
        let value: f64 = text.parse().map_err(CellError::failed)?;
        let main = Value { samples: file.history.clone(), ..Value::exact("worth", "points", value, 10) };
        let digit = Value { part: Some("first".into()), ..Value::exact("digit", "", 1.0, 10) };
        let again = if cell.once { sandglass_study::Again::Once } else { sandglass_study::Again::Exact };
        // A clock that never shows the same twice.
        let time = MADE.with_borrow(Vec::len) as f64 + text.len() as f64 / 7.0;
        let time = Value { again, ..Value::exact("time", "s", if cell.once { time } else { 0.5 }, 1) };
        let name = |label| Prediction { name: format!("item {label}"), label, prediction: 7 };
        Ok(Measurement {
            data: Facts { hash: "data".into(), synthetic: true },
            engine: None,
            values: vec![main, digit, time],
            predictions: (0..3).map(name).collect(),
            boxes: None,
            summary: format!("worth {value}"),
        })
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        let mut table = Table::new([("cell", false), ("worth", true)]);
        for cell in results.scales.iter().flat_map(|scale| &scale.cells) {
            table.push([cell.id.to_owned(), cell.value("worth").map_or("-".into(), |worth| worth.to_string())]);
        }
        Ok(Section { parts: vec![Part::Table(table)], ..Section::default() })
    }

    fn headline(&self, _: &Self::Cell) -> Headline {
        Headline { metric: "worth", title: "worth (points)", counted: "items" }
    }

    fn runtime(&self, _: &Self::Cell) -> (String, u64) {
        ("none".into(), 1)
    }

    fn share(&self, cell: &Number) -> f64 {
        cell.size as f64
    }

    fn keeps(&self, setup: &Setup, _: &Number) -> bool {
        setup.keep
    }

    fn measured_on(&self, cell: &Number) -> Option<Place> {
        cell.on.clone()
    }

    fn is_found(&self, cell: &Number) -> bool {
        cell.on.is_some()
    }
}

pub struct Micro {
    pub folder: tempfile::TempDir,
}

impl Micro {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("results")).unwrap();
        let micro = Self { folder };
        micro.write("micro", MICRO);
        micro
    }

    pub fn write(&self, study: &str, text: &str) {
        let folder = self.folder.path().join("experiments").join(study);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("study.toml"), text).unwrap();
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn open(&self, study: &str) -> Result<Box<dyn Study>, StudyError> {
        let build = Build::new("c0ffee+changes", b"lock");
        let shelf = Shelf::new(&[NUMBERS, OTHER], build, None);
        shelf.find(self.path("experiments").join(study).to_str().unwrap())
    }

    /// Runs a profile, or one cell of it; true where nothing failed and nothing was skipped.
    pub fn run(&self, study: &str, profile: &str, cell: Option<&str>) -> Result<bool, StudyError> {
        let (profile, cell) = (Some(profile.to_owned()), cell.map(str::to_owned));
        let code = self.open(study)?.run(&RunArgs { profile, cell, again: false, threads: None })?;
        Ok(format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS))
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::read(&Project::around(self.folder.path()).unwrap().rows())
    }

    pub fn row(&self, cell: &str, metric: &str) -> Row {
        let ledger = self.ledger();
        let row = ledger.cell("micro", "plain", cell).find(|row| row.metric == metric);
        row.unwrap_or_else(|| panic!("no {metric} of {cell}")).clone()
    }

    /// The cells that `call` made.
    pub fn made(call: impl FnOnce()) -> Vec<String> {
        MADE.take();
        call();
        MADE.take()
    }
}
