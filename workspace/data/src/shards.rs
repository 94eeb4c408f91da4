//! Which parquet files make up a part of a data set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{DataError, Part};

/// Names of the parts, best first.
const TRAIN: [&str; 1] = ["train"];
const VALIDATION: [&str; 4] = ["validation", "valid", "val", "test"];

/// A shard's name: `train-00000-of-00002`, `valid`, or with a hash behind, as older exports have it.
struct Name<'a> {
    part: &'a str,
    number: usize,
    of: usize,
}

fn parse(stem: &str) -> Name<'_> {
    let sharded = || {
        let (part, rest) = stem.split_once('-')?;
        let (number, rest) = rest.split_once("-of-")?;
        let of = rest.split('-').next()?;
        Some(Name { part, number: number.parse().ok()?, of: of.parse().ok()? })
    };
    sharded().unwrap_or(Name { part: stem, number: 0, of: 1 })
}

/// Folders below a data set's in which the hub's sets keep their files.
const BELOW: [&str; 3] = ["", "data", "plain_text"];

/// The folder that holds parquet files: this one or one just below.
pub(crate) fn parquet_folder(folder: &Path) -> Option<PathBuf> {
    BELOW.iter().map(|below| folder.join(below)).find(|folder| files(folder).is_ok_and(|files| !files.is_empty()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// All shards of `part` in order. A folder with one part only serves for validation, whatever that part is called.
pub(crate) fn shards(folder: &Path, part: Part) -> Result<Vec<PathBuf>, DataError> {
    let mut parts: BTreeMap<String, Vec<(usize, usize, PathBuf)>> = BTreeMap::new();
    for path in files(folder)? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Name { part, number, of } = parse(&stem);
        parts.entry(part.to_string()).or_default().push((number, of, path));
    }
    let wanted: &[&str] = if part == Part::Train { &TRAIN } else { &VALIDATION };
    let found = wanted.iter().find_map(|name| parts.get(*name));
    let only = || (part == Part::Validation && parts.len() == 1).then(|| parts.values().next()).flatten();
    let Some(found) = found.or_else(only) else {
        return Err(DataError::layout(folder, format!("has no {}*.parquet", wanted[0])));
    };
    let (_, of, first) = &found[0];
    for wanted in 0..*of {
        if !found.iter().any(|(number, ..)| *number == wanted) {
            let part = parse(&first.file_stem().unwrap_or_default().to_string_lossy()).part.to_string();
            let missing = format!("{part}-{wanted:05}-of-{of:05}.parquet");
            return Err(DataError::MissingShard { path: first.clone(), missing });
        }
    }
    Ok(found.iter().map(|(.., path)| path.clone()).collect())
}
