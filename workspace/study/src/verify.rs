//! Checkpoints against rows: the hash of every file at hand, and some or all of them evaluated again.

use std::path::PathBuf;

use sandglass_data::{Hub, RepoKind};
use sandglass_ledger::{Ledger, Row, Status};

use crate::bench::{Bench, CellError};
use crate::manifest::{Entry, Manifest, sha256_file};
use crate::study::{Profile, Study};
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
    for cell in cells.iter().filter(|cell| matches!(cell.work, Work::Train(_))) {
        let rows: Vec<&Row> = ledger.cell(&study.name, &profile.name, &cell.id).collect();
        let Some(entry) = manifest.find(&study.name, &profile.name, &cell.id) else { continue };
        if rows.iter().all(|row| row.status != Status::Ok) {
            verdict.different.push(format!("{}: a checkpoint is listed, but there is no row with a result", cell.id));
            continue;
        }
        let evaluate = match which {
            Verify::None => false,
            Verify::All => true,
            Verify::Smallest => is_smallest(cell, &cells, study, profile, &manifest),
        };
        match compare(home, cell, entry, &rows, evaluate, bench) {
            Ok(true) => verdict.equal.push(cell.id.clone()),
            Ok(false) => {}
            Err(CellError::Skipped(reason)) => verdict.unavailable.push(format!("{}: {reason}", cell.id)),
            Err(error) => verdict.different.push(format!("{}: {error}", cell.id)),
        }
    }
    Ok(verdict)
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
    entry: &Entry,
    rows: &[&Row],
    evaluate: bool,
    bench: &dyn Bench,
) -> Result<bool, CellError> {
    if let Some(row) = rows.iter().find(|row| row.checkpoint_hash.as_ref() != Some(&entry.sha256)) {
        return Err(CellError::Failed(format!("the manifest's hash is not that of row {}", row.id())));
    }
    let Some(path) = locate(home, entry, evaluate)? else { return Ok(false) };
    let hash = sha256_file(&path).map_err(CellError::failed)?;
    if hash != entry.sha256 {
        return Err(CellError::Failed(format!("{} has SHA-256 {hash}, not {}", path.display(), entry.sha256)));
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
