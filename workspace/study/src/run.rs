//! Runs what is missing of a profile, cell by cell. A cell that fails is a row with its error, and the run goes on.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sandglass_files::sha256_file;
use sandglass_ledger::{
    Axis, Detections, Ledger, Predictions, Row, Status, check_rows, predictions_path, write_cell, write_detections,
    write_predictions,
};

use crate::manifest::{Manifest, kept_file};
use crate::opened::{Placed, ProfileCells};
use crate::provenance::{machine, timestamp};
use crate::{Again, Artefact, Axes, CellError, Experiment, Measurement, Opened, Profile, State, StudyError, Value};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Study(#[from] StudyError),
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
    /// Another process works on them.
    pub busy: usize,
    /// Another profile's, and not done there.
    pub waiting: usize,
}

/// Runs all cells that are not done, or the one named if it is not done, or `again`. `note` is told of every cell.
///
/// Any number of processes may run one profile at once: each takes the cells that no other works on.
pub(crate) fn run<E: Experiment>(
    study: &Opened<E>,
    profile: Option<&str>,
    only: Option<&str>,
    again: bool,
    note: &mut dyn FnMut(&str),
) -> Result<Tally, RunError> {
    let ProfileCells { profile, cells } = study.profile(profile)?;
    if let Some(name) = only.filter(|name| cells.iter().all(|cell| cell.keyed.id != **name)) {
        return Err(StudyError::Cell { profile: profile.name.clone(), name: name.to_owned() }.into());
    }
    let mut tally = Tally::default();
    for cell in cells.iter().filter(|cell| only.is_none_or(|only| cell.keyed.id == only)) {
        let id = &cell.keyed.id;
        // A study.toml that was changed since this process read it: its rows are not to be overwritten by older ones.
        study.still_defines(&profile.name, &cell.keyed)?;
        // Read again for each cell: another process may have done it meanwhile.
        let Some(state) = known_state(study, cell, note, &mut tally) else { continue };
        if state == State::Done && (!again || cell.is_borrowed) {
            tally.kept += 1;
            continue;
        }
        if cell.is_borrowed {
            note(&format!("{id}: another profile's, and not done there; {} runs it", cell.place.command()));
            tally.waiting += 1;
            continue;
        }
        let Some(_lock) = Lock::try_take(&lock_of(study, cell))? else {
            note(&format!("{id}: busy, {}", CellError::Busy));
            tally.busy += 1;
            continue;
        };
        // Once more, for it may have been done between the look and the lock.
        let Some(state) = known_state(study, cell, note, &mut tally) else { continue };
        if state == State::Done && !again {
            tally.kept += 1;
            continue;
        }
        note(&format!("{id}: started"));
        let (started, clock) = (timestamp(), Instant::now());
        let outcome = if again { forget(study, profile, cell, note) } else { Ok(()) };
        let outcome = outcome.and_then(|()| one(study, profile, cell));
        let blank = blank(study, profile, cell, started, clock.elapsed().as_secs_f64());
        let outcome = outcome.and_then(|one| finish(study, profile, cell, one, &blank));
        let (status, reason) = match outcome {
            Ok(summary) => {
                if let Err(error) = remove(&folder_of(study, profile, cell).join(AGAIN)) {
                    note(&format!("{id}: {error}"));
                }
                note(&format!("{id}: {summary}"));
                tally.done += 1;
                continue;
            }
            Err(CellError::Interrupted(signal)) => return Err(RunError::Interrupted(signal)),
            Err(CellError::Busy) => {
                note(&format!("{id}: busy, {}", CellError::Busy));
                tally.busy += 1;
                continue;
            }
            Err(CellError::Skipped(reason)) => {
                note(&format!("{id}: skipped: {reason}"));
                tally.skipped += 1;
                // What could not be tried here does not undo what was measured elsewhere.
                if matches!(state, State::Stale | State::Done) {
                    continue;
                }
                (Status::Skipped, reason)
            }
            Err(CellError::Failed(reason)) => {
                note(&format!("{id}: failed: {reason}"));
                tally.failed += 1;
                if state == State::Done {
                    continue;
                }
                (Status::Failed, reason)
            }
        };
        remove(&predictions_path(&study.project.predictions(), cell.place.names()))?;
        write_cell(&study.project.rows(), &[Row { status, error: Some(reason), ..blank }]).map_err(StudyError::from)?;
    }
    Manifest::refresh(study)?;
    Ok(tally)
}

