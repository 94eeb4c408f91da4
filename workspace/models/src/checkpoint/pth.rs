//! The table of a `.pth` as `torch.save` writes it: since PyTorch 1.6 a zip file of one pickle and the storages, before that
//! a chain of pickles with the storages behind.

use std::collections::BTreeMap;
use std::fs::File;

use super::pickle::{self, Contents, View};
use super::zip::{self, Entry};
use super::{Layout, MAX_STRIDED_BYTES, Problem, Stored, Table, most_values};

/// Held whole while it is read, and never longer than the file.
const MAX_PICKLE: u64 = 64 << 20;

/// A pickled number that nobody else writes: every file of the old form starts with it.
const OLD_MAGIC: [u8; 13] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// Whether a file of the old form starts so: the number by protocol 2, or by one that the writer asked for. From protocol 4 on
/// it stands in a frame, whose length comes before it.
pub(super) fn is_old(head: &[u8]) -> bool {
    match head {
        [0x80, 4 | 5, 0x95, _, _, _, _, _, _, _, _, rest @ ..] | [0x80, 2..=5, rest @ ..] => {
            rest.starts_with(&OLD_MAGIC)
        }
        _ => false,
    }
}

pub(super) fn table(file: &mut File, length: u64) -> Result<Table, Problem> {
    let entries = zip::entries(file, length).map_err(|problem| match problem {
        // The texts of programs are compressed.
        Problem::Packed(name) if name.contains("/code/") => Problem::TorchScript,
        problem => problem,
    })?;
    // All files lie in one folder, which is named after the archive.
    let pickle = |entry: &Entry| entry.name.ends_with("/data.pkl") || entry.name == "data.pkl";
    let Some(data) = entries.iter().find(|entry| pickle(entry)) else {
        let names: Vec<&str> = entries.iter().take(8).map(|entry| entry.name.as_str()).collect();
        return Err(Problem::NoStateDict(format!("a zip file of {}", names.join(", "))));
    };
    let folder = data.name.strip_suffix("data.pkl").unwrap_or_default();
    let in_folder = || entries.iter().filter_map(|entry| Some((entry.name.strip_prefix(folder)?, entry)));
    let by_name: BTreeMap<&str, &Entry> = in_folder().collect();
    if by_name.contains_key("constants.pkl") {
        return Err(Problem::TorchScript);
    }
    if by_name.len() < in_folder().count() || entries.iter().filter(|entry| pickle(entry)).count() > 1 {
        return Err(Problem::Zip("an entry is in it twice"));
    }

    // Overlapping entries could make the checks below endless.
    let total = entries.iter().fold(0u64, |total, entry| total.saturating_add(entry.size));
    if total > length {
        return Err(Problem::Zip("its entries overlap"));
    }
    if let Some(order) = by_name.get("byteorder")
        && contents(file, order, "a byte order", 16)? == b"big"
    {
        return Err(Problem::BigEndian);
    }
    let pickle = contents(file, data, "a pickle", MAX_PICKLE)?;
    let (contents, _) = pickle::contents(&pickle, 0)?;
    let mut starts = BTreeMap::new();
    stored_all(contents, length, |key| {
        let Some(entry) = by_name.get(format!("data/{key}").as_str()) else { return Ok(None) };
        let start = match starts.get(key) {
            Some(&start) => start,
            None => {
                entry.verify(file)?;
                let start = entry.start(file)?;
                starts.insert(key.to_owned(), start);
                start
            }
        };
        Ok(Some((start, entry.size)))
    })
}

