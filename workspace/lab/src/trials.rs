//! The method of studies of variants of a network: all but what is compared, and how that is laid out.

use std::marker::PhantomData;
use std::path::Path;

use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Project, Results, Section, StudyError,
};
use serde::de::DeserializeOwned;

use crate::{Compared, Lab, Recipes, Trial, TrialSetup, Variant};

/// What such a study says for itself.
pub trait Variants: Sized + 'static {
    /// `[design]` of its study.toml, with `deny_unknown_fields`.
    type Design: DeserializeOwned;

    /// The networks, in the order in which they are run.
    fn networks(design: &Self::Design) -> Vec<Variant>;

    /// The width of all of them.
    fn width(design: &Self::Design) -> f64;

    /// How the results are laid out.
    ///
    /// # Errors
    /// What the section needs and is not there.
    fn section(results: &Results<'_, Trials<Self>>) -> Result<Section, StudyError>;
}

/// Each variant is trained, or its checkpoint found; all of them are timed in one run.
pub struct Trials<S> {
    lab: Lab,
    project: Project,
    study: PhantomData<S>,
}

impl<S> Trials<S> {
    /// Where rows and predictions lie.
    pub fn project(&self) -> &Project {
        &self.project
    }
}

impl<S: Variants> Experiment for Trials<S> {
    type Design = S::Design;
    type Setup = TrialSetup;
    type Cell = Trial;

    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: project.clone(), study: PhantomData })
    }

    fn cells(&self, design: &S::Design, setup: &TrialSetup) -> Result<Vec<Trial>, StudyError> {
        let (networks, width) = (S::networks(design), S::width(design));
        setup.cells(Compared { networks: &networks, widths: &[width], recipes: &Recipes::new() })
    }

    fn prepare(&self, cell: &Trial, folder: &Path) -> Result<Artefact, CellError> {
        cell.prepare(&self.lab, folder)
    }

    fn measure(&self, cell: &Trial, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        cell.measure(&self.lab, &self.project, file, engine)
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        S::section(results)
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

    fn is_found(&self, cell: &Trial) -> bool {
        cell.is_found()
    }
}
