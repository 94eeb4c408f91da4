//! Graphs and weights compiled into plans that run them.
//!
//! A [`Plan`] is made once for an input size: batch norms become a scale and a shift in the epilogues of their
//! convolutions, and with them the activation and a block's sum; weights are packed; every map has its place in one arena.
//! What is left for an inference is a list of calls of `sandglass_ops`, which allocates nothing.
//!
//! Its logits are those of the engine that trains, in evaluation mode, to the bit: the same sums in the same order, on any
//! number of threads and every instruction set.

#![warn(clippy::missing_errors_doc)]

mod arena;
mod chain;
mod compile;
mod describe;
mod error;
mod int8;
mod plan;
mod program;

pub use describe::Line;
pub use error::InferError;
pub use int8::IntPlan;
pub use plan::{Options, Outputs, Plan};
