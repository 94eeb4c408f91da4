//! What was measured at a scale: cells, the same checkpoints in f32, and the pairs of the two families.

use sandglass_lab::told::right;
use sandglass_ledger::{Row, Status};
use sandglass_study::{CellResult, Entry, Mark, Results, Scale};

use crate::paired::{Interval, Right, drop};
use crate::{Cell, Quant, Scored, Source};

/// What was measured of one cell.
pub(crate) struct Measured<'a> {
    result: &'a CellResult<'a, Cell>,
    pub cell: &'a Scored,
    /// Empty where the predictions are not at hand.
    pub right: Right,
}

/// One profile's cells that have a value.
pub(crate) struct Measurements<'a> {
    pub title: &'a str,
    pub note: &'a str,
    pub synthetic: bool,
    pub name: &'a str,
    pub open: (usize, usize),
    /// It is not times alone.
    pub scores: bool,
    pub cells: Vec<Measured<'a>>,
}

/// A network of each family, of one width and seed, under one scheme: in f32 and in 8 bits.
pub(crate) struct Pair<'m, 'a> {
    pub first: [&'m Measured<'a>; 2],
    pub second: [&'m Measured<'a>; 2],
}

impl Pair<'_, '_> {
    pub fn width(&self) -> f64 {
        self.first[1].cell.network.width
    }
}

impl<'a> Measured<'a> {
    pub fn value(&self, metric: &str) -> Option<f64> {
        self.result.value(metric)
    }

    /// Values of a metric by their parts, which come back sorted by name.
    pub fn parts(&self, metric: &str) -> Vec<(&'a str, f64)> {
        let rows = self.result.rows.iter().filter(|row| row.metric == metric);
        rows.filter_map(|row| Some((row.part.as_deref()?, row.value?))).collect()
    }

    /// Scheme, and the number of images where it is not the design's.
    pub fn scheme(&self) -> String {
        match self.cell.shows_images {
            true => format!("{}, {} images", self.cell.scheme_name, self.cell.images),
            false => self.cell.scheme_name.clone(),
        }
    }

    pub fn network(&self) -> String {
        self.cell.network.to_string()
    }

    pub fn row(&self) -> Option<&'a Row> {
        self.result.row("top1")
    }

    /// Of these cells' rows.
    pub fn entry(text: String, of: &[&Self]) -> Entry {
        let rows = of.iter().filter_map(|measured| Some(measured.row()?.id()));
        Entry::new(text, Mark::Ours, rows.collect())
    }

    pub fn is_of_same_checkpoint(&self, other: &Scored) -> bool {
        let key = |cell: &Scored| match &cell.source {
            Source::Kept(from) => from.clone(),
            Source::Given { name, .. } => name.clone(),
        };
        let (own, theirs) = (&self.cell.network, &other.network);
        own == theirs && self.cell.seed == other.seed && key(self.cell) == key(other)
    }
}

impl<'a> Measurements<'a> {
    pub fn of(results: &Results<'a, Quant>, scale: &'a Scale<'a, Quant>) -> Self {
        let measured = |result: &'a CellResult<'a, Cell>| {
            let cell = result.cell.scored()?;
            result.row("top1").filter(|row| row.status == Status::Ok)?;
            // What cannot be read is told among the problems, see `unreadable`.
            let right = right(&results.experiment.project, result).ok()?;
            Some(Measured { result, cell, right })
        };
        Self {
            title: &scale.profile.title,
            note: &scale.profile.note,
            synthetic: scale.profile.synthetic,
            name: &scale.profile.name,
            open: scale.open(),
            scores: scale.cells.iter().any(|result| result.cell.scored().is_some()),
            cells: scale.cells.iter().filter_map(measured).collect(),
        }
    }

    pub fn compares_families(&self) -> bool {
        self.cells.iter().any(|measured| matches!(measured.cell.source, Source::Kept(_)))
    }

    /// The same checkpoint in f32.
    pub fn float(&self, of: &Scored) -> Option<&Measured<'a>> {
        self.cells.iter().find(|other| other.cell.scheme.is_none() && other.is_of_same_checkpoint(of))
    }

    /// Points lost to the scheme.
    pub fn drop(&self, measured: &Measured) -> Option<Interval> {
        drop(&self.float(measured.cell)?.right, &measured.right)
    }

    /// In the order of the cells.
    pub fn schemes(&self) -> Vec<String> {
        distinct(self.cells.iter().filter(|measured| measured.cell.scheme.is_some()).map(Measured::scheme))
    }

    pub fn widths(&self) -> Vec<f64> {
        let mut widths: Vec<f64> = self.cells.iter().map(|measured| measured.cell.network.width).collect();
        widths.sort_by(|a, b| b.total_cmp(a));
        widths.dedup();
        widths
    }

    pub fn pairs(&self, [first, second]: [&str; 2], scheme: &str) -> Vec<Pair<'_, 'a>> {
        let of = |network: &'_ str| {
            let network = network.to_owned();
            self.cells.iter().filter(move |measured| measured.network() == network && measured.scheme() == scheme)
        };
        let pair = |a: &'_ Measured<'a>| -> Option<Pair<'_, 'a>> {
            let place = |measured: &Measured| (measured.cell.network.width, measured.cell.seed);
            let a = self.cells.iter().find(|other| std::ptr::eq(*other, a))?;
            let b = of(second).find(|b| place(b) == place(a))?;
            Some(Pair { first: [self.float(a.cell)?, a], second: [self.float(b.cell)?, b] })
        };
        of(first).filter_map(pair).collect()
    }
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
