//! The papers' printed values: data with a source and a confidence, never typed in code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::StudyError;

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

/// What the marks mean.
pub const LEGEND: &str =
    "\u{2020} recalled from memory of the paper, not seen in a public file. \u{2021} derived from seen facts.";

#[derive(Clone, Debug, Deserialize)]
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
    pub row: Vec<PaperRow>,
}

/// One network of a paper's table; what is unknown is None.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PaperRow {
    pub model: String,
    pub width: f64,
    /// Millions.
    pub params_m: Option<f64>,
    /// Millions.
    pub madds_m: Option<f64>,
    /// ImageNet, percent.
    pub top1_pct: Option<f64>,
    pub source: Option<String>,
    pub confidence: Option<Confidence>,
}

#[derive(Deserialize)]
struct File {
    #[allow(dead_code)]
    sources: BTreeMap<String, String>,
    table: Vec<PaperTable>,
}

impl PaperTable {
    /// The table with this id, from the copy that the repository keeps.
    pub fn find(id: &str) -> Result<Self, StudyError> {
        let file: File = toml::from_str(include_str!("../paper_tables.toml"))
            .map_err(|error| StudyError::Paper(error.message().to_owned()))?;
        let unknown = || StudyError::Paper(format!("table {id:?} is not in workspace/study/paper_tables.toml"));
        file.table.into_iter().find(|table| table.id == id).ok_or_else(unknown)
    }

    pub fn row(&self, model: &str, width: f64) -> Option<&PaperRow> {
        self.row.iter().find(|row| row.model == model && row.width == width)
    }

    pub fn confidence(&self, row: &PaperRow) -> Confidence {
        row.confidence.unwrap_or(self.confidence)
    }
}
