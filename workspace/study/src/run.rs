//! Runs what is missing of a profile, cell by cell. A cell that fails is a row with its error, and the run goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use sandglass_ledger::{Ledger, Row, Status, write_cell};
use sandglass_models::Weights;
use sandglass_models::checkpoint::{SaveType, save};

use crate::bench::{Bench, CellError, Score};
use crate::cell::{self, Cell, Work};
use crate::manifest::{self, Manifest};
use crate::plan::{self, State};
use crate::provenance::{Provenance, timestamp};
use crate::study::{Profile, Study};
use crate::{Home, Plan, StudyError};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Study(#[from] StudyError),
    #[error(transparent)]
    Write(#[from] sandglass_ledger::WriteError),
    #[error("stopped by signal {0}; the same command resumes")]
    Interrupted(i32),
}

/// How many cells ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub done: usize,
    pub failed: usize,
    pub skipped: usize,
    /// Done before.
    pub kept: usize,
}

/// Runs all cells that are not done, or the one named if it is not done. `note` is told of every cell.
pub fn run(
    home: &Home,
    study: &Study,
    profile: &Profile,
    only: Option<&str>,
    bench: &dyn Bench,
    note: &mut dyn FnMut(&str),
) -> Result<Tally, RunError> {
    let cells = cell::cells(study, profile)?;
    let wanted = match only {
        Some(id) => std::slice::from_ref(cell::find(&cells, profile, id)?),
        None => &cells[..],
    };
    let plan = Plan::of(study, profile, &Ledger::read(&home.rows()))?;
    let provenance = Provenance::collect(home.root());
    let mut tally = Tally::default();
    for cell in wanted {
        if plan.cells.iter().any(|planned| planned.cell == cell.id && planned.state == State::Done) {
            tally.kept += 1;
            continue;
        }
        note(&format!("{}: started", cell.id));
        let (started, clock) = (timestamp(), Instant::now());
        let result = run_cell(home, study, profile, cell, bench);
        let blank = blank(study, profile, cell, bench, &provenance, started, clock.elapsed().as_secs_f64());
        let rows = match result {
            Ok(result) => {
                note(&format!("{}: {} of {} images right", cell.id, result.score.top1, result.score.images));
                tally.done += 1;
                measured(blank, result)
            }
            Err(CellError::Interrupted(signal)) => return Err(RunError::Interrupted(signal)),
            Err(CellError::Skipped(reason)) => {
                note(&format!("{}: skipped: {reason}", cell.id));
                tally.skipped += 1;
                vec![Row { status: Status::Skipped, error: Some(reason), ..blank }]
            }
            Err(CellError::Failed(reason)) => {
                note(&format!("{}: failed: {reason}", cell.id));
                tally.failed += 1;
                vec![Row { status: Status::Failed, error: Some(reason), ..blank }]
            }
        };
        write_cell(&home.rows(), &rows)?;
    }
    Manifest::refresh(home, study, &Ledger::read(&home.rows()))?;
    Ok(tally)
}

/// What a cell measured, on the checkpoint with this hash.
struct Measured {
    score: Score,
    checkpoint: String,
    history: Vec<f64>,
}

fn run_cell(
    home: &Home,
    study: &Study,
    profile: &Profile,
    cell: &Cell,
    bench: &dyn Bench,
) -> Result<Measured, CellError> {
    match &cell.work {
        Work::Train(recipe) => {
            let folder = home.run_of(&study.name, &profile.name, cell);
            let trained = bench.train(cell, recipe, &folder)?;
            let keep = profile.keep_checkpoints && profile.seeds.first() == Some(&cell.seed);
            let path = if keep {
                home.checkpoints().join(manifest::kept_file(&study.name, &profile.name, &cell.id))
            } else {
                folder.join("model.f16.safetensors")
            };
            write_f16(&path, &trained.weights)?;
            // The row speaks of the file as written, not of the weights in memory.
            score_file(cell, &path, bench, trained.history)
        }
        Work::Score(given) => {
            let path = bench.data_file(&given.weights)?;
            let measured = score_file(cell, &path, bench, Vec::new())?;
            match measured.checkpoint == given.sha256 {
                true => Ok(measured),
                false => Err(CellError::Failed(format!("{} has SHA-256 {}", given.weights, measured.checkpoint))),
            }
        }
    }
}

fn write_f16(path: &Path, weights: &Weights) -> Result<(), CellError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| CellError::Failed(format!("{}: {error}", folder.display())))?;
    }
    save(path, weights, SaveType::F16, &BTreeMap::new()).map_err(CellError::failed)
}

fn score_file(cell: &Cell, path: &Path, bench: &dyn Bench, history: Vec<f64>) -> Result<Measured, CellError> {
    let checkpoint = manifest::sha256_file(path).map_err(CellError::failed)?;
    Ok(Measured { score: bench.score(cell, path)?, checkpoint, history })
}

/// A row without a result.
fn blank(
    study: &Study,
    profile: &Profile,
    cell: &Cell,
    bench: &dyn Bench,
    provenance: &Provenance,
    started: String,
    seconds: f64,
) -> Row {
    let (isa, threads) = bench.runtime();
    Row {
        study: study.name.clone(),
        profile: profile.name.clone(),
        cell: cell.id.clone(),
        variant: cell.network.to_string(),
        width: cell.network.width,
        dataset: cell.data.clone(),
        synthetic: profile.synthetic,
        scale: cell.scale(),
        seed: cell.seed,
        metric: "top1".into(),
        value: None,
        unit: "%".into(),
        n: 0,
        status: Status::Ok,
        error: None,
        samples: Vec::new(),
        commit: provenance.commit.clone(),
        dirty: provenance.dirty,
        command: plan::command(&study.name, &profile.name, &cell.id),
        recipe_hash: cell.hash(),
        data_hash: String::new(),
        checkpoint_hash: None,
        machine: provenance.machine.clone(),
        isa,
        threads,
        versions: provenance.versions.clone(),
        started,
        seconds,
    }
}

fn measured(blank: Row, Measured { score, checkpoint, history }: Measured) -> Vec<Row> {
    let percent = |count: u64| 100.0 * count as f64 / score.images as f64;
    let row = |metric: &str, unit: &str, value: f64| Row {
        metric: metric.into(),
        unit: unit.into(),
        value: Some(value),
        n: score.images,
        synthetic: score.synthetic,
        data_hash: score.data_hash.clone(),
        checkpoint_hash: Some(checkpoint.clone()),
        ..blank.clone()
    };
    vec![
        Row { samples: history, ..row("top1", "%", percent(score.top1)) },
        row("top5", "%", percent(score.top5)),
        row("top1_count", "images", score.top1 as f64),
        row("top5_count", "images", score.top5 as f64),
    ]
}
