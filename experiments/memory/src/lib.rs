//! Memory: how much a network must hold at each resolution, by MobileNetV2's own rule and in our plans.
//!
//! Subjects: MobileNetV1, MobileNetV2 and MobileNeXt at width 1.0. Method: the rule of MobileNetV2, Table 3, counts maps
//! between blocks, for the wide map inside an inverted residual need never exist whole (section 5.1); our plans are compiled
//! with that map whole and in groups of channels, and timed in one interleaved run. Measures: channels and kilobytes by the
//! rule; bytes of a plan's arena; milliseconds, and the ratio to the first network round by round.

mod rule;
mod table;

use std::path::Path;

use sandglass_lab::{Lab, Latency, LatencySetup, Subject};
use sandglass_study::{
    Artefact, Build, CellError, Experiment, Headline, Measurement, Project, Results, Section, StudyEntry, StudyError,
};
use serde::Deserialize;

/// The study's line in a program's list.
pub const STUDY: StudyEntry = StudyEntry::of::<Memory>("memory");

/// The method.
pub struct Memory {
    lab: Lab,
    project: Project,
}

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Network>,
    /// Plans that are compiled and timed; ratios are to the first.
    pub plans: Vec<Subject>,
}

/// A network whose maps are counted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// As `sandglass cost` takes it.
    pub network: String,
    /// Its name in print.
    pub title: String,
    /// How its columns in the paper's table begin, where it has any.
    pub paper: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub latency: LatencySetup,
}

impl Experiment for Memory {
    type Design = Design;
    type Setup = Setup;
    type Cell = Latency;

    fn new(threads: Option<usize>, build: &Build, project: &Project) -> Result<Self, StudyError> {
        Ok(Self { lab: Lab::new(threads, build)?, project: project.clone() })
    }

    fn cells(&self, design: &Design, setup: &Setup) -> Result<Vec<Latency>, StudyError> {
        setup.latency.cells(&design.plans)
    }

    fn prepare(&self, cell: &Latency, folder: &Path) -> Result<Artefact, CellError> {
        cell.prepare(folder)
    }

    fn measure(&self, cell: &Latency, file: &Artefact, _: Option<&str>) -> Result<Measurement, CellError> {
        cell.measure(self.lab.isa(), &self.project, file)
    }

    fn section(&self, results: &Results<'_, Self>) -> Result<Section, StudyError> {
        table::section(results)
    }

    fn headline(&self, _: &Latency) -> Headline {
        Latency::HEADLINE
    }

    fn runtime(&self, cell: &Latency) -> (String, u64) {
        (self.lab.runtime().0, cell.threads as u64)
    }
}
