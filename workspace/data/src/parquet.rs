//! Image parquet in the Hugging Face layout: a struct column `image` or `img` {bytes, path}, and a column of labels, which
//! are numbers or names.

mod labels;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::*;

use crate::dataset::{Opened, Source, twice};
use crate::loader::WINDOW;
use crate::names::{List, agreed};
use crate::texts::{Places, Texts, of_texts};
use crate::{DataError, Dataset, extents};
use labels::Labels;
use parts::PartColumns;

const IMAGE_COLUMNS: [&str; 2] = ["image", "img"];
const LABEL_COLUMNS: [&str; 3] = ["label", "labels", "fine_label"];

/// One row group: a run of images that are read together.
struct Group {
    shard: usize,
    /// First row within the shard, and within the set.
    row: usize,
    first: usize,
    rows: usize,
}

struct Shard {
    path: PathBuf,
    bytes: u64,
    image_column: String,
}

/// The rows of a group, as they were read: a few bytes of a file may say one image again and again.
struct Images {
    bytes: BinaryChunked,
    /// Of all images.
    size: u64,
    paths: Option<StringChunked>,
}

/// The rows of a group.
type Rows = Arc<Images>;

/// Bytes of a path or a label; a longer one is none.
const LONGEST: usize = 4096;

/// More than any set of images has.
const MOST_CLASSES: usize = 1 << 20;

/// Groups read last, newest at the end.
type Recent = VecDeque<(usize, Rows)>;

struct Shards {
    shards: Vec<Shard>,
    groups: Vec<Group>,
    runs: Vec<usize>,
    recent: Mutex<Recent>,
}

