//! The table of a safetensors file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::{Layout, MAX_DIMS, MAX_NAME, MAX_TENSORS, Problem, Stored, StoredType};

/// Parsing JSON takes many times its length.
const MAX_HEADER: u64 = 1 << 20;

pub(super) fn table(file: &mut File, length: u64) -> Result<Vec<Stored>, Problem> {
    let damaged = |what: &str| Problem::Header(what.to_owned());
    file.seek(SeekFrom::Start(0))?;
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER {
        return Err(Problem::TooLarge { what: "a header", size, limit: MAX_HEADER });
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(|_| damaged("the file ends within it"))?;

    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
    let start = 8 + size;
    if start.checked_add(metadata.data_len() as u64) != Some(length) {
        return Err(damaged("the tensors do not fill the file"));
    }
    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS || names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(damaged("too many tensors, or names too long"));
    }
    let stored = |name: String| {
        let info = metadata.info(&name).filter(|info| info.shape.len() <= MAX_DIMS)?;
        let (shape, at) = (info.shape.clone(), start + info.data_offsets.0 as u64);
        Some(Stored { name, dtype: stored_type(info.dtype), shape, at, layout: Layout::Contiguous, is_again: false })
    };
    names.into_iter().map(|name| stored(name).ok_or_else(|| damaged("too many dimensions"))).collect()
}

fn stored_type(dtype: Dtype) -> StoredType {
    match dtype {
        Dtype::F16 => StoredType::F16,
        Dtype::BF16 => StoredType::Bf16,
        Dtype::F32 => StoredType::F32,
        Dtype::F64 => StoredType::F64,
        _ => StoredType::Other,
    }
}
