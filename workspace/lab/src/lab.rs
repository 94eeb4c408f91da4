//! Training and scoring on this machine.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sandglass_data::{
    Batch, DataError, Dataset, Examples, Hub, Loader, Part, RepoKind, Transform, data_roots, find_data,
};
use sandglass_files::sha256_file;
use sandglass_ledger::Prediction;
use sandglass_models::Weights;
use sandglass_models::checkpoint::{self, CheckpointError, SaveType};
use sandglass_ops::{Isa, Runtime};
use sandglass_study::{Again, Artefact, Build, CellError, Facts, Listed, Measurement, StudyError, Value, tell};
use sandglass_train::{
    Classification, LogRow, Observer, Outcome, Recipe, Task, TrainConfig, TrainError, evaluate, train,
};

use crate::{Card, Classifier, EngineName, Given, Signal, Work};

/// Images that are scored together.
pub const BATCH: usize = 64;

/// A cell that is killed loses at most so much, or an epoch where that is less.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Bytes up to which the decoded images of a set are kept for the next cell: Imagewoof at 128 pixels takes 0.8 GB.
const KEPT_IMAGES: usize = 1 << 30;

/// The seed of every development split: all cells of a search are scored on the same images.
const SPLIT_SEED: u64 = 0;

/// What is scored, rounded to f16 as it is kept.
const MODEL: &str = "model.f16.safetensors";

/// All cores.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Trains and scores classifiers.
pub struct Lab {
    threads: usize,
    isa: Isa,
    commit: String,
    runtime: OnceCell<Arc<Runtime>>,
    /// Data sets that cells share, by name, part and number of classes.
    opened: RefCell<BTreeMap<(String, Part, usize), Dataset>>,
    /// The images that were scored last.
    decoded: RefCell<Option<Decoded>>,
    signal: OnceCell<Signal>,
}

/// Decoded images, batch by batch.
pub type Batches = Box<dyn Iterator<Item = Result<Rc<Batch>, DataError>>>;

/// The images of a set of this hash, as this transform makes them.
struct Decoded {
    of: (String, Transform),
    batches: Vec<Rc<Batch>>,
}

/// The training of a cell.
pub struct Job<'a, T: Task> {
    /// For whoever watches it.
    pub name: String,
    pub task: &'a T,
    pub recipe: &'a Recipe,
    pub seed: u64,
    /// Epochs from one look to the next.
    pub evaluate_every: u64,
    pub training: &'a T::Set,
    /// For the log alone.
    pub looked_at: &'a T::Set,
    /// What the checkpoint must be scored with.
    pub card: Card,
}

/// What a cell trains on, and what it is scored on.
struct Sets {
    training: Dataset,
    scored: Dataset,
    /// Training images that were left out as copies.
    copies: Vec<String>,
}

impl Lab {
    /// On `threads` threads, or on all cores.
    ///
    /// # Errors
    /// An instruction set that this machine has not.
    pub fn new(threads: Option<usize>, build: &Build) -> Result<Self, StudyError> {
        Ok(Self {
            threads: threads.unwrap_or_else(default_threads),
            isa: Isa::from_env().map_err(StudyError::refused)?,
            commit: build.named(),
            runtime: OnceCell::new(),
            opened: RefCell::default(),
            decoded: RefCell::default(),
            signal: OnceCell::new(),
        })
    }

