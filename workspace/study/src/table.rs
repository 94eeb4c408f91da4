//! A table of text, and its markdown.

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

/// Header and cells of text, as a person reads them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    pub header: Vec<String>,
    /// Whether a column holds numbers, and is set to the right.
    pub right: Vec<bool>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns: heading, and whether it holds numbers.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, bool)>) -> Self {
        let (header, right) = columns.into_iter().map(|(heading, right)| (heading.into(), right)).unzip();
        Self { header, right, rows: Vec::new() }
    }

    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A markdown table. tabled escapes nothing and writes no alignment, so both are done here.
    pub fn markdown(&self) -> String {
        let mut builder = Builder::new();
        builder.push_record(self.header.iter().map(|cell| escape(cell)));
        for row in &self.rows {
            builder.push_record(row.iter().map(|cell| escape(cell)));
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
