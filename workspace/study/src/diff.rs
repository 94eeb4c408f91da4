//! What changed between two folders of rows.

use std::collections::BTreeMap;

use sandglass_ledger::{Ledger, Row, Status};

use crate::{Entry, Mark, Shown, Table};

/// What a metric of a cell is in a folder: one row, or one for each part.
type Rows<'a> = BTreeMap<String, &'a Row>;

/// A line for every metric of a cell that is new, gone or changed, and for every verdict that changed.
pub fn diff(first: (&Ledger, &Shown), second: (&Ledger, &Shown)) -> Table {
    let mut table =
        Table::new([("what", false), ("before", true), ("after", true), ("difference", true), ("also differs", false)]);
    for (id, verdict) in &second.1.claims {
        let before = first.1.claims.get(id).map_or("\u{2013}", String::as_str);
        if before != verdict {
            table.push([format!("claim {id}"), before.to_owned(), verdict.clone(), String::new(), String::new()]);
        }
    }
    for (id, verdict) in first.1.claims.iter().filter(|(id, _)| !second.1.claims.contains_key(*id)) {
        table.push([format!("claim {id}"), verdict.clone(), "\u{2013}".to_owned(), String::new(), String::new()]);
    }
    let (before, after) = (by_metric(first.0), by_metric(second.0));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let none = Rows::new();
    for name in names {
        let (a, b) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        if let Some(line) = line(name, a, b) {
            table.push(line);
        }
    }
    for problem in second.0.problems.iter().filter(|problem| !first.0.problems.contains(problem)) {
        let entry = Entry::new(problem.reason.clone(), Mark::Damaged, Vec::new());
        table.push([
            problem.path.display().to_string().into(),
            Entry::default(),
            entry,
            Entry::default(),
            Entry::default(),
        ]);
    }
    table
}

/// By `study/profile/cell#metric`, then by part.
fn by_metric(ledger: &Ledger) -> BTreeMap<String, Rows<'_>> {
    let mut all: BTreeMap<String, Rows<'_>> = BTreeMap::new();
    for row in &ledger.rows {
        let name = format!("{}/{}/{}#{}", row.study, row.profile, row.cell, row.metric);
        all.entry(name).or_default().insert(row.part.clone().unwrap_or_default(), row);
    }
    all
}

/// None where nothing changed.
fn line(name: &str, before: &Rows<'_>, after: &Rows<'_>) -> Option<[Entry; 5]> {
    if before == after {
        return None;
    }
    let (a, b) = (one(before), one(after));
    let difference = match (a, b) {
        (Some(a), Some(b)) => a.value.zip(b.value).map_or_else(String::new, |(a, b)| format!("{:+}", b - a)),
        _ => String::new(),
    };
    let changed = before.iter().filter(|(part, row)| after.get(*part).is_some_and(|other| other.value != row.value));
    let also = match (a, b) {
        (Some(a), Some(b)) => differs(a, b),
        _ if !before.is_empty() && !after.is_empty() => format!("{} parts have other values", changed.count()),
        _ => String::new(),
    };
    Some([name.to_owned().into(), text(before), text(after), difference.into(), also.into()])
}

/// The row of the whole, where there are no parts.
fn one<'a>(rows: &Rows<'a>) -> Option<&'a Row> {
    if rows.len() == 1 { rows.get("").copied() } else { None }
}

fn text(rows: &Rows<'_>) -> Entry {
    match one(rows) {
        Some(Row { status: Status::Ok, value: Some(value), unit, .. }) => {
            format!("{value} {unit}").trim_end().to_owned().into()
        }
        Some(row) => Entry::new(row.status.word(), Mark::Failed, Vec::new()),
        None if rows.is_empty() => Entry::new("\u{2013}", Mark::Missing, Vec::new()),
        None => format!("{} parts", rows.len()).into(),
    }
}

/// What else than the value tells the two apart.
fn differs(a: &Row, b: &Row) -> String {
    let fields = [
        ("definition", a.cell_hash != b.cell_hash),
        ("checkpoint", a.checkpoint_hash != b.checkpoint_hash),
        ("data", a.data_hash != b.data_hash),
        ("n", a.n != b.n),
        ("commit", a.commit != b.commit || a.dirty != b.dirty),
        ("machine", a.machine != b.machine || a.isa != b.isa),
        ("threads", a.threads != b.threads),
        ("samples", a.samples != b.samples),
    ];
    let names: Vec<&str> = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    names.join(", ")
}
