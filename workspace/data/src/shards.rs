//! Which parquet files make up a part of a data set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{DataError, Part};

/// Names of the parts, best first.
const TRAIN: [&str; 1] = ["train"];
const VALIDATION: [&str; 4] = ["validation", "valid", "val", "test"];

/// A file of a part: `train-00000-of-00002`, `valid`, `train/0000`, or with a hash behind, as older exports have it.
struct Shard {
    number: usize,
    /// None where the name does not say: `train/0000`.
    of: Option<usize>,
    revision: String,
    path: PathBuf,
}

/// Files by the name of their part.
type Parts = BTreeMap<String, Vec<Shard>>;

/// Part, number, count and revision of a shard in a folder for all parts.
fn parse(stem: &str) -> (&str, usize, usize, &str) {
    let sharded = || {
        let (part, rest) = stem.split_once('-')?;
        let (number, rest) = rest.split_once("-of-")?;
        let (of, revision) = rest.split_once('-').unwrap_or((rest, ""));
        Some((part, number.parse().ok()?, of.parse().ok()?, revision))
    };
    sharded().unwrap_or((stem, 0, 1, ""))
}

/// Folders below a data set's in which the hub's sets keep their files.
const BELOW: [&str; 3] = ["", "data", "plain_text"];

/// Whether parquet files lie in the folder as one of the hub's sets has them.
pub(crate) fn is_parquet_folder(folder: &Path) -> Result<bool, DataError> {
    Ok(!parts(folder)?.is_empty())
}

/// All parts: of files in one folder, or of folders such as `train/0000.parquet` and `default/train/0000.parquet`.
fn parts(folder: &Path) -> Result<Parts, DataError> {
    for below in BELOW.map(|below| folder.join(below)) {
        let mut parts = Parts::new();
        for path in parquet(&below)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let (part, number, of, revision) = parse(&stem);
            let shard = Shard { number, of: Some(of), revision: revision.to_string(), path };
            parts.entry(part.to_string()).or_default().push(shard);
        }
        if !parts.is_empty() {
            return Ok(parts);
        }
    }
    // The hub's converted sets lie one folder deeper, below the name of their configuration.
    let mut found: Option<(PathBuf, Parts)> = None;
    let configurations = folders(folder)?;
    for configuration in std::iter::once(folder.to_path_buf()).chain(configurations) {
        let mut parts = Parts::new();
        for name in TRAIN.iter().chain(&VALIDATION) {
            let shards: Vec<Shard> = parquet(&configuration.join(name))?.into_iter().map(in_part).collect();
            if !shards.is_empty() {
                parts.insert(name.to_string(), shards);
            }
        }
        if parts.is_empty() {
            continue;
        }
        if let Some((other, _)) = &found {
            let reason =
                format!("holds two sets, {} and {}: name one of them", other.display(), configuration.display());
            return Err(DataError::layout(folder, reason));
        }
        found = Some((configuration, parts));
    }
    Ok(found.map(|(_, parts)| parts).unwrap_or_default())
}

/// A shard in a folder of its part.
fn in_part(path: PathBuf) -> Shard {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem.parse() {
        Ok(number) => Shard { number, of: None, revision: String::new(), path },
        Err(_) => {
            let (_, number, of, revision) = parse(&stem);
            Shard { number, of: Some(of), revision: revision.to_string(), path }
        }
    }
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    paths(folder, |path| path.is_dir())
}

/// None where there is no such folder.
fn parquet(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    match folder.is_dir() {
        true => {
            paths(folder, |path| path.extension().is_some_and(|extension| extension == "parquet") && path.is_file())
        }
        false => Ok(Vec::new()),
    }
}

/// Sorted.
fn paths(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        if wanted(&path) {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// All shards of `part` in order. A set of a single part that is called neither train nor validation is not divided: it
/// can be scored, and is no validation part.
pub(crate) fn shards(folder: &Path, part: Part) -> Result<Vec<PathBuf>, DataError> {
    let parts = parts(folder)?;
    let wanted: &[&str] = if part == Part::Train { &TRAIN } else { &VALIDATION };
    let known = |name: &str| TRAIN.contains(&name) || VALIDATION.contains(&name);
    let whole = || match (part, parts.iter().next()) {
        (Part::Scored, Some((name, shards))) if parts.len() == 1 && !known(name) => Some(shards),
        _ => None,
    };
    match wanted.iter().find_map(|name| parts.get(*name)).or_else(whole) {
        Some(shards) => complete(shards),
        None if part == Part::Train => Err(DataError::layout(folder, "has no train*.parquet")),
        None => {
            let names: Vec<String> = parts.keys().map(|name| format!("{name}*.parquet")).collect();
            Err(DataError::no_part(folder, &format!("it has {} alone", names.join(", "))))
        }
    }
}

/// One sharding, each number once.
fn complete(shards: &[Shard]) -> Result<Vec<PathBuf>, DataError> {
    let mut sorted: Vec<&Shard> = shards.iter().collect();
    sorted.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    let Some(first) = sorted.first() else { return Ok(Vec::new()) };
    let two = |other: &Shard, what: &str| {
        let (a, b) = (first.path.file_name().unwrap_or_default(), other.path.file_name().unwrap_or_default());
        let reason = format!("{} and {} are {what}: keep one", a.to_string_lossy(), b.to_string_lossy());
        DataError::layout(first.path.parent().unwrap_or(Path::new("")), reason)
    };
    if let Some(other) = sorted.iter().find(|shard| shard.of != first.of) {
        return Err(two(other, "of two shardings of one part"));
    }
    if let Some(other) = sorted.iter().find(|shard| shard.revision != first.revision) {
        return Err(two(other, "two revisions of one part"));
    }
    let of = first.of.unwrap_or_else(|| sorted.last().map_or(0, |last| last.number + 1));
    for (place, shard) in sorted.iter().enumerate() {
        if shard.number > place || shard.number >= of {
            return Err(missing(shard, if shard.number > place { place } else { of }));
        }
        if shard.number < place {
            return Err(two(shard, "the same shard twice"));
        }
    }
    match sorted.last() {
        Some(last) if sorted.len() < of => Err(missing(last, sorted.len())),
        _ => Ok(sorted.into_iter().map(|shard| shard.path.clone()).collect()),
    }
}

/// The shard `number` is not beside `shard`.
fn missing(shard: &Shard, number: usize) -> DataError {
    let stem = shard.path.file_stem().unwrap_or_default().to_string_lossy();
    let missing = match shard.of {
        Some(of) => format!("{}-{number:05}-of-{of:05}.parquet", parse(&stem).0),
        None => format!("{number:0width$}.parquet", width = stem.len()),
    };
    DataError::MissingShard { path: shard.path.clone(), missing }
}
