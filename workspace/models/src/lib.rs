//! Blocks and networks as const tables, what they cost, and their checkpoints.

mod layer;

pub use layer::*;
