//! This machine, as studies use it: data sets, training, scoring, checkpoints and their cards, signals.
//!
//! [`Classifier`] is the cell of every study that trains a classifier or scores one; [`Lab`] trains and scores it.
//! [`Latency`] times networks side by side, [`Trial`] is a cell of studies that do both, and
//! [`Trials`] their method.

mod card;
mod classifier;
mod engine;
mod kept;
mod lab;
mod latency;
mod peer;
mod quantised;
mod setup;
mod signal;
mod subject;
pub mod told;
mod trial;
mod trials;

pub use card::{Card, CardError};
pub use classifier::{Classifier, Given, Work};
pub use engine::{Compiled, EngineName, UnknownEngine};
pub use kept::kept;
pub use lab::{BATCH, Batches, Job, Lab, default_threads, find_weights};
pub use latency::{CONTROL, Latency, LatencySetup, PeerTimes, Times};
pub use quantised::{ScoreError, calibration_images, score_model};
pub use setup::{Compared, ImageSetup, Keep, KeptSeeds, Recipes, Variant, Variation, varied};
pub use signal::Signal;
pub use subject::{NamedScheme, Subject, lively_int8, lively_weights, pixel};
pub use trial::{Trial, TrialSetup};
pub use trials::{Trials, Variants};
