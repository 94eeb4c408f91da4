//! Result rows: one typed schema for every study, one sealed parquet file per cell, and statistics over rows.
//!
//! A number that a report prints comes from a [`Row`], and from nowhere else. Cells write their own file, so they can
//! run anywhere and be merged by copying; [`Ledger::read`] takes the files that are sound and names the others.

mod atomic;
mod field;
mod file;
mod ledger;
mod quiet;
mod row;
mod schema;
mod seal;
mod stats;

pub use atomic::write_atomically;
pub use file::{ReadError, WriteError, read_cell, write_cell};
pub use ledger::{Ledger, Problem};
pub use row::{Row, Status};
pub use schema::{Column, SCHEMA_VERSION, schema_markdown};
pub use stats::{Summary, median};
