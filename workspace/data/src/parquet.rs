//! Image parquet in the Hugging Face layout: a struct column `image` or `img` {bytes, path}, and `label`.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use polars::prelude::*;

use crate::dataset::Source;
use crate::loader::WINDOW;
use crate::{DataError, Dataset};

const IMAGE_COLUMNS: [&str; 2] = ["image", "img"];

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

/// Encoded image and its path in the file, if it has one.
type Row = (Vec<u8>, Option<String>);

/// The rows of a group.
type Rows = Arc<Vec<Row>>;

/// Groups read last, newest at the end.
type Recent = VecDeque<(usize, Rows)>;

struct Shards {
    shards: Vec<Shard>,
    groups: Vec<Group>,
    runs: Vec<usize>,
    recent: Mutex<Recent>,
}

/// Opens the shards of one part, in order. `class_names`: those of files beside it, else the file's own are taken.
pub(crate) fn open(name: &str, paths: &[PathBuf], class_names: Option<Vec<String>>) -> Result<Dataset, DataError> {
    let mut source = Shards { shards: vec![], groups: vec![], runs: vec![], recent: Mutex::new(VecDeque::new()) };
    let mut labels: Vec<u32> = Vec::new();
    let mut names = class_names;
    for path in paths {
        let header = read(path, header)?;
        for rows in header.group_rows {
            let row = source.groups.last().filter(|last| last.shard == source.shards.len());
            let row = row.map_or(0, |last| last.row + last.rows);
            let first = source.runs.iter().sum();
            source.groups.push(Group { shard: source.shards.len(), row, first, rows });
            source.runs.push(rows);
        }
        let bytes = std::fs::metadata(path).map_err(DataError::io(path))?.len();
        source.shards.push(Shard { path: path.clone(), bytes, image_column: header.image_column });
        labels.extend(header.labels);
        names = names.or(header.class_names);
    }
    let (rows, images) = (labels.len(), source.runs.iter().sum::<usize>());
    if rows != images || rows == 0 {
        let reason = format!("{rows} labels for {images} images");
        return Err(DataError::Labels { set: name.to_string(), reason });
    }
    let count = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let names = names.unwrap_or_else(|| (0..count).map(|label| label.to_string()).collect());
    Dataset::from_source(name, names, Box::new(source), labels)
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
        // The loader shuffles within a window, so two windows are in use at a time.
        let held = |recent: &Recent| recent.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        while recent.len() > 2 && held(&recent) > 2 * WINDOW + group.rows {
            recent.pop_front();
        }
        Ok(rows)
    }

    fn shard_and_row(&self, index: usize) -> String {
        let group = &self.groups[self.group(index)];
        let file = self.shards[group.shard].path.file_name().unwrap_or_default().to_string_lossy();
        format!("{file} row {}", group.row + index - group.first)
    }

    fn row<T>(&self, index: usize, take: impl FnOnce(&Row) -> T) -> Result<T, DataError> {
        let number = self.group(index);
        let rows = self.rows(number)?;
        let row = rows.get(index - self.groups[number].first);
        let path = &self.shards[self.groups[number].shard].path;
        row.map(take).ok_or_else(|| DataError::Parquet { path: path.clone(), reason: "a row group is short".into() })
    }
}

impl Source for Shards {
    /// The path in the file, if it has one.
    fn name(&self, index: usize) -> String {
        let path = self.row(index, |(_, path)| path.clone()).ok().flatten();
        path.unwrap_or_else(|| self.shard_and_row(index))
    }

    fn location(&self, index: usize) -> String {
        let row = self.shard_and_row(index);
        match self.row(index, |(_, path)| path.clone()) {
            Ok(Some(path)) => format!("{path} ({row})"),
            _ => row,
        }
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError> {
        self.row(index, |(bytes, _)| bytes.clone())
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

/// Runs `call` on a reader of `path`; whatever goes wrong within polars is one error that names the file.
fn read<T>(path: &Path, call: impl FnOnce(ParquetReader<File>) -> PolarsResult<T>) -> Result<T, DataError> {
    let file = File::open(path).map_err(DataError::io(path))?;
    let failed = |reason: String| {
        let reason = reason.lines().next().unwrap_or_default();
        DataError::Parquet { path: path.to_path_buf(), reason: format!("not a readable parquet file: {reason}") }
    };
    // One thread, so that `catch` sees every panic.
    let reader = ParquetReader::new(file).read_parallel(ParallelStrategy::None);
    sandglass_files::catch(|| call(reader)).map_err(failed)?.map_err(|error| failed(error.to_string()))
}

struct Header {
    image_column: String,
    group_rows: Vec<usize>,
    labels: Vec<u32>,
    class_names: Option<Vec<String>>,
}

fn header(mut reader: ParquetReader<File>) -> PolarsResult<Header> {
    let schema = reader.schema()?;
    let image_column = IMAGE_COLUMNS.into_iter().find(|name| schema.contains(name));
    let image_column = image_column.ok_or_else(|| polars_err!(ColumnNotFound: "neither image nor img"))?;
    let metadata = reader.get_metadata()?;
    let group_rows = metadata.row_groups.iter().map(|group| group.num_rows()).collect();
    let class_names = metadata.key_value_metadata.iter().flatten();
    let class_names =
        class_names.filter(|pair| pair.key == "huggingface").find_map(|pair| names(pair.value.as_deref()?));
    let table = reader.with_columns(Some(vec!["label".to_string()])).finish()?;
    let labels = table.column("label")?.strict_cast(&DataType::Int64)?;
    let label = |label: Option<i64>| {
        label.and_then(|label| u32::try_from(label).ok()).ok_or_else(|| polars_err!(ComputeError: "label {label:?}"))
    };
    let labels = labels.i64()?.iter().map(label).collect::<PolarsResult<_>>()?;
    Ok(Header { image_column: image_column.to_string(), group_rows, labels, class_names })
}

/// Class names as the `datasets` library writes them into a file's metadata.
fn names(json: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    let names = json.pointer("/info/features/label/names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

fn images(reader: ParquetReader<File>, column: &str, row: usize, rows: usize) -> PolarsResult<Vec<Row>> {
    let table = reader.with_columns(Some(vec![column.to_string()])).with_slice(Some((row, rows))).finish()?;
    let images = table.column(column)?.struct_()?.clone();
    let bytes = images.field_by_name("bytes")?;
    let paths = images.field_by_name("path").ok();
    let paths = paths.as_ref().and_then(|paths| paths.str().ok());
    let rows = bytes.binary()?.iter().enumerate().map(|(at, bytes)| {
        let path = paths.and_then(|paths| paths.get(at)).map(String::from);
        (bytes.unwrap_or_default().to_vec(), path)
    });
    Ok(rows.collect())
}