    /// Name of the instruction set, and threads.
    pub fn runtime(&self) -> (String, u64) {
        (self.isa.name().to_owned(), self.threads as u64)
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads, started when they are first asked for.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn pool(&self) -> Result<Arc<Runtime>, CellError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime.clone());
        }
        let runtime = Arc::new(Runtime::with_isa(self.threads, self.isa).map_err(CellError::failed)?);
        Ok(self.runtime.get_or_init(|| runtime).clone())
    }

    /// From the first training on, signals save and stop; until then they end the program as usual.
    fn signal(&self) -> Result<&Signal, CellError> {
        if let Some(signal) = self.signal.get() {
            return Ok(signal);
        }
        let signal = Signal::listen().map_err(CellError::failed)?;
        Ok(self.signal.get_or_init(|| signal))
    }

    /// The file of a cell: trained in `folder`, going on from what lies there, or found below a data root.
    ///
    /// # Errors
    /// `Skipped` where data or weights are not at hand or have no validation part, `Interrupted` by a signal.
    pub fn prepare(&self, cell: &Classifier, folder: &Path) -> Result<Artefact, CellError> {
        match &cell.work {
            Work::Train(recipe) => self.train(cell, recipe, folder),
            Work::Score(given) => given.find(),
        }
    }

    fn train(&self, cell: &Classifier, recipe: &Recipe, folder: &Path) -> Result<Artefact, CellError> {
        let sets = self.sets(cell)?;
        let shared = match sets.scored.knows_bytes() && sets.training.knows_bytes() {
            true => sets.scored.shared_with(&sets.training).map_err(CellError::failed)?,
            false => 0,
        };
        if shared > 0 {
            tell(format_args!("{cell}: {shared} of the images that are scored are training images too"));
        }
        if !sets.copies.is_empty() {
            tell(format_args!(
                "{cell}: left out of training, for a validation image repeats them: {}",
                sets.copies.join(", ")
            ));
        }
        let task = Classification { network: cell.network, input: Some(cell.input), protocol: cell.evaluation.clone() };
        let job = Job {
            name: cell.to_string(),
            task: &task,
            recipe,
            seed: cell.seed,
            evaluate_every: cell.evaluate_every,
            training: &sets.training,
            looked_at: &sets.scored,
            card: card(cell, &sets.training),
        };
        let mut artefact = self.run(job, folder)?;
        if cell.drop_copies {
            let (left_out, of) = (sets.copies.len() as f64, sets.training.len() as u64);
            artefact.values.push(once("copies_left_out", "images", left_out, of));
        }
        Ok(artefact)
    }

    /// Trains in `folder`, going on from what lies there; the checkpoint is rounded to f16 where that holds it, and its card lies
    /// beside it.
    ///
    /// # Errors
    /// `Busy` where another process trains there, `Interrupted` by a signal.
    pub fn run<T: Task>(&self, job: Job<'_, T>, folder: &Path) -> Result<Artefact, CellError> {
        let config = TrainConfig {
            recipe: job.recipe.clone(),
            seed: job.seed,
            threads: self.threads,
            out: folder.into(),
            save_every: SAVE_EVERY,
            evaluate_every: job.evaluate_every,
            commit: self.commit.clone(),
        };
        let signal = self.signal()?;
        let mut epochs = Epochs { cell: job.name, all: job.recipe.epochs };
        let trained = train(job.task, &config, job.training, Some(job.looked_at), &mut epochs, signal.stop());
        let trained = trained.map_err(|error| match error {
            TrainError::Busy(_) => CellError::Busy,
            error => CellError::failed(error),
        })?;
        if trained.outcome == Outcome::Stopped {
            return Err(CellError::Interrupted(signal.number()));
        }
        let path = folder.join(MODEL);
        if let Some(reason) = save(&path, &trained.weights).map_err(CellError::failed)? {
            tell(format_args!("{}: {reason}", epochs.cell));
        }
        let beside = job.card.write(&path).map_err(CellError::failed)?;
        let losses: Vec<(f64, f64)> = trained.log.iter().map(|row| (row.epoch as f64, row.train_loss)).collect();
        let last = losses.last().map_or(0.0, |(_, loss)| *loss);
        let loss = once("train_loss", "nats", last, job.training.count() as u64);
        let history = trained.log.iter().filter_map(|row| Some((row.epoch as f64, row.eval_top1.or(row.eval_map)?)));
        Ok(Artefact {
            path,
            beside: Some(beside),
            history: history.collect(),
            seconds: Some(trained.seconds),
            made_by: trained.made_by,
            made_from: Some(job.training.hash().to_owned()),
            values: vec![Value { samples: losses, ..loss }],
        })
    }

    /// Top-1 and top-5 of a checkpoint file, in percent and as counts, on the images that the cell is scored on.
    ///
    /// # Errors
    /// `Skipped` where the images are not at hand or `engine` is one that this program has not.
    pub fn score(&self, cell: &Classifier, file: &Artefact, engine: Option<&str>) -> Result<Measurement, CellError> {
        let engine: EngineName = match engine {
            None => EngineName::default(),
            Some(name) => name.parse().map_err(|error| {
                CellError::Skipped(format!("engine {name} scored it, and this program has it not: {error}"))
            })?,
        };
        // The part that is scored, without what was trained on where that is another one.
        let set = &match cell.work {
            Work::Train(_) if cell.holdout > 0 => self.sets(cell)?.scored,
            Work::Train(_) => self.open(cell, Part::Validation)?,
            Work::Score(_) => self.open(cell, Part::Scored)?,
        };
        // A card that says otherwise would have `eval` print another number.
        if let Some(there) = Card::read(&file.path).map_err(CellError::failed)?
            && !there.agrees(&card(cell, set))
        {
            let path = Card::beside(&file.path);
            return Err(CellError::Failed(format!("{}: is not the card of {cell} on {}", path.display(), set.name())));
        }
        let network = cell.graph().map_err(CellError::failed)?;
        let weights = checkpoint::load(&file.path, network.tensors()).map_err(CellError::failed)?;
        let transform = Transform::evaluation(set, cell.network.classes, Some(cell.input), &cell.evaluation);
        let transform = transform.map_err(CellError::failed)?;
        let compiled = engine.compile(self.pool()?, &network, weights, transform.size(), BATCH);
        let mut compiled = compiled.map_err(CellError::failed)?;
        let loader = Loader::evaluation(set, transform, BATCH, self.threads);
        let score = evaluate(&mut compiled, &loader).map_err(CellError::failed)?;
        let n = score.n;
        let history = file.history.clone();
        let values = vec![
            Value { samples: history, ..Value::exact("top1", "%", score.top1(), n) },
            Value::exact("top5", "%", score.top5(), n),
            Value::exact("top1_count", "images", score.top1_count as f64, n),
            Value::exact("top5_count", "images", score.top5_count as f64, n),
        ];
        let prediction = |(at, &prediction): (usize, &u32)| Prediction {
            name: set.image_name(at),
            label: set.label(at),
            prediction,
        };
        Ok(Measurement {
            data: Facts { hash: set.hash().to_owned(), synthetic: set.synthetic() },
            engine: (engine != EngineName::Train).then(|| engine.to_string()),
            values,
            predictions: score.predictions.iter().enumerate().map(prediction).collect(),
            boxes: None,
            summary: format!("{} of {n} images right", score.top1_count),
        })
    }

    /// A checkpoint on the hub.
    ///
    /// # Errors
    /// `Skipped` where it cannot be had.
    pub fn fetch(&self, entry: &Listed) -> Result<PathBuf, CellError> {
        let hub =
            entry.hub.as_ref().ok_or_else(|| CellError::Failed("the manifest names no file on the hub".into()))?;
        let wanted = sandglass_data::HubFile {
            kind: RepoKind::Model,
            repo: hub.repo.clone(),
            revision: hub.revision.clone(),
            file: hub.file.clone(),
            size: entry.bytes,
            sha256: entry.sha256.clone(),
        };
        // No network is no disagreement.
        Hub::from_env().fetch(&wanted).map_err(|error| CellError::Skipped(error.to_string()))
    }

    fn sets(&self, cell: &Classifier) -> Result<Sets, CellError> {
        let training = self.open(cell, Part::Train)?;
        let validation = match self.open(cell, Part::Validation) {
            // Of a set whose training part is there: training images that are held back need no validation part.
            Err(CellError::Skipped(_)) if cell.holdout > 0 => None,
            validation => Some(validation?),
        };
        let (training, copies) = match &validation {
            Some(validation) => Self::apart(cell, training, validation)?,
            None => (training, Vec::new()),
        };
        match validation {
            Some(scored) if cell.holdout == 0 => Ok(Sets { training, scored, copies }),
            _ => {
                let (training, scored) = training.split(cell.holdout, SPLIT_SEED).map_err(CellError::failed)?;
                Ok(Sets { training, scored, copies })
            }
        }
    }

    /// The training images without those that are to be left out as copies of validation images, and the names of these.
    fn apart(cell: &Classifier, training: Dataset, validation: &Dataset) -> Result<(Dataset, Vec<String>), CellError> {
        validation.check_same_classes(&training).map_err(CellError::failed)?;
        if training.hash() == validation.hash() {
            let reason =
                format!("{}: its validation images are its training images: a score of them says nothing", cell.data);
            return Err(CellError::Skipped(reason));
        }
        match cell.drop_copies {
            true => training.without_copies_of(validation).map_err(CellError::failed),
            false => Ok((training, Vec::new())),
        }
    }

    fn open(&self, cell: &Classifier, part: Part) -> Result<Dataset, CellError> {
        self.data(&cell.data, part, cell.network.classes)
    }

    /// A data set, read once for all cells.
    ///
    /// # Errors
    /// A set that is nowhere, or has no such part, skips the cell; one that is broken fails it.
    pub fn data(&self, name: &str, part: Part, classes: usize) -> Result<Dataset, CellError> {
        let key = (name.to_owned(), part, classes);
        if let Some(set) = self.opened.borrow().get(&key) {
            return Ok(set.clone());
        }
        let found = find_data(name).map(|path| path.display().to_string());
        let place = found.as_deref().unwrap_or(name);
        let set = sandglass_data::open(place, part, Some(classes));
        // Of a set that is trained on both parts are opened, and compared.
        let set = match part {
            Part::Scored => set.and_then(|set| sandglass_data::shared_with_training(place, &set).map(|_| set)),
            Part::Train | Part::Validation => set,
        };
        let set = set.map_err(|error| match (error, &found) {
            (error @ DataError::NoPart { .. }, _) => {
                CellError::Skipped(format!("{error}; a score of its training images says nothing"))
            }
            (error, Some(_)) => CellError::failed(error),
            // Some sets are there without a folder: drawn, or in the hub's cache.
            (_, None) => CellError::Skipped(format!("data set {name} is not {}", below())),
        })?;
        tell(format_args!("{name}: {}; part: {}", set.listing(), set.part_listing()));
        self.opened.borrow_mut().insert(key, set.clone());
        Ok(set)
    }

    /// The images of a set in its order, decoded once for all cells that score them one after the other.
    ///
    /// # Errors
    /// Images that cannot be read or decoded; of a set that is too large to be kept they come with their batch.
    pub fn batches(&self, set: &Dataset, transform: Transform) -> Result<Batches, CellError> {
        let (height, width) = transform.size();
        let loader = Loader::evaluation(set, transform.clone(), BATCH, self.threads);
        let decode = || loader.epoch(0, 0).map(|batch| batch.map(Rc::new));
        if set.len() * height * width * 3 * size_of::<f32>() > KEPT_IMAGES {
            return Ok(Box::new(decode()));
        }
        let of = (set.hash().to_owned(), transform);
        let mut decoded = self.decoded.borrow_mut();
        let batches = match decoded.take().filter(|decoded| decoded.of == of) {
            Some(decoded) => decoded.batches,
            None => decode().collect::<Result<_, _>>().map_err(CellError::failed)?,
        };
        let all = batches.clone().into_iter().map(Ok);
        *decoded = Some(Decoded { of, batches });
        Ok(Box::new(all))
    }
}

