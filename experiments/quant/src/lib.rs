//! What survives 8-bit quantisation after training.
//!
//! Subjects: checkpoints that the width study keeps, and MobileNetV2 from two other makers. Method: batch norm folded,
//! ranges from training images, integer arithmetic throughout, by each scheme of a list; one cell per checkpoint and
//! scheme, and one in f32. Measures: top-1 and top-5 accuracy on the validation images, bytes on disk; for the plain schemes
//! signal to quantisation noise of every map and the pairs of products that 16 bits do not hold; for a few networks what
//! each layer costs. Beside them times: both networks in f32 and by those schemes that a compiled plan runs, on one image of
//! 224 x 224 in one interleaved run, beside ONNX Runtime on the same weights.

mod cell;
mod figures;
mod latency;
mod measure;
mod measurements;
mod paired;
mod table;

use std::path::Path;

use sandglass_lab::{Classifier, Lab, Latency, kept};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Place, Project, Results, Section, StudyEntry,
    StudyError,
};

pub use cell::{Cell, Design, GivenNet, KeptAt, Scored, Setup, Source};

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Quant>("quant");

/// The method.
pub struct Quant {
    lab: Lab,
    project: Project,
}

impl Experiment for Quant {
    type Design = Design;
    type Setup = Setup;
    type Cell = Cell;

    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: project.clone() })
    }

    fn cells(&self, design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
        cell::cells(design, setup)
    }

    /// The checkpoint as it was trained: what is made of it in 8 bits is a function of it and of the cell.
    fn prepare(&self, cell: &Cell, folder: &Path) -> Result<Artefact, CellError> {
        match cell {
            Cell::Timed(cell) => cell.prepare(folder),
            Cell::Scored(cell) => match &cell.source {
                Source::Given { checkpoint, .. } => checkpoint.find(),
                Source::Kept(from) => kept(&Place::new(from, cell.kept_cell()), &self.project),
            },
        }
    }

    fn measure(&self, cell: &Cell, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        match cell {
            Cell::Timed(cell) => cell.measure(self.lab.isa(), &self.project, file),
            Cell::Scored(cell) => measure::measure(&self.lab, cell, file, engine),
        }
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, cell: &Cell) -> Headline {
        match cell {
            Cell::Timed(_) => Latency::HEADLINE,
            Cell::Scored(_) => Classifier::HEADLINE,
        }
    }

    fn runtime(&self, cell: &Cell) -> (String, u64) {
        let (isa, threads) = self.lab.runtime();
        (isa, cell.timed().map_or(threads, |cell| cell.threads as u64))
    }

    fn share(&self, cell: &Cell) -> f64 {
        // Beside any scoring, timing takes no time.
        let Some(cell) = cell.scored() else { return 1.0 };
        // Known to be buildable since `cells`.
        let cost = cell.network.build().and_then(|graph| graph.cost(cell.input, cell.input));
        // Each layer left out is a run over the calibration images.
        let times = if cell.leave_one_out { 8.0 } else { 1.0 };
        cost.map_or(0.0, |cost| cost.madds_total as f64) * times
    }

    fn measured_on(&self, cell: &Cell) -> Option<Place> {
        let cell = cell.scored()?;
        match &cell.source {
            Source::Given { .. } => None,
            Source::Kept(from) => Some(Place::new(from, cell.kept_cell())),
        }
    }

    fn is_found(&self, cell: &Cell) -> bool {
        cell.scored().is_some()
    }
}
