//! The loop: steps, epochs, evaluation, and the state from which the same command goes on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use safetensors::SafeTensorError;
use sandglass_data::{Dataset, Loader, Transform};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{Graph, NetworkConfig, Weights};
use sandglass_ops::Runtime;
use serde_json::Value;

use crate::disk::RealDisk;
use crate::evaluate::{evaluate_until, percent};
use crate::state::{Entry, Identity, Record, State, encode};
use crate::store::{Store, StoreError};
use crate::{
    Engine, LogRow, Observer, Optimizer, Progress, Recipe, TrainError, clip_scale, cross_entropy, dropout_factors,
    gradient_norm, initialise,
};

const MODEL: &str = "model.safetensors";
const LOG: &str = "log.jsonl";

/// A run. Everything but `threads`, `save_every` and the folder's place decides its bits.
#[derive(Clone, Debug)]
pub struct TrainConfig {
    pub network: NetworkConfig,
    pub recipe: Recipe,
    /// Height and width of the network's input; None: the images' own.
    pub input: Option<usize>,
    pub seed: u64,
    pub threads: usize,
    /// Folder for the state, `log.jsonl` and, in the end, `model.safetensors`.
    pub out: PathBuf,
    /// How often the state is saved within an epoch; it is saved after every epoch anyway.
    pub save_every: Duration,
}

/// How a call of [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// It was so before this call.
    AlreadyFinished,
    /// The stop flag was set; the state is saved.
    Stopped,
}

/// What is there after a call of [`train`].
#[derive(Clone, Debug)]
pub struct Trained {
    pub outcome: Outcome,
    /// The averaged ones if the recipe has an EMA; those of `model.safetensors` where the run is finished.
    pub weights: Weights,
    /// One row per whole epoch, from the first.
    pub log: Vec<LogRow>,
    /// Where `model.safetensors` is, or will be.
    pub model: PathBuf,
}

/// Trains on `training`, going on from what lies in `config.out`, and ends with `model.safetensors` there. `evaluation`
/// is scored after every epoch for the log; nothing depends on the score. A broken image of a set that is streamed ends
/// the run, named, when its batch comes; other sets were refused when they were opened. `stop` is looked at after every step.
pub fn train(
    config: &TrainConfig,
    training: &Dataset,
    evaluation: Option<&Dataset>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Trained, TrainError> {
    config.recipe.check()?;
    let network = config.network.build()?;
    training.check_labels(config.network.classes)?;
    let transform = Transform::training(training, &config.recipe.augment, config.input)?;
    let (height, width) = transform.size();
    let batch = config.recipe.batch;
    let loader = Loader::training(training, transform, batch, config.seed, config.threads)?;
    let evaluation = evaluation.map(|set| {
        set.check_labels(config.network.classes)?;
        let transform = Transform::evaluation(set, config.network.classes, Some(height).filter(|_| height == width))?;
        Ok::<_, TrainError>((set.name().to_string(), Loader::evaluation(set, transform, batch, config.threads)))
    });
    let evaluation = evaluation.transpose()?;

    let folder = |source| TrainError::Folder { path: config.out.clone(), source };
    fs::create_dir_all(&config.out).map_err(folder)?;
    let lock = File::create(config.out.join("lock")).map_err(folder)?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => TrainError::Busy(config.out.clone()),
        fs::TryLockError::Error(source) => folder(source),
    })?;

    let identity = identity(config, training, (height, width)).map_err(StoreError::from)?;
    let store = Store::new(&RealDisk, &config.out);
    let (weights, optimizer, average, record) = match store.load()? {
        Some(state) => restore(state, &identity, config, &network)?,
        None => fresh(identity, config, &network),
    };
    let runtime = Arc::new(Runtime::new(config.threads)?);
    let engine = Engine::new(runtime, &network, height, width, batch)?;
    let decay = weights.specs.iter().map(|spec| config.recipe.decay(spec.role)).collect();
    let steps = loader.batches();
    let run = Run {
        config,
        loader,
        evaluation,
        store,
        engine,
        weights,
        optimizer,
        average,
        decay,
        record,
        steps,
        saved: Instant::now(),
    };
    run.go(observer, stop)
}

