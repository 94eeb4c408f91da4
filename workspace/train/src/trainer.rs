//! The loop: steps, epochs, evaluation, and the state from which the same command goes on.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandglass_data::{Examples, Loader};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_models::{TensorSpec, Weights};
use sandglass_ops::Runtime;

use crate::disk::RealDisk;
use crate::evaluate::percent;
use crate::state::{Entry, Record, State, encode};
use crate::store::{Store, StoreError};
use crate::{
    Engine, Identity, LabelOf, LogRow, Moment, Observer, Optimizer, Progress, Recipe, Task, TrainError, clip_scale,
    drop_factors, gradient_norm,
};

const MODEL: &str = "model.safetensors";
const LOG: &str = "log.jsonl";
const RECIPE: &str = "recipe.toml";

/// A run of a [`Task`]. Recipe and seed decide its bits; the rest does not.
#[derive(Clone, Debug)]
pub struct TrainConfig {
    pub recipe: Recipe,
    /// Of the first weights, the order of images, augmentation and dropout.
    pub seed: u64,
    /// Of the kernels, and as many that load images.
    pub threads: usize,
    /// Folder for the state, `recipe.toml`, `log.jsonl` and, in the end, `model.safetensors`.
    pub out: PathBuf,
    /// How often the state is saved within an epoch; it is saved after every epoch anyway.
    pub save_every: Duration,
    /// Epochs from one evaluation to the next; the last epoch is always evaluated.
    pub evaluate_every: u64,
    /// Commit of this program; the state lists every one that had a part in it.
    pub commit: String,
}

/// How a call of [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This call took its last step.
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
    /// Wall time of all processes that trained it, evaluation included.
    pub seconds: f64,
    /// Commits of all programs that trained it, oldest first.
    pub made_by: Vec<String>,
    /// Where `model.safetensors` is, or will be.
    pub model: PathBuf,
}

/// Trains on `training`, going on from what lies in `config.out`, and ends with `model.safetensors` there. `evaluation`
/// is looked at after epochs for the log; nothing depends on what is seen. A broken image of a set that is streamed ends
/// the run, named, when its batch comes; other sets were refused when they were opened. `stop` is looked at after every step.
///
/// # Errors
/// A recipe that the task or the network has no use for; a folder that cannot be written, is another run's or in use; a
/// damaged state; images that cannot be read; and numbers that are not finite, before they reach the state.
pub fn train<T: Task>(
    task: &T,
    config: &TrainConfig,
    training: &T::Set,
    evaluation: Option<&T::Set>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Trained, TrainError> {
    config.recipe.check()?;
    let network = task.graph(&config.recipe)?;
    let batch = config.recipe.batch;
    let transform = task.training(training, &config.recipe)?;
    let loader = Loader::training(training, transform, batch, config.seed, config.threads)?;
    let (height, width) = loader.size();
    let evaluation = evaluation.map(|set| {
        let transform = task.evaluation(set, (height, width))?;
        let loader = Loader::evaluation(set, transform, batch, config.threads);
        Ok::<_, TrainError>(Evaluated { name: set.name().to_string(), hash: set.hash().to_string(), loader })
    });
    let evaluation = evaluation.transpose()?;

    let folder = |source| TrainError::Folder { path: config.out.clone(), source };
    fs::create_dir_all(&config.out).map_err(folder)?;
    let lock = File::create(config.out.join("lock")).map_err(folder)?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => TrainError::Busy(config.out.clone()),
        fs::TryLockError::Error(source) => folder(source),
    })?;

    let identity = identity(task.facts(), config, training.hash(), (height, width))?;
    let store = Store::new(&RealDisk, &config.out);
    let start = Parts::new(config, task.start(&network, config.seed)?);
    let Parts { weights, optimizer, average, mut record } = match store.load()? {
        Some(state) => start.restored(state, &identity, config)?,
        None => Parts { record: Record { identity, ..Record::default() }, ..start },
    };
    if record.made_by.is_empty() && record.updates > 0 {
        // A state from before commits were listed.
        record.made_by.push("unknown".into());
    }
    if record.made_by.last() != Some(&config.commit) && record.epoch < config.recipe.epochs {
        record.made_by.push(config.commit.clone());
    }
    store.replace(RECIPE, config.recipe.to_toml()?.as_bytes())?;
    let runtime = Arc::new(Runtime::new(config.threads)?);
    let engine = Engine::new(runtime, &network, height, width, batch)?;
    let decay = weights.specs.iter().map(|spec| config.recipe.decay(spec.role)).collect();
    let steps = loader.batches();
    let run = Run {
        task,
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
        clock: Instant::now(),
    };
    run.go(observer, stop)
}

