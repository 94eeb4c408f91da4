//! `study.toml`: the question, what is compared, on which data, by which recipe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandglass_train::Recipe;
use serde::Deserialize;

use crate::StudyError;
use crate::file::read_toml;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    pub name: String,
    pub title: String,
    pub question: String,
    /// What to keep in mind when reading the table.
    pub analysis: String,
    /// Id in `paper_tables.toml`.
    pub paper_table: String,
    pub grid: Grid,
    pub profile: Vec<Profile>,
    /// Recipes of the study's own; others come with the program (`workspace/train/recipes`).
    #[serde(default)]
    pub recipe: BTreeMap<String, Recipe>,
}

/// What is compared: every network at every width.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    pub networks: Vec<Variant>,
    pub widths: Vec<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// As `sandglass cost` takes it.
    pub network: String,
    /// The paper's name for it.
    pub paper: String,
}

/// One scale at which the grid is run: the networks are trained by a recipe, or checkpoints are given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// Heads a column.
    pub title: String,
    /// What a reader of its numbers has to know.
    #[serde(default)]
    pub note: String,
    /// Height and width of the network's input.
    pub input: usize,
    pub classes: usize,
    #[serde(default = "two")]
    pub stem_stride: usize,
    /// Expected wall time of all cells together on two cores.
    pub minutes: f64,
    /// True where the images are drawn by code.
    #[serde(default)]
    pub synthetic: bool,
    /// Whether the first seed's checkpoints are kept in `results/checkpoints`.
    #[serde(default)]
    pub keep_checkpoints: bool,
    /// `embedded`, or a folder below the data root.
    pub data: Option<String>,
    pub recipe: Option<String>,
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// Checkpoints from elsewhere, to be scored and not trained.
    #[serde(default)]
    pub given: Vec<Given>,
}

/// A checkpoint from elsewhere and the images to score it on; both lie below the data root.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    pub network: String,
    pub width: f64,
    pub weights: String,
    pub sha256: String,
    pub data: String,
}

fn two() -> usize {
    2
}

impl Study {
    /// Finds a study by name (`experiments/NAME/study.toml` here or in a folder above), or by the path of its file or
    /// folder; returns the path of the file with it.
    pub fn find(name: &str) -> Result<(Self, PathBuf), StudyError> {
        let given = Path::new(name);
        if given.is_dir() && given.join("study.toml").is_file() {
            return Self::open(&given.join("study.toml"));
        }
        if given.is_file() {
            return Self::open(given);
        }
        let here = std::env::current_dir().map_err(|source| StudyError::Io { path: ".".into(), source })?;
        let places = here.ancestors().map(|folder| folder.join("experiments").join(name).join("study.toml"));
        match places.into_iter().find(|path| path.is_file()) {
            Some(path) => Self::open(&path),
            None => Err(StudyError::Unknown { name: name.to_owned() }),
        }
    }

    /// The folder above the current one, or that one, which holds `experiments`, and the files of all studies in it.
    pub fn all() -> Result<(PathBuf, Vec<PathBuf>), StudyError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StudyError::Io { path, source }
        };
        let here = std::env::current_dir().map_err(io(Path::new(".")))?;
        let root = here.ancestors().find(|folder| folder.join("experiments").is_dir());
        let root = root.ok_or_else(|| StudyError::NoHome { path: here.clone() })?.to_path_buf();
        let folder = root.join("experiments");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path().join("study.toml");
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok((root, files))
    }

    /// Reads and checks a study's file.
    pub fn open(path: &Path) -> Result<(Self, PathBuf), StudyError> {
        let study: Self = read_toml(path)?;
        let invalid = |message| StudyError::Invalid { path: path.into(), message };
        study.check().map_err(invalid)?;
        Ok((study, path.into()))
    }

    /// A profile by name; the first one if none is named.
    pub fn profile(&self, name: Option<&str>) -> Result<&Profile, StudyError> {
        let found = match name {
            Some(name) => self.profile.iter().find(|profile| profile.name == name),
            None => self.profile.first(),
        };
        found.ok_or_else(|| StudyError::Profile {
            study: self.name.clone(),
            name: name.unwrap_or_default().to_owned(),
            known: self.profile.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// A recipe of the study, or one that comes with the program.
    pub fn recipe(&self, name: &str) -> Result<Recipe, String> {
        if let Some(recipe) = self.recipe.get(name) {
            return Ok(recipe.clone());
        }
        let Some(text) = Recipe::built_in(name) else {
            let mut known: Vec<&str> = Recipe::built_in_names().collect();
            known.extend(self.recipe.keys().map(String::as_str));
            return Err(format!("no recipe {name:?}; there are {}", known.join(", ")));
        };
        Recipe::from_toml(text).map_err(|error| format!("recipe {name}: {error}"))
    }

    fn check(&self) -> Result<(), String> {
        if self.profile.is_empty() || self.grid.networks.is_empty() || self.grid.widths.is_empty() {
            return Err("a study needs a profile, a network and a width".into());
        }
        for (at, profile) in self.profile.iter().enumerate() {
            let name = &profile.name;
            if self.profile.iter().take(at).any(|other| other.name == *name) {
                return Err(format!("profile {name} occurs twice"));
            }
            if !profile.minutes.is_finite() || profile.minutes < 0.0 {
                return Err(format!("profile {name}: minutes must be a number from 0"));
            }
            match (&profile.data, &profile.recipe, profile.seeds.is_empty(), profile.given.is_empty()) {
                (Some(_), Some(recipe), false, true) => {
                    let recipe = self.recipe(recipe).map_err(|message| format!("profile {name}: {message}"))?;
                    recipe.check().map_err(|error| format!("profile {name}: recipe: {error}"))?;
                }
                (None, None, true, false) => {}
                _ => return Err(format!("profile {name} needs either data, recipe and seeds, or given checkpoints")),
            }
        }
        Ok(())
    }
}
