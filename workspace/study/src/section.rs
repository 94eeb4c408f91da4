//! A study's part of the report, as data: whoever draws it needs to know nothing of the study.

use serde::Serialize;

use crate::Table;
use crate::paper::Confidence;

/// What a study has to say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    pub name: String,
    pub title: String,
    pub question: String,
    /// In reading order. The first table and the first notes are the study's headline.
    pub parts: Vec<Part>,
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
    Prose(String),
    /// What a reader of the table before has to know.
    Notes(Vec<String>),
    Table(Table),
    Figure(Figure),
}

/// One cell of a table: a text, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    pub text: String,
    /// Ids of the rows behind it.
    pub rows: Vec<String>,
    pub mark: Mark,
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
    Missing,
}

impl Entry {
    pub fn new(text: impl Into<String>, mark: Mark, rows: Vec<String>) -> Self {
        Self { text: text.into(), rows, mark }
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
