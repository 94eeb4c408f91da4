//! What a checkpoint is worth under a scheme.

use sandglass_data::{Part, Transform};
use sandglass_lab::{Lab, calibration_images, score_model};
use sandglass_ledger::Prediction;
use sandglass_models::{PaddingRule, checkpoint};
use sandglass_ops::Runtime;
use sandglass_quant::{Calibration, Facts, Images, Model, Net, Scheme, bytes, leave_one_out, noise};
use sandglass_study::{Artefact, CellError, Facts as DataFacts, Measurement, Value, tell};

use crate::Scored;

/// The loops of `workspace/quant`, which are not those that train.
const ENGINE: &str = "quant";
/// All cells of a profile are calibrated on the same images.
const SEED: u64 = 0;

pub(crate) fn measure(
    lab: &Lab,
    cell: &Scored,
    file: &Artefact,
    engine: Option<&str>,
) -> Result<Measurement, CellError> {
    if let Some(other) = engine.filter(|engine| *engine != ENGINE) {
        return Err(CellError::Skipped(format!("engine {other} scored it, and this study has it not")));
    }
    let classes = cell.network.classes;
    let set = lab.data(&cell.data, Part::Validation, classes)?;
    let transform =
        Transform::evaluation(&set, classes, Some(cell.input), &cell.evaluation).map_err(CellError::failed)?;
    let (_, threads) = lab.runtime();
    let threads = threads as usize;
    let runtime = lab.pool()?;

    let graph = cell.network.build().map_err(CellError::failed)?;
    let graph = if cell.same_padding { graph.with_padding(PaddingRule::Same) } else { graph };
    let weights = checkpoint::load(&file.path, graph.tensors()).map_err(CellError::failed)?;
    let net = Net::new(&graph, &weights).map_err(CellError::failed)?;
    let was = std::fs::metadata(&file.path).map_err(CellError::failed)?.len();
    let (model, mut values) = match &cell.scheme {
        // A parameter is four bytes, whatever the file rounds it to.
        None => (Model::Float(net), vec![Value::exact("checkpoint_bytes", "bytes", was as f64, 1)]),
        Some(scheme) => {
            let net = scheme.shape(net);
            let training = lab.data(&cell.calibrate_on, Part::Train, classes)?;
            let transform = Transform::evaluation(&training, classes, Some(cell.input), &cell.evaluation);
            let most = cell.images.max(cell.noise_images);
            let (images, found) =
                calibration_images(&training, transform.map_err(CellError::failed)?, most, SEED, threads)
                    .map_err(CellError::failed)?;
            let len = images.len() / found.max(1);
            let first = |count: usize| Images {
                values: &images[..len * count.min(found)],
                height: cell.input,
                width: cell.input,
            };
            let calibration = scheme.calibrate(&runtime, &net, &first(cell.images)).map_err(CellError::failed)?;
            let (model, warnings) = Model::of(&net, &calibration, scheme).map_err(CellError::failed)?;
            for warning in calibration.warnings.iter().chain(&warnings) {
                tell(format_args!("{cell}: warning: {warning}"));
            }
            let mut values = Vec::new();
            if let Model::Integer(quantised) = &model {
                let facts = facts(cell, scheme, cell.images.min(found));
                let bytes = bytes(quantised, &facts).map_err(CellError::failed)?.len();
                values.push(Value::exact("bytes", "bytes", bytes as f64, 1));
                if cell.noise_images > 0 {
                    let images = first(cell.noise_images);
                    let noise = noise(&runtime, &net, quantised, &images).map_err(CellError::failed)?;
                    values.extend(of_layers(noise, cell.noise_images.min(found) as u64));
                }
            }
            if cell.leave_one_out {
                values.extend(costs(&runtime, &net, &calibration, scheme, &first(cell.images), found)?);
            }
            (model, values)
        }
    };

    let size = transform.size();
    let score = score_model(&model, &runtime, size, lab.batches(&set, transform)?).map_err(CellError::failed)?;
    let n = score.n;
    values.splice(
        0..0,
        [
            Value::exact("top1", "%", score.top1(), n),
            Value::exact("top5", "%", score.top5(), n),
            Value::exact("top1_count", "images", score.top1_count as f64, n),
            Value::exact("top5_count", "images", score.top5_count as f64, n),
        ],
    );
    let prediction =
        |(at, &prediction): (usize, &u32)| Prediction { name: set.image_name(at), label: set.label(at), prediction };
    Ok(Measurement {
        data: DataFacts { hash: set.hash().to_owned(), synthetic: set.synthetic() },
        engine: Some(ENGINE.to_owned()),
        values,
        predictions: score.predictions.iter().enumerate().map(prediction).collect(),
        boxes: None,
        summary: format!("{} of {n} images right", score.top1_count),
    })
}

fn facts(cell: &Scored, scheme: &Scheme, calibrated_on: usize) -> Facts {
    Facts {
        network: cell.network.to_string(),
        width: cell.network.width,
        classes: cell.network.classes,
        stem_stride: cell.network.stem_stride,
        same_padding: cell.same_padding,
        scheme: scheme.clone(),
        calibrated_on,
    }
}

/// Signal to noise of every map, and the pairs that 16 bits do not hold.
fn of_layers(noise: sandglass_quant::Noise, images: u64) -> Vec<Value> {
    let mut values = Vec::new();
    for map in noise {
        let part = Some(map.map);
        // A map without noise has no number of decibels.
        if map.sqnr.is_finite() {
            values.push(Value { part: part.clone(), ..Value::exact("sqnr", "dB", map.sqnr, images) });
        }
        if let Some((count, of)) = map.saturated {
            values.push(Value { part: part.clone(), ..Value::exact("saturated_pairs", "pairs", count as f64, images) });
            values.push(Value { part, ..Value::exact("pairs", "pairs", of as f64, images) });
        }
    }
    values
}

/// Signal to noise at the scores with each layer in f32 in turn, and of the whole.
fn costs(
    runtime: &Runtime,
    net: &Net,
    calibration: &Calibration,
    scheme: &Scheme,
    images: &Images,
    found: usize,
) -> Result<Vec<Value>, CellError> {
    let all = leave_one_out(runtime, net, calibration, scheme, images).map_err(CellError::failed)?;
    let value = |(layer, sqnr): (String, f64)| Value {
        part: (!layer.is_empty()).then_some(layer),
        ..Value::exact("score_sqnr", "dB", sqnr, found as u64)
    };
    Ok(all.into_iter().filter(|(_, sqnr)| sqnr.is_finite()).map(value).collect())
}
