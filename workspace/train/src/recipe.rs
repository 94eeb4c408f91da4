//! A recipe: everything that decides how a network is trained, but for the network, the data and the seed.

use sandglass_data::{Augment, DetectionAugment};
use sandglass_files::{TomlError, from_toml};
use sandglass_models::{Graph, Role};
use serde::{Deserialize, Serialize};

use crate::{Ema, OptimizerConfig, Schedule};

/// One recipe serves every network: what differs between two rows of a table is the network alone.
///
/// The keys below are always part of [`Recipe::hash`]. One that is added later carries
/// `skip_serializing_if` and is left out while it is at its default, so that no older row or state becomes another
/// recipe's by it; a test pins the hashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images per step; the last partial batch of an epoch is dropped.
    pub batch: usize,
    /// The schedule's highest learning rate, for this batch.
    pub lr: f64,
    /// On the weights of convolutions and of the classifier; never on batch norms and biases.
    #[serde(default)]
    pub weight_decay: f64,
    /// Whether depthwise weights are decayed too; MobileNetV2's authors do not.
    #[serde(default)]
    pub decay_depthwise: bool,
    /// Share of a target that is spread over all classes alike.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Share of the pooled features that is dropped before the classifier.
    #[serde(default)]
    pub dropout: f64,
    /// Share of the images whose branch is dropped in the last block, growing from 0 at the first; of networks that have a
    /// place for it (EfficientNet's).
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop_connect: f64,
    /// Share of a step's statistics in the running ones of all batch norms; unset: the network's own. That of networks from
    /// TensorFlow is 0.01, for schedules of thousands of steps: in short ones, whose weights move fast, statistics of a hundred
    /// steps ago are another network's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm_momentum: Option<f64>,
    /// Largest norm of all gradients together.
    #[serde(default)]
    pub clip_grad_norm: Option<f64>,
    pub optimizer: OptimizerConfig,
    pub schedule: SchedulePlan,
    /// If set, the averaged weights are what is evaluated and saved.
    #[serde(default)]
    pub ema: Option<Ema>,
    #[serde(default)]
    pub augment: Augment,
    /// Of images with objects in boxes, in place of `augment`: a detector's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub detection: DetectionAugment,
}

/// A [`Schedule`] as a recipe states it: in epochs, from `lr` on, ending with the recipe's last epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SchedulePlan {
    /// Changes at every step.
    LinearWarmupCosine {
        warmup_epochs: f64,
        #[serde(default)]
        min_lr: f64,
    },
    /// Changes at every epoch, as timm's does; the last `cooldown_epochs` are at `min_lr`.
    TimmCosine { warmup_epochs: f64, warmup_lr: f64, min_lr: f64, cooldown_epochs: f64 },
    /// Changes at every epoch.
    TimmStep { decay_epochs: f64, decay_rate: f64, warmup_epochs: f64, warmup_lr: f64 },
    /// Changes at every step.
    SsdWarmupMultistep { milestone_epochs: Vec<f64>, gamma: f64, warmup_factor: f64, warmup_epochs: f64 },
    /// Changes at every step.
    SsdWarmupCosine { warmup_factor: f64, warmup_epochs: f64 },
}

/// Why a recipe is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecipeError {
    #[error(transparent)]
    Toml(#[from] TomlError),
    #[error("the recipe cannot be written: {0}")]
    Unwritable(String),
    #[error("{key} = {value}: use {allowed}")]
    Value { key: &'static str, value: f64, allowed: &'static str },
    #[error("{key}: {whose} has no use for it; leave it out")]
    Useless { key: &'static str, whose: &'static str },
}

/// A key that was added later is left out of what is hashed while it is at its default.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const MAX_EPOCHS: u64 = 100_000;

/// The recipes that come with the program.
const BUILT_IN: [(&str, &str); 9] = [
    ("smoke", include_str!("../recipes/smoke.toml")),
    ("cifar10", include_str!("../recipes/cifar10.toml")),
    ("imagewoof", include_str!("../recipes/imagewoof.toml")),
    ("tiny-imagenet", include_str!("../recipes/tiny-imagenet.toml")),
    ("imagenet", include_str!("../recipes/imagenet.toml")),
    ("imagenet-official", include_str!("../recipes/imagenet-official.toml")),
    ("imagenet-se", include_str!("../recipes/imagenet-se.toml")),
    ("voc", include_str!("../recipes/voc.toml")),
    ("voc-official", include_str!("../recipes/voc-official.toml")),
];

