//! Which parquet files make up a part of a data set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::folder::is_resource_fork;
use crate::{DataError, Part, repeats};

/// Names of the parts, in any case of letters. A test part is scored where there is no validation part.
const TRAIN: &str = "train";
const VALIDATION: [&str; 3] = ["validation", "valid", "val"];
const TEST: &str = "test";

/// Of large sets the hub converts the first rows of each part, and says so.
const PARTIAL: &str = "partial-";

/// A file of a part: `train-00000-of-00002`, `valid`, `train/0000`, or with a hash behind, as older exports have it.
struct Shard {
    number: usize,
    /// None where the name does not say: `train/0000`.
    of: Option<usize>,
    revision: String,
    path: PathBuf,
}

/// Files by the name of their part, in small letters.
type Parts = BTreeMap<String, Vec<Shard>>;

/// The files of one part.
pub(crate) struct Found {
    /// In order.
    pub files: Vec<PathBuf>,
    /// What they are called, in words.
    pub part: String,
    /// Other parts than those that are trained on and scored, by their files' names.
    pub beside: Vec<String>,
}

/// Part, number, count and revision of a shard in a folder for all parts.
fn parse(stem: &str) -> (&str, usize, usize, &str) {
    let stem = original(stem);
    let sharded = || {
        let (first, rest) = ["-of-", "_of_"].iter().find_map(|between| stem.split_once(between))?;
        let (part, number) = first.rsplit_once(['-', '_'])?;
        let (of, revision) = rest.split_once('-').unwrap_or((rest, ""));
        Some((part, number.parse().ok()?, of.parse().ok()?, revision))
    };
    sharded().unwrap_or((stem, 0, 1, ""))
}

/// Names by which writers say how a file is packed, before `.parquet`.
const PACKINGS: [&str; 8] = [".snappy", ".gz", ".gzip", ".zst", ".zstd", ".lz4", ".br", ".uncompressed"];

/// What a file was called before it was downloaded, copied or packed once more: without ` (1)`, ` - Copy`, ` copy` or `.gz`. The
/// copy is the same shard, and not another part.
fn original(stem: &str) -> &str {
    let numbered = stem.strip_suffix(')').and_then(|stem| stem.rsplit_once('('));
    let stem = match numbered {
        Some((stem, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => stem.trim_end(),
        _ => stem,
    };
    let stem = [" - Copy", " copy"].iter().find_map(|suffix| stem.strip_suffix(suffix)).unwrap_or(stem);
    PACKINGS.iter().find_map(|suffix| stem.strip_suffix(suffix)).unwrap_or(stem)
}

/// Folders below a data set's in which the hub's sets keep their files.
const BELOW: [&str; 3] = ["", "data", "plain_text"];

/// What the hub calls the configuration of a set that has one.
const CONFIGURATION: &str = "default";

/// The folders in which lists of a set's classes may lie: that of a file, those above it up to `named`, and beyond it as far as
/// they are the inner ones of a hub's layout, such as `data/` and `default/train/`.
pub(crate) fn roots(file: &Path, named: &Path) -> Vec<PathBuf> {
    let [file, named] = [file, named].map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    let is_inner = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let name = name.strip_prefix(PARTIAL).unwrap_or(&name);
        !name.is_empty() && (BELOW.contains(&name) || name == CONFIGURATION || is_known(name))
    };
    let is_below = |folder: &Path| folder != named && folder.starts_with(&named);
    let mut roots = Vec::new();
    let mut next = file.parent();
    while let Some(folder) = next {
        roots.push(folder.to_path_buf());
        next = folder.parent().filter(|_| is_inner(folder) || is_below(folder));
    }
    roots
}

fn is_known(name: &str) -> bool {
    name == TRAIN || name == TEST || VALIDATION.contains(&name)
}

/// Whether parquet files lie in the folder as one of the hub's sets has them.
pub(crate) fn is_parquet_folder(folder: &Path) -> Result<bool, DataError> {
    Ok(!parts(folder)?.is_empty())
}

/// All parts: of files in one folder, or of folders such as `train/0000.parquet` and `default/train/0000.parquet`.
fn parts(folder: &Path) -> Result<Parts, DataError> {
    type Read = fn(&Path) -> Result<Parts, DataError>;
    let flat = BELOW.iter().map(|below| (folder.join(below), of_files as Read));
    // The hub's converted sets lie one folder deeper, below the name of their configuration.
    let configurations = std::iter::once(folder.to_path_buf()).chain(paths(folder, |path| path.is_dir())?);
    let divided = configurations.map(|configuration| (configuration, of_folders as Read));
    let mut found: Option<(PathBuf, Parts)> = None;
    for (place, read) in flat.chain(divided) {
        let parts = read(&place)?;
        if parts.is_empty() {
            continue;
        }
        if let Some((other, _)) = &found {
            let reason = match *other == place {
                true => "holds one set in its own files and another in folders: move one away".to_owned(),
                false => format!("holds two sets, {} and {}: name one of them", other.display(), place.display()),
            };
            return Err(DataError::layout(folder, reason));
        }
        found = Some((place, parts));
    }
    Ok(found.map(|(_, parts)| parts).unwrap_or_default())
}

/// The parts whose files lie in one folder. Where no file names one, as in a part's own folder, all are of one part, that of the
/// folder's name.
fn of_files(folder: &Path) -> Result<Parts, DataError> {
    let mut parts = Parts::new();
    let paths = parquet(folder)?;
    if paths.len() > 1 && paths.iter().all(|path| is_nameless(path)) {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        parts.insert(whole.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase(), in_part(paths));
        return Ok(parts);
    }
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (part, number, of, revision) = parse(&stem);
        let shard = Shard { number, of: Some(of), revision: revision.to_string(), path };
        parts.entry(part.to_ascii_lowercase()).or_default().push(shard);
    }
    Ok(parts)
}

