//! Cells: a detector, what its training starts from, and the images.

use std::fmt;

use sandglass_data::{DetectionTransform, Protocol, Split};
use sandglass_detect::Counting;
use sandglass_lab::{Keep, KeptSeeds, Recipes, Variation, varied};
use sandglass_models::DetectorConfig;
use sandglass_study::{Axes, Place, StudyError};
use sandglass_train::Recipe;
use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// In the order of the table.
    pub detectors: Vec<Detector>,
    /// SSD against SSDLite, as MobileNetV2's Table 5 counts them.
    #[serde(default)]
    pub heads: Vec<Heads>,
}

/// A detector and its line in the paper's table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// As `sandglass cost` takes it.
    pub network: String,
    pub title: String,
    /// The paper's name for its backbone, where the paper has it.
    pub backbone: Option<String>,
}

/// A detector, or its extra layers and heads alone, that is counted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heads {
    /// As `sandglass cost` takes it.
    pub network: String,
    pub title: String,
    /// The paper's name for its head, where the paper has it.
    pub head: Option<String>,
    /// Of a box, the background among them.
    pub classes: usize,
}

/// One scale.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// `embedded`, or years of a devkit, whose lists are joined for training; the first is scored.
    pub data: Vec<String>,
    /// Whose images they are, in words.
    pub source: String,
    pub train: Split,
    pub score: Split,
    /// Height and width of the input.
    pub input: usize,
    /// Of a box, the background among them.
    pub classes: usize,
    #[serde(default = "one")]
    pub width: f64,
    /// What a detector is fed: its backbone's mean, to within a byte, and standard deviation.
    #[serde(default)]
    pub evaluation: Protocol,
    pub recipe: String,
    /// Keys of the recipe that the scale changes.
    #[serde(default)]
    pub set: toml::Table,
    /// Several recipes, each `recipe` with some keys changed.
    #[serde(default)]
    pub vary: Vec<Variation>,
    pub evaluate_every: u64,
    pub runs: Vec<Run>,
    /// Detectors from elsewhere, to be scored and not trained.
    #[serde(default)]
    pub given: Vec<GivenDetector>,
    /// Whose checkpoints are kept; none if left out.
    #[serde(default)]
    pub keep: Vec<Keep>,
}

fn one() -> f64 {
    1.0
}

/// Detectors that start from the same thing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Shown in ids and tables.
    pub name: String,
    pub start: Start,
    pub networks: Vec<String>,
    pub seeds: Vec<u64>,
}

/// What a training starts from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    Scratch,
    /// `study/profile` that keeps a classifier on the same backbone at the same width: its seed 0.
    Kept(String),
    /// A classifier from elsewhere, whose batch norms were folded into its convolutions.
    Folded {
        weights: String,
        sha256: String,
    },
}

/// A detector from elsewhere.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GivenDetector {
    /// Who made it.
    pub name: String,
    pub network: String,
    pub weights: String,
    pub sha256: String,
}

/// As JSON it is what its hash is made of.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub network: String,
    pub width: f64,
    pub classes: usize,
    pub input: usize,
    pub data: Vec<String>,
    pub score: Split,
    pub seed: u64,
    pub work: Work,
    pub evaluation: Protocol,
    #[serde(skip)]
    pub evaluate_every: u64,
    /// The run's name, or who made the given detector.
    #[serde(skip)]
    pub name: String,
    /// The variation of the recipe, where a profile has several.
    #[serde(skip)]
    pub variation: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    Train { on: Split, start: Start, recipe: Box<Recipe> },
    Score(GivenDetector),
}

impl Work {
    /// What a training starts from; None of what is not trained here.
    pub(crate) fn start(&self) -> Option<&Start> {
        match self {
            Self::Train { start, .. } => Some(start),
            Self::Score(_) => None,
        }
    }
}

impl Cell {
    /// The network, at the cell's width and classes.
    ///
    /// # Errors
    /// A detector that there is not.
    pub fn config(&self) -> Result<DetectorConfig, StudyError> {
        let config: DetectorConfig = self.network.parse().map_err(StudyError::refused)?;
        Ok(DetectorConfig { width: self.width, classes: self.classes, ..config })
    }

    /// The classifier whose features it starts from, where a study keeps it: seed 0, whatever the cell's own.
    pub(crate) fn classifier(&self) -> Option<Place> {
        let Some(Start::Kept(from)) = self.work.start() else { return None };
        let backbone = self.config().ok()?.name.backbone();
        Some(Place::new(from, format!("{backbone}-w{:?}-s0", self.width)))
    }

