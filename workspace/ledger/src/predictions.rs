//! What was answered for every single item, beside the rows, so that paired tests can be done again.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use polars::prelude::{
    DataFrame, IntoColumn, KeyValueMetadata, NamedFrom, ParallelStrategy, ParquetReader, ParquetWriter, PolarsError,
    SerReader, Series,
};
use sandglass_files::catch;

use crate::file::{ReadError, WriteError};
use crate::seal;

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

const CHECKPOINT: &str = "sandglass.checkpoint";

/// Where a cell's predictions lie below `root`.
pub fn predictions_path(root: &Path, [study, profile, cell]: [&str; 3]) -> PathBuf {
    root.join(study).join(profile).join(format!("{cell}.parquet"))
}

/// Writes `root/<study>/<profile>/<cell>.parquet`, whole or not at all, and returns the path.
///
/// # Errors
/// A file that cannot be made or written.
pub fn write_predictions(root: &Path, cell: [&str; 3], predictions: &Predictions) -> Result<PathBuf, WriteError> {
    let path = predictions_path(root, cell);
    let mut bytes = Vec::new();
    let Predictions { checkpoint, items } = predictions;
    let metadata = KeyValueMetadata::from_static(vec![
        (CHECKPOINT.into(), checkpoint.clone()),
        ("sandglass.seal".into(), seal::unsealed()),
    ]);
    let written = catch(|| {
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        let column = |name: &str, of: fn(&Prediction) -> u32| {
            Series::new(name.into(), items.iter().map(of).collect::<Vec<_>>()).into_column()
        };
        let columns = vec![
            Series::new("name".into(), names).into_column(),
            column("label", |item| item.label),
            column("prediction", |item| item.prediction),
        ];
        let mut frame = DataFrame::new(items.len(), columns)?;
        ParquetWriter::new(&mut bytes).set_parallel(false).with_key_value_metadata(Some(metadata)).finish(&mut frame)
    });
    written.map_err(WriteError::Parquet)?.map_err(|error| WriteError::Parquet(error.to_string()))?;
    if !seal::seal(&mut bytes) {
        return Err(WriteError::Parquet("the metadata holds no seal".into()));
    }
    sandglass_files::write(&path, &bytes).map_err(|source| WriteError::Io { path: path.clone(), source })?;
    Ok(path)
}

/// What was written for a cell.
///
/// # Errors
/// A file that is not there, was changed, or holds something else.
pub fn read_predictions(root: &Path, cell: [&str; 3]) -> Result<Predictions, ReadError> {
    let bytes = sandglass_files::read(&predictions_path(root, cell))?;
    if !seal::is_intact(&bytes) {
        return Err(ReadError::Broken);
    }
    let read = catch(|| {
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let pairs = reader.get_metadata()?.key_value_metadata.clone().unwrap_or_default();
        let checkpoint = pairs.into_iter().find(|pair| pair.key == CHECKPOINT).and_then(|pair| pair.value);
        let frame = reader.finish()?;
        let (names, labels, predictions) =
            (frame.column("name")?.str()?, frame.column("label")?.u32()?, frame.column("prediction")?.u32()?);
        let items = names.iter().zip(labels.iter()).zip(predictions.iter());
        let item = |((name, label), prediction): ((Option<&str>, Option<u32>), Option<u32>)| {
            Some(Prediction { name: name?.to_owned(), label: label?, prediction: prediction? })
        };
        Ok::<_, PolarsError>((checkpoint, items.map(item).collect::<Option<Vec<_>>>()))
    });
    match read.map_err(ReadError::Parquet)?.map_err(|error| ReadError::Parquet(error.to_string()))? {
        (Some(checkpoint), Some(items)) => Ok(Predictions { checkpoint, items }),
        (None, _) => Err(ReadError::Schema("it names no checkpoint".into())),
        (_, None) => Err(ReadError::Schema("it holds a null".into())),
    }
}