/// Whether a file's name is a number alone, or one that Spark (`part-00000-<id>`) or DuckDB (`data_0`) gives.
fn is_nameless(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = original(&stem);
    let is_number = |text: &str| text.parse::<usize>().is_ok();
    is_number(stem) || stem.strip_prefix("data_").is_some_and(is_number) || write(stem).is_some()
}

/// Of a file that is named itself: which shard it is of how many, in words, where its name says so.
pub(crate) fn is_one_of_several(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let (_, number, of, _) = parse(&stem);
    (of > 1).then(|| format!("the other shards of the {of} of which its name says that it is number {number}"))
}

/// The parts that have a folder each.
fn of_folders(folder: &Path) -> Result<Parts, DataError> {
    let mut parts = Parts::new();
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.strip_prefix(PARTIAL).map(str::to_owned).unwrap_or(name)
    };
    // Names first: the folder may be a class of a thousand images.
    for part in paths(folder, |path| is_known(&name(path)) && path.is_dir())? {
        let shards = in_part(parquet(&part)?);
        if !shards.is_empty() {
            parts.entry(name(&part)).or_default().extend(shards);
        }
    }
    Ok(parts)
}

/// The id of the write that a file is from: Spark calls all files of one `part-<number>-<id>-c000`.
fn write(stem: &str) -> Option<&str> {
    let name = stem.strip_prefix("part-")?;
    let (number, id) = name.split_once('-').unwrap_or((name, ""));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let id = id.rsplit_once("-c").filter(|(_, file)| file.parse::<u32>().is_ok()).map_or(id, |(id, _)| id);
    is_number.then_some(id)
}

/// The shards in a folder of their part. Writers call them what they like, such as `part-00000-<id>` or `data_0`: where no name
/// says its number, each is the next one, and a copy is the shard that it is a copy of. Ids of writes are told apart.
fn in_part(paths: Vec<PathBuf>) -> Vec<Shard> {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = paths.iter().map(|path| original(&stem(path)).to_owned()).collect();
    let distinct: BTreeSet<&String> = stems.iter().collect();
    let says = |stem: &String| stem.parse::<usize>().is_ok() || parse(stem).0 != stem;
    let is_free = !stems.iter().any(says);
    let shard = |(path, stem): (PathBuf, &String)| match stem.parse() {
        Ok(number) => Shard { number, of: None, revision: String::new(), path },
        Err(_) if is_free => {
            let number = distinct.iter().position(|other| *other == stem).unwrap_or(0);
            Shard { number, of: None, revision: write(stem).unwrap_or_default().to_owned(), path }
        }
        Err(_) => {
            let (_, number, of, revision) = parse(stem);
            Shard { number, of: Some(of), revision: revision.to_string(), path }
        }
    };
    paths.into_iter().zip(&stems).map(shard).collect()
}