fn lock_of<E: Experiment>(study: &Opened<E>, cell: &Placed<E::Cell>) -> PathBuf {
    // By name and not by hash: two definitions of one cell write the same files.
    let [name, profile, id] = cell.place.names();
    study.project.locks().join(name).join(profile).join(format!("{id}.lock"))
}

/// None where a row file is there and cannot be read: it may be a newer program's, so it is not written over.
fn known_state<E: Experiment>(
    study: &Opened<E>,
    cell: &Placed<E::Cell>,
    note: &mut dyn FnMut(&str),
    tally: &mut Tally,
) -> Option<State> {
    let [name, profile, id] = cell.place.names();
    let mut ledger = Ledger::read_one(&study.project.rows(), name, profile, id);
    if let Some(problem) = ledger.problems.first() {
        note(&format!(
            "{}: left alone, its rows cannot be used: {problem}; delete the file to run it again",
            cell.keyed.id
        ));
        tally.failed += 1;
        return None;
    }
    if let Some(on) = study.experiment.measured_on(&cell.keyed.cell) {
        let [name, profile, id] = on.names();
        ledger.rows.extend(Ledger::read_one(&study.project.rows(), name, profile, id).rows);
    }
    Some(study.state(cell, &ledger))
}

/// A file and what was measured on it.
struct One {
    artefact: Artefact,
    sha256: String,
    measurement: Measurement,
    /// Of the making, over all resumes, and of what came after it.
    seconds: f64,
}

fn one<E: Experiment>(
    study: &Opened<E>,
    profile: &Profile<E::Setup>,
    cell: &Placed<E::Cell>,
) -> Result<One, CellError> {
    let folder = folder_of(study, profile, cell);
    let cell = &cell.keyed.cell;
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let clock = Instant::now();
    let artefact = study.experiment.prepare(cell, &folder)?;
    let made = clock.elapsed().as_secs_f64();
    let sha256 = sha256_file(&artefact.path).map_err(failed(&artefact.path))?;
    let measurement = study.experiment.measure(cell, &artefact, None)?;
    let after = clock.elapsed().as_secs_f64() - made;
    let seconds = artefact.seconds.unwrap_or(made) + after;
    Ok(One { artefact, sha256, measurement, seconds })
}

/// In the folder of a cell that is run again, from where it was emptied to where its rows are written: whatever comes between,
/// the same command goes on.
const AGAIN: &str = "again";

/// Removes what an earlier run of the cell left to go on from.
fn forget<E: Experiment>(
    study: &Opened<E>,
    profile: &Profile<E::Setup>,
    cell: &Placed<E::Cell>,
    note: &mut dyn FnMut(&str),
) -> Result<(), CellError> {
    let folder = folder_of(study, profile, cell);
    let mark = folder.join(AGAIN);
    if mark.exists() {
        let (id, mark) = (&cell.keyed.id, mark.display());
        note(&format!("{id}: goes on with what --again began; without {mark} it would begin anew"));
        return Ok(());
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&folder)(error)),
        _ => {}
    }
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    sandglass_files::write(&mark, &[]).map_err(failed(&mark))
}

/// Where a cell's file is made.
fn folder_of<E: Experiment>(study: &Opened<E>, profile: &Profile<E::Setup>, cell: &Placed<E::Cell>) -> PathBuf {
    study.project.run_of(&study.head.name, &profile.name, &cell.keyed.id, &cell.keyed.hash)
}

/// A file that may not be there.
fn remove(path: &Path) -> Result<(), StudyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StudyError::io(path)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CellError {
    let path = path.display().to_string();
    move |error| CellError::Failed(format!("{path}: {error}"))
}

fn copy(from: &Path, to: &Path) -> Result<(), CellError> {
    let bytes = sandglass_files::read(from).map_err(failed(from))?;
    sandglass_files::write(to, &bytes).map_err(failed(to))
}

