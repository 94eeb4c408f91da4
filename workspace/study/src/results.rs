//! What an experiment's section is made of: every cell with its rows. Nothing is run here.

use sandglass_ledger::{Ledger, Row, Status};

use crate::opened::{Placed, ProfileCells};
use crate::{Experiment, Head, Lost, Opened, Profile, State};

/// A study's cells and what was measured of them.
pub struct Results<'a, E: Experiment> {
    pub experiment: &'a E,
    pub head: &'a Head,
    pub design: &'a E::Design,
    /// In the order of the file.
    pub scales: Vec<Scale<'a, E>>,
}

/// One profile.
pub struct Scale<'a, E: Experiment> {
    pub profile: &'a Profile<E::Setup>,
    pub cells: Vec<CellResult<'a, E::Cell>>,
    /// Rows of the profile that no cell claims.
    strangers: Vec<&'a Row>,
}

/// One cell.
pub struct CellResult<'a, C> {
    pub id: &'a str,
    pub cell: &'a C,
    pub state: State,
    /// `study/profile` of the lender, where it is another's.
    pub lender: Option<String>,
    /// Rows of this very definition; of a stale cell none.
    pub rows: Vec<&'a Row>,
    /// Why there are none, where there were some.
    pub lost: Option<Lost>,
    stale: Option<&'a Row>,
}

impl<'a, E: Experiment> Scale<'a, E> {
    pub(crate) fn new(opened: &'a Opened<E>, &ProfileCells { profile, cells }: &ProfileCells<'a, E>) -> Self {
        let (study, ledger) = (opened.head.name.as_str(), &opened.ledger);
        let is_own = |row: &&Row| cells.iter().any(|cell| !cell.is_borrowed && cell.place.cell == row.cell);
        let strangers = ledger.of(study, &profile.name).filter(|row| !is_own(row)).collect();
        let cells = cells.iter().map(|placed| CellResult::new(placed, ledger, opened)).collect();
        Self { profile, cells, strangers }
    }

    /// How many cells are not done, and how many there are.
    pub fn open(&self) -> (usize, usize) {
        let done = self.cells.iter().filter(|cell| cell.state == State::Done).count();
        (self.cells.len() - done, self.cells.len())
    }

    /// Rows that are not used, and why.
    pub fn problems(&self) -> Vec<String> {
        // Of a borrowed one its lender tells.
        let stale = self.cells.iter().filter(|cell| cell.lender.is_none()).filter_map(|cell| cell.stale);
        let stale = stale.map(|row| {
            format!("{}: stale, the cell's definition has changed or its checkpoint was trained anew", row.id())
        });
        let mut strangers: Vec<String> =
            self.strangers.iter().map(|row| format!("{}: the study has no such cell", row.id())).collect();
        // One line a cell is enough.
        strangers.dedup_by(|a, b| a.split('#').next() == b.split('#').next());
        stale.chain(strangers).collect()
    }
}

impl<'a, C> CellResult<'a, C> {
    fn new<E: Experiment<Cell = C>>(placed: &'a Placed<C>, ledger: &'a Ledger, opened: &Opened<E>) -> Self {
        let [study, profile, cell] = placed.place.names();
        let state = opened.state(placed, ledger);
        let all = ledger.cell(study, profile, cell);
        let (stale, rows): (Vec<&Row>, Vec<&Row>) = all.partition(|_| state == State::Stale);
        Self {
            id: &placed.keyed.id,
            cell: &placed.keyed.cell,
            state,
            lender: placed.is_borrowed.then(|| format!("{study}/{profile}")),
            rows,
            lost: opened.lost(placed),
            stale: stale.first().copied(),
        }
    }

    /// The row of a metric of the whole.
    pub fn row(&self, metric: &str) -> Option<&'a Row> {
        self.row_of(metric, None)
    }

    /// The row of a metric of a part, or of the whole.
    pub fn row_of(&self, metric: &str, part: Option<&str>) -> Option<&'a Row> {
        self.rows.iter().find(|row| row.metric == metric && row.part.as_deref() == part).copied()
    }

    /// The value of a metric of the whole.
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.row(metric)?.value
    }

    /// Why there is no value.
    pub fn reason(&self) -> Option<(Status, &'a str)> {
        self.rows.iter().find_map(|row| Some((row.status, row.error.as_deref()?)))
    }
}
