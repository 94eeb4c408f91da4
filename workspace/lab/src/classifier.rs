//! A classifier that is trained or found, and the images that it is scored on: the cell of most studies.

use std::fmt;

use sandglass_data::Protocol;
use sandglass_models::{Graph, ModelError, NetworkConfig, PaddingRule};
use sandglass_study::{Axes, Headline};
use sandglass_train::Recipe;
use serde::{Deserialize, Serialize};

/// A network, its data, its seed, and what is done with them. As JSON it is what its hash is made of: the network's
/// facts and the keys up to `work` are always written, in this order; the others only where they are not at their
/// default.
#[derive(Clone, Debug, Serialize)]
pub struct Classifier {
    #[serde(flatten)]
    pub network: NetworkConfig,
    /// Height and width of the network's input.
    pub input: usize,
    /// Data set as `sandglass_data::open` takes it.
    pub data: String,
    pub seed: u64,
    pub work: Work,
    /// How images are scored.
    #[serde(skip_serializing_if = "is_default")]
    pub evaluation: Protocol,
    /// Of the given weights' network; None: its own, as what is trained here has.
    #[serde(skip_serializing_if = "is_default")]
    pub padding: Option<PaddingRule>,
    /// Training images that a validation image repeats under another label are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub drop_copies: bool,
    /// So many training images are held back and scored in place of the validation images.
    #[serde(skip_serializing_if = "is_default")]
    pub holdout: usize,
    /// Epochs from one look at the scored images to the next; changes no bit.
    #[serde(skip)]
    pub evaluate_every: u64,
    #[serde(skip)]
    pub shown: ShownAxes,
}

/// Axes that are not at their profile's default, and so show in the id.
#[derive(Clone, Debug, Default)]
pub struct ShownAxes {
    pub input: bool,
    /// The name of the recipe, where a profile has several.
    pub recipe: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Train, write the checkpoint, score it.
    Train(Recipe),
    /// Score a checkpoint from elsewhere.
    Score(Given),
}

/// A checkpoint from elsewhere and the images to score it on; both lie below a data root.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    pub network: String,
    pub width: f64,
    pub weights: String,
    pub sha256: String,
    pub data: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Classifier {
    /// The network that is scored.
    ///
    /// # Errors
    /// As [`NetworkConfig::build`].
    pub fn graph(&self) -> Result<Graph, ModelError> {
        let graph = self.network.build()?;
        Ok(match self.padding {
            Some(rule) => graph.with_padding(rule),
            None => graph,
        })
    }

    pub const HEADLINE: Headline = Headline { metric: "top1", title: "top-1 (%)", counted: "images" };

    /// Multiply-adds for one image.
    ///
    /// # Errors
    /// The network cannot be built, or cannot take the input.
    pub fn madds(&self) -> Result<u64, ModelError> {
        Ok(self.network.build()?.cost(self.input, self.input)?.madds_total)
    }
}

impl fmt::Display for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-w{:?}", self.network, self.network.width)?;
        if self.shown.input {
            write!(f, "-i{}", self.input)?;
        }
        match &self.work {
            Work::Train(_) => write!(f, "-s{}", self.seed)?,
            Work::Score(given) => write!(f, "-{}", given.data.rsplit('/').next().unwrap_or(&given.data))?,
        }
        match &self.shown.recipe {
            Some(recipe) => write!(f, "-{recipe}"),
            None => Ok(()),
        }
    }
}

impl Axes for Classifier {
    fn axes(&self) -> Vec<(&'static str, String)> {
        let mut axes = vec![
            ("network", self.network.to_string()),
            ("width", format!("{:?}", self.network.width)),
            ("input", self.input.to_string()),
            ("classes", self.network.classes.to_string()),
        ];
        axes.extend(self.shown.recipe.clone().map(|recipe| ("recipe", recipe)));
        axes
    }

    fn dataset(&self) -> String {
        match self.holdout {
            0 => self.data.clone(),
            count => format!("{} (development split of {count} training images)", self.data),
        }
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
