//! Blocks and networks as const tables, what they cost, and their checkpoints.
//!
//! ```
//! use sandglass_models::{NetworkConfig, NetworkName};
//!
//! let config = NetworkConfig { width: 0.5, classes: 10, ..NetworkConfig::new(NetworkName::MobileNeXt) };
//! let network = config.build()?;
//! let cost = network.cost(64, 64)?;
//! assert_eq!(cost.madds_linear, 1280 * 10);
//! assert_eq!(network.tensors()[0].name, "features.0.0.weight");
//! # Ok::<(), sandglass_models::ModelError>(())
//! ```

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