/// What a state belongs to. Threads, instruction set and evaluation are not in it: they change no bit.
fn identity(
    task: Identity,
    config: &TrainConfig,
    data: &str,
    (height, width): (usize, usize),
) -> Result<Identity, TrainError> {
    let facts = [
        ("input", format!("{height}x{width}")),
        ("epochs", config.recipe.epochs.to_string()),
        ("batch", config.recipe.batch.to_string()),
        ("seed", config.seed.to_string()),
        ("recipe", config.recipe.hash()?),
        ("data", data.to_string()),
    ];
    Ok(task.into_iter().chain(facts.map(|(name, value)| (name.to_string(), value))).collect())
}

/// All that a state holds.
struct Parts {
    weights: Weights,
    optimizer: Optimizer,
    average: Option<Weights>,
    record: Record,
}

impl Parts {
    fn new(config: &TrainConfig, weights: Weights) -> Self {
        let average = config.recipe.ema.map(|_| weights.clone());
        let sizes = |spec: &TensorSpec| if spec.role.is_trained() { spec.len() } else { 0 };
        let sizes: Vec<usize> = weights.specs.iter().map(sizes).collect();
        let optimizer = Optimizer::new(config.recipe.optimizer.clone(), &sizes);
        Self { weights, optimizer, average, record: Record::default() }
    }

    /// With what a state holds in their place; an error where it is another run's.
    fn restored(mut self, mut state: State, identity: &Identity, config: &TrainConfig) -> Result<Self, TrainError> {
        let theirs = &state.record.identity;
        let added = theirs.iter().filter(|(name, _)| identity.iter().all(|(ours, _)| ours != name));
        let value = |facts: &Identity, name: &str| {
            let fact = facts.iter().find(|(key, _)| key == name);
            fact.map_or("unknown".into(), |(_, value)| value.chars().take(16).collect::<String>())
        };
        let differences: Vec<String> = identity
            .iter()
            .chain(added)
            .filter(|fact| !(identity.contains(fact) && theirs.contains(fact)))
            .map(|(name, _)| format!("{name} {} there, {} here", value(theirs, name), value(identity, name)))
            .collect();
        if !differences.is_empty() {
            return Err(TrainError::OtherRun { path: config.out.clone(), differences });
        }
        let names: Vec<String> = self.weights.specs.iter().map(|spec| spec.name.clone()).collect();
        let mut groups = vec![("weights", &mut self.weights.values), ("momentum", &mut self.optimizer.momentum)];
        groups.push(("square", &mut self.optimizer.square));
        groups.extend(self.average.as_mut().map(|average| ("average", &mut average.values)));
        for (group, values) in groups {
            for (name, values) in names.iter().zip(values).filter(|(_, values)| !values.is_empty()) {
                let tensor = format!("{group}/{name}");
                match state.tensors.remove(&tensor) {
                    Some(stored) if stored.len() == values.len() => *values = stored,
                    _ => return Err(TrainError::Lacks { path: config.out.clone(), tensor }),
                }
            }
        }
        self.record = state.record;
        if self.record.wall == 0.0 {
            // A state from before this was counted: what its log knows.
            let seconds = |line: &String| serde_json::from_str::<LogRow>(line).map_or(0.0, |row| row.seconds);
            self.record.wall = self.record.seconds + self.record.log.iter().map(seconds).sum::<f64>();
        }
        Ok(self)
    }
}

/// Images to look at after epochs, and what the log calls them.
struct Evaluated<T: Task> {
    name: String,
    hash: String,
    loader: Loader<T::Set>,
}

struct Run<'a, T: Task> {
    task: &'a T,
    config: &'a TrainConfig,
    loader: Loader<T::Set>,
    evaluation: Option<Evaluated<T>>,
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
    /// Since when time is not yet in the record.
    clock: Instant,
}