/// None where there is no such folder.
fn parquet(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    match folder.is_dir() {
        true => {
            let is_parquet = |path: &Path| path.extension().is_some_and(|of| of.eq_ignore_ascii_case("parquet"));
            let is_fork = |path: &Path| path.file_name().is_some_and(is_resource_fork);
            paths(folder, |path| is_parquet(path) && !is_fork(path) && path.is_file())
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
pub(crate) fn shards(folder: &Path, part: Part) -> Result<Found, DataError> {
    let mut parts = parts(folder)?;
    let in_folder = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let called = |name: &str, shards: &[Shard]| match shards {
        [] => name.to_owned(),
        [first, ..] => in_folder(&first.path),
    };
    let mut validation = VALIDATION.iter().filter_map(|name| parts.get_key_value(*name));
    if let (Some((a, first)), Some((b, second))) = (validation.next(), validation.next()) {
        let (a, b) = (called(a, first), called(b, second));
        return Err(DataError::layout(
            folder,
            format!("holds {a} and {b}, which both are its validation part: keep one"),
        ));
    }
    let scored = || {
        let known =
            VALIDATION.iter().chain([&TEST]).find(|name| parts.contains_key(**name)).map(|name| (*name).to_owned());
        let whole = || match parts.keys().next() {
            Some(name) if part == Part::Scored && parts.len() == 1 && !is_training(name) => Some(name.clone()),
            _ => None,
        };
        known.or_else(whole)
    };
    let wanted = if part == Part::Train { Some(TRAIN.to_owned()) } else { scored() };
    let Some((name, shards)) = wanted.and_then(|name| parts.remove_entry(&name)) else {
        // Its folder may be there, and hold nothing.
        let names: &[&str] = if part == Part::Train { &[TRAIN] } else { &VALIDATION };
        let is_wanted =
            |path: &Path| path.file_name().is_some_and(|name| names.iter().any(|of| name.eq_ignore_ascii_case(of)));
        let empty = paths(folder, |path| is_wanted(path) && path.is_dir())?;
        let empty = empty.first().map_or_else(String::new, |path| format!("; {}/ holds none", in_folder(path)));
        if part == Part::Train {
            return Err(DataError::layout(folder, format!("has no train*.parquet{empty}")));
        }
        let names: Vec<String> = parts.keys().map(|name| format!("{name}*.parquet")).collect();
        return Err(DataError::no_part(folder, &format!("it has {} alone{empty}", names.join(", "))));
    };
    let files = complete(&shards)?;
    check_files_differ(folder, &files)?;
    let part_name = match &files[..] {
        [first, .., last] => format!("{} to {}, {} files", in_folder(first), in_folder(last), files.len()),
        files => files.first().map_or(name.clone(), |file| in_folder(file)),
    };
    let is_partial = files.iter().any(|file| in_folder(file).contains(PARTIAL));
    let part_name = if is_partial { format!("{part_name}, the first rows of a larger part") } else { part_name };
    // The other half of the set is no news.
    let other_half = |other: &str| match part {
        Part::Train => VALIDATION.contains(&other) || other == TEST,
        Part::Validation | Part::Scored => other == TRAIN,
    };
    let beside =
        parts.iter().filter(|(other, _)| !other_half(other)).map(|(other, shards)| called(other, shards)).collect();
    Ok(Found { files, part: part_name, beside })
}

/// Two shards of the same bytes are one, and its images would count twice.
fn check_files_differ(folder: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    for (at, file) in files.iter().enumerate() {
        if let Some(other) = files[..at].iter().find(|other| repeats::is_same(file, other)) {
            let [a, b] = [other, file].map(|path| path.strip_prefix(folder).unwrap_or(path).display().to_string());
            let reason =
                format!("{a} and {b} hold the same bytes: one shard is there twice, and another may be missing");
            return Err(DataError::layout(folder, reason));
        }
    }
    Ok(())
}

/// Whether a word of a part's name says that it is trained on: `training`, `my-train`, `trainval`.
fn is_training(name: &str) -> bool {
    name.split(|letter: char| !letter.is_alphanumeric()).any(|word| word.starts_with(TRAIN))
}

/// A file of the scored part and one of the training part that is the same.
pub(crate) fn repeated(folder: &Path) -> Result<Option<[String; 2]>, DataError> {
    let [Ok(training), Ok(scored)] = [Part::Train, Part::Scored].map(|part| shards(folder, part)) else {
        return Ok(None);
    };
    let pair =
        |file: &PathBuf| Some([file.clone(), training.files.iter().find(|of| repeats::is_same(file, of))?.clone()]);
    let pair = scored.files.iter().find_map(pair);
    Ok(pair.map(|pair| pair.map(|path| path.strip_prefix(folder).unwrap_or(&path).display().to_string())))
}

/// One sharding, each number once.
fn complete(shards: &[Shard]) -> Result<Vec<PathBuf>, DataError> {
    let mut sorted: Vec<&Shard> = shards.iter().collect();
    sorted.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    let Some(first) = sorted.first() else { return Ok(Vec::new()) };
    let two = |one: &Shard, other: &Shard, what: &str| {
        let (a, b) = (one.path.file_name().unwrap_or_default(), other.path.file_name().unwrap_or_default());
        let reason = format!("{} and {} are {what}: keep one", a.to_string_lossy(), b.to_string_lossy());
        DataError::layout(first.path.parent().unwrap_or(Path::new("")), reason)
    };
    if let Some(other) = sorted.iter().find(|shard| shard.of != first.of) {
        return Err(two(first, other, "of two shardings of one part"));
    }
    if let Some(other) = sorted.iter().find(|shard| shard.revision != first.revision) {
        return Err(two(first, other, "two revisions of one part"));
    }
    let of = first.of.unwrap_or_else(|| sorted.last().map_or(0, |last| last.number + 1));
    for (place, shard) in sorted.iter().enumerate() {
        if shard.number > place || shard.number >= of {
            return Err(missing(shard, if shard.number > place { place } else { of }));
        }
        if shard.number < place {
            return Err(two(sorted[place - 1], shard, "the same shard twice"));
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
