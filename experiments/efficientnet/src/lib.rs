//! The sandglass in EfficientNet's frame: what do squeeze-and-excite and the frame contribute, and what does the block?
//!
//! Subjects: MobileNetV2 and MobileNeXt at width 1.0, and the same two blocks with gates, SiLU, kernels of 5 and more depth:
//! EfficientNet-b0 and the official code's two sandglass networks (MobileNeXt, section 4.4). Method: each is trained by the
//! width study's recipe, whose cells of the plain two are borrowed; drop-connect is left out. Measures: exact costs, top-1
//! accuracy, and by how much the block's lead differs with and without the frame, image by image.

mod contrast;
mod table;

use sandglass_lab::{Trials, Variant, Variants};
use sandglass_study::{Results, Section, StudyEntry, StudyError};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Trials<EfficientNet>>("efficientnet");

/// The method.
pub enum EfficientNet {}

/// What is compared, at one width, and what of it is which block in which frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub width: f64,
    pub networks: Vec<Network>,
    pub plain: Pair,
    pub gated: Pair,
}

/// A network and its line in the paper's table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// As `sandglass cost` takes it.
    pub network: String,
    /// The paper's name for it; it has none for lite0.
    #[serde(default)]
    pub model: String,
    /// Where two lines of the paper have one name: whether this one has gates.
    pub se: Option<bool>,
    /// Its name among TensorFlow's released checkpoints, where the paper has no line for it.
    pub published: Option<String>,
}

/// One frame, both blocks: networks by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub inverted_residual: String,
    pub sandglass: String,
}

impl Variants for EfficientNet {
    type Design = Design;

    fn networks(design: &Design) -> Vec<Variant> {
        let variant = |of: &Network| Variant { network: of.network.clone(), paper: of.model.clone() };
        design.networks.iter().map(variant).collect()
    }

    fn width(design: &Design) -> f64 {
        design.width
    }

    fn section(results: &Results<'_, Trials<Self>>) -> Result<Section, StudyError> {
        table::section(results)
    }
}
