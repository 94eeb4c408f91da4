//! What can go wrong between a data set's name and a batch.

use std::path::{Path, PathBuf};

use crate::{AnnotationError, DecodeError};

/// How many broken images an error names.
const NAMED: usize = 5;

/// Every message is one line and names the file, image or set that is at fault.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum DataError {
    /// The system could not read or write a file.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    /// One image cannot be decoded.
    #[error("{name}: {reason}")]
    Image { name: String, reason: DecodeError },

    /// Some images cannot; `names` holds the first few, each with its reason.
    #[error("{set}: {count} broken of {total} images: {}{}", names.join(", "), if *count > names.len() { ", ..." } else { "" })]
    Broken { set: String, count: usize, total: usize, names: Vec<String> },

    /// An image's annotation is damaged, or says what cannot be.
    #[error("{name}: {reason}")]
    Annotation { name: String, reason: AnnotationError },

    /// A tar archive is damaged, or not what its headers claim.
    #[error("{}: {reason}", path.display())]
    Archive { path: PathBuf, reason: String },

    /// No split of a detection set has that name.
    #[error("no split is called {0:?}: use train, val, trainval or test")]
    Split(String),

    /// A parquet file is damaged, or holds other columns than an image set's.
    #[error("{}: {reason}", path.display())]
    Parquet { path: PathBuf, reason: String },

    /// One of several parquet files of a part is not there.
    #[error("{}: shard {missing} is not beside it; fetch all shards of the set", path.display())]
    MissingShard { path: PathBuf, missing: String },

    /// A folder is not laid out as a data set, or not there.
    #[error("{}: {reason}", path.display())]
    Layout { path: PathBuf, reason: String },

    /// There is no such set, neither as a path nor below a data root.
    #[error("{what}: {reason}")]
    Nowhere { what: String, reason: String },

    /// A set has no part to be scored, or none of its own; another is never taken in its place.
    #[error("{}: has no validation part: {reason}", path.display())]
    NoPart { path: PathBuf, reason: String },

    /// Labels do not fit the images, the classes or the classifier.
    #[error("{set}: {reason}")]
    Labels { set: String, reason: String },

    /// Sizes or numbers of images do not fit what is asked of them.
    #[error("{set}: {reason}")]
    Size { set: String, reason: String },

    /// A protocol that no image can be scored by.
    #[error("evaluation protocol: {0}")]
    Protocol(String),

    /// An augmentation that cannot be drawn.
    #[error("augmentation: {0}")]
    Augment(String),

    /// A thread that prepares batches ended early, or never started.
    #[error("{set}: a loading thread stopped")]
    Stopped { set: String },

    /// A file could not be fetched, or was not the one that is pinned.
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

    pub(crate) fn archive(path: &Path, reason: String) -> Self {
        DataError::Archive { path: path.to_path_buf(), reason }
    }

    pub(crate) fn no_part(path: &Path, reason: &str) -> Self {
        DataError::NoPart { path: path.to_path_buf(), reason: reason.to_string() }
    }

    /// `failures`: "name: reason" of every broken image, in order.
    pub(crate) fn broken(set: &str, total: usize, failures: Vec<String>) -> Self {
        let count = failures.len();
        DataError::Broken { set: set.to_string(), count, total, names: failures.into_iter().take(NAMED).collect() }
    }
}
