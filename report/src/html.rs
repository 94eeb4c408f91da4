//! The report as one HTML file that needs no network and no script.

use askama::Template;

use crate::{ReportError, Section, markdown};

#[derive(Template)]
#[template(path = "index.html")]
struct Page<'a> {
    sections: &'a [Section],
    problems: &'a [String],
    problem_count: String,
}

pub(crate) fn page(sections: &[Section], problems: &[String]) -> Result<String, ReportError> {
    let problem_count = markdown::problem_count(problems);
    Ok(Page { sections, problems, problem_count }.render()?)
}
