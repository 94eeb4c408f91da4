//! What a study must say for itself.

use std::path::{Path, PathBuf};

use sandglass_ledger::{Boxes, Prediction};
use serde::de::DeserializeOwned;

use crate::{Axes, Build, CellError, Listed, Place, Project, Results, Section, StudyError};

/// A study's method. The rest, from `study.toml` to rows, is the same for all.
pub trait Experiment: Sized + 'static {
    /// `[design]`: what is compared. Types carry `deny_unknown_fields`, so that a mistyped key is answered.
    type Design: DeserializeOwned;
    /// `[profile.setup]`: data, size, recipe, seeds of one scale.
    type Setup: DeserializeOwned;
    type Cell: Axes;

    /// On this machine, with `threads` threads or all cores, in a project. Nothing dear is done before a cell is run.
    ///
    /// # Errors
    /// Threads or an instruction set that this machine has not.
    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError>;

    /// The cells of a profile, in the order in which they are run.
    ///
    /// # Errors
    /// Whatever contradicts itself: it is refused when `study.toml` is read.
    fn cells(&self, design: &Self::Design, setup: &Self::Setup) -> Result<Vec<Self::Cell>, StudyError>;

    /// The file that is measured: made in `folder`, going on from what lies there, or found.
    ///
    /// # Errors
    /// Why there is none.
    fn prepare(&self, cell: &Self::Cell, folder: &Path) -> Result<Artefact, CellError>;

    /// What the file is worth, by the engine that is named, or by the experiment's own choice.
    ///
    /// # Errors
    /// Why that is not known.
    fn measure(&self, cell: &Self::Cell, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError>;

    /// How the results are laid out.
    ///
    /// # Errors
    /// What the section needs and is not there.
    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError>;

    /// The metric of the whole that the provenance table shows of a cell.
    fn headline(&self, cell: &Self::Cell) -> Headline;

    /// Instruction set and threads that a cell is measured on.
    fn runtime(&self, cell: &Self::Cell) -> (String, u64);

    /// The cell's part of its profile's minutes, in any unit.
    fn share(&self, _: &Self::Cell) -> f64 {
        1.0
    }

    /// Whether the cell's file is kept in `results/checkpoints`.
    fn keeps(&self, _: &Self::Setup, _: &Self::Cell) -> bool {
        false
    }

    /// A checkpoint that lies on the hub.
    ///
    /// # Errors
    /// Why it is not at hand; no network is no disagreement.
    fn fetch(&self, _: &Listed) -> Result<PathBuf, CellError> {
        Err(CellError::Skipped("this study fetches nothing".into()))
    }

    /// The cell of another study whose kept checkpoint this one is measured on: rows of an older one are stale.
    fn measured_on(&self, _: &Self::Cell) -> Option<Place> {
        None
    }

    /// The cell of another study without whose kept checkpoint this one cannot be run.
    fn needs(&self, cell: &Self::Cell) -> Option<Place> {
        self.measured_on(cell)
    }

    /// Whether `prepare` finds the cell's file and makes nothing: such a file can be measured again at any time.
    fn is_found(&self, _: &Self::Cell) -> bool {
        false
    }
}

/// A metric and the words that head its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headline {
    pub metric: &'static str,
    pub title: &'static str,
    /// What its `n` counts.
    pub counted: &'static str,
}

/// The file that is measured.
#[derive(Clone, Debug)]
pub struct Artefact {
    pub path: PathBuf,
    /// What must be kept with it, such as the names of its classes: the same name, ending in `.toml`.
    pub beside: Option<PathBuf>,
    /// What was measured on the way: when, and what.
    pub history: Vec<(f64, f64)>,
    /// Seconds that its making took, over all resumes; None where it was found.
    pub seconds: Option<f64>,
    /// Commits of the programs that made it.
    pub made_by: Vec<String>,
    /// Hash of the data that it was made from; after a `+` SHA-256 of the checkpoint that its making started from, if any.
    pub made_from: Option<String>,
    /// What its making knows and measuring it again would not, such as what was left out: [`Again::Once`] each.
    pub values: Vec<Value>,
}

impl Artefact {
    /// A file that lies there.
    pub fn found(path: PathBuf) -> Self {
        Self {
            path,
            beside: None,
            history: Vec::new(),
            seconds: None,
            made_by: Vec::new(),
            made_from: None,
            values: Vec::new(),
        }
    }
}

/// What was measured on a file.
#[derive(Clone, Debug)]
pub struct Measurement {
    pub data: Facts,
    /// None: the engine that trains.
    pub engine: Option<String>,
    pub values: Vec<Value>,
    /// Of every single item; empty where there are none.
    pub predictions: Vec<Prediction>,
    /// In every image, of what finds objects; it has no predictions then.
    pub boxes: Option<Boxes>,
    /// For whoever watches the run, such as `90 of 100 images right`.
    pub summary: String,
}

/// The data that were measured on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub hash: String,
    pub synthetic: bool,
}

/// Whether measuring the file again must give the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Exact,
    /// A time, or what only the file's making knows: never compared.
    Once,
}

/// One number.
#[derive(Clone, Debug)]
pub struct Value {
    pub metric: &'static str,
    pub unit: &'static str,
    /// A layer, a class.
    pub part: Option<String>,
    pub value: f64,
    /// How many items or repetitions it was measured on.
    pub n: u64,
    /// When, and what; see `samples` and `samples_at` of a row.
    pub samples: Vec<(f64, f64)>,
    pub again: Again,
}

impl Value {
    /// An exact value of the whole, without samples.
    pub fn exact(metric: &'static str, unit: &'static str, value: f64, n: u64) -> Self {
        Self { metric, unit, part: None, value, n, samples: Vec::new(), again: Again::Exact }
    }
}
