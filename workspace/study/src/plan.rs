//! The cells of a profile with their state and expected time.

use sandglass_ledger::{Ledger, Status};
use serde::Serialize;

use crate::cell::{self, Cell};
use crate::study::{Profile, Study};
use crate::{StudyError, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No rows.
    Missing,
    Done,
    /// Its row says why.
    Failed,
    Skipped,
    /// Its rows are of another definition of the cell.
    Stale,
}

#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub cell: String,
    pub state: State,
    /// Expected wall time on two cores.
    pub expected_seconds: f64,
    /// What it took, where it is done.
    pub seconds: Option<f64>,
    pub error: Option<String>,
    /// Runs this cell alone.
    pub command: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub study: String,
    pub profile: String,
    /// Expected wall time of all that is not done.
    pub remaining_seconds: f64,
    pub cells: Vec<Planned>,
}

/// Runs this cell alone.
pub fn command(study: &str, profile: &str, cell: &str) -> String {
    format!("sandglass run {study} --profile {profile} --cell {cell}")
}

impl Plan {
    pub fn of(study: &Study, profile: &Profile, ledger: &Ledger) -> Result<Self, StudyError> {
        let cells = cell::cells(study, profile)?;
        let madds = cells.iter().map(Cell::madds).collect::<Result<Vec<f64>, _>>()?;
        let seconds_per_madd = profile.minutes * 60.0 / madds.iter().sum::<f64>();
        let planned = cells.iter().zip(madds).map(|(cell, madds)| {
            let row = ledger.cell(&study.name, &profile.name, &cell.id).next();
            let state = match row {
                None => State::Missing,
                Some(row) if row.recipe_hash != cell.hash() => State::Stale,
                Some(row) => match row.status {
                    Status::Ok => State::Done,
                    Status::Failed => State::Failed,
                    Status::Skipped => State::Skipped,
                },
            };
            Planned {
                cell: cell.id.clone(),
                state,
                expected_seconds: madds * seconds_per_madd,
                seconds: row.filter(|_| state == State::Done).map(|row| row.seconds),
                error: row.and_then(|row| row.error.clone()),
                command: command(&study.name, &profile.name, &cell.id),
            }
        });
        let cells: Vec<Planned> = planned.collect();
        let open = cells.iter().filter(|cell| cell.state != State::Done);
        // Not `sum`: of nothing that is -0.
        let remaining_seconds = open.map(|cell| cell.expected_seconds).fold(0.0, |sum, seconds| sum + seconds);
        Ok(Self { study: study.name.clone(), profile: profile.name.clone(), remaining_seconds, cells })
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new([("cell", false), ("state", false), ("expected", true), ("took", true)]);
        for cell in &self.cells {
            let state = match &cell.error {
                Some(error) => format!("{}: {error}", word(cell.state)),
                None => word(cell.state).to_owned(),
            };
            let took = cell.seconds.map_or_else(String::new, duration);
            table.push([cell.cell.clone(), state, duration(cell.expected_seconds), took]);
        }
        table
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Missing => "missing",
        State::Done => "done",
        State::Failed => "failed",
        State::Skipped => "skipped",
        State::Stale => "stale",
    }
}

/// Such as `45 s`, `12 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
