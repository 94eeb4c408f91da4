//! Result rows: one typed schema for every study, one sealed parquet file per cell, and statistics over rows.
//!
//! A number that a report prints comes from a [`Row`], and from nowhere else. Cells write their own file, so they can
//! run anywhere and be merged by copying; [`Ledger::read`] takes the files that are sound and names the others.

mod answers;
mod detections;
mod field;
mod file;
mod first;
mod ledger;
mod predictions;
mod row;
mod schema;
mod seal;
mod sealed;
pub mod stats;

pub use answers::{Answers, read_answers};
pub use detections::{Boxes, Crop, DetectedImage, Detections, FoundBox, TrueBox, read_detections, write_detections};
pub use file::{ReadError, WriteError, check_rows, read_cell, write_cell};
pub use ledger::{Ledger, Problem};
pub use predictions::{Prediction, Predictions, predictions_path, read_predictions, write_predictions};
pub use row::{Axis, Row, Status, is_plain_name};
pub use schema::{Column, SCHEMA_VERSION, schema_markdown};
pub use stats::{Summary, smallest_effect};
