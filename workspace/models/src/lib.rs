//! Blocks and networks as const tables, what they cost, and their checkpoints.
//!
//! ```
//! use sandglass_models::{NetworkConfig, NetworkName};
//!
//! let config = NetworkConfig { width: 0.5, classes: 10, ..NetworkConfig::new(NetworkName::MobileNeXt) };
//! let graph = config.build()?;
//! let cost = graph.cost(64, 64)?;
//! assert_eq!(cost.madds_linear, 1280 * 10);
//! assert_eq!(graph.tensors()[0].name, "features.0.0.weight");
//! # Ok::<(), sandglass_models::ModelError>(())
//! ```

#![warn(clippy::missing_errors_doc)]

pub mod blocks;
pub mod checkpoint;
mod cost;
mod divisible;
mod error;
mod fold;
mod graph;
mod groups;
mod layer;
mod networks;
mod tensors;

pub use cost::{Cost, Size};
pub use error::ModelError;
pub use fold::{FoldError, fold};
pub use graph::{Graph, GraphBuilder, Map, MapId, Node};
pub use layer::{Activation, After, BatchNorm, Conv, Linear, Padding, PaddingRule, Pool, Unit, Window};
pub use networks::{Counted, Detector, DetectorConfig, DetectorName, NetworkConfig, NetworkName, Stage, Table};
pub use tensors::{Role, TensorSpec, Weights};
