//! Why boxes cannot be read or a loss not be had.

use sandglass_data::DataError;
use sandglass_models::ModelError;

/// What this crate refuses.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DetectError {
    /// The detector or the size of its input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A detector whose costs are known and whose numbers are not read.
    #[error("{0} scores by a focal loss's rule, which is not built")]
    NotRead(&'static str),
    /// A detector whose loss is another than SSD's.
    #[error("{0} is read, and not trained: its loss is TensorFlow's")]
    NotTrained(&'static str),
    /// Images whose classes are not as many as the detector's.
    #[error("{set}: {found} classes, but the detector tells {expected} from the background")]
    Classes {
        /// The images.
        set: String,
        /// The detector's, without the background.
        expected: usize,
        /// The set's.
        found: usize,
    },
    /// A slice of another length than what it is read as.
    #[error("{what}: {found} values; {expected} expected")]
    Length {
        /// Which.
        what: &'static str,
        /// What the shape asks for.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// A number that is none, in what a network gave.
    #[error("{0}: values that are no numbers")]
    NotFinite(&'static str),
    /// A label or class beyond the last.
    #[error("label {label}; there are {labels}, the background's among them")]
    Label {
        /// The label.
        label: usize,
        /// How many there are.
        labels: usize,
    },
    /// A box without width or height, or of numbers that are none.
    #[error("box {0:?} has no area")]
    NoArea([f32; 4]),
    /// A side of the input, or a mean or standard deviation, that nothing can be seen by.
    #[error("{0}")]
    Eye(String),
    /// Classes that are neither the detector's nor Pascal VOC's.
    #[error("{0}")]
    Names(String),
    /// No image to read, or one of other bytes than its size says.
    #[error("an image of {width} x {height} pixels with {bytes} bytes; three a pixel expected")]
    Image {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Bytes that are there.
        bytes: usize,
    },
}

impl DetectError {
    pub(crate) fn eye(error: DataError) -> Self {
        Self::Eye(error.to_string())
    }
}
