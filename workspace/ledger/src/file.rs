//! One cell's rows as one sealed parquet file.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use polars::prelude::{KeyValueMetadata, ParallelStrategy, ParquetReader, ParquetWriter, SerReader};

use sandglass_files::catch;

use crate::row::Row;
use crate::{SCHEMA_VERSION, first, seal};

/// Larger than any cell's file: what a reader loads at most.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("a cell needs at least one row")]
    Empty,
    #[error("row {id}: {flaw}")]
    Flaw { id: String, flaw: String },
    #[error("rows {0} and {1} do not belong to one cell")]
    Mixed(String, String),
    #[error("row {0} occurs twice")]
    Twice(String),
    #[error("cannot make the parquet file: {0}")]
    Parquet(String),
    #[error("cannot write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Why a row file is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is larger than any cell's file")]
    TooLarge,
    #[error("is cut or was changed: its seal does not match its bytes")]
    Broken,
    #[error("cannot be decoded: {0}")]
    Parquet(String),
    #[error("does not follow the schema: {0}")]
    Schema(String),
}

/// Writes a cell's rows to `root/<study>/<profile>/<cell>.parquet`, whole or not at all, and returns the path.
///
/// # Errors
/// No rows, rows of several cells, a row twice, a flawed row (such as a value that is not finite), or a failed write.
pub fn write_cell(root: &Path, rows: &[Row]) -> Result<PathBuf, WriteError> {
    let first = check_rows(rows)?;
    let path = root.join(&first.study).join(&first.profile).join(format!("{}.parquet", first.cell));
    let bytes = encode(rows).map_err(WriteError::Parquet)?;
    sandglass_files::write(&path, &bytes).map_err(|source| WriteError::Io { path: path.clone(), source })?;
    Ok(path)
}

/// What [`write_cell`] would refuse of these rows; the first of them.
///
/// # Errors
/// No rows, rows of several cells, a row twice, or a flawed row.
pub fn check_rows(rows: &[Row]) -> Result<&Row, WriteError> {
    let first = rows.first().ok_or(WriteError::Empty)?;
    for (at, row) in rows.iter().enumerate() {
        if let Some(flaw) = row.flaw() {
            return Err(WriteError::Flaw { id: row.id(), flaw });
        }
        if (&row.study, &row.profile, &row.cell) != (&first.study, &first.profile, &first.cell) {
            return Err(WriteError::Mixed(first.id(), row.id()));
        }
        if rows.iter().take(at).any(|other| other.id() == row.id()) {
            return Err(WriteError::Twice(row.id()));
        }
    }
    Ok(first)
}

/// The rows of one file, decoded but not judged (see [`Row::flaw`]).
pub fn read_cell(path: &Path) -> Result<Vec<Row>, ReadError> {
    if std::fs::metadata(path)?.len() > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    let bytes = sandglass_files::read(path)?;
    if !seal::is_intact(&bytes) {
        return Err(ReadError::Broken);
    }
    decode(bytes)
}

fn encode(rows: &[Row]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let metadata = KeyValueMetadata::from_static(vec![
        ("sandglass.schema".into(), SCHEMA_VERSION.to_string()),
        ("sandglass.seal".into(), seal::unsealed()),
    ]);
    let written = catch(|| {
        let mut frame = Row::to_frame(rows)?;
        ParquetWriter::new(&mut bytes).set_parallel(false).with_key_value_metadata(Some(metadata)).finish(&mut frame)
    })?;
    written.map_err(|error| error.to_string())?;
    if seal::seal(&mut bytes) { Ok(bytes) } else { Err("the metadata holds no seal".into()) }
}

/// Columns of a forged file may even differ in length, so reading the values can panic too.
fn decode(bytes: Vec<u8>) -> Result<Vec<Row>, ReadError> {
    let rows = catch(|| {
        let reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let frame = reader.finish().map_err(|error| ReadError::Parquet(error.to_string()))?;
        let names: Vec<&str> = frame.get_column_names().into_iter().map(|name| name.as_str()).collect();
        let rows = if names.iter().copied().eq(Row::SCHEMA.iter().map(|column| column.name)) {
            Row::from_frame(&frame)
        } else if names == first::COLUMNS {
            first::rows(&frame)
        } else {
            Err(format!("its columns are not those of schema {SCHEMA_VERSION}, nor of an older one"))
        };
        rows.map_err(ReadError::Schema)
    });
    rows.unwrap_or_else(|panic| Err(ReadError::Parquet(panic)))
}
