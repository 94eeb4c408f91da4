//! Writing safetensors: the same weights give the same bytes.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::CheckpointError;
use crate::Weights;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    F32,
    F16,
}

impl SaveType {
    const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
        }
    }
}

/// Writes all tensors in state-dict order. The file appears whole or not at all.
///
/// # Errors
/// Values that do not fill their shape or that f16 cannot hold, and a place that cannot be written; what lay there stays.
pub fn save(path: &Path, weights: &Weights, dtype: SaveType) -> Result<(), CheckpointError> {
    let header = header(weights, dtype)?;
    if dtype == SaveType::F16 {
        check_f16(weights)?;
    }
    let written = sandglass_files::write_with(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for value in weights.specs.iter().zip(&weights.values).flat_map(|(_, values)| values) {
            match dtype {
                SaveType::F32 => out.write_all(&value.to_le_bytes())?,
                SaveType::F16 => out.write_all(&half::f16::from_f32(*value).to_le_bytes())?,
            }
        }
        Ok(())
    });
    written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
}

fn header(weights: &Weights, dtype: SaveType) -> Result<Vec<u8>, CheckpointError> {
    let mut entries = Map::new();
    let mut start = 0;
    for (at, spec) in weights.specs.iter().enumerate() {
        let values = weights.values.get(at).map_or(0, Vec::len);
        if values != spec.len() {
            return Err(CheckpointError::Length { tensor: spec.name.clone(), values, elements: spec.len() });
        }
        let end = start + values * dtype.size();
        let entry = json!({"dtype": dtype.name(), "shape": spec.shape, "data_offsets": [start, end]});
        entries.insert(spec.name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    // The format aligns the data to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn check_f16(weights: &Weights) -> Result<(), CheckpointError> {
    for (spec, values) in weights.specs.iter().zip(&weights.values) {
        if let Some(&value) = values.iter().find(|value| !half::f16::from_f32(**value).is_finite()) {
            return Err(CheckpointError::F16Range { tensor: spec.name.clone(), value });
        }
    }
    Ok(())
}