impl Recipe {
    /// Reads and checks a recipe file's text.
    ///
    /// # Errors
    /// The first mistake of the text, with its line, or what [`Recipe::check`] finds.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = from_toml(text)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The text of a recipe that comes with the program.
    pub fn built_in(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// What [`Recipe::built_in`] knows.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Whether every value is one that a training can use.
    ///
    /// # Errors
    /// The first that is not, and what is allowed in its place.
    pub fn check(&self) -> Result<(), RecipeError> {
        let error = |key, value, allowed| Err(RecipeError::Value { key, value, allowed });
        if !(1..=MAX_EPOCHS).contains(&self.epochs) {
            return error("epochs", self.epochs as f64, "1 to 100000");
        }
        if self.batch == 0 {
            return error("batch", 0.0, "1 or more");
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return error("lr", self.lr, "a number above 0");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return error("weight_decay", self.weight_decay, "0 or more");
        }
        for (key, value) in
            [("label_smoothing", self.label_smoothing), ("dropout", self.dropout), ("drop_connect", self.drop_connect)]
        {
            if !(0.0..1.0).contains(&value) {
                return error(key, value, "0 up to, not including, 1");
            }
        }
        if let Some(momentum) = self.norm_momentum.filter(|momentum| !(*momentum > 0.0 && *momentum <= 1.0)) {
            return error("norm_momentum", momentum, "a number above 0, up to 1, or leave it out");
        }
        if let Some(norm) = self.clip_grad_norm.filter(|norm| norm.is_nan() || *norm <= 0.0) {
            return error("clip_grad_norm", norm, "a number above 0, or leave it out");
        }
        if let Some(ema) = self.ema.filter(|ema| !(0.0..=1.0).contains(&ema.decay)) {
            return error("ema.decay", ema.decay, "0 to 1");
        }
        let momentum = match self.optimizer {
            OptimizerConfig::Sgd { momentum, .. } | OptimizerConfig::RmspropTf { momentum, .. } => momentum,
        };
        if !(0.0..1.0).contains(&momentum) {
            return error("momentum", momentum, "0 up to, not including, 1");
        }
        let mut rates = (0..self.epochs).map(|epoch| self.lr_at(epoch, 0, 1));
        if let Some(lr) = rates.find(|lr| !(*lr >= 0.0 && lr.is_finite())) {
            return error("learning rate of the schedule", lr, "numbers that keep it at 0 or more");
        }
        Ok(())
    }

    /// The network as it is trained by this recipe.
    #[must_use]
    pub fn trained(&self, graph: Graph) -> Graph {
        match self.norm_momentum {
            Some(momentum) => graph.with_norm_momentum(momentum as f32),
            None => graph,
        }
    }

    /// An error for the first of these keys that is set, for it would do nothing, in silence.
    ///
    /// # Errors
    /// See there.
    pub fn leaves_out(&self, whose: &'static str, keys: &[(&'static str, bool)]) -> Result<(), RecipeError> {
        match keys.iter().find(|(_, is_set)| *is_set) {
            Some(&(key, _)) => Err(RecipeError::Useless { key, whose }),
            None => Ok(()),
        }
    }

    /// Hex BLAKE3 of [`Recipe::canonical`]: two texts that mean the same have one hash.
    ///
    /// # Errors
    /// As [`Recipe::canonical`].
    pub fn hash(&self) -> Result<String, RecipeError> {
        Ok(blake3::hash(self.canonical()?.as_bytes()).to_hex().to_string())
    }

    /// All values as JSON, in the order of the struct.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn canonical(&self) -> Result<String, RecipeError> {
        serde_json::to_string(self).map_err(|error| RecipeError::Unwritable(error.to_string()))
    }

    /// All values as a recipe file.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(|error| RecipeError::Unwritable(error.to_string()))
    }

    /// The weight decay of a tensor.
    pub fn decay(&self, role: Role) -> f32 {
        let decayed = match role {
            Role::ConvWeight | Role::LinearWeight => true,
            Role::DepthwiseWeight => self.decay_depthwise,
            _ => false,
        };
        if decayed { self.weight_decay as f32 } else { 0.0 }
    }

    /// The learning rate of step `step` of epoch `epoch`, both from 0, where an epoch has `steps` steps.
    pub fn lr_at(&self, epoch: u64, step: usize, steps: usize) -> f64 {
        let (schedule, per_step) = self.schedule(steps as f64);
        let t = if per_step { (epoch as usize * steps + step) as f64 } else { epoch as f64 };
        schedule.at(t)
    }

    /// The schedule, and whether its unit is the step (else the epoch).
    fn schedule(&self, steps: f64) -> (Schedule, bool) {
        let (base, epochs) = (self.lr, self.epochs as f64);
        match self.schedule {
            SchedulePlan::LinearWarmupCosine { warmup_epochs, min_lr } => {
                let (warmup, total) = (warmup_epochs * steps, epochs * steps);
                (Schedule::LinearWarmupCosine { base, min: min_lr, warmup, total }, true)
            }
            SchedulePlan::TimmCosine { warmup_epochs, warmup_lr, min_lr, cooldown_epochs } => (
                Schedule::TimmCosine {
                    base,
                    t_initial: epochs - cooldown_epochs,
                    lr_min: min_lr,
                    warmup_t: warmup_epochs,
                    warmup_lr_init: warmup_lr,
                    warmup_prefix: false,
                },
                false,
            ),
            SchedulePlan::TimmStep { decay_epochs, decay_rate, warmup_epochs, warmup_lr } => (
                Schedule::TimmStep {
                    base,
                    decay_t: decay_epochs,
                    decay_rate,
                    warmup_t: warmup_epochs,
                    warmup_lr_init: warmup_lr,
                    warmup_prefix: false,
                },
                false,
            ),
            SchedulePlan::SsdWarmupMultistep { ref milestone_epochs, gamma, warmup_factor, warmup_epochs } => {
                let milestones = milestone_epochs.iter().map(|epoch| epoch * steps).collect();
                let warmup_iters = warmup_epochs * steps;
                (Schedule::SsdWarmupMultistep { base, milestones, gamma, warmup_factor, warmup_iters }, true)
            }
            SchedulePlan::SsdWarmupCosine { warmup_factor, warmup_epochs } => {
                let (max_iter, warmup_iters) = (epochs * steps, warmup_epochs * steps);
                (Schedule::SsdWarmupCosine { base, max_iter, warmup_factor, warmup_iters }, true)
            }
        }
    }
}
