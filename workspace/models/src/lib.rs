//! Blocks and networks as const tables, what they cost, and their checkpoints.

pub mod blocks;
pub mod checkpoint;
mod cost;
mod divisible;
mod error;
mod layer;
mod networks;
pub mod reference;

pub use cost::{Cost, Size};
pub use error::ModelError;
pub use layer::*;
pub use networks::*;
