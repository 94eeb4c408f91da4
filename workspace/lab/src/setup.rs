//! `[profile.setup]` of studies that train classifiers, and the cells that it makes.

use std::collections::BTreeMap;

use sandglass_data::{Protocol, short_side};
use sandglass_models::{NetworkConfig, PaddingRule};
use sandglass_study::StudyError;
use sandglass_train::Recipe;
use serde::Deserialize;

use crate::classifier::ShownAxes;
use crate::{Classifier, Given, Work};

/// One scale: networks are trained by a recipe, or checkpoints are given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSetup {
    /// `embedded`, or a folder below a data root.
    pub data: Option<String>,
    /// Height and width of the network's input.
    pub input: usize,
    /// Several inputs in place of the one, which is then the default that does not show in an id.
    pub inputs: Vec<usize>,
    pub classes: usize,
    /// 2 if left out.
    pub stem_stride: Option<usize>,
    /// Share of the resized image's side that the centre crop of an evaluation keeps: its short side is brought to
    /// floor(input / crop_pct). Unset: see [`Protocol`].
    pub crop_pct: Option<f64>,
    /// The rest of the evaluation's protocol.
    pub evaluation: Protocol,
    /// How the networks of given checkpoints pad their maps; unset: as they are built.
    pub padding: Option<PaddingRule>,
    /// See [`Classifier`].
    pub drop_copies: bool,
    pub holdout: usize,
    /// Epochs from one look at the scored images to the next; each epoch if left out.
    pub evaluate_every: Option<u64>,
    /// For all networks.
    pub recipe: Option<String>,
    /// By network, in place of `recipe`.
    pub own_recipe: BTreeMap<String, String>,
    /// Keys that the scale changes in whatever recipe it takes, such as the epochs of the common one.
    pub set: toml::Table,
    /// The same by network: of what it alone has otherwise, so that all are trained alike.
    pub set_of: BTreeMap<String, toml::Table>,
    /// Several recipes, each `recipe` with some keys changed; a cell of each is made.
    pub vary: Vec<Variation>,
    /// Of the design's; all of them if left out.
    pub networks: Vec<String>,
    /// In place of the design's.
    pub widths: Vec<f64>,
    pub seeds: Vec<u64>,
    /// By width, in place of `seeds`.
    pub seeds_at: Vec<SeedsAt>,
    /// By network, in place of both.
    pub seeds_of: BTreeMap<String, Vec<u64>>,
    /// Whose checkpoints are kept; none if left out.
    pub keep: Vec<Keep>,
    /// Checkpoints from elsewhere, to be scored and not trained.
    pub given: Vec<Given>,
}

/// A recipe's name and the keys that it changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    pub name: String,
    #[serde(default)]
    pub set: toml::Table,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedsAt {
    pub widths: Vec<f64>,
    pub seeds: Vec<u64>,
}

/// Cells whose checkpoints are kept: of these seeds and, if any are named, of these widths alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    pub seeds: KeptSeeds,
    #[serde(default)]
    pub widths: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptSeeds {
    First,
    All,
}

/// What a design compares.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// As `sandglass cost` takes it.
    pub network: String,
    /// What the paper calls it: a name, or what it varies.
    pub paper: String,
}

/// A study's own recipes by name; others come with the program (`workspace/train/recipes`).
pub type Recipes = BTreeMap<String, Recipe>;

/// What a design hands to [`ImageSetup::cells`].
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    pub networks: &'a [Variant],
    pub widths: &'a [f64],
    pub recipes: &'a Recipes,
}

impl ImageSetup {
    /// The cells of the scale in the order in which they are run: seed by seed, so that one seed of all networks is there
    /// first, and width by width.
    ///
    /// # Errors
    /// A recipe, network, input or width that there is not, or a protocol that contradicts itself.
    pub fn cells(&self, design: Compared<'_>) -> Result<Vec<Classifier>, StudyError> {
        let trains = self.data.is_some() && (self.recipe.is_some() || !self.own_recipe.is_empty());
        let has_seeds = !self.seeds.is_empty() || !self.seeds_at.is_empty() || !self.seeds_of.is_empty();
        let cells = match (trains, has_seeds, self.given.is_empty()) {
            (true, true, true) if self.padding.is_some() => {
                return Err(StudyError::refused("padding: what is trained here pads as its network is built"));
            }
            (true, true, true) => {
                self.check_names(design)?;
                self.trained(design)?
            }
            (false, false, false) if !self.set.is_empty() || !self.set_of.is_empty() || !self.vary.is_empty() => {
                return Err(StudyError::refused("set, set_of and vary change recipes: given checkpoints have none"));
            }
            (false, false, false) if self.data.is_none() => self.given()?,
            _ => return Err(StudyError::refused("needs either data, recipe and seeds, or given checkpoints")),
        };
        for cell in &cells {
            cell.madds().map_err(|error| StudyError::refused(format!("{cell}: {error}")))?;
        }
        Ok(cells)
    }

