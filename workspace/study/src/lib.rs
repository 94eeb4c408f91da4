//! What every experiment shares: `study.toml`, plans, cells that run and resume, tables that never train.

pub mod bench;
pub mod cell;
mod comparison;
mod error;
mod file;
mod gap;
mod home;
mod local;
pub mod manifest;
pub mod paper;
pub mod plan;
mod provenance;
pub mod run;
pub mod study;
mod table;
pub mod verbs;
pub mod verify;

pub use cell::{Cell, Work};
pub use comparison::{Comparison, Line, Outcome, Scale, grouped};
pub use error::StudyError;
pub use home::Home;
pub use local::Local;
pub use plan::Plan;
pub use study::Study;
pub use table::{Table, escape};