/// Of the old form: a magic number, a version, facts of the machine, what was saved, the keys of the storages; then of each
/// storage its length in elements and its bytes.
pub(super) fn old_table(file: &mut File, length: u64) -> Result<Table, Problem> {
    let head = zip::read_at(file, 0, length.min(MAX_PICKLE) as usize)?;
    let version = pickle::skip(&head, 0)?;
    let machine = pickle::skip(&head, version)?;
    let saved = pickle::skip(&head, machine)?;
    if head.get(machine..saved).is_some_and(is_big_endian) {
        return Err(Problem::BigEndian);
    }
    let (contents, keys) = pickle::contents(&head, saved)?;
    let (keys, end) = pickle::texts(&head, keys)?;
    let mut places = BTreeMap::new();
    let mut at = end as u64;
    for key in keys {
        let outside = || Problem::OutsideFile(format!("storage {key}"));
        let elements = zip::read_at(file, at, 8)?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let item = contents.storages.get(key).copied().flatten().ok_or_else(outside)?;
        let start = at + 8;
        let size = elements.checked_mul(item as u64).ok_or_else(outside)?;
        at = start.checked_add(size).ok_or_else(outside)?;
        if at > length {
            return Err(Problem::CutStorage { length, end: at });
        }
        places.insert(key, (start, size));
    }
    stored_all(contents, length, |key| Ok(places.get(key).copied()))
}

/// Looks for the flag `little_endian` in the pickled facts of the machine.
fn is_big_endian(facts: &[u8]) -> bool {
    const KEY: &[u8] = b"little_endian";
    let after = facts.windows(KEY.len()).position(|window| window == KEY).map(|at| &facts[at + KEY.len()..]);
    // Between the key and its value the key may be remembered.
    after.is_some_and(|rest| rest.iter().take(6).find(|byte| matches!(byte, 0x88 | 0x89)) == Some(&0x89))
}

/// Of a file of `length` bytes. `place`: start and size in bytes of a storage, none where there is none.
fn stored_all(
    contents: Contents,
    length: u64,
    mut place: impl FnMut(&str) -> Result<Option<(u64, u64)>, Problem>,
) -> Result<Table, Problem> {
    if contents.tensors.is_empty() {
        return Err(Problem::NoStateDict(contents.found));
    }
    let mut tensors = Vec::with_capacity(contents.tensors.len());
    for (name, view) in &contents.tensors {
        let outside = || Problem::OutsideFile(name.clone());
        let (start, size) = place(view.storage)?.ok_or_else(outside)?;
        tensors.push(
            stored(name, view, start, size)
                .filter(|tensor| tensor.values() <= most_values(length))
                .ok_or_else(outside)?,
        );
    }
    Ok(Table { tensors, unnamed: contents.unnamed, others: contents.others })
}

fn contents(file: &mut File, entry: &Entry, what: &'static str, limit: u64) -> Result<Vec<u8>, Problem> {
    if entry.size > limit {
        return Err(Problem::TooLarge { what, size: entry.size, limit });
    }
    entry.verify(file)?;
    let start = entry.start(file)?;
    zip::read_at(file, start, entry.size as usize)
}

/// A view into a storage of `size` bytes that starts at byte `start` of the file; none where it reaches beyond.
fn stored(name: &str, view: &View, start: u64, size: u64) -> Option<Stored> {
    let item = view.dtype.size();
    let span = span(&view.shape, &view.strides)?;
    let first = view.offset.checked_mul(item)?;
    let bytes = span.checked_mul(item)?;
    first.checked_add(bytes).filter(|&end| end as u64 <= size)?;
    let layout = match is_contiguous(&view.shape, &view.strides) {
        true => Layout::Contiguous,
        false if bytes <= MAX_STRIDED_BYTES => Layout::Strided { strides: view.strides.clone(), span },
        false => Layout::Sparse,
    };
    let at = start.checked_add(first as u64)?;
    Some(Stored { name: name.to_owned(), dtype: view.dtype, shape: view.shape.clone(), at, layout, is_beyond: false })
}

/// Elements of the storage from a view's first to its last: fewer than the view's own where some are said again and again.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.len() != strides.len() {
        return None;
    }
    if shape.contains(&0) {
        return Some(0);
    }
    let mut sides = shape.iter().zip(strides);
    sides.try_fold(1usize, |span, (side, stride)| span.checked_add((side - 1).checked_mul(*stride)?))
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected = expected.saturating_mul(side);
        fits
    })
}