    /// What is named and is not there would otherwise do nothing, in silence.
    fn check_names(&self, design: Compared<'_>) -> Result<(), StudyError> {
        let refused = |message: String| Err(StudyError::refused(message));
        let widths = if self.widths.is_empty() { design.widths } else { &self.widths };
        let unknown = |all: &[f64], named: &[f64]| named.iter().find(|width| !all.contains(width)).copied();
        if let Some(width) = unknown(design.widths, &self.widths) {
            return refused(format!("widths: the design has no {width:?}"));
        }
        for keep in &self.keep {
            if let Some(width) = unknown(widths, &keep.widths) {
                return refused(format!("keep: there is no width {width:?}"));
            }
        }
        let listed: Vec<f64> = self.seeds_at.iter().flat_map(|at| at.widths.clone()).collect();
        if let Some(width) = unknown(widths, &listed) {
            return refused(format!("seeds_at: there is no width {width:?}"));
        }
        if let Some(width) = widths.iter().find(|width| listed.iter().filter(|other| other == width).count() > 1) {
            return refused(format!("seeds_at: width {width:?} is listed twice"));
        }
        let is_known = |name: &&String| design.networks.iter().any(|variant| variant.network == **name);
        let named: [(&str, Vec<&String>); 4] = [
            ("networks", self.networks.iter().collect()),
            ("own_recipe", self.own_recipe.keys().collect()),
            ("set_of", self.set_of.keys().collect()),
            ("seeds_of", self.seeds_of.keys().collect()),
        ];
        for (key, names) in named {
            if let Some(name) = names.into_iter().find(|name| !is_known(name)) {
                return refused(format!("{key}: the design has no network {name:?}"));
            }
        }
        for network in self.networks(design) {
            if let Some(width) = widths.iter().find(|&&width| self.seeds(network, width).is_empty()) {
                return refused(format!("{network}: width {width:?} has no seeds"));
            }
        }
        Ok(())
    }

