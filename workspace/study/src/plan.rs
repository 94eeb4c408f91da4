//! The cells of a profile with their state and expected time.

use sandglass_ledger::{Ledger, Row, Status};
use serde::Serialize;

use crate::manifest::kept_file;
use crate::opened::ProfileCells;
use crate::{Experiment, Opened, Place, StudyError, Table, duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No rows.
    Missing,
    Done,
    /// Its row says why.
    Failed,
    Skipped,
    /// Its rows are of another definition of the cell, or of a checkpoint that has been trained anew since.
    Stale,
}

impl State {
    /// Of a cell with this hash and these rows.
    pub fn of(rows: &[&Row], hash: &str) -> Self {
        match rows.first() {
            None => State::Missing,
            Some(row) if row.cell_hash != hash => State::Stale,
            Some(row) => match row.status {
                Status::Ok => State::Done,
                Status::Failed => State::Failed,
                Status::Skipped => State::Skipped,
            },
        }
    }

    const fn word(self) -> &'static str {
        match self {
            State::Missing => "missing",
            State::Done => "done",
            State::Failed => "failed",
            State::Skipped => "skipped",
            State::Stale => "stale",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub cell: String,
    pub state: State,
    /// Expected wall time on two cores; 0 for a cell that is borrowed.
    pub expected_seconds: f64,
    /// What it took, where it is done.
    pub seconds: Option<f64>,
    pub error: Option<String>,
    /// Runs this cell alone.
    pub command: String,
    /// `study/profile` whose cell it is, where it is another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lender: Option<String>,
    /// Runs the cell of another study that must be done before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub study: String,
    pub profile: String,
    /// Expected wall time of all that is not done.
    pub remaining_seconds: f64,
    pub cells: Vec<Planned>,
}

impl Plan {
    pub(crate) fn of<E: Experiment>(of: &Opened<E>, profile: Option<&str>) -> Result<Self, StudyError> {
        let ProfileCells { profile, cells } = of.profile(profile)?;
        let ledger: &Ledger = &of.ledger;
        let shares: Vec<f64> = cells
            .iter()
            .map(|cell| if cell.is_borrowed { 0.0 } else { of.experiment.share(&cell.keyed.cell) })
            .collect();
        let all = shares.iter().sum::<f64>();
        let seconds_per_share = if all > 0.0 { profile.minutes * 60.0 / all } else { 0.0 };
        let planned = cells.iter().zip(shares).map(|(cell, share)| {
            let [study, profile, id] = cell.place.names();
            let rows: Vec<&Row> = ledger.cell(study, profile, id).collect();
            let state = of.state(cell, ledger);
            let row = rows.first();
            let needs = of.experiment.needs(&cell.keyed.cell).filter(|_| state != State::Done);
            let is_done = |place: &Place| {
                let [study, profile, id] = place.names();
                let has_rows = ledger.cell(study, profile, id).any(|row| row.status == Status::Ok);
                has_rows && of.project.checkpoints().join(kept_file(place)).is_file()
            };
            Planned {
                cell: cell.keyed.id.clone(),
                state,
                expected_seconds: share * seconds_per_share,
                seconds: row.filter(|_| state == State::Done).map(|row| row.seconds),
                error: row.and_then(|row| row.error.clone()),
                command: cell.place.command(),
                lender: cell.is_borrowed.then(|| format!("{study}/{profile}")),
                after: needs.filter(|place| !is_done(place)).map(|place| place.command()),
            }
        });
        let cells: Vec<Planned> = planned.collect();
        let open = cells.iter().filter(|cell| cell.state != State::Done);
        // Not `sum`: of nothing that is -0.
        let remaining_seconds = open.map(|cell| cell.expected_seconds).fold(0.0, |sum, seconds| sum + seconds);
        Ok(Self { study: of.head.name.clone(), profile: profile.name.clone(), remaining_seconds, cells })
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new([("cell", false), ("state", false), ("expected", true), ("took", true)]);
        for cell in &self.cells {
            let state = match (&cell.error, &cell.lender) {
                (Some(error), _) => format!("{}: {error}", cell.state.word()),
                (None, Some(lender)) => format!("{}, of {lender}", cell.state.word()),
                (None, None) => cell.state.word().to_owned(),
            };
            let state = match &cell.after {
                Some(command) => format!("{state}, after {command}"),
                None => state,
            };
            let took = cell.seconds.map_or_else(String::new, duration);
            table.push([cell.cell.clone(), state, duration(cell.expected_seconds), took]);
        }
        table
    }
}
