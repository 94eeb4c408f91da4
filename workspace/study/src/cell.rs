//! A cell: the smallest thing that is run, whole or not at all, and whose rows are one file.

use sandglass_models::{ModelError, NetworkConfig};
use sandglass_train::Recipe;
use serde_json::{Value, json};

use crate::StudyError;
use crate::study::{Given, Profile, Study};

#[derive(Clone, Debug)]
pub struct Cell {
    /// Such as `mobilenext-w0.35-s0`; also the name of its row file.
    pub id: String,
    pub network: NetworkConfig,
    pub input: usize,
    /// Data set as `sandglass_data::open` takes it.
    pub data: String,
    pub seed: u64,
    pub work: Work,
}

#[derive(Clone, Debug)]
pub enum Work {
    /// Train, write the checkpoint, score it.
    Train(Recipe),
    /// Score a checkpoint from elsewhere.
    Score(Given),
}

/// The cells of a profile, in the study's order.
pub fn cells(study: &Study, profile: &Profile) -> Result<Vec<Cell>, StudyError> {
    let network = |name: &str, width: f64| -> Result<NetworkConfig, ModelError> {
        let config = name.parse::<NetworkConfig>()?;
        let config = NetworkConfig { width, classes: profile.classes, stem_stride: profile.stem_stride, ..config };
        config.build().map(|_| config)
    };
    let mut cells = Vec::new();
    if let (Some(recipe), Some(data)) = (&profile.recipe, &profile.data) {
        let recipe = study.recipe(recipe).map_err(StudyError::Recipe)?;
        for variant in &study.grid.networks {
            for &width in &study.grid.widths {
                for &seed in &profile.seeds {
                    cells.push(Cell {
                        id: format!("{}-w{width:?}-s{seed}", variant.network),
                        network: network(&variant.network, width)?,
                        input: profile.input,
                        data: data.clone(),
                        seed,
                        work: Work::Train(recipe.clone()),
                    });
                }
            }
        }
    }
    for given in &profile.given {
        let set = given.data.rsplit('/').next().unwrap_or(&given.data);
        cells.push(Cell {
            id: format!("{}-w{:?}-{set}", given.network, given.width),
            network: network(&given.network, given.width)?,
            input: profile.input,
            data: given.data.clone(),
            seed: 0,
            work: Work::Score(given.clone()),
        });
    }
    Ok(cells)
}

/// The cell with this id.
pub fn find<'a>(cells: &'a [Cell], profile: &Profile, id: &str) -> Result<&'a Cell, StudyError> {
    let unknown = || StudyError::Cell { profile: profile.name.clone(), name: id.to_owned() };
    cells.iter().find(|cell| cell.id == id).ok_or_else(unknown)
}

impl Cell {
    /// Hex BLAKE3 over everything that defines the cell. A row with another hash is stale.
    pub fn hash(&self) -> String {
        let work = match &self.work {
            Work::Train(recipe) => serde_json::to_value(recipe).map(|recipe| json!({ "train": recipe })),
            Work::Score(given) => serde_json::to_value(given).map(|given| json!({ "score": given })),
        };
        let definition = json!({
            "network": self.network.to_string(),
            "width": self.network.width,
            "classes": self.network.classes,
            "stem_stride": self.network.stem_stride,
            "input": self.input,
            "data": self.data,
            "seed": self.seed,
            "work": work.unwrap_or(Value::Null),
        });
        blake3::hash(definition.to_string().as_bytes()).to_hex().to_string()
    }

    /// Image size and number of classes, in words.
    pub fn scale(&self) -> String {
        format!("{0}x{0}, {1} classes", self.input, self.network.classes)
    }

    /// Multiply-adds for one image: what the cell's share of the profile's time is reckoned by.
    pub fn madds(&self) -> Result<f64, StudyError> {
        Ok(self.network.build()?.cost(self.input, self.input)?.madds_total as f64)
    }
}
