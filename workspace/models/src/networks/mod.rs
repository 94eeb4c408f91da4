//! The papers' networks as const tables, one family a file, and the one builder that reads them.

mod config;
mod counted;
mod detector;
mod efficientnet;
mod mobilenetv1;
mod mobilenetv2;
mod mobilenext;
mod name;
mod resnet50;
mod table;

pub use config::NetworkConfig;
pub use counted::Counted;
pub use detector::{Detector, DetectorConfig, DetectorName};
pub(crate) use detector::{TF_EXTRAS, TF_NORM};
pub use name::NetworkName;
pub use table::{Stage, Table};
