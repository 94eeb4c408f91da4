//! How a detector is trained: the official detection code's start and loss, on our engine.

use std::sync::atomic::{AtomicBool, Ordering};

use sandglass_data::{Augment, DetectionSet, DetectionTransform, Loader, Object, Protocol};
use sandglass_models::{Detector, DetectorConfig, Graph, Weights};
use sandglass_train::{
    BatchLoss, Engine, Identity, Outputs, Recipe, Seen, Task, TrainError, initialise, xavier_uniform,
};

use crate::{Counting, DetectError, MultiBox, Reading, ScoredImage, evaluate};

/// The classifier that a detector's backbone comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Pretrained {
    /// Of a classifier on the same backbone.
    pub weights: Weights,
    /// What its file is known by, such as its SHA-256: another file is another run.
    pub hash: String,
}

/// To find objects in images of one size: MultiBox loss of a detector's maps (SSD, section 2.2).
#[derive(Clone, Debug)]
pub struct ObjectDetection {
    config: DetectorConfig,
    detector: Detector,
    reading: Reading,
    input: usize,
    protocol: Protocol,
    pretrained: Option<Pretrained>,
}

impl ObjectDetection {
    /// Of inputs of `input` x `input`, whose mean and standard deviation are the protocol's: those that a pretrained backbone
    /// was trained on.
    ///
    /// # Errors
    /// A detector that is not trained here, or an input that it does not take.
    pub fn new(
        config: DetectorConfig,
        input: usize,
        protocol: Protocol,
        pretrained: Option<Pretrained>,
    ) -> Result<Self, DetectError> {
        if config.name.is_tf() {
            return Err(DetectError::NotTrained(config.name.name()));
        }
        let (detector, reading) = (config.build()?, Reading::new(&config, (input, input))?);
        Ok(Self { config, detector, reading, input, protocol, pretrained })
    }

    fn check_classes(&self, set: &DetectionSet) -> Result<(), TrainError> {
        let (expected, found) = (self.config.classes - 1, set.classes().len());
        match expected == found {
            true => Ok(()),
            false => Err(foreign(DetectError::Classes { set: set.name().to_owned(), expected, found })),
        }
    }

    fn multibox(&self, outputs: &Outputs, labels: &[Vec<Object>]) -> Result<BatchLoss, DetectError> {
        let (mut wanted, mut numbers) = (Vec::new(), Vec::new());
        for objects in labels {
            let objects: Vec<(usize, [f32; 4])> = objects.iter().map(|of| (of.class as usize, of.bounds)).collect();
            let (labels, targets) = self.reading.targets(&objects)?;
            wanted.extend(labels);
            numbers.extend(targets);
        }
        let (confidence, locations) = self.reading.gather(&maps(outputs), labels.len())?;
        let multibox = MultiBox::new(self.config.classes);
        let priors = self.reading.priors().len();
        match multibox.loss(priors, (&confidence, &locations), (&wanted, &numbers)) {
            Ok(loss) => {
                let gradients = (loss.confidence_gradient.as_slice(), loss.location_gradient.as_slice());
                let gradients = self.reading.scatter(gradients, labels.len())?;
                Ok(BatchLoss { mean: loss.total(), gradients, correct: None })
            }
            // The loop says at which step, and what may help.
            Err(DetectError::NotFinite(_)) => Ok(BatchLoss { mean: f64::NAN, gradients: Vec::new(), correct: None }),
            Err(error) => Err(error),
        }
    }
}

fn maps(outputs: &Outputs) -> Vec<&[f32]> {
    outputs.0.iter().map(Vec::as_slice).collect()
}

fn foreign(error: DetectError) -> TrainError {
    TrainError::Foreign(Box::new(error))
}

impl Task for ObjectDetection {
    type Set = DetectionSet;

    fn graph(&self, recipe: &Recipe) -> Result<Graph, TrainError> {
        Ok(recipe.trained(self.detector.graph.clone()))
    }

