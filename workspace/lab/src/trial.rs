//! The cells of studies of variants of a network: each is trained, and all of them are timed.

use std::fmt;
use std::path::Path;

use sandglass_study::{Artefact, Axes, CellError, Headline, Measurement, Project, StudyError};
use serde::{Deserialize, Serialize};

use crate::{Classifier, Compared, ImageSetup, Lab, Latency, LatencySetup, Subject, Work};

/// One variant at one seed, or the latency of all. Its JSON is that of what it holds: a variant that another study has
/// trained is borrowed.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Trial {
    Trained(Box<Classifier>),
    Timed(Latency),
}

/// `[profile.setup]`: how variants are trained, how they are timed, or both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSetup {
    pub train: Option<ImageSetup>,
    pub latency: Option<LatencySetup>,
}

impl TrialSetup {
    /// # Errors
    /// As for [`ImageSetup::cells`] and [`LatencySetup::cells`], or neither of the two.
    pub fn cells(&self, design: Compared<'_>) -> Result<Vec<Trial>, StudyError> {
        let mut cells = Vec::new();
        if let Some(train) = &self.train {
            cells.extend(train.cells(design)?.into_iter().map(|cell| Trial::Trained(Box::new(cell))));
        }
        if let Some(latency) = &self.latency {
            let of_width = |&width: &f64| design.networks.iter().map(move |of| Subject::new(&of.network, width));
            let subjects: Vec<Subject> = design.widths.iter().flat_map(of_width).collect();
            cells.extend(latency.cells(&subjects)?.into_iter().map(Trial::Timed));
        }
        match cells.is_empty() {
            true => Err(StudyError::refused("needs train, latency or both")),
            false => Ok(cells),
        }
    }

    pub fn keeps(&self, cell: &Trial) -> bool {
        match (cell, &self.train) {
            (Trial::Trained(cell), Some(train)) => train.keeps(cell),
            _ => false,
        }
    }
}

impl Trial {
    /// # Errors
    /// As for [`Lab::prepare`] and [`Latency::prepare`].
    pub fn prepare(&self, lab: &Lab, folder: &Path) -> Result<Artefact, CellError> {
        match self {
            Self::Trained(cell) => lab.prepare(cell, folder),
            Self::Timed(cell) => cell.prepare(folder),
        }
    }

    /// # Errors
    /// As for [`Lab::score`] and [`Latency::measure`].
    pub fn measure(
        &self,
        lab: &Lab,
        project: &Project,
        file: &Artefact,
        engine: Option<&str>,
    ) -> Result<Measurement, CellError> {
        match self {
            Self::Trained(cell) => lab.score(cell, file, engine),
            Self::Timed(cell) => cell.measure(lab.isa(), project, file),
        }
    }

    pub fn headline(&self) -> Headline {
        match self {
            Self::Trained(_) => Classifier::HEADLINE,
            Self::Timed(_) => Latency::HEADLINE,
        }
    }

    /// Name of the instruction set, and threads.
    pub fn runtime(&self, lab: &Lab) -> (String, u64) {
        let (isa, threads) = lab.runtime();
        match self {
            Self::Trained(_) => (isa, threads),
            Self::Timed(cell) => (isa, cell.threads as u64),
        }
    }

    /// Beside any training, timing takes no time.
    pub fn share(&self) -> f64 {
        match self {
            Self::Trained(cell) => cell.madds().unwrap_or_default() as f64,
            Self::Timed(_) => 1.0,
        }
    }

    pub fn is_found(&self) -> bool {
        matches!(self, Self::Trained(cell) if matches!(cell.work, Work::Score(_)))
    }

    pub fn trained(&self) -> Option<&Classifier> {
        match self {
            Self::Trained(cell) => Some(cell),
            Self::Timed(_) => None,
        }
    }

    pub fn timed(&self) -> Option<&Latency> {
        match self {
            Self::Trained(_) => None,
            Self::Timed(cell) => Some(cell),
        }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trained(cell) => cell.fmt(f),
            Self::Timed(cell) => cell.fmt(f),
        }
    }
}

impl Axes for Trial {
    fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Trained(cell) => cell.axes(),
            Self::Timed(cell) => cell.axes(),
        }
    }

    fn dataset(&self) -> String {
        match self {
            Self::Trained(cell) => cell.dataset(),
            Self::Timed(cell) => cell.dataset(),
        }
    }

    fn seed(&self) -> u64 {
        self.trained().map_or(0, |cell| cell.seed)
    }
}
