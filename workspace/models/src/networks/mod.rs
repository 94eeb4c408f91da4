//! The papers' networks as const tables, one family a file, and the one builder that reads them.

mod builder;
mod config;
mod mobilenetv1;
mod mobilenetv2;
mod mobilenext;
mod name;
mod resnet50;

pub use builder::{Plan, Stage};
pub use config::NetworkConfig;
pub use name::{LATER_NETWORKS, NetworkName};