    fn facts(&self) -> Identity {
        let DetectorConfig { width, classes, .. } = self.config;
        let Protocol { mean, std, interpolation, .. } = self.protocol;
        let started = self.pretrained.as_ref().map_or("nothing", |from| &from.hash);
        let facts = [
            ("network", self.config.to_string()),
            ("width", width.to_string()),
            ("classes", classes.to_string()),
            ("started from", started.to_owned()),
            ("normalisation", format!("mean {mean:?}, std {std:?}")),
        ];
        let mut facts = facts.map(|(name, value)| (name.to_owned(), value)).to_vec();
        // Only where it is another: states from before there was a choice have none.
        if interpolation != Protocol::default().interpolation {
            facts.push(("interpolation".to_owned(), format!("{interpolation:?}")));
        }
        facts
    }

    /// Objects that are difficult are learnt like others: [`DetectionSet::without_difficult`] leaves them out.
    fn training(&self, set: &DetectionSet, recipe: &Recipe) -> Result<DetectionTransform, TrainError> {
        let unused = [
            ("augment", recipe.augment != Augment::default()),
            ("label_smoothing", recipe.label_smoothing != 0.0),
            ("dropout", recipe.dropout != 0.0),
            ("drop_connect", recipe.drop_connect != 0.0),
        ];
        recipe.leaves_out("a detector", &unused)?;
        self.check_classes(set)?;
        Ok(DetectionTransform::training(self.input, &recipe.detection, &self.protocol)?)
    }

    fn evaluation(&self, set: &DetectionSet, _: (usize, usize)) -> Result<DetectionTransform, TrainError> {
        self.check_classes(set)?;
        Ok(DetectionTransform::evaluation(self.input, &self.protocol)?)
    }

    /// Heads by Xavier's rule, the rest as a classifier's; then the backbone's features, where it is pretrained.
    fn start(&self, graph: &Graph, seed: u64) -> Result<Weights, TrainError> {
        let mut weights = initialise(graph.tensors(), seed);
        xavier_uniform(&mut weights, seed, |name| name.starts_with("box_head."));
        if let Some(Pretrained { weights: classifier, .. }) = &self.pretrained {
            self.detector.take_backbone(&mut weights, classifier)?;
        }
        Ok(weights)
    }

    fn loss(&self, outputs: Outputs, labels: &[Vec<Object>], _: &Recipe) -> Result<BatchLoss, TrainError> {
        self.multibox(&outputs, labels).map_err(foreign)
    }

    /// Average precision by Pascal VOC's eleven points; the loss leaves difficult objects out, as training does, and is each
    /// batch's, by its own objects, weighed by its images.
    fn look(
        &self,
        engine: &mut Engine,
        weights: &Weights,
        images: &Loader<DetectionSet>,
        stop: &AtomicBool,
    ) -> Result<Option<Seen>, TrainError> {
        let set = images.set();
        let (mut sum, mut found) = (0.0, Vec::with_capacity(set.len()));
        for batch in images.epoch(0, 0) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let batch = batch?;
            let outputs = engine.evaluate(weights, &batch.images)?;
            let easy = |objects: &Vec<Object>| objects.iter().copied().filter(|object| !object.difficult).collect();
            let easy: Vec<Vec<Object>> = batch.labels.iter().map(easy).collect();
            sum += self.multibox(&outputs, &easy).map_err(foreign)?.mean * easy.len() as f64;
            for (at, &index) in batch.indices.iter().enumerate() {
                let of_image = |map: &&[f32]| {
                    let each = map.len() / easy.len();
                    at * each..(at + 1) * each
                };
                let maps: Vec<&[f32]> = maps(&outputs).into_iter().map(|map| &map[of_image(&map)]).collect();
                let detections = self.reading.detections(&maps).map_err(foreign)?;
                found.push(ScoredImage::of(set, index as usize, detections));
            }
        }
        let scored = evaluate(&found, set.classes().len(), Counting::Edges).map_err(foreign)?;
        let loss = sum / set.len().max(1) as f64;
        Ok(Some(Seen { loss, top1: None, map: scored.voc07.map.map(|map| 100.0 * map) }))
    }
}
