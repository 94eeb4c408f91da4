//! What can go wrong between a data set's name and a batch.

use std::path::{Path, PathBuf};

use crate::DecodeError;

/// How many broken images an error names.
const NAMED: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{name}: {reason}")]
    Image { name: String, reason: DecodeError },

    /// `names` holds the first few, each with its reason.
    #[error("{set}: {count} broken of {total} images: {}{}", names.join(", "), if *count > names.len() { ", ..." } else { "" })]
    Broken { set: String, count: usize, total: usize, names: Vec<String> },

    #[error("{}: {reason}", path.display())]
    Parquet { path: PathBuf, reason: String },

    #[error("{}: shard {missing} is not beside it; fetch all shards of the set", path.display())]
    MissingShard { path: PathBuf, missing: String },

    #[error("{}: {reason}", path.display())]
    Layout { path: PathBuf, reason: String },

    #[error("{set}: {reason}")]
    Labels { set: String, reason: String },

    #[error("{set}: {reason}")]
    Size { set: String, reason: String },

    /// A protocol that no image can be scored by.
    #[error("evaluation protocol: {0}")]
    Protocol(String),

    #[error("{set}: a loading thread stopped")]
    Stopped { set: String },

    #[error("{what}: {reason}; {advice}")]
    Download { what: String, reason: String, advice: String },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| DataError::Io { path, source }
    }

    pub(crate) fn layout(path: &Path, reason: impl Into<String>) -> Self {
        DataError::Layout { path: path.to_path_buf(), reason: reason.into() }
    }

    /// `failures`: "name: reason" of every broken image, in order.
    pub(crate) fn broken(set: &str, total: usize, failures: Vec<String>) -> Self {
        let count = failures.len();
        DataError::Broken { set: set.to_string(), count, total, names: failures.into_iter().take(NAMED).collect() }
    }
}
