//! What a study can refuse, and why a cell has no result; each message names the place.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("standard output: {0}")]
    Output(std::io::Error),
    #[error(
        "study {name:?} not found: no experiments/{name}/study.toml here or in a folder above; name a study or a path"
    )]
    Unknown { name: String },
    #[error("{}: no method is called {method:?}; there are {known}", path.display())]
    Method { path: PathBuf, method: String, known: String },
    #[error("{}:{line}: {message}", path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("{}: was changed since this run began: {cell} is no longer defined as it was; run it again", path.display())]
    Changed { path: PathBuf, cell: String },
    #[error("{}: the studies {} borrow from each other in a circle", path.display(), names.join(", "))]
    Circle { path: PathBuf, names: Vec<String> },
    #[error("{}: {message}", path.display())]
    Invalid { path: PathBuf, message: String },
    #[error("study {study} has no profile {name:?}; it has {known}")]
    Profile { study: String, name: String, known: String },
    #[error("profile {profile} has no cell {name:?}; `sandglass plan` lists its cells")]
    Cell { profile: String, name: String },
    #[error("{} lies in no project: a folder above it needs folders experiments or results", path.display())]
    NoProject { path: PathBuf },
    #[error("paper tables: {0}")]
    Paper(String),
    #[error("a definition that cannot be written has no hash: {0}")]
    Unwritable(serde_json::Error),
    #[error(transparent)]
    Write(#[from] sandglass_ledger::WriteError),
    #[error("checkpoints disagree with their rows: {0}")]
    Disagree(String),
    /// What an experiment says against its own study.toml, or against this machine.
    #[error("{0}")]
    Refused(String),
}

impl StudyError {
    /// An experiment's own objection.
    pub fn refused(reason: impl std::fmt::Display) -> Self {
        Self::Refused(reason.to_string())
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| StudyError::Io { path, source }
    }
}

/// Why a cell has no result.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// What it needs is not at hand.
    #[error("{0}")]
    Skipped(String),
    #[error("{0}")]
    Failed(String),
    /// Another process works on it.
    #[error("another process works on it")]
    Busy,
    /// The user or the scheduler stopped it by this signal; what was done is saved and the same command resumes.
    #[error("stopped by signal {0}; the same command resumes")]
    Interrupted(i32),
}

impl CellError {
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}
