//! Where each cell of a table comes from: what opens when it is chosen.

use std::collections::BTreeMap;

use sandglass_study::claim::Verdict;
use sandglass_study::{Entry, Mark, Record};

/// All that opens: one for each row that an entry shows, and one for each set of rows.
pub(crate) struct Origins<'a> {
    records: &'a BTreeMap<String, Record>,
    /// Ids of rows by the anchor under which they open, in the order in which the page first shows them.
    sets: Vec<Vec<String>>,
    anchors: BTreeMap<Vec<String>, String>,
    /// Where papers' values stand, in the order in which the page first shows one.
    printed: Vec<&'a str>,
}

/// What opens: several rows, each of which opens in turn, or one; or where a paper's value stands.
pub(crate) enum Origin<'a> {
    One { anchor: &'a str, record: &'a Record },
    Several { anchor: &'a str, records: Vec<(&'a str, &'a Record)> },
    Printed { anchor: String, stands: &'a str },
}

impl<'a> Origins<'a> {
    pub fn of(records: &'a BTreeMap<String, Record>, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut origins = Self { records, sets: Vec::new(), anchors: BTreeMap::new(), printed: Vec::new() };
        for entry in entries {
            let stands = entry.printed_in.as_deref().filter(|stands| !origins.printed.contains(stands));
            origins.printed.extend(stands);
            let rows = origins.known(entry);
            for row in &rows {
                origins.add(vec![row.clone()]);
            }
            if rows.len() > 1 {
                origins.add(rows);
            }
        }
        origins
    }

    /// Rows of an entry of which something is known.
    fn known(&self, entry: &Entry) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for row in &entry.rows {
            if self.records.contains_key(row) && !rows.contains(row) {
                rows.push(row.clone());
            }
        }
        rows
    }

    fn add(&mut self, rows: Vec<String>) {
        if rows.is_empty() || self.anchors.contains_key(&rows) {
            return;
        }
        let anchor = match &rows[..] {
            [row] => of_row(row),
            _ => format!("rows.{}", self.sets.len()),
        };
        self.anchors.insert(rows.clone(), anchor);
        self.sets.push(rows);
    }

    /// The anchor of what opens at an entry.
    pub fn anchor(&self, entry: &Entry) -> Option<String> {
        let printed = || self.printed.iter().position(|stands| Some(*stands) == entry.printed_in.as_deref());
        self.anchors.get(&self.known(entry)).cloned().or_else(|| printed().map(of_printed))
    }

    pub fn all(&self) -> Vec<Origin<'_>> {
        let of = |rows: &Vec<String>| {
            let anchor = self.anchors.get(rows)?.as_str();
            let one =
                |row: &String| Some((self.anchors.get(std::slice::from_ref(row))?.as_str(), self.records.get(row)?));
            let records: Vec<(&str, &Record)> = rows.iter().filter_map(one).collect();
            match records[..] {
                [(_, record)] => Some(Origin::One { anchor, record }),
                _ => Some(Origin::Several { anchor, records }),
            }
        };
        let printed = |(at, &stands): (usize, &&'a str)| Origin::Printed { anchor: of_printed(at), stands };
        self.sets.iter().filter_map(of).chain(self.printed.iter().enumerate().map(printed)).collect()
    }
}

/// Short, for a page has thousands, and the same in every report.
fn of_row(id: &str) -> String {
    format!("row.{}", sandglass_files::sha256(id.as_bytes()).chars().take(12).collect::<String>())
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
