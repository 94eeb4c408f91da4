//! Data sets, augmentation and batches. Nothing outside this crate talks to the network.
//!
//! [`open`] finds a [`Dataset`] by name or folder, a [`Transform`] turns its images into a network's input, and a
//! [`Loader`] hands out batches; for detectors these are [`open_detection`], a [`DetectionSet`], a [`DetectionTransform`]
//! and the same loader. The same seed gives the same batches on every machine and for any number of threads.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod augment;
mod cifar10;
mod cifar10_sources;
mod classes;
mod dataset;
mod decode;
mod detection;
mod embedded;
mod encode;
mod error;
mod extents;
mod folder;
mod hub;
mod loader;
mod names;
mod parquet;
mod picture;
mod protocol;
mod reading;
mod repeats;
mod resize;
mod rng;
mod root;
mod shapes;
mod shards;
mod texts;
mod transform;
mod voc;

#[cfg(test)]
mod pillow_tests;

pub use augment::Augment;
pub use cifar10_sources::{cifar10_from_hub, cifar10_from_npm};
pub use classes::{IMAGENET, imagenet_label, is_numbered, misnumbered};
pub use dataset::{Dataset, Part, Repeated};
pub use decode::{DecodeError, Remark, Remarks, decode, decode_and_tell};
pub use detection::{DetectionAugment, DetectionSet, DetectionTransform, EmbeddedDetection, Object, Split};
pub use embedded::Embedded;
pub use encode::{EncodeError, encode_jpeg};
pub use error::DataError;
pub use hub::{Hub, HubFile, RepoKind};
pub use loader::{Batch, Epoch, Examples, Loader};
pub use picture::Picture;
pub use protocol::{Protocol, short_side};
pub use resize::{Filter, resize};
pub use rng::{Draws, Purpose};
pub use root::{Shared, data_roots, find_data, offline, open, open_named, open_validation, shared_with_training};
pub use transform::{Fit, Transform};
pub use voc::{AnnotationError, VOC_CLASSES, open_detection, open_voc};
