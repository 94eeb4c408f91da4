//! The row: one metric of one cell, with everything needed to find, believe and repeat it.

use polars::prelude::{Column as Series, DataFrame, PolarsResult};

use crate::field::Field;
use crate::schema::Column;

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Failed,
    Skipped,
}

/// One name and value that tell a cell from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Axis {
    pub name: String,
    /// As text, so that every kind of value has a place: `0.35`, `mobilenext`, `per-channel`.
    pub value: String,
}

/// Declares the row once: struct, parquet columns and documentation.
macro_rules! row {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty,)+) => {
        /// One metric of one cell. Field docs are the documentation of the parquet columns.
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct Row { $($(#[doc = $doc])+ pub $name: $kind,)+ }

        impl Row {
            /// The parquet columns, in file order.
            pub const SCHEMA: &[Column] = &[$(Column {
                name: stringify!($name),
                kind: <$kind as Field>::KIND,
                doc: concat!($($doc),+),
            },)+];

            pub(crate) fn to_frame(rows: &[Row]) -> PolarsResult<DataFrame> {
                let columns: Vec<Series> = vec![$(
                    Field::column(stringify!($name), &rows.iter().map(|row| &row.$name).collect::<Vec<_>>()),
                )+];
                DataFrame::new(rows.len(), columns)
            }

            /// The columns of this schema, whatever else the frame holds.
            pub(crate) fn from_frame(frame: &DataFrame) -> Result<Vec<Row>, String> {
                (0..frame.height()).map(|at| Ok(Row { $($name: Field::value(frame, stringify!($name), at)?,)+ })).collect()
            }
        }
    };
}

row! {
    /// Study, such as `width`.
    study: String,
    /// Profile of the study: which data, at which scale, such as `smoke`.
    profile: String,
    /// Cell within the profile; also the name of its file.
    cell: String,
    /// What tells the cell from others of its study: names and values, such as `network` and `width`.
    axes: Vec<Axis>,
    /// Data set.
    dataset: String,
    /// True where the images were drawn by code.
    synthetic: bool,
    /// Seed of all that is drawn.
    seed: u64,
    /// What was measured.
    metric: String,
    /// Of which part of the subject, such as a layer or a class; null where it is the whole.
    part: Option<String>,
    /// The measurement; null unless status is ok.
    value: Option<f64>,
    /// Unit of value, such as `%`.
    unit: String,
    /// How many images (or repetitions) the value was measured on.
    n: u64,
    /// `ok`, `failed` or `skipped`.
    status: Status,
    /// Why there is no value; null where there is one.
    error: Option<String>,
    /// Raw samples behind the value in their order, such as the metric on the way or repeated timings; may be empty.
    samples: Vec<f64>,
    /// When each sample was taken, such as the epochs; may be empty where the order says enough.
    samples_at: Vec<f64>,
    /// True where measuring the file again does not give the value: a time, or what only its making knows.
    once: bool,
    /// What computed the measurement; null: the engine that trains.
    engine: Option<String>,
    /// Commit that the program was built from, or `unknown`.
    commit: String,
    /// True where the sources had changes beyond that commit.
    dirty: bool,
    /// Commits of all programs that had a part in making the checkpoint, oldest first; may be empty.
    made_by: Vec<String>,
    /// Hash of the data that the checkpoint was made from, and after a `+` SHA-256 of the checkpoint that its training started from, where there is one; null where it was found.
    made_from: Option<String>,
    /// Command that runs the cell again.
    command: String,
    /// BLAKE3 over everything that defines the cell.
    cell_hash: String,
    /// Hash of the data set.
    data_hash: String,
    /// SHA-256 of the checkpoint file that was scored; null where there is none.
    checkpoint_hash: Option<String>,
    /// CPU model.
    machine: String,
    /// Instruction set path of the kernels.
    isa: String,
    /// Threads used.
    threads: u64,
    /// Version of this project and hash of its Cargo.lock.
    versions: String,
    /// Start, in UTC, as `2026-01-31T12:00:00Z`.
    started: String,
    /// Wall time of the cell in seconds, over all resumes.
    seconds: f64,
}

impl Row {
    /// Names the row within all studies.
    pub fn id(&self) -> String {
        let part = self.part.as_ref().map_or_else(String::new, |part| format!(":{part}"));
        format!("{}/{}/{}#{}{part}", self.study, self.profile, self.cell, self.metric)
    }

    /// What the row says of its subject: two rows with one meaning contradict each other, or are copies.
    pub fn meaning(&self) -> String {
        let mut axes: Vec<String> = self.axes.iter().map(|axis| format!("{} {}", axis.name, axis.value)).collect();
        axes.sort();
        let (axes, part) = (axes.join(", "), self.part.as_deref().unwrap_or_default());
        let Self { study, profile, dataset, seed, metric, .. } = self;
        format!("{study}/{profile}: {axes} on {dataset}, seed {seed}: {metric} {part}")
    }

    /// An axis by name.
    pub fn axis(&self, name: &str) -> Option<&str> {
        self.axes.iter().find(|axis| axis.name == name).map(|axis| axis.value.as_str())
    }

    /// What the row contradicts, in one phrase; None for a sound row.
    pub fn flaw(&self) -> Option<String> {
        let floats = [("value", self.value), ("seconds", Some(self.seconds))];
        if let Some((name, _)) = floats.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
            return Some(format!("{name} is not a finite number"));
        }
        if self.samples.iter().any(|sample| !sample.is_finite()) {
            return Some("samples hold a number that is not finite".into());
        }
        if !self.samples_at.is_empty() && self.samples_at.len() != self.samples.len() {
            return Some("samples and their places differ in number".into());
        }
        if [&self.study, &self.profile, &self.cell, &self.metric].into_iter().any(|name| !is_plain_name(name)) {
            return Some(
                "study, profile, cell and metric must be plain names of letters, digits, '-', '_' and '.'".into(),
            );
        }
        match (self.status, self.value, &self.error) {
            (Status::Ok, Some(_), None) | (Status::Failed | Status::Skipped, None, Some(_)) => None,
            (Status::Ok, ..) => Some("status ok needs a value and no error".into()),
            _ => Some("a failed or skipped row needs an error and no value".into()),
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, not first a dot, at most 200: safe as a file name on every system.
pub fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(allowed)
}
