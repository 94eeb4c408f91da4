//! The compiled network, optimisers, schedules, the loop, and resume.

mod clip;
mod dropout;
mod ema;
mod engine;
mod init;
mod loss;
mod optim;
mod schedule;

pub use clip::{clip_scale, gradient_norm};
pub use dropout::dropout_factors;
pub use ema::{Ema, EmaForm};
pub use engine::{Engine, EngineError};
pub use init::initialise;
pub use loss::{Loss, LossError, cross_entropy, rank, top1};
pub use optim::{Optimizer, OptimizerConfig};
pub use schedule::Schedule;
