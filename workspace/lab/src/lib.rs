//! This machine, as studies use it: data sets, training, scoring, checkpoints and their cards, signals.
//!
//! [`Classifier`] is the cell of every study that trains a classifier or scores one; [`Lab`] trains and scores it.

mod card;
mod classifier;
mod engine;
mod kept;
mod lab;
mod quantised;
mod setup;
mod signal;

pub use card::{Card, CardError};
pub use classifier::{Classifier, Given, Work};
pub use engine::{Compiled, EngineName, UnknownEngine};
pub use kept::Kept;
pub use lab::{BATCH, Lab, default_threads};
pub use quantised::{ScoreError, calibration_images, score_model};
pub use setup::{Compared, ImageSetup, Keep, Recipes, Variant};
pub use signal::Signal;
