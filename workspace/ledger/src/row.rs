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

            pub(crate) fn from_frame(frame: &DataFrame) -> Result<Vec<Row>, String> {
                let names: Vec<&str> = frame.get_column_names().into_iter().map(|name| name.as_str()).collect();
                let wanted: Vec<&str> = Row::SCHEMA.iter().map(|column| column.name).collect();
                if names != wanted {
                    return Err(format!("its columns are not those of schema {}", crate::SCHEMA_VERSION));
                }
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
    /// What is compared: a network's name.
    variant: String,
    /// Width multiplier.
    width: f64,
    /// Data set.
    dataset: String,
    /// True where the images were drawn by code.
    synthetic: bool,
    /// Image size and number of classes, such as `32x32, 10 classes`.
    scale: String,
    /// Seed of initialisation, order and augmentation.
    seed: u64,
    /// What was measured, such as `top1`.
    metric: String,
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
    /// Raw samples behind the value in their order, such as the metric after every epoch; may be empty.
    samples: Vec<f64>,
    /// Commit of this repository that ran the cell.
    commit: String,
    /// True where the working tree had changes beyond that commit.
    dirty: bool,
    /// Command that runs the cell again.
    command: String,
    /// BLAKE3 over everything that defines the cell: network, data, recipe, seed.
    recipe_hash: String,
    /// Hash of the data set, as the data crate gives it.
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
    /// Wall time of the cell, in seconds.
    seconds: f64,
}

impl Row {
    /// Names the row within all studies.
    pub fn id(&self) -> String {
        format!("{}/{}/{}#{}", self.study, self.profile, self.cell, self.metric)
    }

    /// What the row contradicts, in one phrase; None for a sound row.
    pub fn flaw(&self) -> Option<String> {
        let floats = [("width", Some(self.width)), ("value", self.value), ("seconds", Some(self.seconds))];
        if let Some((name, _)) = floats.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
            return Some(format!("{name} is not a finite number"));
        }
        if self.samples.iter().any(|sample| !sample.is_finite()) {
            return Some("samples hold a number that is not finite".into());
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

/// Safe as a file name on every system.
fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(allowed)
}
