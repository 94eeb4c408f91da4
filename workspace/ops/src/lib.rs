//! CPU kernels with gradients, and the candle ops made of them; knows nothing of networks.

#![warn(clippy::missing_errors_doc)]
// A loop over a constant number of lanes or taps indexes several arrays at once; one that zips them reads worse and is
// not always unrolled. ReLU6 keeps a NaN and the sign of a zero as its two comparisons say.
#![allow(clippy::needless_range_loop, clippy::manual_clamp)]

mod activation;
mod buffer;
pub mod candle;
pub mod conv;
pub mod gate;
mod gemm;
pub mod int8;
mod lanes;
pub mod loss;
pub mod map;
pub mod norm;
pub mod pool;
mod runtime;
mod scratch;
mod shape;

pub use activation::Activation;
pub use buffer::Buffer;
pub use conv::{ConvShape, Moments};
pub use runtime::{Isa, Runtime, RuntimeError};
pub use shape::MapShape;

/// What an operator can refuse.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    #[error("a convolution that is not built, or that does not fit its map: {0:?}")]
    Convolution(ConvShape),
    #[error("a max-pool that does not fit its map: {0:?}")]
    MaxPool(pool::MaxPoolShape),
    #[error("weights that were packed on {isa:?} for {packed:?} do not fit this call")]
    Packed { packed: ConvShape, isa: Isa },
    #[error("a map without pixels or channels: {0:?}")]
    Empty(MapShape),
    #[error("the gradient of {0:?} does not follow from its output")]
    MaskByOutput(Activation),
    #[error("{what}: {expected} elements expected, {found} found")]
    Length { what: &'static str, expected: usize, found: usize },
    #[error("batch norm in training needs more than one value per channel")]
    OneValuePerChannel,
    #[error("{logits} logits are not {targets} images of {classes} classes")]
    Logits { logits: usize, targets: usize, classes: usize },
    #[error("label {label} of image {image}: the classifier has {classes} classes")]
    Label { label: u32, image: usize, classes: usize },
}

impl OpError {
    pub(crate) fn length(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