/// Opens the shards of one part, in order. `lists`: what lists class names beside them; where shards name their classes
/// themselves, these must be the same. Labels that are text are places among the class names, else among the `classifier`'s,
/// else the numbers that they spell; where nobody lists names, places among their own, sorted.
pub(crate) fn open(
    name: &str,
    paths: &[PathBuf],
    lists: &[List],
    classifier: Option<&[String]>,
    opened: Opened,
) -> Result<Dataset, DataError> {
    let mut source = Shards { shards: vec![], groups: vec![], runs: vec![], recent: Mutex::new(VecDeque::new()) };
    let (mut numbers, mut texts) = (Vec::new(), Texts::default());
    let mut unread = BTreeSet::new();
    let mut parts = PartColumns::default();
    let mut label_column = String::new();
    // Of the first shard that names its classes, and of one that does not.
    let (mut inside, mut unnamed) = (None, None);
    for path in paths {
        let wrong = |reason: String| DataError::Parquet { path: path.clone(), reason };
        let bytes = std::fs::metadata(path).map_err(DataError::io(path))?.len();
        let chunks = read(path, chunks)?;
        let mut file = sandglass_files::open(path).map_err(DataError::io(path))?;
        extents::check_pages(&mut file, &chunks)
            .map_err(|reason| wrong(format!("not a readable parquet file: {reason}")))?;
        let header = read(path, |reader| header(reader, bytes))?;
        for rows in header.group_rows {
            let row = source.groups.last().filter(|last| last.shard == source.shards.len());
            let row = row.map_or(0, |last| last.row + last.rows);
            let first = source.runs.iter().sum();
            source.groups.push(Group { shard: source.shards.len(), row, first, rows });
            source.runs.push(rows);
        }
        unread.extend(header.unread);
        parts.extend(&header.parts).map_err(wrong)?;
        if !label_column.is_empty() && label_column != header.label_column {
            let (own, others) = (header.label_column, label_column);
            return Err(wrong(format!("its labels are in the column {own}, and another shard's in {others}")));
        }
        label_column = header.label_column;
        source.shards.push(Shard { path: path.clone(), bytes, image_column: header.image_column });
        match header.labels {
            Labels::Numbers(labels) => numbers.extend(labels),
            Labels::Texts(labels) => texts.extend(&labels),
        }
        if !numbers.is_empty() && !texts.rows.is_empty() {
            return Err(wrong("its labels are text where another shard's are numbers, or the reverse".into()));
        }
        if let Some(class) = header.class_names.as_deref().and_then(twice) {
            return Err(wrong(format!("its list of classes names {class:?} twice")));
        }
        match (&inside, header.class_names) {
            (None, Some(own)) => inside = Some((path.clone(), own)),
            (Some((other, names)), Some(own)) if *names != own => {
                return Err(wrong(format!("its class names are not those of {}", other.display())));
            }
            (_, None) => unnamed = Some(path),
            _ => {}
        }
    }
    // One of them is empty.
    let (rows, images) = (numbers.len() + texts.rows.len(), source.runs.iter().sum::<usize>());
    if rows != images || rows == 0 {
        let reason = match images {
            0 => "holds no image: its files have no rows".to_owned(),
            _ => format!("{rows} labels for {images} images"),
        };
        return Err(DataError::Labels { set: name.to_string(), reason });
    }
    let at_row = |index: usize, reason: String| DataError::Labels {
        set: name.to_string(),
        reason: format!("{}: {reason}", source.shard_and_row(index)),
    };
    // A list beside them names the classes of all.
    if let (Some(_), Some(path), (None, _)) = (&inside, unnamed, agreed(lists, &label_column, None)?) {
        let reason = "it names its classes and another shard does not, or the reverse".to_owned();
        return Err(DataError::Parquet { path: path.clone(), reason });
    }
    let (names, unreadable) = agreed(lists, &label_column, inside)?;
    unread.extend(parts.told());
    unread.extend(unreadable);
    let unread = unread.into_iter().collect();
    let Places { labels, names, is_alphabetical } = match texts.rows.is_empty() {
        true => Places { labels: numbers, names, is_alphabetical: false },
        false => of_texts(&texts, names, classifier).map_err(|(index, reason)| at_row(index, reason))?,
    };
    match names {
        Some((list, names)) => {
            if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= names.len()) {
                let (count, list) = (names.len(), list.file_name().unwrap_or_default().to_string_lossy());
                return Err(at_row(row, format!("the label {label} is beyond the {count} class names of {list}")));
            }
            let set =
                Dataset::from_source(name, names, Box::new(source), labels, opened)?.with_origin(String::new(), unread);
            let set = set.with_label_column(&label_column);
            Ok(if is_alphabetical { set.alphabetical() } else { set })
        }
        None => {
            let last = labels.iter().zip(0..).max_by_key(|(label, _)| **label);
            let count = last.map_or(0, |(label, _)| *label as usize + 1);
            // A name is made for each class: one damaged label would ask for more memory than there is.
            if let Some((label, row)) = last.filter(|_| count > MOST_CLASSES) {
                let row = source.shard_and_row(row);
                let reason = format!("{row}: a label of {label}: more than {MOST_CLASSES} classes are not read");
                return Err(DataError::Labels { set: name.to_string(), reason });
            }
            let names = (0..count).map(|label| label.to_string()).collect();
            let set =
                Dataset::from_source(name, names, Box::new(source), labels, opened)?.with_origin(String::new(), unread);
            Ok(set.with_label_column(&label_column).without_names(texts.distinct()))
        }
    }
}

impl Shards {
    fn group(&self, index: usize) -> usize {
        self.groups.partition_point(|group| group.first <= index) - 1
    }

    /// The rows of group `number`, from memory if they were read lately.
    fn rows(&self, number: usize) -> Result<Rows, DataError> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(held, _)| *held == number)
            && let Some(found) = recent.remove(at)
        {
            recent.push_back(found.clone());
            return Ok(found.1);
        }
        let group = &self.groups[number];
        let shard = &self.shards[group.shard];
        let images = |reader: ParquetReader<File>| images(reader, &shard.image_column, group.row, group.rows);
        let rows = Arc::new(read(&shard.path, images)?);
        recent.push_back((number, rows.clone()));
        // The loader shuffles within a window, so two windows are in use at a time. Unpacked they may be larger than the files.
        let held = |recent: &Recent| recent.iter().map(|(_, rows)| rows.bytes.len()).sum::<usize>();
        let size = |recent: &Recent| recent.iter().map(|(_, rows)| rows.size).sum::<u64>();
        while recent.len() > 2 && (held(&recent) > 2 * WINDOW + group.rows || size(&recent) > self.total_bytes()) {
            recent.pop_front();
        }
        Ok(rows)
    }

    fn shard_and_row(&self, index: usize) -> String {
        let group = &self.groups[self.group(index)];
        let file = self.shards[group.shard].path.file_name().unwrap_or_default().to_string_lossy();
        format!("{file} row {}", group.row + index - group.first)
    }

    /// Calls `take` with the rows of a group and the place among them.
    fn row<T>(&self, index: usize, take: impl FnOnce(&Images, usize) -> T) -> Result<T, DataError> {
        let number = self.group(index);
        let rows = self.rows(number)?;
        let at = index - self.groups[number].first;
        if at >= rows.bytes.len() {
            let path = self.shards[self.groups[number].shard].path.clone();
            return Err(DataError::Parquet { path, reason: "a row group is short".into() });
        }
        Ok(take(&rows, at))
    }

    /// The path in the file, if it has one: every image is given a name, and one of a megabyte would fill the memory.
    fn path(&self, index: usize) -> Option<String> {
        let path =
            |rows: &Images, at| rows.paths.as_ref()?.get(at).filter(|path| path.len() <= LONGEST).map(String::from);
        self.row(index, path).ok().flatten()
    }
}

