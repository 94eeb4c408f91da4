//! The identity tensor multiplier: how much of a sandglass's identity is worth adding, and what adding less saves.
//!
//! Subjects: MobileNeXt 1.0 whose shortcuts add all, a half, a third and a sixth of the channels, the first ones (paper,
//! section 3.3; official code, `identity_div`). Method: each is trained by the width study's recipe, whose cells of
//! multiplier 1 are borrowed; all are timed on one image of 224 x 224 in one interleaved run, by our compiled plan, which
//! adds the identity in the epilogue of the projection's convolution, and by ONNX Runtime, which does not. Measures: top-1
//! accuracy; milliseconds, and the ratio to multiplier 1 round by round.

mod table;

use sandglass_lab::{Trials, Variant, Variants};
use sandglass_study::{Results, Section, StudyEntry, StudyError};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Trials<Identity>>("identity");

/// The method.
pub enum Identity {}

/// What is compared. Each network's `paper` is its multiplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Variant>,
    pub width: f64,
}

impl Variants for Identity {
    type Design = Design;

    fn networks(design: &Design) -> Vec<Variant> {
        design.networks.clone()
    }

    fn width(design: &Design) -> f64 {
        design.width
    }

    fn section(results: &Results<'_, Trials<Self>>) -> Result<Section, StudyError> {
        table::section(results)
    }
}
