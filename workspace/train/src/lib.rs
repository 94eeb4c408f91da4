//! The compiled network, optimisers, schedules, the loop, and resume.
//!
//! [`train`] is the whole of it: a [`Task`], a [`Recipe`], a data set and a seed decide the bits of the checkpoint that it
//! ends with, whatever the machine, the number of threads and the interruptions.

#![warn(clippy::missing_errors_doc)]

mod clip;
mod disk;
mod drops;
mod ema;
mod engine;
mod error;
mod evaluate;
mod init;
mod log;
mod optim;
mod recipe;
mod schedule;
mod state;
mod store;
mod task;
mod trainer;
mod unfold;

pub use clip::{clip_scale, gradient_norm};
pub use drops::{Moment, drop_factors};
pub use ema::{Ema, EmaForm};
pub use engine::{BackwardOut, Drop, Engine, EngineError, Outputs};
pub use error::TrainError;
pub use evaluate::{Predict, Score, evaluate};
pub use init::{initialise, xavier_uniform};
pub use log::{LogRow, Observer, Progress};
pub use optim::{Optimizer, OptimizerConfig};
pub use recipe::{Recipe, RecipeError, SchedulePlan};
pub use sandglass_ops::loss::{Loss, cross_entropy, rank, top1};
pub use schedule::Schedule;
pub use state::Identity;
pub use store::StoreError;
pub use task::{BatchLoss, Classification, LabelOf, Seen, Task, TransformOf};
pub use trainer::{Outcome, TrainConfig, Trained, train};
pub use unfold::unfold;
