//! One more depthwise convolution per block: is the sandglass's lead that of its place, or that of its number?
//!
//! Subjects, all at width 1.0: MobileNetV2; MobileNetV2 with a second depthwise convolution in the middle of each block
//! (paper, section 4.2, but for the place of the stride: ours has it in the first of the two); MobileNetV2 with two at the
//! thin ends and none in the middle (official code, `mobilenetv2.py`); MobileNeXt, with two at its wide ends. Method: each is
//! trained by the width study's recipe, whose cells of the plain two are borrowed; all are timed on one image of 224 x 224
//! in one interleaved run. Measures: exact costs, top-1 accuracy, milliseconds.

mod table;

use sandglass_lab::{Trials, Variant, Variants};
use sandglass_study::{Results, Section, StudyEntry, StudyError};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Trials<ExtraDepthwise>>("extra-depthwise");

/// The method.
pub enum ExtraDepthwise {}

/// What is compared, at one width.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Network>,
    pub width: f64,
}

/// A network and where its depthwise convolutions are, in the words of the paper's table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// As `sandglass cost` takes it.
    pub network: String,
    pub model: String,
    pub depthwise_per_block: u64,
    pub location: String,
}

impl Design {
    fn variants(&self) -> Vec<Variant> {
        let variant = |of: &Network| Variant { network: of.network.clone(), paper: of.model.clone() };
        self.networks.iter().map(variant).collect()
    }
}

impl Variants for ExtraDepthwise {
    type Design = Design;

    fn networks(design: &Design) -> Vec<Variant> {
        design.variants()
    }

    fn width(design: &Design) -> f64 {
        design.width
    }

    fn section(results: &Results<'_, Trials<Self>>) -> Result<Section, StudyError> {
        table::section(results)
    }
}
