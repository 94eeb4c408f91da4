//! What a ReLU leaves of what it is given, which is MobileNetV2's argument for linear bottlenecks.
//!
//! Subjects: random ReLU layers from a plane to 2, 3, 5, 15 and 30 outputs (Figure 1), and the width study's checkpoints of
//! both families, with the networks that their training began with (Figure 7). Method: by the paper's lemma, what a ReLU
//! makes of n dimensions tells where it came from where n positive outputs have independent rows. Of a random layer the
//! share of the plane where they have not is computed exactly, layer by layer, and set beside its expectation; in a network
//! the positive channels behind each ReLU6 are counted at every pixel of validation images. Measures: collapsed share of
//! the plane; share of channels that are positive, and of pixels at which they are as many as the narrowest map of the block
//! that they were made of has.

mod cell;
mod figures;
mod initial;
mod layers;
mod plane;
mod table;

use std::path::Path;

use sandglass_lab::{Lab, kept};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Place, Project, Results, Section, StudyEntry,
    StudyError,
};

pub use cell::{Cell, Design, Network, NetworkSetup, RandomLayers, RandomSetup, Setup};

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Manifold>("manifold");

/// The method.
pub struct Manifold {
    lab: Lab,
    project: Project,
}

impl Experiment for Manifold {
    type Design = Design;
    type Setup = Setup;
    type Cell = Cell;

    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: project.clone() })
    }

    fn cells(&self, design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
        cell::cells(design, setup)
    }

    /// The layers, the network before its first step, or the checkpoint that the width study keeps.
    fn prepare(&self, cell: &Cell, folder: &Path) -> Result<Artefact, CellError> {
        match cell {
            Cell::Random(cell) => cell.prepare(folder),
            Cell::Network(cell) if !cell.trained => initial::prepare(&self.lab, cell, folder),
            Cell::Network(cell) => kept(&cell.kept_at(), &self.project),
        }
    }

    fn measure(&self, cell: &Cell, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        if let Some(other) = engine.filter(|engine| *engine != cell.engine()) {
            return Err(CellError::Skipped(format!("engine {other} measured it, and this study has it not")));
        }
        match cell {
            Cell::Random(cell) => cell.measure(file),
            Cell::Network(cell) => layers::measure(&self.lab, cell, file),
        }
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, cell: &Cell) -> Headline {
        match cell {
            Cell::Random(_) => plane::HEADLINE,
            Cell::Network(_) => layers::HEADLINE,
        }
    }

    fn runtime(&self, cell: &Cell) -> (String, u64) {
        let (isa, threads) = self.lab.runtime();
        match cell {
            Cell::Random(_) => (isa, 1),
            Cell::Network(_) => (isa, threads),
        }
    }

    fn share(&self, cell: &Cell) -> f64 {
        match cell {
            Cell::Random(_) => 1.0,
            // Known to be buildable since `cells`.
            Cell::Network(cell) => {
                let cost = cell.network.build().and_then(|graph| graph.cost(cell.input, cell.input));
                cost.map_or(0.0, |cost| cost.madds_total as f64)
            }
        }
    }

    fn measured_on(&self, cell: &Cell) -> Option<Place> {
        cell.network().filter(|cell| cell.trained).map(Network::kept_at)
    }

    fn is_found(&self, cell: &Cell) -> bool {
        matches!(cell, Cell::Network(cell) if cell.trained)
    }
}
