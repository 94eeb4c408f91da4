//! Training a detector, and its average precision.

use std::collections::BTreeSet;
use std::path::Path;

use sandglass_data::{DataError, DetectionSet, DetectionTransform, Loader, Protocol, Split, open_detection, open_voc};
use sandglass_detect::{ClassNames, Evaluation, Eye, ObjectDetection, Pretrained, Reading, ScoredImage, evaluate};
use sandglass_files::sha256_file;
use sandglass_infer::{Options, Plan};
use sandglass_lab::{Card, Job, Lab, find_weights, kept};
use sandglass_ledger::stats::resamples;
use sandglass_models::checkpoint::{self, Checkpoint};
use sandglass_models::{DetectorConfig, Graph, NetworkConfig, Weights};
use sandglass_study::{Artefact, CellError, Facts, Measurement, Project, Value};
use sandglass_train::unfold;

use crate::cell::{Cell, Start, Work};
use crate::kept::boxes;

/// What scores detectors: a compiled plan, of the same bits as the engine that trains.
pub(crate) const ENGINE: &str = "infer";

/// Images from whose statistics folded batch norms are taken apart.
const UNFOLD_IMAGES: usize = 64;

/// The file of a cell: trained in `folder`, going on from what lies there, or found below a data root.
pub(crate) fn prepare(lab: &Lab, project: &Project, cell: &Cell, folder: &Path) -> Result<Artefact, CellError> {
    let (on, start, recipe) = match &cell.work {
        Work::Score(given) => return find_weights(&given.weights, &given.sha256),
        Work::Train { on, start, recipe } => (*on, start, recipe),
    };
    let config = cell.config().map_err(CellError::failed)?;
    let lists: Vec<(&str, Split)> = cell.data.iter().map(|data| (data.as_str(), on)).collect();
    let training = open(&lists)?;
    let looked_at = scored(cell)?;
    let names = |set: &DetectionSet| (0..set.len()).map(|index| set.image_name(index)).collect::<BTreeSet<String>>();
    let shared = names(&training).intersection(&names(&looked_at)).count();
    if shared > 0 {
        let reason = format!("{}: {shared} of its images are scored, in {}", training.name(), looked_at.name());
        return Err(CellError::Skipped(reason));
    }
    let training = training.without_difficult();
    for (set, use_of_it) in [(&training, "learnt"), (&looked_at, "scored")] {
        if (0..set.len()).flat_map(|at| set.objects(at)).all(|object| object.difficult) {
            let reason = format!("{}: has no object that can be {use_of_it} (difficult ones are not)", set.name());
            return Err(CellError::Failed(reason));
        }
    }
    let pretrained = pretrained(lab, project, cell, (config, start), &training)?;
    let started_from = pretrained.as_ref().map(|from| from.hash.clone());
    let task = ObjectDetection::new(config, cell.input, cell.evaluation.clone(), pretrained);
    let task = task.map_err(CellError::failed)?;
    let card = card(cell, &training);
    let job = Job {
        name: cell.to_string(),
        task: &task,
        recipe,
        seed: cell.seed,
        evaluate_every: cell.evaluate_every,
        training: &training,
        looked_at: &looked_at,
        card,
    };
    let trained = lab.run(job, folder)?;
    let made_from = started_from
        .map_or_else(|| training.hash().to_owned(), |checkpoint| format!("{}+{checkpoint}", training.hash()));
    Ok(Artefact { made_from: Some(made_from), ..trained })
}

