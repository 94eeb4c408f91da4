//! Cells: random layers of one seed, or a network before or after its training.

use std::fmt;

use sandglass_data::Protocol;
use sandglass_lab::Variant;
use sandglass_models::NetworkConfig;
use sandglass_study::{Axes, Place, StudyError};
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

/// One scale: random layers, networks, or both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub random: Option<RandomSetup>,
    pub networks: Option<NetworkSetup>,
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
pub struct NetworkSetup {
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
    Network(Box<Network>),
}

/// Layers from a plane to each number of outputs.
#[derive(Clone, Debug, Serialize)]
pub struct RandomLayers {
    pub dimensions: Vec<usize>,
    pub layers: usize,
    pub seed: u64,
}

/// A network and the images that it is looked at on.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    #[serde(flatten)]
    pub network: NetworkConfig,
    /// After its training, or before the first step of it.
    pub trained: bool,
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
            Self::Network(_) => crate::layers::ENGINE,
        }
    }

    pub(crate) fn random(&self) -> Option<&RandomLayers> {
        match self {
            Self::Random(cell) => Some(cell),
            Self::Network(_) => None,
        }
    }

    pub(crate) fn network(&self) -> Option<&Network> {
        match self {
            Self::Random(_) => None,
            Self::Network(cell) => Some(cell),
        }
    }
}

impl fmt::Display for RandomLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plane-s{}", self.seed)
    }
}

impl Network {
    /// The cell of the study that keeps its checkpoint.
    pub(crate) fn kept_at(&self) -> Place {
        Place::new(&self.checkpoints, self.name())
    }

    fn name(&self) -> String {
        format!("{}-w{:?}-s{}", self.network, self.network.width, self.seed)
    }

    pub(crate) const fn weights(&self) -> &'static str {
        if self.trained { "trained" } else { "initial" }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.name();
        if self.trained { f.write_str(&kept) } else { write!(f, "{kept}-initial") }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(cell) => cell.fmt(f),
            Self::Network(cell) => cell.fmt(f),
        }
    }
}

impl Axes for Cell {
    fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Random(cell) => vec![("manifold", "plane".to_owned()), ("layers", cell.layers.to_string())],
            Self::Network(cell) => vec![
                ("network", cell.network.to_string()),
                ("width", format!("{:?}", cell.network.width)),
                ("weights", cell.weights().to_owned()),
                ("images", cell.images.to_string()),
                ("checkpoint", cell.checkpoints.clone()),
            ],
        }
    }

    fn dataset(&self) -> String {
        match self {
            Self::Random(_) => "random layers".to_owned(),
            Self::Network(cell) => cell.data.clone(),
        }
    }

    fn seed(&self) -> u64 {
        match self {
            Self::Random(cell) => cell.seed,
            Self::Network(cell) => cell.seed,
        }
    }
}

/// Random layers seed by seed, then networks width by width, each before and after its training.
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
    if let Some(networks) = &setup.networks {
        for &width in networks.widths.as_ref().unwrap_or(&design.widths) {
            for variant in &design.networks {
                let trained = networks.trained(&variant.network, width)?;
                cells.push(Cell::Network(Box::new(Network { trained: false, ..trained.clone() })));
                cells.push(Cell::Network(Box::new(trained)));
            }
        }
    }
    if cells.is_empty() {
        return Err(StudyError::refused("needs random layers, networks or both"));
    }
    Ok(cells)
}

impl NetworkSetup {
    fn trained(&self, network: &str, width: f64) -> Result<Network, StudyError> {
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
        Ok(Network {
            network,
            trained: true,
            checkpoints: self.checkpoints.clone(),
            data: self.data.clone(),
            input: self.input,
            evaluation: self.evaluation.clone(),
            seed: self.seed,
            images: self.images,
        })
    }
}