impl<T: Task> Run<'_, T> {
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
        let is_due =
            row.epoch == self.config.recipe.epochs || row.epoch.is_multiple_of(self.config.evaluate_every.max(1));
        if let Some(Evaluated { name, hash, loader }) = self.evaluation.as_ref().filter(|_| is_due) {
            let weights = self.average.as_ref().unwrap_or(&self.weights);
            let Some(seen) = self.task.look(&mut self.engine, weights, loader, stop)? else { return Ok(false) };
            row.evaluated = Some(name.clone());
            row.evaluated_hash = Some(hash.clone());
            row.eval_loss = Some(seen.loss);
            row.eval_top1 = seen.top1;
            row.eval_map = seen.map;
        }
        let epoch = std::mem::take(&mut self.record);
        self.record = Record {
            epoch: epoch.epoch + 1,
            identity: epoch.identity,
            updates: epoch.updates,
            log: epoch.log,
            wall: epoch.wall,
            made_by: epoch.made_by,
            ..Record::default()
        };
        self.record.log.push(serde_json::to_string(&row).map_err(|error| TrainError::Log(error.to_string()))?);
        self.save()?;
        self.write_log()?;
        observer.epoch(&row);
        Ok(true)
    }

    fn step(&mut self, images: &[f32], labels: &[LabelOf<T>]) -> Result<(), TrainError> {
        let Self { task, config, engine, weights, record, .. } = self;
        let recipe = &config.recipe;
        let non_finite = |what: String| TrainError::NonFinite { what, epoch: record.epoch + 1, step: record.step + 1 };

        let moment = Moment { seed: config.seed, epoch: record.epoch, step: record.step };
        let drops = drop_factors(engine.drops(), labels.len(), recipe.dropout, moment);
        let outputs = engine.forward(weights, images, drops.as_deref())?;
        let loss = task.loss(outputs, labels, recipe)?;
        if !loss.mean.is_finite() {
            return Err(non_finite("the loss".into()));
        }
        let of_outputs: Vec<&[f32]> = loss.gradients.iter().map(Vec::as_slice).collect();
        let gradients = engine.backward(weights, &of_outputs)?;
        if let Some(at) = gradients.iter().position(|gradient| gradient.iter().any(|g| !g.is_finite())) {
            return Err(non_finite(format!("the gradient of {}", weights.specs[at].name)));
        }
        let scale = recipe.clip_grad_norm.map_or(1.0, |most| clip_scale(gradient_norm(gradients), most));
        let lr = recipe.lr_at(record.epoch, record.step as usize, self.steps);
        self.optimizer.step(&mut weights.values, gradients, &self.decay, scale, lr);

        record.updates += 1;
        record.step += 1;
        record.loss_bits = (f64::from_bits(record.loss_bits) + loss.mean).to_bits();
        record.correct = loss.correct.map(|correct| record.correct.unwrap_or(0) + correct);
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
            train_top1: correct.map(|correct| percent(correct, images)),
            evaluated: None,
            evaluated_hash: None,
            eval_loss: None,
            eval_top1: None,
            eval_map: None,
            images_per_s: if seconds > 0.0 { images as f64 / seconds } else { 0.0 },
            seconds,
        }
    }

    /// Never saves what cannot be gone on from.
    fn save(&mut self) -> Result<(), TrainError> {
        self.record.wall += std::mem::replace(&mut self.clock, Instant::now()).elapsed().as_secs_f64();
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
            checkpoint::save(&trained.model, &trained.weights, SaveType::F32)?;
        }
        Ok(trained)
    }

    fn trained(self, outcome: Outcome) -> Result<Trained, TrainError> {
        let read = |line: &String| serde_json::from_str(line).map_err(|error| TrainError::Log(error.to_string()));
        let log = self.record.log.iter().map(read).collect::<Result<_, _>>()?;
        let weights = self.average.unwrap_or(self.weights);
        let (seconds, made_by) = (self.record.wall, self.record.made_by);
        Ok(Trained { outcome, weights, log, seconds, made_by, model: self.config.out.join(MODEL) })
    }
}

fn same_bits(a: &Weights, b: &Weights) -> bool {
    let bits = |weights: &Weights| weights.values.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>();
    bits(a) == bits(b)
}

#[cfg(test)]
mod tests {
    use sandglass_data::Protocol;
    use sandglass_models::{NetworkConfig, NetworkName};

    use super::*;
    use crate::Classification;

    /// Stored runs go on only while these words stay.
    #[test]
    fn a_runs_identity_keeps_its_words() {
        let network = NetworkConfig { classes: 10, ..NetworkConfig::new(NetworkName::MobileNetV2) };
        let recipe = Recipe::from_toml(Recipe::built_in("smoke").unwrap()).unwrap();
        let hash = recipe.hash().unwrap();
        let config = TrainConfig {
            recipe,
            seed: 3,
            threads: 1,
            out: PathBuf::new(),
            save_every: Duration::MAX,
            evaluate_every: 1,
            commit: "c0ffee".into(),
        };
        let words = |protocol: Protocol| {
            let facts = Classification { network, input: None, protocol }.facts();
            let identity = identity(facts, &config, "d1ce", (32, 32)).unwrap();
            identity.into_iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>()
        };
        let recipe = format!("recipe {hash}");
        let (network, rest) = (
            ["network mobilenetv2", "width 1", "classes 10", "stem stride 2"],
            ["input 32x32", "epochs 4", "batch 32", "seed 3", &recipe, "data d1ce"],
        );
        assert_eq!(words(Protocol::default()), [&network[..], &rest].concat());
        // What was added later is there only where it is not at its default.
        let other = words(Protocol { mean: [0.5; 3], ..Protocol::default() });
        assert_eq!(other.iter().filter(|word| word.starts_with("normalisation ")).count(), 1);
    }
}
