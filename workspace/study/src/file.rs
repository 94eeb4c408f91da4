//! TOML files whose mistakes are answered with file, line and the key that was probably meant.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::StudyError;

/// Reads and parses a file. Types must carry `deny_unknown_fields`.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, StudyError> {
    let text = std::fs::read_to_string(path).map_err(|source| StudyError::Io { path: path.into(), source })?;
    let parsed = sandglass_train::from_toml(&text);
    parsed.map_err(|error| StudyError::Toml { path: path.into(), line: error.line, message: error.message })
}
