//! What the papers print of a claim: looked up in their tables, never typed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::StudyError;
use crate::paper::{Confidence, PaperRow, PaperTable};

/// Columns of a row of a paper's table by value.
pub type Line = BTreeMap<String, toml::Value>;

/// An effect that a paper's table shows: the sum of some lines' values less that of others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Printed {
    /// Id in `paper_tables.toml`.
    pub table: String,
    pub column: String,
    pub plus: Vec<Line>,
    #[serde(default)]
    pub minus: Vec<Line>,
    /// A column, such as the width, whose every value has an effect of its own.
    #[serde(default)]
    pub over: Option<String>,
    /// In percent of the lines that are taken off, and positive where it is less than they: what is saved of a time.
    #[serde(default)]
    pub saved: bool,
}

/// A count that a paper's table shows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrintedCount {
    pub table: String,
    pub column: String,
    pub line: Line,
    /// What one of the column is: 1e6 for millions.
    pub unit: f64,
    /// Digits after the point, as printed.
    pub digits: usize,
}

/// An effect at one value of the axis, or the only one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PrintedEffect {
    pub at: Option<f64>,
    pub effect: f64,
    pub confidence: Confidence,
    /// Where its values stand.
    pub stands: String,
}

impl Printed {
    /// # Errors
    /// No such table, or lines that it does not have.
    pub(crate) fn effects(&self) -> Result<Vec<PrintedEffect>, StudyError> {
        let table = PaperTable::find(&self.table)?;
        let places: Vec<Option<f64>> = match &self.over {
            None => vec![None],
            Some(over) => {
                let first = self.plus.first().cloned().unwrap_or_default();
                let of_first = table.row.iter().filter(|row| is_line(row, &first, None));
                of_first.filter_map(|row| row.number(over)).map(Some).collect()
            }
        };
        let effects: Vec<PrintedEffect> = places.into_iter().filter_map(|at| self.effect(&table, at)).collect();
        match effects.is_empty() {
            true => Err(StudyError::Paper(format!("table {}: has no such lines with {}", self.table, self.column))),
            false => Ok(effects),
        }
    }

    fn effect(&self, table: &PaperTable, at: Option<f64>) -> Option<PrintedEffect> {
        let place = self.over.as_deref().zip(at);
        let mut confidence = Confidence::Seen;
        let mut stands: Vec<String> = Vec::new();
        let mut sum = |lines: &[Line]| {
            lines.iter().try_fold(0.0, |sum, line| {
                let row = table.row.iter().find(|row| is_line(row, line, place))?;
                confidence = confidence.max(table.confidence(row));
                if !stands.contains(&table.stands(row)) {
                    stands.push(table.stands(row));
                }
                Some(sum + row.number(&self.column)?)
            })
        };
        let (plus, minus) = (sum(&self.plus)?, sum(&self.minus)?);
        let effect = if self.saved { 100.0 * (1.0 - plus / minus) } else { plus - minus };
        Some(PrintedEffect { at, effect, confidence, stands: stands.join(" ") })
    }
}

impl PrintedCount {
    /// What its last digit counts: a whole number that ends in 0 is taken to be rounded to tens.
    pub(crate) fn step(&self, value: f64) -> f64 {
        if self.digits == 0 && value % 10.0 == 0.0 { 10.0 } else { 0.1f64.powi(self.digits as i32) }
    }

    /// The number as printed, how sure we are of it, and where it stands; None where it is not known.
    ///
    /// # Errors
    /// No such table.
    pub(crate) fn value(&self, over: Option<(&str, f64)>) -> Result<Option<(f64, Confidence, String)>, StudyError> {
        let table = PaperTable::find(&self.table)?;
        let row = table.row.iter().find(|row| is_line(row, &self.line, over));
        Ok(row.and_then(|row| Some((row.number(&self.column)?, table.confidence(row), table.stands(row)))))
    }
}

fn is_line(row: &PaperRow, line: &Line, over: Option<(&str, f64)>) -> bool {
    let is = |key: &String, value: &toml::Value| match value {
        toml::Value::String(text) => row.text(key) == Some(text),
        _ => row.number(key).is_some() && row.number(key) == number(value),
    };
    line.iter().all(|(key, value)| is(key, value)) && over.is_none_or(|(key, value)| row.number(key) == Some(value))
}

fn number(value: &toml::Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(digits: usize) -> PrintedCount {
        PrintedCount { table: String::new(), column: String::new(), line: Line::new(), unit: 1e6, digits }
    }

    #[test]
    fn a_printed_count_is_as_exact_as_it_is_printed() {
        assert_eq!((count(0).step(590.0), count(0).step(97.0)), (10.0, 1.0));
        assert!((count(1).step(3.0) - 0.1).abs() < 1e-12);
    }

    /// The width table's own lines: 1.2, 1.72, 2.1, 2.3, 4.4 points, four of them against values that were not seen.
    #[test]
    fn effects_are_looked_up_line_by_line() {
        let model = |name: &str| Line::from([("model".to_owned(), toml::Value::String(name.to_owned()))]);
        let printed = Printed {
            table: "mnext_width".to_owned(),
            column: "top1_pct".to_owned(),
            plus: vec![model("MobileNeXt")],
            minus: vec![model("MobileNetV2")],
            over: Some("width".to_owned()),
            saved: false,
        };
        let effects = printed.effects().unwrap();
        let found: Vec<(f64, f64)> = effects.iter().map(|of| (of.at.unwrap(), (100.0 * of.effect).round())).collect();
        assert_eq!(found, [(1.4, 120.0), (1.0, 172.0), (0.75, 210.0), (0.5, 230.0), (0.35, 440.0)]);
        assert_eq!(effects.iter().filter(|of| of.confidence == Confidence::Recalled).count(), 4);
        assert!(Printed { column: "top5".to_owned(), ..printed }.effects().is_err());
    }
}
