//! Where each cell of a table comes from: what opens when it is chosen.

use std::collections::BTreeMap;

use sandglass_study::claim::Verdict;
use sandglass_study::{Entry, Mark, Record};

/// All that opens: one for each cell of which an entry shows a row, and one for each set of rows.
pub(crate) struct Origins<'a> {
    records: &'a BTreeMap<String, Record>,
    /// Cells with their rows that the page shows, in the order in which it first shows one.
    cells: Vec<(&'a str, Vec<&'a Record>)>,
    /// Sets of several rows, likewise, and the place of each by the rows' ids.
    sets: Vec<Vec<&'a Record>>,
    places: BTreeMap<Vec<&'a str>, usize>,
    /// Where papers' values stand, likewise.
    printed: Vec<&'a str>,
}

/// What opens: a cell with the rows of it that are shown; several rows, each of which opens its cell; or where a paper's value
/// stands.
pub(crate) enum Origin<'a> {
    Cell { anchor: String, first: &'a Record, rows: &'a [&'a Record] },
    Several { anchor: String, records: Vec<(String, &'a Record)> },
    Printed { anchor: String, stands: &'a str },
}

impl<'a> Origins<'a> {
    pub fn of(records: &'a BTreeMap<String, Record>, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut origins =
            Self { records, cells: Vec::new(), sets: Vec::new(), places: BTreeMap::new(), printed: Vec::new() };
        for entry in entries {
            let stands = entry.printed_in.as_deref().filter(|stands| !origins.printed.contains(stands));
            origins.printed.extend(stands);
            let rows = origins.known(entry);
            for row in &rows {
                match origins.cells.iter_mut().find(|(cell, _)| *cell == row.cell) {
                    Some((_, shown)) if shown.iter().all(|other| other.id != row.id) => shown.push(row),
                    Some(_) => {}
                    None => origins.cells.push((&row.cell, vec![row])),
                }
            }
            if rows.len() > 1 && !origins.places.contains_key(&ids(&rows)) {
                origins.places.insert(ids(&rows), origins.sets.len());
                origins.sets.push(rows);
            }
        }
        origins
    }

    /// Rows of an entry of which something is known.
    fn known(&self, entry: &Entry) -> Vec<&'a Record> {
        let mut rows: Vec<&Record> = Vec::new();
        for row in entry.rows.iter().filter_map(|row| self.records.get(row)) {
            if rows.iter().all(|other| other.id != row.id) {
                rows.push(row);
            }
        }
        rows
    }

    /// The anchor of what opens at an entry.
    pub fn anchor(&self, entry: &Entry) -> Option<String> {
        let rows = self.known(entry);
        match rows[..] {
            [] => {
                let stands = self.printed.iter().position(|stands| Some(*stands) == entry.printed_in.as_deref());
                stands.map(of_printed)
            }
            [row] => Some(of_cell(&row.cell)),
            _ => self.places.get(&ids(&rows)).copied().map(of_set),
        }
    }

    pub fn all(&self) -> Vec<Origin<'_>> {
        let cells = self.cells.iter().filter_map(|(cell, rows)| {
            let first = rows.first()?;
            Some(Origin::Cell { anchor: of_cell(cell), first, rows })
        });
        let several = self.sets.iter().enumerate().map(|(at, set)| {
            let records = set.iter().map(|row| (of_cell(&row.cell), *row)).collect();
            Origin::Several { anchor: of_set(at), records }
        });
        let printed = |(at, &stands): (usize, &&'a str)| Origin::Printed { anchor: of_printed(at), stands };
        cells.chain(several).chain(self.printed.iter().enumerate().map(printed)).collect()
    }
}

fn ids<'a>(rows: &[&'a Record]) -> Vec<&'a str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

/// Short, for a page has thousands, and the same in every report.
fn of_cell(cell: &str) -> String {
    format!("cell.{}", sandglass_files::sha256(cell.as_bytes()).chars().take(12).collect::<String>())
}

fn of_set(at: usize) -> String {
    format!("rows.{at}")
}

fn of_printed(at: usize) -> String {
    format!("printed.{at}")
}

/// A text as an anchor: letters, digits, `-`, `_` and `.`.
pub(crate) fn anchor(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '.' }).collect()
}

/// The class by which a style knows the kind of an entry.
pub(crate) trait Kind {
    fn class(&self) -> &'static str;
}

impl Kind for Entry {
    fn class(&self) -> &'static str {
        class(self.mark)
    }
}

const fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Plain => "plain",
        Mark::Paper(_) => "paper",
        Mark::Ours => "ours",
        Mark::Partial => "partial",
        Mark::Failed | Mark::Skipped | Mark::Stale | Mark::Damaged | Mark::Gone => "lost",
        Mark::Missing => "missing",
        Mark::Verdict(Verdict::Equal | Verdict::Reproduced) => "yes",
        Mark::Verdict(Verdict::SameDirection | Verdict::TooFew) => "open",
        Mark::Verdict(Verdict::NotReproduced | Verdict::Contradicted | Verdict::NotEqual) => "no",
        Mark::Verdict(Verdict::NotTested) => "missing",
    }
}
