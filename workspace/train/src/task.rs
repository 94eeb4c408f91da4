//! What a network is trained for. The loop knows steps, epochs and states; a task knows images, losses and scores.

use std::sync::atomic::AtomicBool;

use sandglass_data::{Dataset, DetectionAugment, Examples, Loader, Protocol, Transform};
use sandglass_models::{Graph, NetworkConfig, Weights};

use crate::evaluate::evaluate_until;
use crate::{Engine, Identity, Outputs, Recipe, TrainError, cross_entropy, initialise};

/// What comes with an image of a task's sets.
pub type LabelOf<T> = <<T as Task>::Set as Examples>::Label;

/// How an image of a task's sets comes into a batch.
pub type TransformOf<T> = <<T as Task>::Set as Examples>::Transform;

/// Everything about a run that is not the loop's.
pub trait Task {
    /// Images, each with what the network is to say of it.
    type Set: Examples;

    /// The network, with what drops while it trains.
    ///
    /// # Errors
    /// A network that cannot be built.
    fn graph(&self, recipe: &Recipe) -> Result<Graph, TrainError>;

    /// What makes a run this run, besides input, recipe, seed and data: named facts. One that is added later is left out
    /// while it is at its default, so that a state of an older program stays resumable.
    fn facts(&self) -> Identity;

    /// How images come to the network while it trains.
    ///
    /// # Errors
    /// Images that it is not for, or a recipe with a part that it has no use for.
    fn training(&self, set: &Self::Set, recipe: &Recipe) -> Result<TransformOf<Self>, TrainError>;

    /// How they come while it is looked at; `size` is what it trains on.
    ///
    /// # Errors
    /// Images that it is not for.
    fn evaluation(&self, set: &Self::Set, size: (usize, usize)) -> Result<TransformOf<Self>, TrainError>;

    /// The weights that training starts from.
    ///
    /// # Errors
    /// Weights from elsewhere that are not the network's.
    fn start(&self, graph: &Graph, seed: u64) -> Result<Weights, TrainError> {
        Ok(initialise(graph.tensors(), seed))
    }

    /// The loss of a batch.
    ///
    /// # Errors
    /// Outputs or labels that are no such network's.
    fn loss(&self, outputs: Outputs, labels: &[LabelOf<Self>], recipe: &Recipe) -> Result<BatchLoss, TrainError>;

    /// What the log says of the network after an epoch; None where `stop` came to be set.
    ///
    /// # Errors
    /// An image that cannot be read, or outputs that are no numbers.
    fn look(
        &self,
        engine: &mut Engine,
        weights: &Weights,
        images: &Loader<Self::Set>,
        stop: &AtomicBool,
    ) -> Result<Option<Seen>, TrainError>;
}

/// Of a batch in training mode.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLoss {
    /// What is made small.
    pub mean: f64,
    /// Its gradient, by output of the graph.
    pub gradients: Vec<Vec<f32>>,
    /// Images that were named right, where naming is the task.
    pub correct: Option<u64>,
}

/// What the log says of a whole set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Mean over the images.
    pub loss: f64,
    /// Percent of the images that are named right.
    pub top1: Option<f64>,
    /// Mean average precision, in percent.
    pub map: Option<f64>,
}

/// To name what an image shows: cross-entropy of the logits.
#[derive(Clone, Debug)]
pub struct Classification {
    pub network: NetworkConfig,
    /// Height and width of the network's input; None: the images' own.
    pub input: Option<usize>,
    /// How images come to the network: normalisation while it trains, and all of it where it is evaluated.
    pub protocol: Protocol,
}

impl Task for Classification {
    type Set = Dataset;

    fn graph(&self, recipe: &Recipe) -> Result<Graph, TrainError> {
        Ok(recipe.trained(self.network.build_with_drop_connect(recipe.drop_connect)?))
    }

    fn facts(&self) -> Identity {
        let network = &self.network;
        let facts = [
            ("network", network.to_string()),
            ("width", network.width.to_string()),
            ("classes", network.classes.to_string()),
            ("stem stride", network.stem_stride.to_string()),
        ];
        let mut facts = facts.map(|(name, value)| (name.to_string(), value)).to_vec();
        let normalisation = |protocol: &Protocol| format!("mean {:?}, std {:?}", protocol.mean, protocol.std);
        let ours = normalisation(&self.protocol);
        if ours != normalisation(&Protocol::default()) {
            facts.push(("normalisation".into(), ours));
        }
        facts
    }

    fn training(&self, set: &Dataset, recipe: &Recipe) -> Result<Transform, TrainError> {
        recipe.leaves_out("a classifier", &[("detection", recipe.detection != DetectionAugment::default())])?;
        set.check_labels(self.network.classes)?;
        Ok(Transform::training(set, &recipe.augment, self.input, &self.protocol)?)
    }

    fn evaluation(&self, set: &Dataset, (height, width): (usize, usize)) -> Result<Transform, TrainError> {
        set.check_labels(self.network.classes)?;
        let input = Some(height).filter(|_| height == width);
        Ok(Transform::evaluation(set, self.network.classes, input, &self.protocol)?)
    }

    fn loss(&self, outputs: Outputs, labels: &[u32], recipe: &Recipe) -> Result<BatchLoss, TrainError> {
        let loss = cross_entropy(&outputs.one()?, labels, self.network.classes, recipe.label_smoothing)?;
        Ok(BatchLoss { mean: loss.mean, gradients: vec![loss.gradient], correct: Some(loss.correct as u64) })
    }

    fn look(
        &self,
        engine: &mut Engine,
        weights: &Weights,
        images: &Loader,
        stop: &AtomicBool,
    ) -> Result<Option<Seen>, TrainError> {
        let score = evaluate_until(&mut (engine, weights), images, stop)?;
        Ok(score.map(|score| Seen { loss: score.loss, top1: Some(score.top1()), map: None }))
    }
}
