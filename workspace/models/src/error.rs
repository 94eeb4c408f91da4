//! What a block, a graph, a network or a cost can refuse.

/// Largest number of channels of a layer, or of classes.
pub const MAX_CHANNELS: usize = 1 << 20;

/// Why a network cannot be built, or not be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    #[error("unknown network {name:?}; known are {known}")]
    UnknownNetwork { name: String, known: String },
    #[error("{0} is a detector, not a classifier")]
    IsDetector(String),
    #[error("{0} is a classifier, not a detector")]
    IsClassifier(String),
    #[error("width {width} of {network}: use {allowed}")]
    Width { network: String, width: f64, allowed: &'static str },
    #[error("{0} classes: use 1 to {MAX_CHANNELS}")]
    Classes(usize),
    #[error("stride {0}: use 1 or 2")]
    Stride(usize),
    #[error("{network}: stem stride {stride}; use 2")]
    StemStride { network: String, stride: usize },
    #[error("{block}: {channels} channels; use 1 to {MAX_CHANNELS}")]
    Channels { block: &'static str, channels: usize },
    #[error("{block}: {what}")]
    Block { block: &'static str, what: &'static str },
    #[error("identity divisor {0}: use 1 or more")]
    IdentityDiv(usize),
    #[error("{0} has no identity tensor multiplier: leave the identity divisor at 1")]
    NoIdentityDiv(String),
    #[error("{0} has no place for drop-connect")]
    NoDropConnect(String),
    #[error("{name}: a map of {channels} channels; use 1 to {MAX_CHANNELS}")]
    MapChannels { name: String, channels: usize },
    #[error("{name}: reads {expected} channels, and finds {found}")]
    Reads { name: String, expected: usize, found: usize },
    #[error("{name}: {groups} groups do not divide {input} and {output} channels")]
    Groups { name: String, groups: usize, input: usize, output: usize },
    #[error("the classifier has no {0} of the backbone's shape")]
    NoBackbone(String),
    #[error("no map {0}: at this width the network has none to detect on")]
    NoMap(String),
    #[error("map {0} is none of this graph")]
    UnknownMap(usize),
    #[error("a graph without outputs")]
    NoOutput,
    #[error("{map}: at this input size {what}")]
    Size { map: String, what: &'static str },
    #[error("input of {height} x {width} pixels: use 1 x 1 or more")]
    EmptyInput { height: usize, width: usize },
    #[error("the counts at this size are beyond 64 bits: use a smaller input")]
    Overflow,
}
