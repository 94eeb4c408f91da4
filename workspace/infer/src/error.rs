//! What a plan can refuse.

use sandglass_models::ModelError;
use sandglass_ops::OpError;

/// Why a graph cannot be compiled, or not be run.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error(transparent)]
    Op(#[from] OpError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{node}: {what} is not built for inference")]
    NotBuilt { node: String, what: &'static str },
    #[error("{tensor}: {expected} values expected, {found} found")]
    Weights { tensor: String, expected: usize, found: usize },
    #[error("{what} of 0: use 1 or more")]
    Zero { what: &'static str },
    #[error("{found} floats, where images of {image} are expected, 1 to {most}")]
    Images { found: usize, image: usize, most: usize },
    #[error("the maps take more memory than there is: use fewer or smaller images")]
    Memory,
}
