//! A table of text, and its markdown.

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::Entry;

/// Header and entries, as a person reads them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    pub header: Vec<String>,
    /// Whether a column holds numbers, and is set to the right.
    pub right: Vec<bool>,
    pub rows: Vec<Vec<Entry>>,
}

impl Table {
    /// Columns: heading, and whether it holds numbers.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, bool)>) -> Self {
        let (header, right) = columns.into_iter().map(|(heading, right)| (heading.into(), right)).unzip();
        Self { header, right, rows: Vec::new() }
    }

    pub fn push<E: Into<Entry>>(&mut self, entries: impl IntoIterator<Item = E>) {
        self.rows.push(entries.into_iter().map(Into::into).collect());
    }

    /// A markdown table. tabled escapes nothing and writes no alignment, so both are done here.
    pub fn markdown(&self) -> String {
        let mut builder = Builder::new();
        builder.push_record(self.header.iter().map(|cell| escape(cell)));
        for row in &self.rows {
            builder.push_record(row.iter().map(|entry| escape(&entry.text)));
        }
        let text = builder.build().with(Style::markdown()).to_string();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(rule) = lines.get_mut(1) {
            *rule = self.aligned(rule);
        }
        lines.join("\n") + "\n"
    }

    fn aligned(&self, rule: &str) -> String {
        let columns = rule.trim_matches('|').split('|');
        let marks = columns.zip(&self.right).map(|(dashes, right)| match (right, dashes.len()) {
            (true, width @ 1..) => format!("{}:", "-".repeat(width - 1)),
            _ => dashes.to_owned(),
        });
        format!("|{}|", marks.collect::<Vec<_>>().join("|"))
    }
}

/// A cell's text on one line, with nothing that markdown would read as a column or as HTML.
pub fn escape(text: &str) -> String {
    let lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`")
}

/// Such as `3,504,872`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Such as `45 s`, `12 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_survives_pipes_newlines_and_html() {
        let mut table = Table::new([("name", false), ("top-1", true)]);
        table.push(["a|b\nc".to_owned(), "91.5".to_owned()]);
        table.push(["<b>\\".to_owned(), String::new()]);
        assert_eq!(
            table.markdown(),
            "| name     | top-1 |\n\
             |----------|------:|\n\
             | a\\|b c   | 91.5  |\n\
             | &lt;b>\\\\ |       |\n"
        );
    }
}