    fn networks<'a>(&self, design: Compared<'a>) -> impl Iterator<Item = &'a String> {
        let all = design.networks.iter().map(|variant| &variant.network);
        all.filter(|network| self.networks.is_empty() || self.networks.contains(network))
    }

    fn trained(&self, design: Compared<'_>) -> Result<Vec<Classifier>, StudyError> {
        let widths = if self.widths.is_empty() { design.widths } else { &self.widths };
        let inputs = self.inputs();
        let data = self.data.clone().unwrap_or_default();
        let mut recipes = Vec::new();
        for network in self.networks(design) {
            for (name, recipe) in self.recipes(network, design.recipes)? {
                self.check(&recipe).map_err(|error| StudyError::refused(format!("recipe: {error}")))?;
                recipes.push((network, name, recipe));
            }
        }
        // Networks innermost: what is compared is there together.
        recipes
            .sort_by_key(|(_, name, _)| self.vary.iter().position(|variation| Some(&variation.name) == name.as_ref()));
        let mut cells = Vec::new();
        for &width in widths {
            for &input in inputs {
                for (network, name, recipe) in &recipes {
                    for &seed in self.seeds(network, width) {
                        let work = Work::Train(recipe.clone());
                        cells.push(Classifier {
                            shown: ShownAxes { input: input != self.input, recipe: name.clone() },
                            seed,
                            ..self.cell(network, width, input, &data, work)?
                        });
                    }
                }
            }
        }
        cells.sort_by_key(|cell| cell.seed);
        Ok(cells)
    }

    fn given(&self) -> Result<Vec<Classifier>, StudyError> {
        let cell = |given: &Given, input: usize| {
            let shown = ShownAxes { input: input != self.input, ..ShownAxes::default() };
            let cell = self.cell(&given.network, given.width, input, &given.data, Work::Score(given.clone()))?;
            Ok(Classifier { shown, ..cell })
        };
        let inputs = self.inputs();
        self.given.iter().flat_map(|given| inputs.iter().map(move |&input| cell(given, input))).collect()
    }

    fn inputs(&self) -> &[usize] {
        if self.inputs.is_empty() { std::slice::from_ref(&self.input) } else { &self.inputs }
    }

    /// A cell of seed 0.
    fn cell(&self, network: &str, width: f64, input: usize, data: &str, work: Work) -> Result<Classifier, StudyError> {
        let config: NetworkConfig = network.parse().map_err(StudyError::refused)?;
        let stem_stride = self.stem_stride.unwrap_or(config.stem_stride);
        Ok(Classifier {
            network: NetworkConfig { width, classes: self.classes, stem_stride, ..config },
            input,
            data: data.to_owned(),
            seed: 0,
            work,
            evaluation: self.protocol(input)?,
            padding: self.padding,
            drop_copies: self.drop_copies,
            holdout: self.holdout,
            evaluate_every: self.evaluate_every.unwrap_or(1),
            shown: ShownAxes::default(),
        })
    }

    fn protocol(&self, input: usize) -> Result<Protocol, StudyError> {
        let resize = match (self.crop_pct, self.evaluation.resize) {
            (Some(_), Some(_)) => return Err(StudyError::refused("crop_pct and evaluation.resize: use one of them")),
            (Some(share), None) if !(share > 0.0 && share <= 1.0) => {
                return Err(StudyError::refused(format!("crop_pct = {share}: use a share above 0, up to 1")));
            }
            (Some(share), None) => Some(short_side(input, share)),
            (None, resize) => resize,
        };
        let protocol = Protocol { resize, ..self.evaluation.clone() };
        protocol.check().map_err(StudyError::refused)?;
        Ok(protocol)
    }

    /// Recipes of a network; named where the profile has several.
    fn recipes(&self, network: &str, known: &Recipes) -> Result<Vec<(Option<String>, Recipe)>, StudyError> {
        let name = self.own_recipe.get(network).or(self.recipe.as_ref());
        let name = name.ok_or_else(|| StudyError::refused(format!("own_recipe has none for {network}")))?;
        let mut set = self.set.clone();
        if let Some(own) = self.set_of.get(network) {
            merge(&mut set, own);
        }
        varied(name, known, &set, &self.vary)
    }

    /// A crop of the padded image would follow a centre crop, of which no network has seen the border.
    fn check(&self, recipe: &Recipe) -> Result<(), String> {
        recipe.check().map_err(|error| error.to_string())?;
        let is_resized = self.crop_pct.is_some() || self.evaluation.resize.is_some();
        if is_resized && (recipe.augment.smallest_area == 0.0 || recipe.augment.pad_crop > 0) {
            return Err(
                "images of their own size are cropped by random areas: set augment.smallest_area, no pad_crop".into()
            );
        }
        Ok(())
    }

    /// Of a network at a width.
    pub fn seeds(&self, network: &str, width: f64) -> &[u64] {
        let of_width = || self.seeds_at.iter().find(|at| at.widths.contains(&width)).map(|at| &at.seeds);
        self.seeds_of.get(network).or_else(of_width).unwrap_or(&self.seeds)
    }

    /// Whether a cell's checkpoint is kept.
    pub fn keeps(&self, cell: &Classifier) -> bool {
        let first = self.seeds(&cell.network.to_string(), cell.network.width).first() == Some(&cell.seed);
        let matching = |keep: &&Keep| keep.widths.is_empty() || keep.widths.contains(&cell.network.width);
        let is_trained = matches!(cell.work, Work::Train(_));
        is_trained && self.keep.iter().filter(matching).any(|keep| keep.seeds == KeptSeeds::All || first)
    }
}

/// A recipe with the keys of `set` changed, and each variation of it by its name; without variations that recipe alone.
///
/// # Errors
/// A recipe that there is not, or that no training can use.
pub fn varied(
    name: &str,
    known: &Recipes,
    set: &toml::Table,
    vary: &[Variation],
) -> Result<Vec<(Option<String>, Recipe)>, StudyError> {
    let base = changed(&recipe(name, known)?, set)
        .map_err(|error| StudyError::refused(format!("set, recipe {name}: {error}")))?;
    if vary.is_empty() {
        return Ok(vec![(None, base)]);
    }
    let variation = |Variation { name: variation, set }: &Variation| {
        let wrong = |error| StudyError::refused(format!("variation {variation} of recipe {name}: {error}"));
        Ok((Some(variation.clone()), changed(&base, set).map_err(wrong)?))
    };
    vary.iter().map(variation).collect()
}

/// A recipe of the study, or one that comes with the program.
fn recipe(name: &str, known: &Recipes) -> Result<Recipe, StudyError> {
    if let Some(recipe) = known.get(name) {
        return Ok(recipe.clone());
    }
    let Some(text) = Recipe::built_in(name) else {
        let mut names: Vec<&str> = Recipe::built_in_names().collect();
        names.extend(known.keys().map(String::as_str));
        return Err(StudyError::refused(format!("no recipe {name:?}; there are {}", names.join(", "))));
    };
    Recipe::from_toml(text).map_err(|error| StudyError::refused(format!("recipe {name}: {error}")))
}

/// A recipe with some of its keys changed.
fn changed(recipe: &Recipe, set: &toml::Table) -> Result<Recipe, String> {
    let text = recipe.to_toml().map_err(|error| error.to_string())?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
    merge(&mut table, set);
    let text = toml::to_string(&table).map_err(|error| error.to_string())?;
    Recipe::from_toml(&text).map_err(|error| error.to_string())
}

/// Tables are merged key by key; whatever else is replaced.
fn merge(into: &mut toml::Table, from: &toml::Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}
