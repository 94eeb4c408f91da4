//! Checkpoints against rows: the hash of every file at hand, and some or all of them measured again.

use std::path::PathBuf;

use sandglass_files::sha256_file;
use sandglass_ledger::{Answers, Row, Status, predictions_path, read_answers};

use crate::manifest::{Listed, Manifest};
use crate::opened::{Placed, ProfileCells};
use crate::{Again, Artefact, Axes, CellError, Experiment, Measurement, Opened, State, StudyError};

/// Which checkpoints are measured again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    None,
    /// The cheapest of each kind, such as the narrowest of each network.
    #[default]
    Smallest,
    All,
}

/// What was found. No disagreement is left out; `unavailable` could not be looked at here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Cells whose checkpoint was measured and equals its row.
    pub equal: Vec<String>,
    /// Cell and reason.
    pub unavailable: Vec<String>,
    /// Cell and what differs.
    pub different: Vec<String>,
}

/// Where a cell's checkpoint is found.
enum Checkpoint<'a> {
    Listed(&'a Listed),
    /// By the experiment, wherever it was found before.
    Found,
}

/// Looks at the cached checkpoints of one profile. What is borrowed is its lender's to look at.
pub(crate) fn verify<E: Experiment>(
    study: &Opened<E>,
    &ProfileCells { profile, cells }: &ProfileCells<'_, E>,
    manifest: &Manifest,
    which: Verify,
) -> Verdict {
    let mut verdict = Verdict::default();
    let own: Vec<&Placed<E::Cell>> = cells.iter().filter(|cell| !cell.is_borrowed).collect();
    for cell in &own {
        let id = &cell.keyed.id;
        let [name, of, at] = cell.place.names();
        let rows: Vec<&Row> = study.ledger.cell(name, of, at).collect();
        let measured = rows.iter().any(|row| row.status == Status::Ok);
        let state = study.state(cell, &study.ledger);
        if state == State::Stale {
            verdict.unavailable.push(format!("{id}: its rows are stale"));
            continue;
        }
        let is_asked = study.experiment.keeps(&profile.setup, &cell.keyed.cell);
        let (checkpoint, again) = match manifest.find(&cell.place) {
            // That its rows are damaged or gone is told where all such rows are.
            Some(_) if !measured => {
                verdict.unavailable.push(format!("{id}: a checkpoint is listed, but no row has a result"));
                continue;
            }
            Some(entry) => {
                let smallest = || is_smallest(study, cell, &own, manifest);
                (Checkpoint::Listed(entry), which == Verify::All || which == Verify::Smallest && smallest())
            }
            None if is_asked && state == State::Done => {
                verdict.different.push(format!("{id}: its checkpoint is to be kept, and is not listed"));
                continue;
            }
            None if measured && which == Verify::All && study.experiment.is_found(&cell.keyed.cell) => {
                (Checkpoint::Found, true)
            }
            None => continue,
        };
        match compare(study, cell, checkpoint, &rows, again) {
            Ok(true) => verdict.equal.push(id.clone()),
            Ok(false) => {}
            Err(CellError::Skipped(reason)) => verdict.unavailable.push(format!("{id}: {reason}")),
            Err(error) => verdict.different.push(format!("{id}: {error}")),
        }
    }
    verdict
}

/// Of the listed cells with its first axis, it has the least share.
fn is_smallest<E: Experiment>(
    study: &Opened<E>,
    cell: &Placed<E::Cell>,
    cells: &[&Placed<E::Cell>],
    manifest: &Manifest,
) -> bool {
    let kind = |cell: &Placed<E::Cell>| cell.keyed.cell.axes().into_iter().next();
    let share = |cell: &Placed<E::Cell>| study.experiment.share(&cell.keyed.cell);
    let listed = cells.iter().filter(|other| manifest.find(&other.place).is_some());
    // Of several seeds the first.
    let least = listed.filter(|other| kind(other) == kind(cell)).min_by(|a, b| share(a).total_cmp(&share(b)));
    least.is_some_and(|least| least.keyed.id == cell.keyed.id)
}

