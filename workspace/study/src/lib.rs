//! The protocol of a study: `study.toml`, cells that run and resume, rows that are verified, sections of the report.
//!
//! An [`Experiment`] says what its cells are, how one is prepared and measured, and how its section is laid out; all
//! the rest is here, and the same for every study. This crate names no network, no data set and no metric.

pub mod borrow;
mod cell;
pub mod claim;
mod diff;
mod error;
mod experiment;
mod file;
mod manifest;
mod method;
mod opened;
mod outcome;
pub mod paper;
pub mod plan;
mod project;
mod provenance;
mod results;
pub mod run;
mod section;
mod shelf;
mod shown;
mod table;
mod verbs;
mod verify;

pub use borrow::Place;
pub use cell::{Axes, Keyed, hash};
pub use diff::diff;
pub use error::{CellError, StudyError};
pub use experiment::{Again, Artefact, Experiment, Facts, Headline, Measurement, Value};
pub use file::{Head, Profile, StudyFile};
pub use manifest::{HubFile, Listed, Manifest};
pub use method::Methodology;
pub use opened::Opened;
pub use outcome::Outcome;
pub use plan::{Plan, State};
pub use project::Project;
pub use provenance::{Build, Record};
pub use results::{CellResult, Results, Scale};
pub use section::{
    Axis, Chart, Curves, DASH, Drawing, Entry, Figure, Layer, Mark, MarkedBox, Panel, Part, Photo, Pictures, Point,
    Section, Series, Stack,
};
pub use shelf::{Shelf, Study, StudyEntry, main};
pub use shown::{Lost, Shown, disagreeing_predictions};
pub use table::{Table, duration, escape, grouped};
pub use verbs::{PlanArgs, RunArgs, TableArgs, tell};
pub use verify::Verify;
