//! What was answered for a cell, of whichever kind it is.

use std::path::Path;

use crate::detections::{CLASSES, Detections, detections};
use crate::file::ReadError;
use crate::predictions::{Predictions, predictions, predictions_path};
use crate::sealed;

/// A label for every item, or boxes in every image.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    Labels(Predictions),
    Boxes(Detections),
}

impl Answers {
    /// SHA-256 of the checkpoint that answered.
    pub fn checkpoint(&self) -> &str {
        match self {
            Self::Labels(of) => &of.checkpoint,
            Self::Boxes(of) => &of.checkpoint,
        }
    }
}

/// What was written for a cell.
///
/// # Errors
/// A file that is not there, was changed, or holds something else.
pub fn read_answers(root: &Path, cell: [&str; 3]) -> Result<Answers, ReadError> {
    sealed::read(&predictions_path(root, cell), |of| match of.fact(CLASSES) {
        Some(_) => detections(of).map(Answers::Boxes),
        None => predictions(of).map(Answers::Labels),
    })
}
