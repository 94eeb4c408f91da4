//! The table of a safetensors file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{CLASS_LISTS, Layout, MAX_DIMS, MAX_NAME, MAX_TENSORS, NoTensor, Problem, Stored, StoredType, Table};

const MAX_HEADER: u64 = 64 << 20;
/// Parsing JSON takes many times its length.
const MAX_PARSED: u64 = 1 << 20;

pub(super) fn table(file: &mut File, length: u64) -> Result<Table, Problem> {
    let damaged = |what: &str| Problem::Header(what.to_owned());
    file.seek(SeekFrom::Start(0))?;
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER {
        return Err(Problem::TooLarge { what: "a header", size, limit: MAX_HEADER });
    }
    if size > length - 8 {
        return Err(damaged("the file ends within it"));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header)?;
    // What somebody noted beside the tensors, at whatever length, is not looked at.
    let mut others = Vec::new();
    if let Some(noted) = metadata(&header) {
        let noted = &mut header[noted];
        let is_there = |name: &&&str| noted.split(|byte| *byte == b'"').any(|text| text == name.as_bytes());
        let lists = CLASS_LISTS.iter().filter(is_there);
        others.extend(lists.map(|name| NoTensor { name: (*name).to_owned(), what: "a text".to_owned() }));
        noted.fill(b' ');
    }
    let parsed = header.iter().filter(|byte| **byte != b' ').count() as u64;
    if parsed > MAX_PARSED {
        return Err(Problem::TooLarge { what: "a header", size: parsed, limit: MAX_PARSED });
    }

    if let Some(twice) = twice(&header) {
        return Err(Problem::Twice(twice));
    }
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
    let start = 8 + size;
    match start.checked_add(metadata.data_len() as u64) {
        Some(whole) if whole > length => return Err(Problem::Cut { length, whole }),
        Some(whole) if whole == length => {}
        _ => return Err(damaged("the tensors do not fill the file")),
    }
    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS || names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(damaged("too many tensors, or names too long"));
    }
    let stored = |name: String| {
        let info = metadata.info(&name).filter(|info| info.shape.len() <= MAX_DIMS)?;
        let (shape, at) = (info.shape.clone(), start + info.data_offsets.0 as u64);
        Some(Stored { name, dtype: stored_type(info.dtype), shape, at, layout: Layout::Contiguous, is_beyond: false })
    };
    let tensors = names.into_iter().map(|name| stored(name).ok_or_else(|| damaged("too many dimensions")));
    Ok(Table { tensors: tensors.collect::<Result<_, _>>()?, unnamed: Vec::new(), others })
}

/// The first key that a safetensors header, which is JSON, has twice: a map would keep the last.
pub fn twice(header: &[u8]) -> Option<String> {
    serde_json::from_slice(header).ok().and_then(|Keys(twice)| twice)
}

/// The first key that an object has twice.
struct Keys(Option<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let (mut seen, mut twice) = (BTreeSet::new(), None);
                while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
                    if twice.is_none() && !seen.insert(key.clone()) {
                        twice = Some(key);
                    }
                }
                Ok(Keys(twice))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Where the entries of `__metadata__` lie, between its braces; none where there are none, or no JSON.
fn metadata(header: &[u8]) -> Option<Range<usize>> {
    let (mut at, mut depth) = (0, 0usize);
    let (mut is_next, mut from) = (false, None);
    while let Some(byte) = header.get(at) {
        match byte {
            b'"' => {
                let end = text_end(header, at)?;
                is_next = depth == 1 && header.get(at..end) == Some(b"\"__metadata__\"");
                at = end;
                continue;
            }
            b'{' | b'[' => {
                if is_next && from.is_none() {
                    from = Some(at + 1);
                }
                depth += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if let (1, Some(from)) = (depth, from) {
                    return Some(from..at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Behind the quote that ends the text which starts at `at`.
fn text_end(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
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
