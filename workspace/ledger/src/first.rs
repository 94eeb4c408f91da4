//! Rows of schema 1, read as those of today.

use polars::prelude::DataFrame;

use crate::field::Field;
use crate::row::{Axis, Row};

/// The columns of schema 1, in file order.
pub(crate) const COLUMNS: [&str; 28] = [
    "study",
    "profile",
    "cell",
    "variant",
    "width",
    "dataset",
    "synthetic",
    "scale",
    "seed",
    "metric",
    "value",
    "unit",
    "n",
    "status",
    "error",
    "samples",
    "commit",
    "dirty",
    "command",
    "recipe_hash",
    "data_hash",
    "checkpoint_hash",
    "machine",
    "isa",
    "threads",
    "versions",
    "started",
    "seconds",
];

/// The study was one of networks and widths, and `scale` read `32x32, 10 classes`.
pub(crate) fn rows(frame: &DataFrame) -> Result<Vec<Row>, String> {
    (0..frame.height()).map(|at| row(frame, at)).collect()
}

fn row(frame: &DataFrame, at: usize) -> Result<Row, String> {
    fn get<T: Field>(frame: &DataFrame, name: &str, at: usize) -> Result<T, String> {
        T::value(frame, name, at)
    }
    let scale: String = get(frame, "scale", at)?;
    let odd = || format!("scale \"{scale}\" is unknown in row {at}");
    let (size, classes) = scale.split_once(", ").ok_or_else(odd)?;
    let input = size.split('x').next().ok_or_else(odd)?;
    let classes = classes.strip_suffix(" classes").ok_or_else(odd)?;
    let width: f64 = get(frame, "width", at)?;
    let variant: String = get(frame, "variant", at)?;
    let axes =
        [("network", variant), ("width", format!("{width:?}")), ("input", input.into()), ("classes", classes.into())];
    Ok(Row {
        study: get(frame, "study", at)?,
        profile: get(frame, "profile", at)?,
        cell: get(frame, "cell", at)?,
        axes: axes.map(|(name, value)| Axis { name: name.into(), value }).into(),
        dataset: get(frame, "dataset", at)?,
        synthetic: get(frame, "synthetic", at)?,
        seed: get(frame, "seed", at)?,
        metric: get(frame, "metric", at)?,
        part: None,
        value: get(frame, "value", at)?,
        unit: get(frame, "unit", at)?,
        n: get(frame, "n", at)?,
        status: get(frame, "status", at)?,
        error: get(frame, "error", at)?,
        samples: get(frame, "samples", at)?,
        samples_at: Vec::new(),
        once: false,
        engine: None,
        commit: get(frame, "commit", at)?,
        dirty: get(frame, "dirty", at)?,
        made_by: Vec::new(),
        made_from: None,
        command: get(frame, "command", at)?,
        cell_hash: get(frame, "recipe_hash", at)?,
        data_hash: get(frame, "data_hash", at)?,
        checkpoint_hash: get(frame, "checkpoint_hash", at)?,
        machine: get(frame, "machine", at)?,
        isa: get(frame, "isa", at)?,
        threads: get(frame, "threads", at)?,
        versions: get(frame, "versions", at)?,
        started: get(frame, "started", at)?,
        seconds: get(frame, "seconds", at)?,
    })
}