impl Source for Shards {
    /// The path in the file, if it has one.
    fn name(&self, index: usize) -> String {
        self.path(index).unwrap_or_else(|| self.shard_and_row(index))
    }

    fn location(&self, index: usize) -> String {
        let row = self.shard_and_row(index);
        match self.path(index) {
            Some(path) => format!("{path} ({row})"),
            None => row,
        }
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError> {
        self.row(index, |rows, at| rows.bytes.get(at).map(<[u8]>::to_vec))?.ok_or_else(|| {
            let path = self.shards[self.groups[self.group(index)].shard].path.clone();
            let row = self.shard_and_row(index);
            let only = self.path(index).map_or_else(String::new, |path| format!(", only the path {path}"));
            DataError::Parquet { path, reason: format!("{row} holds no bytes of an image{only}") }
        })
    }

    fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    fn runs(&self) -> &[usize] {
        &self.runs
    }

    fn fingerprint(&self, hasher: &mut blake3::Hasher) {
        for shard in &self.shards {
            hasher.update(shard.path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(&shard.bytes.to_le_bytes());
        }
    }
}

/// What is wrong with a file: polars cannot read it, or it is sound and holds something else.
enum Wrong {
    Damaged(PolarsError),
    Content(String),
}

impl From<PolarsError> for Wrong {
    fn from(error: PolarsError) -> Self {
        match error {
            PolarsError::Duplicate(what) => Self::Content(format!("two of its columns have one name: {what}")),
            error => Self::Damaged(error),
        }
    }
}

/// Runs `call` on a reader of `path`; whatever goes wrong within polars is one error that names the file.
fn read<T>(path: &Path, call: impl FnOnce(ParquetReader<File>) -> Result<T, Wrong>) -> Result<T, DataError> {
    let mut file = sandglass_files::open(path).map_err(DataError::io(path))?;
    let error = |reason: String| DataError::Parquet { path: path.to_path_buf(), reason };
    let damaged =
        |reason: String| error(format!("not a readable parquet file: {}", reason.lines().next().unwrap_or_default()));
    let mut head = Vec::new();
    file.by_ref().take(sandglass_files::HEAD as u64).read_to_end(&mut head).map_err(DataError::io(path))?;
    match sandglass_files::kind(&head) {
        Some(kind) if !head.starts_with(b"PAR1") => return Err(error(format!("no parquet file: it is {kind}"))),
        _ => {}
    }
    extents::check(&mut file).map_err(damaged)?;
    // One thread, so that `catch` sees every panic.
    let reader = ParquetReader::new(file).read_parallel(ParallelStrategy::None);
    match sandglass_files::catch(|| call(reader)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Wrong::Content(reason))) => Err(error(reason)),
        Ok(Err(Wrong::Damaged(reason))) => Err(damaged(reason.to_string())),
        Err(panic) => Err(damaged(panic)),
    }
}

struct Header {
    image_column: String,
    label_column: String,
    /// What is there and not read, in words: other columns, class names that nobody can read.
    unread: Vec<String>,
    /// The parts that its rows are said to be of, in columns of their own.
    parts: PartColumns,
    group_rows: Vec<usize>,
    labels: Labels,
    class_names: Option<Vec<String>>,
}

