//! CPU kernels with gradients, and the candle ops made of them; knows nothing of networks.

mod runtime;

pub use runtime::{Isa, Runtime, RuntimeError};