/// What only the making of a file knows.
fn once(metric: &'static str, unit: &'static str, value: f64, n: u64) -> Value {
    Value { again: Again::Once, ..Value::exact(metric, unit, value, n) }
}

/// What a checkpoint of the cell must be scored with; the set's classes are the classifier's.
fn card(cell: &Classifier, set: &Dataset) -> Card {
    Card {
        sha256: None,
        network: cell.network.to_string(),
        width: cell.network.width,
        stem_stride: cell.network.stem_stride,
        input: Some(cell.input),
        classes: Some(set.output_names(cell.network.classes)),
        assumed: Vec::new(),
        evaluation: cell.evaluation.clone(),
    }
}

/// Where data are looked for, in words.
fn below() -> String {
    let roots: Vec<String> = data_roots().iter().map(|root| root.display().to_string()).collect();
    format!("below the data root {}", roots.join(" or "))
}

impl Given {
    /// The file; its hash is compared before anything is done with it.
    ///
    /// # Errors
    /// `Skipped` where it is not at hand; another file than the one that is meant.
    pub fn find(&self) -> Result<Artefact, CellError> {
        find_weights(&self.weights, &self.sha256)
    }
}

/// A file of weights below a data root; its hash is compared before anything is done with it.
///
/// # Errors
/// `Skipped` where it is not at hand; another file than the one that is meant.
pub fn find_weights(weights: &str, sha256: &str) -> Result<Artefact, CellError> {
    let path = find_data(weights).filter(|path| path.is_file());
    let path = path.ok_or_else(|| CellError::Skipped(format!("{weights} is not {}", below())))?;
    let hash = sha256_file(&path).map_err(|error| CellError::Failed(format!("{}: {error}", path.display())))?;
    match hash.eq_ignore_ascii_case(sha256) {
        true => Ok(Artefact::found(path)),
        false => Err(CellError::Failed(format!("{weights} has SHA-256 {hash}, not {sha256}"))),
    }
}

