//! The papers' printed values: data with a source and a confidence, never typed in code.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::{Entry, StudyError};

/// How sure we are that the paper prints a value, from the surest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    Seen,
    Derived,
    Recalled,
}

impl Confidence {
    /// Printed after a value.
    pub const fn mark(self) -> &'static str {
        match self {
            Confidence::Seen => "",
            Confidence::Derived => "\u{2021}",
            Confidence::Recalled => "\u{2020}",
        }
    }
}

impl Confidence {
    pub const fn words(self) -> &'static str {
        match self {
            Confidence::Seen => "seen in a public file or page",
            Confidence::Derived => "derived from seen facts",
            Confidence::Recalled => "recalled from memory of the paper, not seen",
        }
    }
}

/// What the marks mean.
pub const LEGEND: &str =
    "\u{2020} recalled from memory of the paper, not seen in a public file. \u{2021} derived from seen facts.";

/// A paper's table, as far as it is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    pub id: String,
    pub title: String,
    pub paper: String,
    pub number: String,
    pub source: String,
    pub confidence: Confidence,
    #[serde(default)]
    pub notes: String,
    #[serde(default)]
    pub columns: Vec<PaperColumn>,
    #[serde(default)]
    pub row: Vec<PaperRow>,
    /// What short names in sources stand for.
    #[serde(skip)]
    names: BTreeMap<String, String>,
}

/// A column's key, and the unit of its numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperColumn {
    pub key: String,
    #[serde(default)]
    pub unit: Option<String>,
}

/// One line of a paper's table: its columns by name. What is unknown is not there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PaperRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    #[serde(flatten)]
    pub columns: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sources: BTreeMap<String, String>,
    table: Vec<PaperTable>,
}

impl PaperTable {
    /// The table with this id, from the copy that the repository keeps.
    ///
    /// # Errors
    /// There is none, or a row has a column that the table does not name.
    pub fn find(id: &str) -> Result<Self, StudyError> {
        let file: File = toml::from_str(include_str!("../paper_tables.toml"))
            .map_err(|error| StudyError::Paper(error.message().to_owned()))?;
        let unknown = || StudyError::Paper(format!("table {id:?} is not in workspace/study/paper_tables.toml"));
        let mut table = file.table.into_iter().find(|table| table.id == id).ok_or_else(unknown)?;
        table.names = file.sources;
        let named = |key: &String| table.columns.iter().any(|column| column.key == *key);
        match table.row.iter().flat_map(|row| row.columns.keys()).find(|key| !named(key)) {
            Some(key) => Err(StudyError::Paper(format!("table {id}: {key} is none of its columns"))),
            None => Ok(table),
        }
    }

    /// The row with these texts and numbers.
    pub fn row(&self, texts: &[(&str, &str)], numbers: &[(&str, f64)]) -> Option<&PaperRow> {
        self.row.iter().find(|row| {
            texts.iter().all(|(key, text)| row.text(key) == Some(text))
                && numbers.iter().all(|(key, number)| row.number(key) == Some(*number))
        })
    }

    /// The value of a row in a column, with so many digits after the point; none where it is not known.
    pub fn entry(&self, row: Option<&PaperRow>, column: &str, digits: usize) -> Option<Entry> {
        let row = row?;
        Some(self.printed(row, format_args!("{:.digits$}", row.number(column)?)))
    }

    /// What a row has.
    pub fn printed(&self, row: &PaperRow, value: impl Display) -> Entry {
        Entry::printed(value, self.confidence(row), self.stands(row))
    }

    /// Where a row stands, where we have it from, and how sure we are: sentences.
    pub fn stands(&self, row: &PaperRow) -> String {
        let source = row.source.as_deref().unwrap_or(&self.source).trim_end_matches('.');
        let (place, names) = (self.place(), self.names_in(source));
        format!("{place}. From: {source}.{names} The value was {}.", self.confidence(row).words())
    }

    fn place(&self) -> String {
        let number = if self.number.is_empty() { String::new() } else { format!(", {}", self.number) };
        format!("{}{number}: {}", self.paper, self.title)
    }

    /// What the short names in a source stand for.
    fn names_in(&self, source: &str) -> String {
        let is_word = |name: &str| source.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
        let used = self.names.iter().filter(|(name, _)| is_word(name));
        used.map(|(name, stands_for)| format!(" {name} is {stands_for}.")).collect()
    }

    /// Where its values stand, where we have them from, and how sure we are: sentences.
    pub fn origin(&self) -> String {
        let (sure, of) = (self.confidence.words(), self.source.trim_end_matches('.'));
        let others = self.row.iter().filter(|row| row.confidence.is_some_and(|of| of != self.confidence)).count();
        let others = match others {
            0 => String::new(),
            1 => "; 1 line is marked otherwise".to_owned(),
            n => format!("; {n} lines are marked otherwise"),
        };
        let (place, names) = (self.place(), self.names_in(of));
        format!("The paper's values: {place}. From: {of}.{names} They were {sure}{others}.")
    }

    pub fn confidence(&self, row: &PaperRow) -> Confidence {
        row.confidence.unwrap_or(self.confidence)
    }
}

impl PaperRow {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.columns.get(key)?.as_str()
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.columns.get(key)?.as_bool()
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        let value = self.columns.get(key)?;
        value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
    }
}
