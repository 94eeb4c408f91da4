//! The bench that trains and scores on this machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandglass_data::{Dataset, Loader, Part, Transform, data_root};
use sandglass_models::checkpoint;
use sandglass_ops::Runtime;
use sandglass_train::{Engine, Recipe, rank};

use crate::Cell;
use crate::bench::{Bench, CellError, Score, Trained};

/// Images that are scored together.
const BATCH: usize = 64;

pub struct Local {
    runtime: Arc<Runtime>,
    /// Data sets that cells share, by name and number of classes.
    opened: RefCell<BTreeMap<(String, usize), Dataset>>,
}

impl Local {
    /// On `threads` threads, or on all cores.
    pub fn new(threads: Option<usize>) -> anyhow::Result<Self> {
        let all = || std::thread::available_parallelism().map_or(1, |count| count.get());
        let runtime = Arc::new(Runtime::new(threads.unwrap_or_else(all))?);
        Ok(Self { runtime, opened: RefCell::default() })
    }

    fn validation(&self, cell: &Cell) -> Result<Dataset, CellError> {
        let key = (cell.data.clone(), cell.network.classes);
        if let Some(set) = self.opened.borrow().get(&key) {
            return Ok(set.clone());
        }
        let set = self.open(cell, Part::Validation)?;
        self.opened.borrow_mut().insert(key, set.clone());
        Ok(set)
    }

    /// A set that is nowhere skips the cell; one that is broken fails it.
    fn open(&self, cell: &Cell, part: Part) -> Result<Dataset, CellError> {
        let there = cell.data == "embedded" || Path::new(&cell.data).exists() || data_root().join(&cell.data).exists();
        if !there {
            let reason = format!("data set {} is not below the data root {}", cell.data, data_root().display());
            return Err(CellError::Skipped(reason));
        }
        sandglass_data::open(&cell.data, part, Some(cell.network.classes)).map_err(CellError::failed)
    }
}

impl Bench for Local {
    fn train(&self, _cell: &Cell, _recipe: &Recipe, _folder: &Path) -> Result<Trained, CellError> {
        Err(CellError::Failed("not built yet".into()))
    }

    fn score(&self, cell: &Cell, weights: &Path) -> Result<Score, CellError> {
        let set = self.validation(cell)?;
        let network = cell.network.build().map_err(CellError::failed)?;
        let weights = checkpoint::load(weights, network.tensors()).map_err(CellError::failed)?;
        let transform =
            Transform::evaluation(&set, cell.network.classes, Some(cell.input)).map_err(CellError::failed)?;
        let (height, width) = transform.size();
        let mut engine =
            Engine::new(self.runtime.clone(), &network, height, width, BATCH).map_err(CellError::failed)?;
        let loader = Loader::evaluation(&set, transform, BATCH, self.runtime.threads());
        let (mut top1, mut top5, mut images) = (0, 0, 0);
        for batch in loader.epoch(0, 0) {
            let batch = batch.map_err(CellError::failed)?;
            let logits = engine.evaluate(&weights, &batch.images).map_err(CellError::failed)?;
            for (logits, &label) in logits.chunks_exact(cell.network.classes).zip(&batch.labels) {
                let rank = rank(logits, label as usize);
                top1 += u64::from(rank < 1);
                top5 += u64::from(rank < 5);
                images += 1;
            }
        }
        let (dataset, data_hash) = (set.name().to_owned(), set.hash().to_owned());
        Ok(Score { dataset, synthetic: set.synthetic(), data_hash, top1, top5, images })
    }

    fn data_file(&self, name: &str) -> Result<PathBuf, CellError> {
        let path = data_root().join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(CellError::Skipped(format!("{name} is not below the data root {}", data_root().display()))),
        }
    }

    fn runtime(&self) -> (String, u64) {
        (self.runtime.isa().name().to_owned(), self.runtime.threads() as u64)
    }
}
