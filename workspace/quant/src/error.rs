//! What cannot be quantised, and what is quantised in a way that somebody should look at.

use std::fmt;

use sandglass_models::{FoldError, ModelError};

/// Why there is no quantised network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{node}: {what} is not built in integers")]
    NotBuilt { node: String, what: &'static str },
    #[error("no images to calibrate on: name a folder that holds some")]
    NoImages,
    #[error("no values to observe")]
    NoValues,
    #[error("{0}: a value that is no number")]
    NotFinite(String),
    #[error("{what}: {expected} values expected, {found} found")]
    Length { what: String, expected: usize, found: usize },
    #[error("{layer}: sums of {terms} products do not fit 32 bits")]
    Accumulator { layer: String, terms: usize },
    #[error("scheme: {0}")]
    Scheme(String),
}

/// What was seen in calibration and makes a poor network, though not a wrong one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// One image says little of the others.
    OneImage,
    /// All images are equal.
    SameImages,
    /// A map has one value everywhere.
    Constant { map: String },
    /// A channel's weights are so small beside its bias that their scale was raised for the bias to fit 32 bits.
    SmallWeights { layer: String, channels: usize },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneImage => write!(f, "calibrated on one image: its ranges are not those of others"),
            Self::SameImages => write!(f, "all calibration images are equal: their ranges are not those of others"),
            Self::Constant { map } => write!(f, "{map} has one value in all calibration images: its range is empty"),
            Self::SmallWeights { layer, channels } => {
                write!(f, "{layer}: the scale of {channels} channels was raised, for their bias to fit 32 bits")
            }
        }
    }
}
