//! What a study can refuse; each message names the place.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "study {name:?} not found: no experiments/{name}/study.toml here or in a folder above; name a study or a path"
    )]
    Unknown { name: String },
    #[error("{}:{line}: {message}", path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("{}: {message}", path.display())]
    Invalid { path: PathBuf, message: String },
    #[error("study {study} has no profile {name:?}; it has {known}")]
    Profile { study: String, name: String, known: String },
    #[error("profile {profile} has no cell {name:?}; `sandglass plan` lists its cells")]
    Cell { profile: String, name: String },
    #[error("{0}")]
    Recipe(String),
    #[error("{} lies in no project: a folder above it needs folders experiments and results", path.display())]
    NoHome { path: PathBuf },
    #[error("paper tables: {0}")]
    Paper(String),
    #[error(transparent)]
    Model(#[from] sandglass_models::ModelError),
}
