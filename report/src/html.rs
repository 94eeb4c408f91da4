//! The report as one HTML file that needs no network, and no script to be read.

use askama::Template;
use sandglass_study::{Part, Section};

use crate::origins::{Kind, Origin, Origins, anchor};
use crate::plot::Drawn;
use crate::{Content, ReportError, markdown};

#[derive(Template)]
#[template(path = "index.html")]
struct Page<'a> {
    title: &'a str,
    sections: &'a [Shown<'a>],
    origins: &'a Origins<'a>,
    problems: &'a [String],
    problem_count: String,
}

/// A section with its pictures drawn.
pub(crate) struct Shown<'a> {
    pub section: &'a Section,
    /// One for each figure and drawing among the parts, in their order.
    pub pictures: Vec<Vec<Drawn>>,
}

/// A part with what the page needs beside it.
pub(crate) struct Piece<'s> {
    pub part: &'s Part,
    pub pictures: &'s [Drawn],
    /// The anchor of a heading or a table.
    pub anchor: String,
    /// What a table is about: the heading above it.
    pub about: &'s str,
}

impl Shown<'_> {
    /// Every part; a figure with its charts.
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pictures = self.pictures.iter();
        let (mut about, mut tables, mut used) = (self.section.title.as_str(), 0, Vec::new());
        let mut pieces = Vec::new();
        for part in &self.section.parts {
            let mut name = String::new();
            let mut of_part: &[Drawn] = &[];
            match part {
                Part::Heading(heading) => {
                    about = heading;
                    name = format!("{}.{}", self.section.name, anchor(heading));
                }
                Part::Claim { id, says, .. } => {
                    about = says;
                    name = format!("{}.{}", self.section.name, anchor(id));
                }
                Part::Table(_) => {
                    tables += 1;
                    name = format!("{}.table-{tables}", self.section.name);
                }
                Part::Figure(_) | Part::Drawing(_) | Part::Curves(_) | Part::Pictures(_) => {
                    of_part = pictures.next().map_or(&[], Vec::as_slice)
                }
                Part::Prose(_) | Part::Notes(_) => {}
            }
            // Two headings of one name are told apart by how many there were.
            while used.contains(&name) && !name.is_empty() {
                name.push('_');
            }
            used.push(name.clone());
            pieces.push(Piece { part, pictures: of_part, anchor: name, about });
        }
        pieces
    }
}

/// A text in pieces, with whether each stands between backticks.
fn spans(text: &str) -> Vec<(bool, &str)> {
    // One that has no partner stands for itself.
    if !text.matches('`').count().is_multiple_of(2) {
        return vec![(false, text)];
    }
    text.split('`').enumerate().map(|(at, piece)| (at % 2 == 1, piece)).filter(|(_, piece)| !piece.is_empty()).collect()
}

pub(crate) fn page(content: &Content<'_>, sections: &[Shown<'_>], problems: &[String]) -> Result<String, ReportError> {
    let tables = content.sections.iter().flat_map(|section| &section.parts).filter_map(|part| match part {
        Part::Table(table) => Some(table),
        _ => None,
    });
    let origins = Origins::of(content.records, tables.flat_map(|table| table.rows.iter().flatten()));
    let problem_count = markdown::problem_count(problems);
    Ok(Page { title: content.title, sections, origins: &origins, problems, problem_count }.render()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(spans("run `a b`, then `c`"), [(false, "run "), (true, "a b"), (false, ", then "), (true, "c")]);
        assert_eq!(spans("a ` alone"), [(false, "a ` alone")]);
    }
}
