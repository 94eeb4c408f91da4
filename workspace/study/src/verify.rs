//! Checkpoints against rows: the hash of every file at hand, and some or all of them evaluated again.

use std::path::PathBuf;

use sandglass_data::{Hub, RepoKind};
use sandglass_ledger::{Ledger, Row, Status};

use crate::bench::{Bench, CellError};
use crate::manifest::{Entry, Manifest, sha256_file};
use crate::study::{Given, Profile, Study};
use crate::{Cell, Home, StudyError, Work, cell};

/// Which checkpoints are evaluated again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    None,
    /// The narrowest of each network.
    #[default]
    Smallest,
    All,
}

/// What was found. No disagreement is left out; `unavailable` could not be looked at here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Cells whose checkpoint was evaluated and equals its row.
    pub equal: Vec<String>,
    /// Cell and reason.
    pub unavailable: Vec<String>,
    /// Cell and what differs.
    pub different: Vec<String>,
}

/// Looks at the cached checkpoints of one profile.
pub fn verify(
    home: &Home,
    study: &Study,
    profile: &Profile,
    ledger: &Ledger,
    which: Verify,
    bench: &dyn Bench,
) -> Result<Verdict, StudyError> {
    let manifest = Manifest::read(home)?;
    let cells = cell::cells(study, profile)?;
    let mut verdict = Verdict::default();
    for cell in &cells {
        let rows: Vec<&Row> = ledger.cell(&study.name, &profile.name, &cell.id).collect();
        let listed = manifest.find(&study.name, &profile.name, &cell.id);
        let measured = rows.iter().any(|row| row.status == Status::Ok);
        let (checkpoint, evaluate) = match (&cell.work, listed) {
            (Work::Train(_), Some(_)) if !measured => {
                verdict.different.push(format!("{}: a checkpoint is listed, but no row has a result", cell.id));
                continue;
            }
            (Work::Train(_), Some(entry)) => {
                let smallest = || is_smallest(cell, &cells, study, profile, &manifest);
                (Checkpoint::Listed(entry), which == Verify::All || which == Verify::Smallest && smallest())
            }
            (Work::Score(given), _) if measured && which == Verify::All => (Checkpoint::Given(given), true),
            _ => continue,
        };
        match compare(home, cell, checkpoint, &rows, evaluate, bench) {
            Ok(true) => verdict.equal.push(cell.id.clone()),
            Ok(false) => {}
            Err(CellError::Skipped(reason)) => verdict.unavailable.push(format!("{}: {reason}", cell.id)),
            Err(error) => verdict.different.push(format!("{}: {error}", cell.id)),
        }
    }
    Ok(verdict)
}

/// Where a cell's checkpoint is found.
#[derive(Clone, Copy)]
enum Checkpoint<'a> {
    Listed(&'a Entry),
    Given(&'a Given),
}

fn is_smallest(cell: &Cell, cells: &[Cell], study: &Study, profile: &Profile, manifest: &Manifest) -> bool {
    let kept = |other: &&Cell| manifest.find(&study.name, &profile.name, &other.id).is_some();
    let family = cells.iter().filter(|other| other.network.to_string() == cell.network.to_string());
    family.filter(kept).all(|other| other.network.width >= cell.network.width)
}

/// True where the checkpoint was evaluated and agrees, false where only its hash was compared.
fn compare(
    home: &Home,
    cell: &Cell,
    checkpoint: Checkpoint<'_>,
    rows: &[&Row],
    evaluate: bool,
    bench: &dyn Bench,
) -> Result<bool, CellError> {
    let sha256 = match checkpoint {
        Checkpoint::Listed(entry) => &entry.sha256,
        Checkpoint::Given(given) => &given.sha256,
    };
    if let Some(row) = rows.iter().find(|row| row.checkpoint_hash.as_ref() != Some(sha256)) {
        return Err(CellError::Failed(format!("the checkpoint listed is not that of row {}", row.id())));
    }
    let path = match checkpoint {
        Checkpoint::Listed(entry) => locate(home, entry, evaluate)?,
        Checkpoint::Given(given) => Some(bench.data_file(&given.weights)?),
    };
    let Some(path) = path else { return Ok(false) };
    let hash = sha256_file(&path).map_err(CellError::failed)?;
    if hash != *sha256 {
        return Err(CellError::Failed(format!("{} has SHA-256 {hash}, not {sha256}", path.display())));
    }
    if !evaluate {
        return Ok(false);
    }
    let score = bench.score(cell, &path)?;
    for (metric, count) in [("top1_count", score.top1), ("top5_count", score.top5)] {
        let row = rows.iter().find(|row| row.metric == metric);
        if row.and_then(|row| row.value) != Some(count as f64) {
            let committed = row.and_then(|row| row.value).map_or("nothing".into(), |value| value.to_string());
            return Err(CellError::Failed(format!("{metric} is {count} now, {committed} in the row")));
        }
    }
    match rows.iter().find(|row| row.data_hash != score.data_hash || row.n != score.images) {
        Some(row) => Err(CellError::Failed(format!("the data set is not that of row {}", row.id()))),
        None => Ok(true),
    }
}

/// The file, fetched from the hub only if it is to be evaluated.
fn locate(home: &Home, entry: &Entry, evaluate: bool) -> Result<Option<PathBuf>, CellError> {
    match (&entry.file, &entry.hub) {
        (Some(file), None) => {
            let path = home.checkpoints().join(file);
            if path.is_file() {
                Ok(Some(path))
            } else {
                Err(CellError::Failed(format!("{} is missing", path.display())))
            }
        }
        (None, Some(_)) if !evaluate => Ok(None),
        (None, Some(hub)) => {
            let wanted = sandglass_data::HubFile {
                kind: RepoKind::Model,
                repo: hub.repo.clone(),
                revision: hub.revision.clone(),
                file: hub.file.clone(),
                size: entry.bytes,
                sha256: entry.sha256.clone(),
            };
            // No network is no disagreement.
            let fetched = Hub::from_env().fetch(&wanted).map_err(|error| CellError::Skipped(error.to_string()))?;
            Ok(Some(fetched))
        }
        _ => Err(CellError::Failed("the manifest needs either file or hub".into())),
    }
}
