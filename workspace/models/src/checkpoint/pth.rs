//! The table of a `.pth` as `torch.save` writes it since PyTorch 1.6: a zip file of one pickle and the storages.

use std::collections::BTreeMap;
use std::fs::File;

use super::pickle::{self, View};
use super::zip::{self, Entry};
use super::{MAX_DIMS, MAX_NAME, MAX_STRIDED_BYTES, MAX_TENSORS, Problem, Stored};

const MAX_PICKLE: u64 = 1 << 20;

pub(super) fn table(file: &mut File, length: u64) -> Result<Vec<Stored>, Problem> {
    let entries = zip::entries(file, length)?;
    // All files lie in one folder, which is named after the archive.
    let folder = entries.iter().find_map(|entry| entry.name.strip_suffix("data.pkl")).ok_or(Problem::NoStateDict)?;
    let by_name: BTreeMap<&str, &Entry> =
        entries.iter().filter_map(|entry| Some((entry.name.strip_prefix(folder)?, entry))).collect();

    // Overlapping entries could make the checks below endless.
    let total = entries.iter().fold(0u64, |total, entry| total.saturating_add(entry.size));
    if total > length {
        return Err(Problem::Shared);
    }
    if let Some(order) = by_name.get("byteorder")
        && contents(file, order, "a byte order", 16)? == b"big"
    {
        return Err(Problem::BigEndian);
    }
    let Some(data) = by_name.get("data.pkl") else { return Err(Problem::NoStateDict) };
    let pickle = contents(file, data, "a pickle", MAX_PICKLE)?;

    let views = pickle::state_dict(&pickle)?;
    if views.len() > MAX_TENSORS {
        return Err(Problem::Shared);
    }
    let mut starts = BTreeMap::new();
    let mut tensors = Vec::with_capacity(views.len());
    for (name, view) in views {
        if name.len() > MAX_NAME || view.shape.len() > MAX_DIMS {
            return Err(Problem::NoStateDict);
        }
        let entry = by_name.get(format!("data/{}", view.storage).as_str());
        let entry = entry.ok_or_else(|| Problem::OutsideFile(name.to_owned()))?;
        let start = match starts.get(view.storage) {
            Some(&start) => start,
            None => {
                entry.verify(file)?;
                let start = entry.start(file)?;
                starts.insert(view.storage, start);
                start
            }
        };
        tensors.push(stored(name, &view, start, entry.size)?);
    }
    Ok(tensors)
}

fn contents(file: &mut File, entry: &Entry, what: &'static str, limit: u64) -> Result<Vec<u8>, Problem> {
    if entry.size > limit {
        return Err(Problem::TooLarge { what, size: entry.size, limit });
    }
    entry.verify(file)?;
    let start = entry.start(file)?;
    zip::read_at(file, start, entry.size as usize)
}

/// A view into a storage of `size` bytes that starts at byte `start` of the file.
fn stored(name: &str, view: &View, start: u64, size: u64) -> Result<Stored, Problem> {
    let outside = || Problem::OutsideFile(name.to_owned());
    let elements = view.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).ok_or_else(outside)?;
    let item = view.dtype.size();
    let first = view.offset.checked_mul(item).ok_or_else(outside)?;
    let bytes = elements.checked_mul(item).ok_or_else(outside)?;
    if first.checked_add(bytes).is_none_or(|end| end as u64 > size) {
        return Err(outside());
    }
    let strides = match is_contiguous(&view.shape, &view.strides) {
        true => None,
        false if bytes <= MAX_STRIDED_BYTES && is_permuted(&view.shape, &view.strides) => Some(view.strides.clone()),
        false => return Err(Problem::Strides(name.to_owned())),
    };
    Ok(Stored {
        name: name.to_owned(),
        dtype: view.dtype,
        shape: view.shape.clone(),
        at: start + first as u64,
        strides,
    })
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.len() == strides.len()
        && shape.iter().zip(strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == expected;
            expected = expected.saturating_mul(side);
            fits
        })
}

/// Contiguous once the dimensions are sorted, as channels-last weights are.
fn is_permuted(shape: &[usize], strides: &[usize]) -> bool {
    let mut dims: Vec<_> = shape.iter().zip(strides).filter(|(side, _)| **side != 1).collect();
    dims.sort_by_key(|(_, stride)| std::cmp::Reverse(**stride));
    let (shape, strides): (Vec<usize>, Vec<usize>) = dims.into_iter().map(|(side, stride)| (*side, *stride)).unzip();
    is_contiguous(&shape, &strides)
}
