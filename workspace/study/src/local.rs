//! The bench that trains and scores on this machine.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sandglass_data::{Dataset, Loader, Part, Protocol, Transform, data_roots, find_data};
use sandglass_models::checkpoint;
use sandglass_ops::Runtime;
use sandglass_train::{Engine, LogRow, Observer, Outcome, Recipe, TrainConfig, evaluate, train};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::Cell;
use crate::bench::{Bench, CellError, Score, Trained};
use crate::verbs::tell;

/// Images that are scored together.
const BATCH: usize = 64;

/// A cell that is killed loses at most so much, or an epoch where that is less.
const SAVE_EVERY: Duration = Duration::from_secs(300);

pub struct Local {
    runtime: Arc<Runtime>,
    /// Data sets that cells share, by name, part and number of classes.
    opened: RefCell<BTreeMap<(String, bool, usize), Dataset>>,
    stop: OnceCell<Arc<AtomicBool>>,
    /// The signal that asked to stop.
    signal: Arc<AtomicUsize>,
}

impl Local {
    /// On `threads` threads, or on all cores.
    pub fn new(threads: Option<usize>) -> anyhow::Result<Self> {
        let all = || std::thread::available_parallelism().map_or(1, |count| count.get());
        let runtime = Arc::new(Runtime::new(threads.unwrap_or_else(all))?);
        Ok(Self { runtime, opened: RefCell::default(), stop: OnceCell::new(), signal: Arc::default() })
    }

    /// From the first training on, SIGINT and SIGTERM save and stop; until then they end the program as usual.
    fn stop(&self) -> Result<&AtomicBool, CellError> {
        if let Some(stop) = self.stop.get() {
            return Ok(stop);
        }
        let stop = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            flag::register_usize(number, self.signal.clone(), number as usize).map_err(CellError::failed)?;
            flag::register(number, stop.clone()).map_err(CellError::failed)?;
        }
        Ok(self.stop.get_or_init(|| stop))
    }

    /// A set that is nowhere skips the cell; one that is broken fails it.
    fn open(&self, cell: &Cell, part: Part) -> Result<Dataset, CellError> {
        let key = (cell.data.clone(), part == Part::Train, cell.network.classes);
        if let Some(set) = self.opened.borrow().get(&key) {
            return Ok(set.clone());
        }
        let there = cell.data == "embedded" || Path::new(&cell.data).exists() || find_data(&cell.data).is_some();
        if !there {
            return Err(nowhere(&format!("data set {}", cell.data)));
        }
        let set = sandglass_data::open(&cell.data, part, Some(cell.network.classes)).map_err(CellError::failed)?;
        self.opened.borrow_mut().insert(key, set.clone());
        Ok(set)
    }
}

fn nowhere(what: &str) -> CellError {
    let roots: Vec<String> = data_roots().iter().map(|root| root.display().to_string()).collect();
    CellError::Skipped(format!("{what} is not below the data root {}", roots.join(", ")))
}

/// Tells of every epoch on stderr.
struct Epochs<'a> {
    cell: &'a str,
    all: u64,
}

impl Observer for Epochs<'_> {
    fn epoch(&mut self, row: &LogRow) {
        let top1 = row.eval_top1.map_or_else(String::new, |top1| format!(", validation top-1 {top1:.2} %"));
        let LogRow { epoch, train_loss, images_per_s, .. } = row;
        let (cell, all) = (&self.cell, self.all);
        tell(format_args!("{cell}: epoch {epoch} of {all}, loss {train_loss:.4}{top1}, {images_per_s:.0} images/s"));
    }
}

impl Bench for Local {
    fn train(&self, cell: &Cell, recipe: &Recipe, folder: &Path) -> Result<Trained, CellError> {
        let (training, validation) = (self.open(cell, Part::Train)?, self.open(cell, Part::Validation)?);
        let config = TrainConfig {
            network: cell.network,
            recipe: recipe.clone(),
            input: Some(cell.input),
            seed: cell.seed,
            threads: self.runtime.threads(),
            out: folder.into(),
            save_every: SAVE_EVERY,
        };
        let mut epochs = Epochs { cell: &cell.id, all: recipe.epochs };
        let trained =
            train(&config, &training, Some(&validation), &mut epochs, self.stop()?).map_err(CellError::failed)?;
        if trained.outcome == Outcome::Stopped {
            return Err(CellError::Interrupted(self.signal.load(Ordering::Relaxed) as i32));
        }
        let history = trained.log.iter().filter_map(|row| row.eval_top1).collect();
        Ok(Trained { weights: trained.weights, history })
    }

    fn score(&self, cell: &Cell, weights: &Path) -> Result<Score, CellError> {
        let set = self.open(cell, Part::Validation)?;
        let network = cell.network.build().map_err(CellError::failed)?;
        let weights = checkpoint::load(weights, network.tensors()).map_err(CellError::failed)?;
        let transform = Transform::evaluation(&set, cell.network.classes, Some(cell.input), &Protocol::default())
            .map_err(CellError::failed)?;
        let (height, width) = transform.size();
        let engine = Engine::new(self.runtime.clone(), &network, height, width, BATCH);
        let loader = Loader::evaluation(&set, transform, BATCH, self.runtime.threads());
        let score = evaluate(&mut engine.map_err(CellError::failed)?, &weights, &loader).map_err(CellError::failed)?;
        Ok(Score {
            dataset: set.name().to_owned(),
            synthetic: set.synthetic(),
            data_hash: set.hash().to_owned(),
            top1: score.top1_count,
            top5: score.top5_count,
            images: score.n,
        })
    }

    fn data_file(&self, name: &str) -> Result<PathBuf, CellError> {
        find_data(name).filter(|path| path.is_file()).ok_or_else(|| nowhere(name))
    }

    fn runtime(&self) -> (String, u64) {
        (self.runtime.isa().name().to_owned(), self.runtime.threads() as u64)
    }
}
