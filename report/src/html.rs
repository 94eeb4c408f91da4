//! The report as one HTML file that needs no network and no script.

use askama::Template;
use sandglass_study::{Part, Section};

use crate::plot::Drawn;
use crate::{ReportError, markdown};

#[derive(Template)]
#[template(path = "index.html")]
struct Page<'a> {
    title: &'a str,
    sections: &'a [Shown<'a>],
    problems: &'a [String],
    problem_count: String,
}

/// A section with its figures drawn.
pub(crate) struct Shown<'a> {
    pub section: &'a Section,
    /// One for each figure among the parts, in their order.
    pub figures: Vec<Vec<Drawn>>,
}

impl Shown<'_> {
    /// Every part; a figure with its charts.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, &[Drawn])> {
        let mut figures = self.figures.iter();
        self.section.parts.iter().map(move |part| match part {
            Part::Figure(_) => (part, figures.next().map_or(&[][..], Vec::as_slice)),
            _ => (part, &[][..]),
        })
    }
}

pub(crate) fn page(title: &str, sections: &[Shown<'_>], problems: &[String]) -> Result<String, ReportError> {
    let problem_count = markdown::problem_count(problems);
    Ok(Page { title, sections, problems, problem_count }.render()?)
}