/// Where the columns of each row group lie in the file.
fn chunks(mut reader: ParquetReader<File>) -> Result<Vec<Range<u64>>, Wrong> {
    let groups = &reader.get_metadata()?.row_groups;
    Ok(groups.iter().flat_map(|group| group.parquet_columns()).map(|column| column.byte_range()).collect())
}

fn header(mut reader: ParquetReader<File>, bytes: u64) -> Result<Header, Wrong> {
    let schema = reader.schema()?;
    let column = |names: &[&str], what: &str| {
        let found = names.iter().find(|name| schema.contains(name)).map(|name| name.to_string());
        let columns: Vec<&str> = schema.iter_names().map(|name| name.as_str()).collect();
        found.ok_or_else(|| {
            Wrong::Content(format!("no column of {what} ({}) among its {}", names.join(", "), columns.join(", ")))
        })
    };
    let (image_column, label_column) = (column(&IMAGE_COLUMNS, "images")?, column(&LABEL_COLUMNS, "labels")?);
    let others = schema.iter_names().map(|name| name.to_string());
    let others: Vec<String> = others.filter(|name| ![&image_column, &label_column].contains(&name)).collect();
    let mut unread: Vec<String> = others.iter().map(|name| format!("column {name}")).collect();
    // Told here, once, and not image by image.
    let bytes_of = |field: &ArrowField| match &field.dtype {
        ArrowDataType::Struct(fields) => {
            fields.iter().find(|field| field.name == "bytes").map(|field| field.dtype.clone())
        }
        _ => None,
    };
    match schema.get(&image_column).and_then(bytes_of) {
        None => return Err(no_images(&image_column)),
        Some(ArrowDataType::Binary | ArrowDataType::LargeBinary | ArrowDataType::BinaryView) => {}
        Some(dtype) => {
            let what = labels::unfit(&dtype).unwrap_or_else(|| "text or numbers".to_owned());
            return Err(Wrong::Content(format!(
                "its column {image_column} holds {what} for bytes, and no encoded images"
            )));
        }
    }
    if let Some(dtype) = schema.get(&label_column).and_then(|field| labels::unfit(&field.dtype)) {
        return Err(labels::no_labels(&label_column, &dtype));
    }
    let metadata = reader.get_metadata()?;
    let group_rows: Vec<usize> = metadata.row_groups.iter().map(|group| group.num_rows()).collect();
    // Room is reserved for as many rows as a group says that it has.
    if group_rows.iter().fold(0_u64, |sum, rows| sum.saturating_add(*rows as u64)) > bytes {
        return Err(Wrong::Content("it says that it has more images than bytes".to_owned()));
    }
    let of_file = metadata.key_value_metadata.iter().flatten();
    let of_file = of_file.map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap_or_default()));
    let (class_names, unreadable) = labels::names(of_file, schema.get(&label_column))?;
    unread.extend(unreadable);
    let mut columns = vec![label_column.clone()];
    for name in others.into_iter().filter(|name| parts::may_say(name)) {
        match schema.get(&name).and_then(|field| parts::unfit(&field.dtype)) {
            None => columns.push(name),
            Some(what) => unread.push(format!("column {name} holds {what}, and may say of which part rows are")),
        }
    }
    let table = reader.with_columns(Some(columns)).finish()?;
    let mut parts = PartColumns::default();
    table.columns().iter().filter(|column| *column.name() != label_column).for_each(|column| parts.read(column));
    let labels = labels::read(table.column(&label_column)?)?;
    Ok(Header { image_column, label_column, unread, parts, group_rows, labels, class_names })
}

fn no_images(column: &str) -> Wrong {
    Wrong::Content(format!("its column {column} holds no {{bytes, path}}"))
}

fn images(reader: ParquetReader<File>, column: &str, row: usize, rows: usize) -> Result<Images, Wrong> {
    let table = reader.with_columns(Some(vec![column.to_string()])).with_slice(Some((row, rows))).finish()?;
    let Ok(images) = table.column(column)?.struct_() else {
        return Err(no_images(column));
    };
    let bytes = images.field_by_name("bytes")?.binary()?.clone();
    let paths = images.field_by_name("path").ok().and_then(|paths| paths.str().ok().cloned());
    let size = bytes.iter().flatten().map(|image| image.len() as u64).sum();
    Ok(Images { bytes, size, paths })
}