/// What a state belongs to. Threads, instruction set and evaluation are not in it: they change no bit.
fn identity(
    config: &TrainConfig,
    training: &Dataset,
    (height, width): (usize, usize),
) -> Result<Identity, SafeTensorError> {
    let network: serde_json::Map<String, Value> = serde_json::from_value(serde_json::to_value(config.network)?)?;
    let network = network.into_iter().map(|(name, value)| (name.replace('_', " "), in_words(&value)));
    let run = [
        ("input", format!("{height}x{width}")),
        ("epochs", config.recipe.epochs.to_string()),
        ("batch", config.recipe.batch.to_string()),
        ("seed", config.seed.to_string()),
        ("recipe", config.recipe.hash()),
        ("data", training.hash().to_string()),
    ];
    Ok(network.chain(run.map(|(name, value)| (name.to_string(), value))).collect())
}

/// As states have always held it: text without quotes, a whole number without a point.
fn in_words(value: &Value) -> String {
    match (value, value.as_f64()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(number)) => number.to_string(),
        _ => value.to_string(),
    }
}

type Parts = (Weights, Optimizer, Option<Weights>, Record);

fn fresh(identity: Identity, config: &TrainConfig, network: &Graph) -> Parts {
    let weights = initialise(network.tensors(), config.seed);
    let average = config.recipe.ema.map(|_| weights.clone());
    let optimizer = Optimizer::new(config.recipe.optimizer.clone(), &sizes(&weights));
    (weights, optimizer, average, Record { identity, ..Record::default() })
}

fn sizes(weights: &Weights) -> Vec<usize> {
    weights.specs.iter().map(|spec| if spec.role.is_trained() { spec.len() } else { 0 }).collect()
}

/// The parts that a state holds; an error where it is another run's.
fn restore(mut state: State, identity: &Identity, config: &TrainConfig, network: &Graph) -> Result<Parts, TrainError> {
    let theirs = &state.record.identity;
    let differences = identity.iter().filter_map(|(name, ours)| {
        let theirs = theirs.iter().find(|(key, _)| key == name).map_or("unknown", |(_, value)| value);
        let short = |value: &str| value.chars().take(16).collect::<String>();
        (theirs != ours).then(|| format!("{name} {} there, {} here", short(theirs), short(ours)))
    });
    let differences: Vec<String> = differences.collect();
    if !differences.is_empty() {
        return Err(TrainError::OtherRun { path: config.out.clone(), differences });
    }
    let (mut weights, mut optimizer, mut average, _) = fresh(Identity::new(), config, network);
    let names: Vec<String> = weights.specs.iter().map(|spec| spec.name.clone()).collect();
    let mut groups = vec![("weights", &mut weights.values), ("momentum", &mut optimizer.momentum)];
    groups.push(("square", &mut optimizer.square));
    groups.extend(average.as_mut().map(|average| ("average", &mut average.values)));
    for (group, values) in groups {
        for (name, values) in names.iter().zip(values).filter(|(_, values)| !values.is_empty()) {
            let tensor = format!("{group}/{name}");
            match state.tensors.remove(&tensor) {
                Some(stored) if stored.len() == values.len() => *values = stored,
                _ => return Err(TrainError::Lacks { path: config.out.clone(), tensor }),
            }
        }
    }
    Ok((weights, optimizer, average, state.record))
}

struct Run<'a> {
    config: &'a TrainConfig,
    loader: Loader,
    /// A name for the log, and the images.
    evaluation: Option<(String, Loader)>,
    store: Store<'a>,
    engine: Engine,
    weights: Weights,
    optimizer: Optimizer,
    average: Option<Weights>,
    /// Weight decay of every tensor.
    decay: Vec<f32>,
    record: Record,
    /// Of an epoch.
    steps: usize,
    saved: Instant,
}

