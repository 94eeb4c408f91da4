//! Why there is no report.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("figure {name}: {reason}")]
    Figure { name: String, reason: String },
    #[error("template: {0}")]
    Template(#[from] askama::Error),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: no lines <!-- BEGIN: {name} --> and <!-- END: {name} -->, in this order, to put the table between", path.display())]
    Markers { path: PathBuf, name: &'static str },
}

impl ReportError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| ReportError::Io { path, source }
    }
}