/// True where the checkpoint was measured and agrees, false where only its hash was compared.
fn compare<E: Experiment>(
    study: &Opened<E>,
    cell: &Placed<E::Cell>,
    checkpoint: Checkpoint<'_>,
    rows: &[&Row],
    again: bool,
) -> Result<bool, CellError> {
    let file = match &checkpoint {
        Checkpoint::Listed(entry) => {
            // Digits of a hash are the same in capitals.
            let listed =
                |row: &&&Row| row.checkpoint_hash.as_ref().is_some_and(|hash| hash.eq_ignore_ascii_case(&entry.sha256));
            if let Some(row) = rows.iter().find(|row| !listed(row)) {
                return Err(CellError::Failed(format!("the checkpoint listed is not that of row {}", row.id())));
            }
            let Some(path) = locate(study, entry, again)? else { return Ok(false) };
            let hash = sha256_file(&path).map_err(CellError::failed)?;
            if !hash.eq_ignore_ascii_case(&entry.sha256) {
                return Err(CellError::Failed(format!("{} has SHA-256 {hash}, not {}", path.display(), entry.sha256)));
            }
            Artefact::found(path)
        }
        Checkpoint::Found => {
            let [name, profile, _] = cell.place.names();
            let folder = study.project.run_of(name, profile, &cell.keyed.id, &cell.keyed.hash);
            let file = study.experiment.prepare(&cell.keyed.cell, &folder)?;
            let hash = sha256_file(&file.path).map_err(CellError::failed)?;
            let differs = |row: &&&Row| row.checkpoint_hash.as_ref().is_some_and(|of| !of.eq_ignore_ascii_case(&hash));
            if let Some(row) = rows.iter().find(differs) {
                return Err(CellError::Failed(format!("{} is not the file of row {}", file.path.display(), row.id())));
            }
            file
        }
    };
    if !again {
        return Ok(false);
    }
    let engine = rows.first().and_then(|row| row.engine.as_deref());
    let measured = study.experiment.measure(&cell.keyed.cell, &file, engine)?;
    let now = |row: &Row| {
        let of_row = |value: &&crate::Value| value.metric == row.metric && value.part == row.part;
        measured.values.iter().find(of_row).filter(|value| value.again == Again::Exact)
    };
    let mut compared = 0;
    for row in rows.iter().filter(|row| !row.once) {
        let (metric, committed) = (&row.metric, row.value.map_or("nothing".into(), |value| value.to_string()));
        let Some(value) = now(row) else {
            return Err(CellError::Failed(format!("{metric} is not measured now, {committed} in the row")));
        };
        if row.value != Some(value.value) {
            return Err(CellError::Failed(format!("{metric} is {} now, {committed} in the row", value.value)));
        }
        if row.n != value.n || row.data_hash != measured.data.hash {
            return Err(CellError::Failed(format!("the data set is not that of row {}", row.id())));
        }
        compared += 1;
    }
    compare_answers(study, cell, rows, &measured)?;
    Ok(compared > 0)
}

/// Rows from before predictions were kept name no data that the file was made from, and detectors' are older than their
/// detections; all others have them beside them, unless there is nothing to predict. What is gone the report's index tells.
fn compare_answers<E: Experiment>(
    study: &Opened<E>,
    cell: &Placed<E::Cell>,
    rows: &[&Row],
    measured: &Measurement,
) -> Result<(), CellError> {
    let place = cell.place.names();
    let path = predictions_path(&study.project.predictions(), place);
    let may_be_old = measured.boxes.is_some() || rows.iter().all(|row| row.made_from.is_none());
    if measured.predictions.is_empty() && measured.boxes.is_none() || may_be_old && !path.exists() {
        return Ok(());
    }
    let failed = |reason: &dyn std::fmt::Display| CellError::Failed(format!("{}: {reason}", path.display()));
    let kept = read_answers(&study.project.predictions(), place).map_err(|error| failed(&error))?;
    if rows.iter().any(|row| row.checkpoint_hash.as_deref() != Some(kept.checkpoint())) {
        return Err(failed(&"of another checkpoint than the rows"));
    }
    let is_same = match &kept {
        Answers::Labels(kept) => kept.items == measured.predictions,
        Answers::Boxes(kept) => measured.boxes.as_ref().is_some_and(|boxes| kept.boxes.agree(boxes)),
    };
    if is_same { Ok(()) } else { Err(failed(&"not what the checkpoint answers now")) }
}

/// The file, fetched from the hub only if it is to be measured.
fn locate<E: Experiment>(study: &Opened<E>, entry: &Listed, again: bool) -> Result<Option<PathBuf>, CellError> {
    match (&entry.file, &entry.hub) {
        (Some(file), None) => {
            let path = study.project.checkpoints().join(file);
            if path.is_file() {
                Ok(Some(path))
            } else {
                Err(CellError::Failed(format!("{} is missing", path.display())))
            }
        }
        (None, Some(_)) if !again => Ok(None),
        (None, Some(_)) => study.experiment.fetch(entry).map(Some),
        _ => Err(CellError::Failed("the manifest needs either file or hub".into())),
    }
}

impl<E: Experiment> Opened<E> {
    /// Compares cached checkpoints with their rows, tells what was compared.
    ///
    /// # Errors
    /// Any difference.
    pub(crate) fn verify_kept(&self, which: Verify, only: Option<&str>) -> Result<(), StudyError> {
        let manifest = Manifest::read(&self.project)?;
        let mut different = Vec::new();
        for of_profile in self.profiles(only)? {
            let name = &of_profile.profile.name;
            let verdict = verify(self, &of_profile, &manifest, which);
            for cell in &verdict.equal {
                crate::tell(format_args!("evaluated again, equal to its row: {name}/{cell}"));
            }
            for reason in &verdict.unavailable {
                crate::tell(format_args!("not evaluated: {name}/{reason}"));
            }
            different.extend(verdict.different.iter().map(|reason| format!("{name}/{reason}")));
        }
        if different.is_empty() { Ok(()) } else { Err(StudyError::Disagree(different.join("; "))) }
    }
}
