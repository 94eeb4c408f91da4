//! A micro study in a folder of its own, and a bench that neither trains nor reads images.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use sandglass_ledger::Ledger;
use sandglass_models::Weights;
use sandglass_study::bench::{Bench, CellError, Score, Trained};
use sandglass_study::{Cell, Home, Study};
use sandglass_train::Recipe;

pub const MICRO: &str = include_str!("micro.toml");

pub struct Micro {
    pub folder: tempfile::TempDir,
    pub home: Home,
    pub study: Study,
}

impl Micro {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("results")).unwrap();
        let study = open(folder.path(), MICRO);
        Self { home: Home::above(&folder.path().join("study.toml")).unwrap(), study, folder }
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::read(&self.home.rows())
    }
}

pub fn open(folder: &Path, text: &str) -> Study {
    let path = folder.join("study.toml");
    std::fs::write(&path, text).unwrap();
    Study::open(&path).unwrap().0
}

/// Accuracy that depends on the checkpoint's bytes; cells named in `failing` fail to train.
#[derive(Default)]
pub struct Fake {
    pub failing: Vec<String>,
    /// What `data_file` finds.
    pub given: Option<PathBuf>,
    pub trained: RefCell<Vec<String>>,
}

impl Bench for Fake {
    fn train(&self, cell: &Cell, _recipe: &Recipe, _folder: &Path) -> Result<Trained, CellError> {
        if self.failing.contains(&cell.id) {
            return Err(CellError::Failed("loss is NaN at step 7 | stopped".into()));
        }
        self.trained.borrow_mut().push(cell.id.clone());
        let specs = cell.network.build().unwrap().tensors();
        let mut weights = Weights::zeros(specs);
        weights.values[0][0] = cell.seed as f32 + 0.1;
        Ok(Trained { weights, history: vec![50.0, 60.0] })
    }

    fn score(&self, cell: &Cell, weights: &Path) -> Result<Score, CellError> {
        let bytes = std::fs::read(weights).map_err(CellError::failed)?;
        let top1 = bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>() % 1000;
        let dataset = cell.data.clone();
        Ok(Score { dataset, synthetic: true, data_hash: "d".into(), top1, top5: top1 + 1, images: 1001 })
    }

    fn data_file(&self, name: &str) -> Result<PathBuf, CellError> {
        self.given.clone().ok_or_else(|| CellError::Skipped(format!("{name} is not below the data root")))
    }

    fn runtime(&self) -> (String, u64) {
        ("portable".into(), 1)
    }
}
