//! Cells: random layers of one seed, or a trained network.

use std::fmt;

use sandglass_data::Protocol;
use sandglass_lab::Variant;
use sandglass_models::NetworkConfig;
use sandglass_study::{Axes, StudyError};
use serde::{Deserialize, Serialize};

/// Rows of all layers of a seed, at most: they lie in memory, and in one file.
const MOST_ROWS: usize = 10_000_000;

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Outputs of the random layers.
    pub dimensions: Vec<usize>,
    pub networks: Vec<Variant>,
    pub widths: Vec<f64>,
}

/// One scale: random layers, trained networks, or both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub random: Option<RandomSetup>,
    pub trained: Option<TrainedSetup>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSetup {
    /// Of each number of outputs, for each seed.
    pub layers: usize,
    pub seeds: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedSetup {
    /// `study/profile` that keeps the checkpoints.
    pub checkpoints: String,
    pub data: String,
    pub input: usize,
    pub classes: usize,
    /// 2 if left out.
    pub stem_stride: Option<usize>,
    #[serde(default)]
    pub evaluation: Protocol,
    /// Of the design's, where these are not all.
    pub widths: Option<Vec<f64>>,
    pub seed: u64,
    /// Validation images, the same for all networks.
    pub images: usize,
}

/// As JSON it is what its hash is made of.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Random(RandomLayers),
    Trained(Box<Trained>),
}

/// Layers from a plane to each number of outputs.
#[derive(Clone, Debug, Serialize)]
pub struct RandomLayers {
    pub dimensions: Vec<usize>,
    pub layers: usize,
    pub seed: u64,
}

/// A checkpoint and the images that it is looked at on.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    #[serde(flatten)]
    pub network: NetworkConfig,
    pub checkpoints: String,
    pub data: String,
    pub input: usize,
    pub evaluation: Protocol,
    pub seed: u64,
    pub images: usize,
}

impl Cell {
    /// What computes its values.
    pub(crate) fn engine(&self) -> &'static str {
        match self {
            Self::Random(_) => crate::plane::ENGINE,
            Self::Trained(_) => crate::layers::ENGINE,
        }
    }

    pub(crate) fn random(&self) -> Option<&RandomLayers> {
        match self {
            Self::Random(cell) => Some(cell),
            Self::Trained(_) => None,
        }
    }

    pub(crate) fn trained(&self) -> Option<&Trained> {
        match self {
            Self::Random(_) => None,
            Self::Trained(cell) => Some(cell),
        }
    }
}

impl fmt::Display for RandomLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plane-s{}", self.seed)
    }
}

/// Also the cell of the study that keeps its checkpoint.
impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-w{:?}-s{}", self.network, self.network.width, self.seed)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(cell) => cell.fmt(f),
            Self::Trained(cell) => cell.fmt(f),
        }
    }
}

impl Axes for Cell {
    fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Random(cell) => vec![("manifold", "plane".to_owned()), ("layers", cell.layers.to_string())],
            Self::Trained(cell) => vec![
                ("network", cell.network.to_string()),
                ("width", format!("{:?}", cell.network.width)),
                ("images", cell.images.to_string()),
                ("checkpoint", cell.checkpoints.clone()),
            ],
        }
    }

    fn dataset(&self) -> String {
        match self {
            Self::Random(_) => "random layers".to_owned(),
            Self::Trained(cell) => cell.data.clone(),
        }
    }

    fn seed(&self) -> u64 {
        match self {
            Self::Random(cell) => cell.seed,
            Self::Trained(cell) => cell.seed,
        }
    }
}

/// Random layers seed by seed, then networks width by width.
pub(crate) fn cells(design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
    let mut cells = Vec::new();
    if let Some(random) = &setup.random {
        let outputs = design.dimensions.iter().fold(0usize, |sum, outputs| sum.saturating_add(*outputs));
        let rows = random.layers.saturating_mul(outputs);
        if design.dimensions.contains(&0) || !(1..=MOST_ROWS).contains(&rows) {
            let message =
                format!("random: needs dimensions and layers, each from 1, and {MOST_ROWS} rows of all at most");
            return Err(StudyError::refused(message));
        }
        let cell = |&seed: &u64| RandomLayers { dimensions: design.dimensions.clone(), layers: random.layers, seed };
        cells.extend(random.seeds.iter().map(cell).map(Cell::Random));
    }
    if let Some(trained) = &setup.trained {
        for &width in trained.widths.as_ref().unwrap_or(&design.widths) {
            for variant in &design.networks {
                cells.push(Cell::Trained(Box::new(trained.cell(&variant.network, width)?)));
            }
        }
    }
    if cells.is_empty() {
        return Err(StudyError::refused("needs random layers, trained networks or both"));
    }
    Ok(cells)
}

impl TrainedSetup {
    fn cell(&self, network: &str, width: f64) -> Result<Trained, StudyError> {
        if self.checkpoints.split_once('/').is_none() {
            return Err(StudyError::refused(format!("checkpoints = {:?}: use \"study/profile\"", self.checkpoints)));
        }
        if self.images == 0 {
            return Err(StudyError::refused("images = 0: use 1 or more"));
        }
        let config: NetworkConfig = network.parse().map_err(StudyError::refused)?;
        let stem_stride = self.stem_stride.unwrap_or(config.stem_stride);
        let network = NetworkConfig { width, classes: self.classes, stem_stride, ..config };
        network.build().and_then(|graph| graph.cost(self.input, self.input)).map_err(StudyError::refused)?;
        self.evaluation.check().map_err(StudyError::refused)?;
        Ok(Trained {
            network,
            checkpoints: self.checkpoints.clone(),
            data: self.data.clone(),
            input: self.input,
            evaluation: self.evaluation.clone(),
            seed: self.seed,
            images: self.images,
        })
    }
}