    /// How its boxes are scored.
    pub(crate) fn counting(&self) -> Result<Counting, StudyError> {
        Ok(match self.work {
            Work::Train { .. } => Counting::Edges,
            Work::Score(_) => Counting::published(self.config()?.name),
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-w{:?}", self.network, self.width)?;
        match &self.work {
            Work::Train { .. } => write!(f, "-s{}-{}", self.seed, self.name)?,
            Work::Score(_) => write!(f, "-{}", self.name)?,
        }
        match &self.variation {
            Some(variation) => write!(f, "-{variation}"),
            None => Ok(()),
        }
    }
}

impl Axes for Cell {
    fn axes(&self) -> Vec<(&'static str, String)> {
        let mut axes = vec![
            ("network", self.network.clone()),
            ("width", format!("{:?}", self.width)),
            ("input", self.input.to_string()),
            ("start", self.name.clone()),
        ];
        axes.extend(self.variation.clone().map(|variation| ("recipe", variation)));
        axes
    }

    fn dataset(&self) -> String {
        let first = self.data.first().map_or("", String::as_str);
        format!("{first} ({})", self.score)
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// Run by run and seed by seed, detectors innermost: what is compared is there together.
pub(crate) fn cells(design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
    let refused = |message: String| Err(StudyError::refused(message));
    if setup.data.is_empty() {
        return refused("data: needs a set".into());
    }
    DetectionTransform::evaluation(setup.input, &setup.evaluation).map_err(StudyError::refused)?;
    let known = |network: &String| design.detectors.iter().any(|detector| detector.network == *network);
    let recipes = varied(&setup.recipe, &Recipes::new(), &setup.set, &setup.vary)?;
    let blank = |network: &String, name: &String, work: Work| Cell {
        network: network.clone(),
        width: setup.width,
        classes: setup.classes,
        input: setup.input,
        data: setup.data.clone(),
        score: setup.score,
        seed: 0,
        work,
        evaluation: setup.evaluation.clone(),
        evaluate_every: setup.evaluate_every,
        name: name.clone(),
        variation: None,
    };
    let mut cells = Vec::new();
    for Run { name, start, networks, seeds } in &setup.runs {
        if let Some(network) = networks.iter().find(|network| !known(network)) {
            return refused(format!("run {name}: the design has no detector {network:?}"));
        }
        if let Start::Kept(from) = start
            && from.split_once('/').is_none()
        {
            return refused(format!("run {name}: start = {{ kept = {from:?} }}: use \"study/profile\""));
        }
        for &seed in seeds {
            for (variation, recipe) in &recipes {
                for network in networks {
                    let work = Work::Train { on: setup.train, start: start.clone(), recipe: Box::new(recipe.clone()) };
                    cells.push(Cell { seed, variation: variation.clone(), ..blank(network, name, work) });
                }
            }
        }
    }
    for given in &setup.given {
        let config: DetectorConfig = given.network.parse().map_err(StudyError::refused)?;
        if !known(&given.network) {
            return refused(format!("given {}: the design has no detector {:?}", given.name, given.network));
        }
        let cell = blank(&given.network, &given.name, Work::Score(given.clone()));
        // As it was published.
        let (classes, input) = (config.classes, config.name.input());
        cells.push(Cell { width: 1.0, classes, input, evaluation: Protocol::default(), ..cell });
    }
    for cell in &cells {
        let built = cell.config()?.build().and_then(|detector| detector.graph.cost(cell.input, cell.input));
        built.map_err(|error| StudyError::refused(format!("{cell}: {error}")))?;
    }
    Ok(cells)
}

/// Whether a cell's checkpoint is kept.
pub(crate) fn keeps(setup: &Setup, cell: &Cell) -> bool {
    let run = setup.runs.iter().find(|run| run.name == cell.name);
    let is_first = run.is_some_and(|run| run.seeds.first() == Some(&cell.seed));
    let matching = |keep: &&Keep| keep.widths.is_empty() || keep.widths.contains(&cell.width);
    let is_trained = matches!(cell.work, Work::Train { .. });
    is_trained && setup.keep.iter().filter(matching).any(|keep| keep.seeds == KeptSeeds::All || is_first)
}