/// The classifier whose features a detector starts from; it must have seen images as the detector will.
fn pretrained(
    lab: &Lab,
    project: &Project,
    cell: &Cell,
    (config, start): (DetectorConfig, &Start),
    training: &DetectionSet,
) -> Result<Option<Pretrained>, CellError> {
    let file = match start {
        Start::Scratch => return Ok(None),
        Start::Folded { weights, sha256 } => find_weights(weights, sha256)?,
        Start::Kept(from) => {
            let place =
                cell.classifier().ok_or_else(|| CellError::Failed(format!("{from}: keeps no such classifier")))?;
            kept(&place, project)?
        }
    };
    let path = file.path;
    // The oldest checkpoints have no card, and were trained on the default's values; so were those from elsewhere.
    let card = Card::read(&path).map_err(CellError::failed)?;
    let of_classifier = card.map_or_else(Protocol::default, |card| card.evaluation);
    // The official detection code's mean is ImageNet's in whole bytes.
    let within_a_byte = |(a, b): (&f32, &f32)| (a - b).abs() < 1.0 / 255.0;
    let is_same = of_classifier.std == cell.evaluation.std
        && of_classifier.mean.iter().zip(&cell.evaluation.mean).all(within_a_byte);
    if !is_same {
        let reason = "its classifier was trained on another mean or standard deviation than the detector is fed";
        return Err(CellError::Failed(format!("{}: {reason}", path.display())));
    }
    let network = NetworkConfig { width: config.width, ..NetworkConfig::new(config.name.backbone()) };
    let mut checkpoint = Checkpoint::open(&path).map_err(CellError::failed)?;
    let fit = checkpoint.fit(network, None).map_err(CellError::failed)?;
    let weights = checkpoint.fitted(&fit).map_err(CellError::failed)?;
    let weights = match start {
        Start::Folded { .. } => {
            let graph = fit.graph(None).map_err(CellError::failed)?;
            unfolded(lab, cell, (&graph, &weights), training)?
        }
        _ => weights,
    };
    let hash = sha256_file(&path).map_err(CellError::failed)?;
    Ok(Some(Pretrained { weights, hash }))
}

/// With the statistics of the first training images.
fn unfolded(
    lab: &Lab,
    cell: &Cell,
    (graph, weights): (&Graph, &Weights),
    training: &DetectionSet,
) -> Result<Weights, CellError> {
    let transform = DetectionTransform::evaluation(cell.input, &cell.evaluation).map_err(CellError::failed)?;
    let batch = Loader::evaluation(training, transform, UNFOLD_IMAGES, 1).epoch(0, 0).next();
    let batch = batch.ok_or_else(|| CellError::Failed(format!("{}: has no image", training.name())))?;
    let images = batch.map_err(CellError::failed)?.images;
    let size = (cell.input, cell.input);
    unfold(lab.pool()?, graph, weights, &images, size).map_err(CellError::failed)
}

/// What a checkpoint must be scored with.
fn card(cell: &Cell, set: &DetectionSet) -> Card {
    Card {
        sha256: None,
        network: cell.network.clone(),
        width: cell.width,
        stem_stride: 2,
        input: Some(cell.input),
        classes: Some(set.classes().to_vec()),
        assumed: Vec::new(),
        evaluation: cell.evaluation.clone(),
    }
}

/// The images of the first set that are scored.
fn scored(cell: &Cell) -> Result<DetectionSet, CellError> {
    let first = cell.data.first().map_or("", String::as_str);
    open(&[(first, cell.score)])
}

fn open(lists: &[(&str, Split)]) -> Result<DetectionSet, CellError> {
    let set = match lists {
        [(what, split)] => open_detection(what, *split),
        lists => open_voc(lists),
    };
    set.map_err(|error| match error {
        error @ DataError::Nowhere { .. } => CellError::Skipped(error.to_string()),
        error => CellError::failed(error),
    })
}

/// Average precision by Pascal VOC's eleven points, in percent: the mean, each class, and the mean on images drawn anew,
/// from which whoever compares two detectors has paired intervals; the mean by two other protocols.
pub(crate) fn measure(lab: &Lab, cell: &Cell, file: &Artefact) -> Result<Measurement, CellError> {
    let config = cell.config().map_err(CellError::failed)?;
    let set = scored(cell)?;
    let (weights, trained) = match &cell.work {
        Work::Score(_) if Card::read(&file.path).map_err(CellError::failed)?.is_some() => {
            let reason = "a card lies beside it: it was trained here, and is none from elsewhere";
            return Err(CellError::Failed(format!("{}: {reason}", file.path.display())));
        }
        Work::Score(_) => (found(file, config)?, None),
        Work::Train { .. } => {
            let there = Card::read(&file.path).map_err(CellError::failed)?;
            if there.is_some_and(|there| !there.agrees(&card(cell, &set))) {
                let path = Card::beside(&file.path);
                return Err(CellError::Failed(format!("{}: is not the card of {cell}", path.display())));
            }
            let graph = config.build().map_err(CellError::failed)?.graph;
            (checkpoint::load(&file.path, graph.tensors()).map_err(CellError::failed)?, Some(&cell.evaluation))
        }
    };
    let named = if trained.is_some() { set.classes().to_vec() } else { Vec::new() };
    let classes = ClassNames::new(config, named).and_then(|names| names.in_set(&set)).map_err(CellError::failed)?;
    let eye = Eye::new(config.name, cell.input, trained).map_err(CellError::failed)?;
    let images = detect(lab, &set, (config, &weights), (&eye, cell.input), &classes)?;
    let counting = cell.counting().map_err(CellError::failed)?;
    let score = evaluate(&images, set.classes().len(), counting).map_err(CellError::failed)?;
    Ok(Measurement { boxes: Some(boxes(&set, cell.score, &images)?), ..values(&set, &score, file)? })
}

