//! What a cell needs done. Studies know no more of training than this; tests put a fake in its place.

use std::path::Path;

use sandglass_models::Weights;
use sandglass_train::Recipe;

use crate::Cell;

/// Why a cell has no result.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Its data or weights are not at hand.
    #[error("{0}")]
    Skipped(String),
    #[error("{0}")]
    Failed(String),
    /// The user or the scheduler stopped it by this signal; what was done is saved and the same command resumes.
    #[error("stopped by signal {0}; the same command resumes")]
    Interrupted(i32),
}

impl CellError {
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// A trained network.
#[derive(Clone, Debug)]
pub struct Trained {
    pub weights: Weights,
    /// Validation top-1 in percent, where it was measured on the way.
    pub history: Vec<f64>,
}

/// How many of a data set's validation images a checkpoint names right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// As the data crate names the set.
    pub dataset: String,
    pub synthetic: bool,
    pub data_hash: String,
    pub top1: u64,
    pub top5: u64,
    pub images: u64,
}

/// Trains and scores.
pub trait Bench {
    /// Trains a cell in `folder`, going on from what lies there.
    fn train(&self, cell: &Cell, recipe: &Recipe, folder: &Path) -> Result<Trained, CellError>;

    /// Scores a checkpoint file on the validation images of the cell's data set.
    fn score(&self, cell: &Cell, weights: &Path) -> Result<Score, CellError>;

    /// A file below the data root; `Skipped` where it is not there.
    fn data_file(&self, name: &str) -> Result<std::path::PathBuf, CellError>;

    /// Instruction set path and threads.
    fn runtime(&self) -> (String, u64);
}
