//! What was answered for every single item, beside the rows, so that paired tests can be done again.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use polars::prelude::{
    DataFrame, IntoColumn, KeyValueMetadata, NamedFrom, ParallelStrategy, ParquetReader, ParquetWriter, SerReader,
    Series,
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

fn path(root: &Path, [study, profile, cell]: [&str; 3]) -> PathBuf {
    root.join(study).join(profile).join(format!("{cell}.parquet"))
}

/// Writes `root/<study>/<profile>/<cell>.parquet` in the data set's order, whole or not at all, and returns the path.
///
/// # Errors
/// A file that cannot be made or written.
pub fn write_predictions(root: &Path, cell: [&str; 3], items: &[Prediction]) -> Result<PathBuf, WriteError> {
    let path = path(root, cell);
    let mut bytes = Vec::new();
    let metadata = KeyValueMetadata::from_static(vec![("sandglass.seal".into(), seal::unsealed())]);
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
pub fn read_predictions(root: &Path, cell: [&str; 3]) -> Result<Vec<Prediction>, ReadError> {
    let bytes = std::fs::read(path(root, cell))?;
    if !seal::is_intact(&bytes) {
        return Err(ReadError::Broken);
    }
    let items = catch(|| {
        let frame = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None).finish()?;
        let (names, labels, predictions) =
            (frame.column("name")?.str()?, frame.column("label")?.u32()?, frame.column("prediction")?.u32()?);
        let items = names.iter().zip(labels.iter()).zip(predictions.iter());
        let item = |((name, label), prediction): ((Option<&str>, Option<u32>), Option<u32>)| {
            Some(Prediction { name: name?.to_owned(), label: label?, prediction: prediction? })
        };
        Ok::<_, polars::prelude::PolarsError>(items.map(item).collect::<Option<Vec<_>>>())
    });
    let items = items.map_err(ReadError::Parquet)?.map_err(|error| ReadError::Parquet(error.to_string()))?;
    items.ok_or_else(|| ReadError::Schema("a null".into()))
}