/// The file where it is kept, then predictions, then rows, then the manifest: whatever is interrupted, a row never speaks of
/// what is not there. Returns the measurement's summary.
fn finish<E: Experiment>(
    study: &Opened<E>,
    profile: &Profile<E::Setup>,
    cell: &Placed<E::Cell>,
    One { artefact, sha256, measurement, seconds }: One,
    blank: &Row,
) -> Result<String, CellError> {
    let blank = Row {
        synthetic: blank.synthetic || measurement.data.synthetic,
        data_hash: measurement.data.hash,
        engine: measurement.engine,
        checkpoint_hash: Some(sha256.clone()),
        made_by: artefact.made_by,
        made_from: artefact.made_from,
        seconds,
        ..blank.clone()
    };
    let values = measurement.values.iter().chain(&artefact.values);
    let rows: Vec<Row> = values.map(|value| row(value, blank.clone())).collect();
    check_rows(&rows).map_err(CellError::failed)?;
    if study.experiment.keeps(&profile.setup, &cell.keyed.cell) {
        let kept = study.project.checkpoints().join(kept_file(&cell.place));
        if let Some(beside) = &artefact.beside {
            copy(beside, &kept.with_extension("toml"))?;
        }
        copy(&artefact.path, &kept)?;
    }
    let answers = study.project.predictions();
    if let Some(boxes) = measurement.boxes {
        let detections = Detections { checkpoint: sha256, boxes };
        write_detections(&answers, cell.place.names(), &detections).map_err(CellError::failed)?;
    } else if !measurement.predictions.is_empty() {
        let predictions = Predictions { checkpoint: sha256, items: measurement.predictions };
        write_predictions(&answers, cell.place.names(), &predictions).map_err(CellError::failed)?;
    }
    write_cell(&study.project.rows(), &rows).map_err(CellError::failed)?;
    Manifest::refresh(study).map_err(CellError::failed)?;
    Ok(measurement.summary)
}

fn row(value: &Value, blank: Row) -> Row {
    let (samples_at, samples) = value.samples.iter().copied().unzip();
    Row {
        metric: value.metric.into(),
        unit: value.unit.into(),
        part: value.part.clone(),
        value: Some(value.value),
        n: value.n,
        samples,
        samples_at,
        once: value.again == Again::Once,
        ..blank
    }
}

/// A row without a result.
fn blank<E: Experiment>(
    study: &Opened<E>,
    profile: &Profile<E::Setup>,
    Placed { keyed, place, .. }: &Placed<E::Cell>,
    started: String,
    seconds: f64,
) -> Row {
    let (isa, threads) = study.experiment.runtime(&keyed.cell);
    let axes = keyed.cell.axes().into_iter().map(|(name, value)| Axis { name: name.into(), value });
    Row {
        study: place.study.clone(),
        profile: place.profile.clone(),
        cell: place.cell.clone(),
        axes: axes.collect(),
        dataset: keyed.cell.dataset(),
        synthetic: profile.synthetic,
        seed: keyed.cell.seed(),
        metric: study.experiment.headline(&keyed.cell).metric.into(),
        part: None,
        value: None,
        unit: String::new(),
        n: 0,
        status: Status::Ok,
        error: None,
        samples: Vec::new(),
        samples_at: Vec::new(),
        once: false,
        engine: None,
        commit: study.build.commit.clone(),
        dirty: study.build.dirty,
        made_by: Vec::new(),
        made_from: None,
        command: place.command(),
        cell_hash: keyed.hash.clone(),
        data_hash: String::new(),
        checkpoint_hash: None,
        machine: machine(),
        isa,
        threads,
        versions: study.build.versions.clone(),
        started,
        seconds,
    }
}

/// A file that one process holds at a time; the system gives it back when the process ends, however it ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    fn open(path: &Path) -> Result<File, StudyError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(StudyError::io(folder))?;
        }
        File::create(path).map_err(StudyError::io(path))
    }

    /// None where another process has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, StudyError> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StudyError::Io { path: path.into(), source }),
        }
    }

    /// Waits for it.
    pub fn wait(path: &Path) -> Result<Self, StudyError> {
        let file = Self::open(path)?;
        file.lock().map_err(StudyError::io(path))?;
        Ok(Self(file))
    }
}
