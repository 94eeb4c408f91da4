//! What was answered for every single item, beside the rows, so that paired tests can be done again.

use std::path::{Path, PathBuf};

use crate::field::Field;
use crate::file::{ReadError, WriteError};
use crate::sealed::{self, Sealed};

/// One item, such as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Its name within the data set.
    pub name: String,
    /// What is right.
    pub label: u32,
    /// What was answered first.
    pub prediction: u32,
}

/// What was answered, and by which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictions {
    /// SHA-256 of the checkpoint.
    pub checkpoint: String,
    /// In the data set's order.
    pub items: Vec<Prediction>,
}

impl Predictions {
    /// Item by item, whether it is answered right.
    pub fn right(&self) -> Vec<bool> {
        self.items.iter().map(|item| item.prediction == item.label).collect()
    }

    /// Whether a percentage over so many items is the share of right answers.
    pub fn are_of(&self, percentage: Option<f64>, n: u64) -> bool {
        let right = self.right().into_iter().filter(|right| *right).count();
        let share = 100.0 * right as f64 / self.items.len().max(1) as f64;
        n == self.items.len() as u64 && percentage.is_some_and(|of| (of - share).abs() < 1e-6)
    }
}

/// The fact that names the checkpoint.
pub(crate) const CHECKPOINT: &str = "sandglass.checkpoint";

/// Where a cell's predictions lie below `root`, be they labels or boxes.
pub fn predictions_path(root: &Path, [study, profile, cell]: [&str; 3]) -> PathBuf {
    root.join(study).join(profile).join(format!("{cell}.parquet"))
}

/// Writes `root/<study>/<profile>/<cell>.parquet`, whole or not at all, and returns the path.
///
/// # Errors
/// A file that cannot be made or written.
pub fn write_predictions(root: &Path, cell: [&str; 3], predictions: &Predictions) -> Result<PathBuf, WriteError> {
    let path = predictions_path(root, cell);
    let Predictions { checkpoint, items } = predictions;
    sealed::write(&path, items.len(), &[(CHECKPOINT, checkpoint.clone())], || {
        let names: Vec<&String> = items.iter().map(|item| &item.name).collect();
        let labels: Vec<&u32> = items.iter().map(|item| &item.label).collect();
        let predictions: Vec<&u32> = items.iter().map(|item| &item.prediction).collect();
        vec![Field::column("name", &names), Field::column("label", &labels), Field::column("prediction", &predictions)]
    })?;
    Ok(path)
}

/// What was written for a cell.
///
/// # Errors
/// A file that is not there, was changed, or holds something else.
pub fn read_predictions(root: &Path, cell: [&str; 3]) -> Result<Predictions, ReadError> {
    sealed::read(&predictions_path(root, cell), predictions)
}

pub(crate) fn predictions(of: &Sealed) -> Result<Predictions, String> {
    let checkpoint = of.fact(CHECKPOINT).ok_or("it names no checkpoint")?.to_owned();
    let item = |at: usize| -> Result<Prediction, String> {
        Ok(Prediction {
            name: Field::value(&of.frame, "name", at)?,
            label: Field::value(&of.frame, "label", at)?,
            prediction: Field::value(&of.frame, "prediction", at)?,
        })
    };
    Ok(Predictions { checkpoint, items: (0..of.frame.height()).map(item).collect::<Result<_, _>>()? })
}
