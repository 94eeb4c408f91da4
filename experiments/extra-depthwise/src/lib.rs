//! One more depthwise convolution per block: is the sandglass's lead that of its place, or that of its number?
//!
//! Subjects, all at width 1.0: MobileNetV2; MobileNetV2 with a second depthwise convolution in the middle of each block
//! (paper, section 4.2, but for the place of the stride: ours has it in the first of the two); MobileNetV2 with two at the
//! thin ends and none in the middle (official code, `mobilenetv2.py`); MobileNeXt, with two at its wide ends. Method: each is
//! trained by the width study's recipe, whose cells of the plain two are borrowed; all are timed on one image of 224 x 224
//! in one interleaved run. Measures: exact costs, top-1 accuracy, milliseconds.

mod table;

use std::path::Path;

use sandglass_lab::{Compared, Lab, Recipes, Trial, TrialSetup, Variant};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Project, Results, Section, StudyEntry, StudyError,
};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<ExtraDepthwise>("extra-depthwise");

/// The method.
pub struct ExtraDepthwise {
    lab: Lab,
    /// Told before anything else is asked.
    project: Option<Project>,
}

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

impl Experiment for ExtraDepthwise {
    type Design = Design;
    type Setup = TrialSetup;
    type Cell = Trial;

    fn new(threads: Option<usize>, build: &Build) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: None })
    }

    fn within(self, project: &Project) -> Self {
        Self { project: Some(project.clone()), ..self }
    }

    fn cells(&self, design: &Design, setup: &TrialSetup) -> Result<Vec<Trial>, StudyError> {
        setup.cells(Compared { networks: &design.variants(), widths: &[design.width], recipes: &Recipes::new() })
    }

    fn prepare(&self, cell: &Trial, folder: &Path) -> Result<Artefact, CellError> {
        cell.prepare(&self.lab, folder)
    }

    fn measure(&self, cell: &Trial, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        cell.measure(&self.lab, self.project.as_ref(), file, engine)
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, cell: &Trial) -> Headline {
        cell.headline()
    }

    fn runtime(&self, cell: &Trial) -> (String, u64) {
        cell.runtime(&self.lab)
    }

    fn share(&self, cell: &Trial) -> f64 {
        cell.share()
    }

    fn keeps(&self, setup: &TrialSetup, cell: &Trial) -> bool {
        setup.keeps(cell)
    }
}