impl Run<'_> {
    fn go(mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Trained, TrainError> {
        self.write_log()?;
        let epochs = self.config.recipe.epochs;
        if self.record.epoch >= epochs {
            return self.finish(Outcome::AlreadyFinished);
        }
        observer.started(&self.progress());
        while self.record.epoch < epochs {
            if !self.epoch(observer, stop)? {
                self.save()?;
                return self.trained(Outcome::Stopped);
            }
        }
        self.finish(Outcome::Finished)
    }

    /// The rest of the running epoch; false where `stop` came to be set.
    fn epoch(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<bool, TrainError> {
        let mut started = Instant::now();
        for batch in self.loader.epoch(self.record.epoch, self.record.step as usize) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let batch = batch?;
            self.step(&batch.images, &batch.labels)?;
            self.record.seconds += started.elapsed().as_secs_f64();
            observer.step(&self.progress());
            if self.saved.elapsed() >= self.config.save_every {
                self.save()?;
            }
            started = Instant::now();
        }
        let mut row = self.row();
        if let Some((name, loader)) = &self.evaluation {
            let weights = self.average.as_ref().unwrap_or(&self.weights);
            let Some(score) = evaluate_until(&mut self.engine, weights, loader, stop)? else { return Ok(false) };
            row.evaluated = Some(name.clone());
            row.eval_loss = Some(score.loss);
            row.eval_top1 = Some(score.top1());
        }
        let epoch = std::mem::take(&mut self.record);
        self.record = Record {
            epoch: epoch.epoch + 1,
            identity: epoch.identity,
            updates: epoch.updates,
            log: epoch.log,
            ..Record::default()
        };
        self.record.log.push(serde_json::to_string(&row).unwrap_or_default());
        self.save()?;
        self.write_log()?;
        observer.epoch(&row);
        Ok(true)
    }

    fn step(&mut self, images: &[f32], labels: &[u32]) -> Result<(), TrainError> {
        let Self { config, engine, weights, record, .. } = self;
        let recipe = &config.recipe;
        let non_finite = |what: String| TrainError::NonFinite { what, epoch: record.epoch + 1, step: record.step + 1 };

        let count = labels.len() * engine.dropout_len();
        let dropout = (recipe.dropout > 0.0)
            .then(|| dropout_factors(config.seed, record.epoch, record.step, count, recipe.dropout));
        let logits = engine.forward(weights, images, dropout.as_deref())?.one()?;
        let loss = cross_entropy(&logits, labels, config.network.classes, recipe.label_smoothing)?;
        if !loss.mean.is_finite() {
            return Err(non_finite("the loss".into()));
        }
        let gradients = engine.backward(weights, &[&loss.gradient])?;
        if let Some(at) = gradients.iter().position(|gradient| gradient.iter().any(|g| !g.is_finite())) {
            return Err(non_finite(format!("the gradient of {}", weights.specs[at].name)));
        }
        let scale = recipe.clip_grad_norm.map_or(1.0, |most| clip_scale(gradient_norm(gradients), most));
        let lr = recipe.lr_at(record.epoch, record.step as usize, self.steps);
        self.optimizer.step(&mut weights.values, gradients, &self.decay, scale, lr);

        record.updates += 1;
        record.step += 1;
        record.loss_bits = (f64::from_bits(record.loss_bits) + loss.mean).to_bits();
        record.correct += loss.correct as u64;
        if let (Some(ema), Some(average)) = (recipe.ema, &mut self.average) {
            ema.update(&mut average.values, &weights.values, record.updates);
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress {
            epoch: self.record.epoch,
            epochs: self.config.recipe.epochs,
            step: self.record.step as usize,
            steps: self.steps,
            batch: self.config.recipe.batch,
            loss: f64::from_bits(self.record.loss_bits) / self.record.step.max(1) as f64,
        }
    }

    fn row(&self) -> LogRow {
        let Record { epoch, step, correct, seconds, .. } = self.record;
        let images = step * self.config.recipe.batch as u64;
        LogRow {
            epoch: epoch + 1,
            lr: self.config.recipe.lr_at(epoch, self.steps - 1, self.steps),
            train_loss: self.progress().loss,
            train_top1: percent(correct, images),
            evaluated: None,
            eval_loss: None,
            eval_top1: None,
            images_per_s: if seconds > 0.0 { images as f64 / seconds } else { 0.0 },
            seconds,
        }
    }

    /// Never saves what cannot be gone on from.
    fn save(&mut self) -> Result<(), TrainError> {
        let average = self.average.as_ref().map(|average| ("average", &average.values));
        let optimizer = [("momentum", &self.optimizer.momentum), ("square", &self.optimizer.square)];
        let groups = [("weights", &self.weights.values)].into_iter().chain(optimizer).chain(average);
        let entries: Vec<Entry<'_>> = groups
            .flat_map(|(group, values)| {
                self.weights.specs.iter().zip(values).filter(|(_, values)| !values.is_empty()).map(
                    move |(spec, values)| (format!("{group}/{}", spec.name), spec.shape.as_slice(), values.as_slice()),
                )
            })
            .collect();
        if let Some((what, ..)) = entries.iter().find(|(.., values)| values.iter().any(|value| !value.is_finite())) {
            let (epoch, step) = (self.record.epoch + 1, self.record.step);
            return Err(TrainError::NonFinite { what: what.clone(), epoch, step });
        }
        self.store.save(&encode(&self.record, &entries).map_err(StoreError::from)?)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// The log is the state's, so that no row is ever missing or there twice.
    fn write_log(&self) -> Result<(), TrainError> {
        let text: String = self.record.log.iter().map(|line| format!("{line}\n")).collect();
        Ok(self.store.replace(LOG, text.as_bytes())?)
    }

    fn finish(self, outcome: Outcome) -> Result<Trained, TrainError> {
        let trained = self.trained(outcome)?;
        let whole = checkpoint::load(&trained.model, trained.weights.specs.clone());
        if !whole.is_ok_and(|there| same_bits(&there, &trained.weights)) {
            checkpoint::save(&trained.model, &trained.weights, SaveType::F32, &BTreeMap::new())?;
        }
        Ok(trained)
    }

    fn trained(self, outcome: Outcome) -> Result<Trained, TrainError> {
        let log = self.record.log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let weights = self.average.unwrap_or(self.weights);
        Ok(Trained { outcome, weights, log, model: self.config.out.join(MODEL) })
    }
}

fn same_bits(a: &Weights, b: &Weights) -> bool {
    let bits = |weights: &Weights| weights.values.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>();
    bits(a) == bits(b)
}

#[cfg(test)]
mod tests {
    use sandglass_data::Part;
    use sandglass_models::NetworkName;

    use super::*;

    /// Stored runs go on only while these words stay.
    #[test]
    fn a_runs_identity_keeps_its_words() {
        let network = NetworkConfig { classes: 10, ..NetworkConfig::new(NetworkName::MobileNetV2) };
        let recipe = Recipe::from_toml(Recipe::built_in("smoke").unwrap()).unwrap();
        let (out, save_every) = (PathBuf::new(), Duration::MAX);
        let config = TrainConfig { network, recipe, input: None, seed: 3, threads: 1, out, save_every };
        let set = sandglass_data::open("embedded", Part::Train, Some(10)).unwrap();
        let facts = identity(&config, &set, (32, 32)).unwrap();
        let words: Vec<String> = facts.iter().take(5).map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(words, ["network mobilenetv2", "width 1", "classes 10", "stem stride 2", "input 32x32"]);
    }
}
