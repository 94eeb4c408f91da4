//! A table with facts beside it as one sealed parquet file.

use std::io::Cursor;
use std::path::Path;

use polars::prelude::{
    Column, DataFrame, KeyValueMetadata, ParallelStrategy, ParquetReader, ParquetWriter, PolarsError, SerReader,
};
use sandglass_files::catch;

use crate::file::{ReadError, WriteError};
use crate::seal;

/// Writes it whole or not at all; `columns` are called behind a guard.
pub(crate) fn write(
    path: &Path,
    height: usize,
    facts: &[(&str, String)],
    columns: impl FnOnce() -> Vec<Column>,
) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    let facts = facts.iter().map(|(name, value)| ((*name).into(), value.clone()));
    let facts = facts.chain([("sandglass.seal".into(), seal::unsealed())]).collect();
    let metadata = KeyValueMetadata::from_static(facts);
    let written = catch(|| {
        let mut frame = DataFrame::new(height, columns())?;
        ParquetWriter::new(&mut bytes).set_parallel(false).with_key_value_metadata(Some(metadata)).finish(&mut frame)
    });
    written.map_err(WriteError::Parquet)?.map_err(|error| WriteError::Parquet(error.to_string()))?;
    if !seal::seal(&mut bytes) {
        return Err(WriteError::Parquet("the metadata holds no seal".into()));
    }
    sandglass_files::write(path, &bytes).map_err(|source| WriteError::Io { path: path.into(), source })
}

/// The facts and the table.
pub(crate) struct Sealed {
    facts: Vec<(String, Option<String>)>,
    pub frame: DataFrame,
}

impl Sealed {
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(of, _)| of == name).and_then(|(_, value)| value.as_deref())
    }
}

/// Reads a file whose seal is whole; `take` makes of it what it holds, behind a guard, and says what is wrong with it.
pub(crate) fn read<T>(path: &Path, take: impl FnOnce(&Sealed) -> Result<T, String>) -> Result<T, ReadError> {
    let bytes = sandglass_files::read(path)?;
    if !seal::is_intact(&bytes) {
        return Err(ReadError::Broken);
    }
    let read = catch(|| {
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let pairs = reader.get_metadata()?.key_value_metadata.clone().unwrap_or_default();
        let facts = pairs.into_iter().map(|pair| (pair.key.to_string(), pair.value.map(|value| value.to_string())));
        Ok::<_, PolarsError>(take(&Sealed { facts: facts.collect(), frame: reader.finish()? }))
    });
    let read = read.map_err(ReadError::Parquet)?.map_err(|error| ReadError::Parquet(error.to_string()))?;
    read.map_err(ReadError::Schema)
}
