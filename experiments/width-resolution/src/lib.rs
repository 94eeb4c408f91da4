//! MobileNetV2 over width and resolution (MobileNetV2, figure 5): what each costs, and what it buys.
//!
//! Subjects: MobileNetV2 at five widths and five input sizes. Method: costs are counted; accuracies are those of the authors'
//! released checkpoints, as they and others report them, and of three such checkpoints at all five input sizes on the images
//! at hand. Those were trained at 224 pixels, where each published accuracy is of a network trained at its own input size.
//! Measures: parameters, multiply-adds, top-1 accuracy.

mod table;

use sandglass_lab::{Trials, Variant, Variants};
use sandglass_study::{Results, Section, StudyEntry, StudyError};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Trials<WidthResolution>>("width-resolution");

/// The method.
pub enum WidthResolution {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// As `sandglass cost` takes it.
    pub network: String,
    /// Its name among published checkpoints.
    pub published: String,
    pub widths: Vec<f64>,
    pub inputs: Vec<usize>,
}

impl Variants for WidthResolution {
    type Design = Design;

    fn networks(design: &Design) -> Vec<Variant> {
        vec![Variant { network: design.network.clone(), paper: String::new() }]
    }

    fn width(_: &Design) -> f64 {
        1.0
    }

    fn section(results: &Results<'_, Trials<Self>>) -> Result<Section, StudyError> {
        table::section(results)
    }
}