fn found(file: &Artefact, config: DetectorConfig) -> Result<Weights, CellError> {
    let fitted = Checkpoint::open(&file.path).and_then(|mut checkpoint| checkpoint.detector(config, None));
    Ok(fitted.map_err(CellError::failed)?.weights)
}

fn detect(
    lab: &Lab,
    set: &DetectionSet,
    (config, weights): (DetectorConfig, &Weights),
    (eye, side): (&Eye, usize),
    classes: &[Option<usize>],
) -> Result<Vec<ScoredImage>, CellError> {
    let graph = config.build().map_err(CellError::failed)?.graph;
    let reading = Reading::new(&config, (side, side)).map_err(CellError::failed)?;
    let plan = Plan::new(lab.pool()?, &graph, weights, (side, side), Options::default());
    let mut plan = plan.map_err(CellError::failed)?;
    let mut images = Vec::with_capacity(set.len());
    for index in 0..set.len() {
        let picture = set.picture(index).map_err(CellError::failed)?;
        let input = eye.read(&picture).map_err(CellError::failed)?;
        let outputs = plan.run(&input).map_err(CellError::failed)?;
        let maps: Vec<&[f32]> = (0..).map_while(|at| outputs.get(at)).collect();
        let found = reading.detections(&maps);
        let found = found.map_err(|error| CellError::Failed(format!("{}: {error}", set.image_name(index))))?;
        images.push(ScoredImage::of(set, index, found.into_iter().filter_map(|found| found.in_set(classes))));
    }
    Ok(images)
}

/// Where an image is drawn twice its objects are found together, and the interpolation lifts average precision: draws lie above
/// the value. They are moved so that their mean is it.
fn moved(mut drawn: Vec<(f64, f64)>, value: f64) -> Vec<(f64, f64)> {
    let mean = drawn.iter().map(|(_, drawn)| drawn).sum::<f64>() / drawn.len().max(1) as f64;
    drawn.iter_mut().for_each(|(_, drawn)| *drawn += value - mean);
    drawn
}

fn values(set: &DetectionSet, score: &Evaluation, file: &Artefact) -> Result<Measurement, CellError> {
    let n = set.len() as u64;
    let nothing = || CellError::Failed(format!("{}: has no object to be found", set.name()));
    let percent = |of: Option<f64>| Ok::<f64, CellError>(100.0 * of.ok_or_else(nothing)?);
    let map = percent(score.voc07.map)?;
    let mut values = vec![
        Value { samples: file.history.clone(), ..Value::exact("map", "%", map, n) },
        Value::exact("map_all_points", "%", percent(score.voc10.map)?, n),
        Value::exact("map_coco", "%", percent(score.coco_map())?, n),
    ];
    for ((name, ap), curve) in set.classes().iter().zip(&score.voc07.ap).zip(&score.curves) {
        if let Some(ap) = ap {
            let value = Value::exact("ap", "%", 100.0 * ap, curve.positives as u64);
            values.push(Value { part: Some(name.clone()), ..value });
        }
    }
    // A draw without any object has no mean; it would take one of few images.
    let drawn = resamples(set.len()).zip(1u32..);
    let drawn = drawn.filter_map(|(times, at)| Some((f64::from(at), 100.0 * score.drawn(&times)?)));
    values.push(Value { samples: moved(drawn.collect(), map), ..Value::exact("map_drawn", "%", map, n) });
    Ok(Measurement {
        data: Facts { hash: set.hash().to_owned(), synthetic: set.synthetic() },
        engine: Some(ENGINE.to_owned()),
        values,
        predictions: Vec::new(),
        boxes: None,
        summary: format!("mAP {map:.2} % on {n} images"),
    })
}
