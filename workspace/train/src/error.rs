//! What can end a training run early.

use std::io;
use std::path::PathBuf;

use sandglass_data::DataError;
use sandglass_models::ModelError;
use sandglass_models::checkpoint::CheckpointError;
use sandglass_ops::{OpError, RuntimeError};

use crate::store::StoreError;
use crate::{EngineError, RecipeError};

/// Why a training ends early; what its state holds stays.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Loss(#[from] OpError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{}: {source}; choose a folder that can be written", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{}: another process trains in this folder", .0.display())]
    Busy(PathBuf),
    #[error(
        "{}: holds another run ({}); repeat its command, or choose another folder",
        path.display(),
        differences.join(", ")
    )]
    OtherRun { path: PathBuf, differences: Vec<String> },
    #[error("{0}: a batch norm that does more than add, so it was not folded")]
    NotFolded(String),
    /// Of an engine or a task that is none of this crate's.
    #[error(transparent)]
    Foreign(Box<dyn std::error::Error + Send + Sync>),
    #[error("gives logits that are no numbers")]
    Logits,
    #[error("a line of the log cannot be written or read: {0}")]
    Log(String),
    #[error("{}: the state lacks {tensor}; delete the folder to start again", path.display())]
    Lacks { path: PathBuf, tensor: String },
    /// Epoch and step are counted from 1.
    #[error(
        "{what} is not finite at epoch {epoch}, step {step}: stopped before the update; the last checkpoint is kept (a lower learning rate may help)"
    )]
    NonFinite { what: String, epoch: u64, step: u64 },
}
