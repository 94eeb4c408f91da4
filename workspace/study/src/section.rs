//! A study's part of the report, as data: whoever draws it needs to know nothing of the study.

use std::fmt::Display;

use serde::Serialize;

use crate::Table;
use crate::claim::{Count, Verdict};
use crate::paper::Confidence;

/// What a study has to say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    pub name: String,
    pub title: String,
    pub question: String,
    /// Where the paper has it, and what is done differently here; sentences.
    pub sources: Vec<String>,
    /// In reading order.
    pub parts: Vec<Part>,
    /// The study in one table that fits a page.
    pub headline: Option<Table>,
    /// What was counted and not measured, for claims.
    pub counts: Vec<Count>,
    /// Every cell that has a row: where its number comes from.
    pub provenance: Table,
    /// What each command does, and the command.
    pub commands: Vec<(String, String)>,
    /// Rows that are not used, and why.
    pub problems: Vec<String>,
    /// The same for programs; what `table --json` prints.
    #[serde(skip)]
    pub data: serde_json::Value,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Heading(String),
    /// Heads a claim: under its own name in links, with the study that tests it where the page has that one.
    Claim {
        id: String,
        says: String,
        study: Option<String>,
    },
    Prose(String),
    /// What a reader of the table before has to know.
    Notes(Vec<String>),
    Table(Table),
    Figure(Figure),
    Drawing(Drawing),
    Curves(Curves),
    Pictures(Pictures),
}

/// One cell of a table: a text, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    pub text: String,
    /// Ids of the rows behind it.
    pub rows: Vec<String>,
    pub mark: Mark,
    /// An anchor of the page that tells more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Of a paper's value: where it stands, and how sure we are of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub printed_in: Option<String>,
}

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// A name, a count: nothing that was measured.
    #[default]
    Plain,
    /// A paper's value, and how sure we are that it prints it.
    Paper(Confidence),
    /// Measured here.
    Ours,
    /// Not all of its cells have a value.
    Partial,
    Failed,
    Skipped,
    Stale,
    /// There is a file of rows, and it cannot be used: it was changed, is cut, or repeats another.
    Damaged,
    /// There was a row once: the committed report shows it, or its checkpoint is listed.
    Gone,
    /// Never run.
    Missing,
    Verdict(Verdict),
}

/// What a table has where there is no such thing.
pub const DASH: &str = "\u{2013}";

impl Entry {
    pub fn new(text: impl Into<String>, mark: Mark, rows: Vec<String>) -> Self {
        Self { text: text.into(), rows, mark, ..Self::default() }
    }

    /// A paper's value, marked as it is sure, and where it stands.
    pub fn printed(value: impl Display, confidence: Confidence, printed_in: String) -> Self {
        let entry = Self::new(format!("{value}{}", confidence.mark()), Mark::Paper(confidence), Vec::new());
        Self { printed_in: Some(printed_in), ..entry }
    }

    /// There is no such thing.
    pub fn dash() -> Self {
        DASH.to_owned().into()
    }

    /// The paper may have it, and we do not know it.
    pub fn unknown() -> Self {
        "?".to_owned().into()
    }
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// Charts side by side, with one caption.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its files are called after it.
    pub name: String,
    pub caption: String,
    pub charts: Vec<Chart>,
}

/// Lines of points with markers.
#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    /// What its file is called, after the figure.
    pub name: String,
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Its points say nothing of the question: it is drawn small, apart from the others.
    pub is_minor: bool,
    /// A series' points have a line through them; networks that are not of one kind have none.
    pub joined: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Axis {
    /// As drawn, such as `top-1 (%)`.
    pub label: String,
    /// As read aloud, such as `top-1 accuracy`.
    pub words: String,
    /// Behind a value that is read aloud, such as ` %`.
    pub unit: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// Half the length of the bar through it, in y's unit; none without.
    pub spread: Option<f64>,
}

/// Stacks of layers side by side: the width of a shape is its number of channels.
#[derive(Clone, Debug, Serialize)]
pub struct Drawing {
    /// What its file is called.
    pub name: String,
    /// What it shows, for those who cannot see it.
    pub words: String,
    pub caption: String,
    pub stacks: Vec<Stack>,
}

/// Layers from top to bottom.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    pub title: String,
    /// Coloured as the series of this name.
    pub family: String,
    pub layers: Vec<Layer>,
    /// Shortcuts: from before one layer to behind another, by number.
    pub shortcuts: Vec<(usize, usize)>,
}

/// One operation, from so many channels to so many.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Beside it; may be empty.
    pub label: String,
    pub from: usize,
    pub to: usize,
    /// Each channel on its own.
    pub is_depthwise: bool,
}

/// Curves in the plane, a small panel each, with one caption.
#[derive(Clone, Debug, Serialize)]
pub struct Curves {
    /// Its files are called after it.
    pub name: String,
    pub caption: String,
    pub panels: Vec<Panel>,
}

/// One panel, as large as its curves are, with one scale for both axes.
#[derive(Clone, Debug, Serialize)]
pub struct Panel {
    /// What its file is called, after the curves.
    pub name: String,
    pub title: String,
    /// What it shows, for those who cannot see it.
    pub words: String,
    /// Points (x, y) in the order in which they are joined; each curve is thicker than the one before it.
    pub curves: Vec<Vec<[f64; 2]>>,
}

/// Photographs with boxes on them, a small panel each, with one caption.
#[derive(Clone, Debug, Serialize)]
pub struct Pictures {
    /// Its files are called after it.
    pub name: String,
    pub caption: String,
    /// Whose boxes they are: the first are what is there, in white and drawn through; the second's are dashed, the third's
    /// dotted, in their colours.
    pub series: Vec<String>,
    pub photos: Vec<Photo>,
}

/// A square photograph.
#[derive(Clone, Debug, Serialize)]
pub struct Photo {
    /// What its file is called, after the pictures.
    pub name: String,
    pub title: String,
    /// What it shows, for those who cannot see it.
    pub words: String,
    pub jpeg: Vec<u8>,
    /// The boxes' units along a side.
    pub side: f64,
    pub boxes: Vec<MarkedBox>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MarkedBox {
    /// By place among the series.
    pub series: usize,
    pub label: String,
    /// Left, top, right and bottom edge from the photograph's upper left corner; they may lie outside.
    pub bounds: [f64; 4],
}