/// Tells of every epoch on stderr.
/// Rounded to f16, or whole where that holds not all: rather large than lost. What to tell then.
fn save(path: &Path, weights: &Weights) -> Result<Option<String>, CheckpointError> {
    match checkpoint::save(path, weights, SaveType::F16) {
        Err(CheckpointError::F16Range { tensor, value }) => {
            checkpoint::save(path, weights, SaveType::F32)?;
            Ok(Some(format!("kept in f32, for {tensor} holds {value}, which f16 cannot")))
        }
        saved => saved.map(|()| None),
    }
}

struct Epochs {
    cell: String,
    all: u64,
}

impl Observer for Epochs {
    fn epoch(&mut self, row: &LogRow) {
        let seen = match (row.eval_top1, row.eval_map) {
            (Some(top1), _) => format!(", validation top-1 {top1:.2} %"),
            (None, Some(map)) => format!(", mAP {map:.2} %"),
            (None, None) => String::new(),
        };
        let LogRow { epoch, train_loss, images_per_s, .. } = row;
        let (cell, all) = (&self.cell, self.all);
        tell(format_args!("{cell}: epoch {epoch} of {all}, loss {train_loss:.4}{seen}, {images_per_s:.0} images/s"));
    }
}

#[cfg(test)]
mod tests {
    use sandglass_models::{Role, TensorSpec};

    use super::*;

    #[test]
    fn what_f16_cannot_hold_is_kept_whole_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let spec = TensorSpec { name: "n.running_var".into(), shape: vec![2], role: Role::RunningVar };
        for (values, told) in
            [(vec![1.1, 65_504.0], None), (vec![1.1, 70_412.99], Some("n.running_var holds 70412.99"))]
        {
            let weights = Weights { specs: vec![spec.clone()], values: vec![values.clone()] };
            let reason = save(&path, &weights).unwrap();
            assert_eq!(reason.is_some(), told.is_some());
            assert!(told.is_none_or(|told| reason.unwrap().contains(told)));
            let kept = checkpoint::load(&path, weights.specs).unwrap().values[0].clone();
            assert_eq!(kept[1], values[1]);
            assert_eq!(kept[0] == values[0], told.is_some(), "f16 rounds");
        }
    }
}
