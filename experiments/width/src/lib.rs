//! MobileNetV2 against MobileNeXt over width multipliers: the paper's comparison of the two networks at equal width.
//!
//! Subjects: both networks at five widths. Method: one recipe for all networks of a profile; the last epoch's weights,
//! rounded to f16 and written to a file, are what is scored. Measures: top-1 and top-5 accuracy on the validation images,
//! one cell per network, width and seed. All that decides a number stands in `study.toml` and in the recipe that it names.
//!
//! Beside the common recipe stand, as profiles of their own: the search that chose it, each family at its own best recipe,
//! and the narrowest networks at several resolutions.

mod comparison;
mod drawing;
mod figures;
mod table;

use std::path::{Path, PathBuf};

use sandglass_lab::{Classifier, Compared, ImageSetup, Lab, Recipes, Variant, Work};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Listed, Measurement, Project, Results, Section, StudyEntry,
    StudyError,
};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Width>("width");

/// The method.
pub struct Width {
    lab: Lab,
}

/// What is compared: every network at every width.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Variant>,
    pub widths: Vec<f64>,
    /// Recipes of the study's own.
    #[serde(default)]
    pub recipe: Recipes,
}

impl Experiment for Width {
    type Design = Design;
    type Setup = ImageSetup;
    type Cell = Classifier;

    fn new(threads: Option<usize>, build: &Build, _: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)? })
    }

    fn cells(&self, design: &Design, setup: &ImageSetup) -> Result<Vec<Classifier>, StudyError> {
        let Design { networks, widths, recipe } = design;
        setup.cells(Compared { networks, widths, recipes: recipe })
    }

    fn prepare(&self, cell: &Classifier, folder: &Path) -> Result<Artefact, CellError> {
        self.lab.prepare(cell, folder)
    }

    fn measure(&self, cell: &Classifier, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        self.lab.score(cell, file, engine)
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, _: &Classifier) -> Headline {
        Classifier::HEADLINE
    }

    fn runtime(&self, _: &Classifier) -> (String, u64) {
        self.lab.runtime()
    }

    fn share(&self, cell: &Classifier) -> f64 {
        // Known to be buildable since `cells`.
        cell.madds().unwrap_or_default() as f64
    }

    fn keeps(&self, setup: &ImageSetup, cell: &Classifier) -> bool {
        setup.keeps(cell)
    }

    fn fetch(&self, entry: &Listed) -> Result<PathBuf, CellError> {
        self.lab.fetch(entry)
    }

    fn is_found(&self, cell: &Classifier) -> bool {
        matches!(cell.work, Work::Score(_))
    }
}
