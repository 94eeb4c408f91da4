//! SSDLite on Pascal VOC: which block is the better backbone of a detector (MobileNeXt, section 4.5)?
//!
//! Subjects: SSDLite as the official detection code has it, on MobileNetV2 and on MobileNeXt at width 1.0, and on MobileNetV2
//! tapped where its own paper taps it. Method: backbones from the width study's classifiers, one recipe for all; test images
//! are looked at after the last epoch alone. Measures: average precision by class and its mean, with intervals over images
//! drawn anew, in pairs; exact costs, also of SSD's heads against SSDLite's (MobileNetV2, Table 5).

mod cell;
mod kept;
mod measure;
mod paired;
mod seen;
mod table;

use std::path::Path;

use sandglass_lab::Lab;
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Place, Project, Results, Section, StudyEntry,
    StudyError,
};

pub use cell::{Cell, Design, Detector, GivenDetector, Heads, Run, Setup, Start, Work};

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Voc>("voc");

/// The method.
pub struct Voc {
    lab: Lab,
    project: Project,
}

impl Experiment for Voc {
    type Design = Design;
    type Setup = Setup;
    type Cell = Cell;

    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: project.clone() })
    }

    fn cells(&self, design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
        cell::cells(design, setup)
    }

    fn prepare(&self, cell: &Cell, folder: &Path) -> Result<Artefact, CellError> {
        measure::prepare(&self.lab, &self.project, cell, folder)
    }

    fn measure(&self, cell: &Cell, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        match engine {
            None | Some(measure::ENGINE) => measure::measure(&self.lab, cell, file),
            Some(other) => {
                Err(CellError::Skipped(format!("engine {other} scored it, and this program has it not for detectors")))
            }
        }
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, _: &Cell) -> Headline {
        Headline { metric: "map", title: "mAP (%)", counted: "images" }
    }

    fn runtime(&self, _: &Cell) -> (String, u64) {
        self.lab.runtime()
    }

    fn share(&self, cell: &Cell) -> f64 {
        // A detector from elsewhere is scored within a training's minute.
        match &cell.work {
            Work::Train { recipe, .. } => recipe.epochs as f64,
            Work::Score(_) => 1.0,
        }
    }

    fn keeps(&self, setup: &Setup, cell: &Cell) -> bool {
        cell::keeps(setup, cell)
    }

    fn needs(&self, cell: &Cell) -> Option<Place> {
        cell.classifier()
    }

    fn is_found(&self, cell: &Cell) -> bool {
        matches!(cell.work, Work::Score(_))
    }
}
