//! The compiled network, optimisers, schedules, the loop, and resume.

mod engine;

pub use engine::{Engine, EngineError};
