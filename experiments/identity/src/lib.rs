//! The identity tensor multiplier: how much of a sandglass's identity is worth adding, and what adding less saves.
//!
//! Subjects: MobileNeXt 1.0 whose shortcuts add all, a half, a third and a sixth of the channels, the first ones (paper,
//! section 3.3; official code, `identity_div`). Method: each is trained by the width study's recipe, whose cells of
//! multiplier 1 are borrowed; all are timed on one image of 224 x 224 in one interleaved run, by our compiled plan, which
//! adds the identity in the epilogue of the projection's convolution, and by ONNX Runtime, which does not. Measures: top-1
//! accuracy; milliseconds, and the ratio to multiplier 1 round by round.

mod table;

use std::path::Path;

use sandglass_lab::{Compared, Lab, Recipes, Trial, TrialSetup, Variant};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Project, Results, Section, StudyEntry, StudyError,
};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Identity>("identity");

/// The method.
pub struct Identity {
    lab: Lab,
    /// Told before anything else is asked.
    project: Option<Project>,
}

/// What is compared. Each network's `paper` is its multiplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Variant>,
    pub width: f64,
}

impl Experiment for Identity {
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
        setup.cells(Compared { networks: &design.networks, widths: &[design.width], recipes: &Recipes::new() })
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
