//! `experiments/methodology.toml`: where papers and code disagree, and how things are done here. Counts in its text are looked
//! up, never typed.

use serde::Deserialize;

use crate::file::read_toml;
use crate::{Part, Project, Section, StudyError, Table, grouped};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Methodology {
    #[serde(default)]
    disagreement: Vec<Disagreement>,
    #[serde(default)]
    method: Vec<Method>,
}

/// One thing that two sources say differently.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disagreement {
    paper: String,
    other: String,
    here: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    title: String,
    points: Vec<String>,
}

const BEGIN: &str = "{count ";

impl Methodology {
    /// Empty where the project has none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(project: &Project) -> Result<Self, StudyError> {
        let path = project.root().join("experiments/methodology.toml");
        if path.is_file() { read_toml(&path) } else { Ok(Self::default()) }
    }

    /// Two sections; none of what is empty. `studies` have counted what the text asks for by
    /// `{count STUDY: WHAT, AXIS VALUE, AXIS VALUE}`.
    ///
    /// # Errors
    /// A count that there is not.
    pub fn sections(&self, studies: &[Section]) -> Result<Vec<Section>, StudyError> {
        let mut sections = Vec::new();
        if !self.disagreement.is_empty() {
            let mut table = Table::new([
                ("a paper says", false),
                ("its code, its other tables or our count say", false),
                ("here", false),
            ]);
            for Disagreement { paper, other, here } in &self.disagreement {
                table.push([fill(paper, studies)?, fill(other, studies)?, fill(here, studies)?]);
            }
            sections.push(Section {
                name: "disagreements".to_owned(),
                title: "Where sources disagree".to_owned(),
                question: "What does not fit: printed against counted, paper against official code?".to_owned(),
                parts: vec![Part::Table(table)],
                ..Section::default()
            });
        }
        if !self.method.is_empty() {
            let mut parts = Vec::new();
            for Method { title, points } in &self.method {
                let points = points.iter().map(|point| fill(point, studies)).collect::<Result<Vec<_>, _>>()?;
                parts.extend([Part::Heading(title.clone()), Part::Notes(points)]);
            }
            let (name, title) = ("methodology".to_owned(), "Methodology".to_owned());
            sections.push(Section { name, title, parts, ..Section::default() });
        }
        Ok(sections)
    }
}

fn fill(text: &str, studies: &[Section]) -> Result<String, StudyError> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let wrong = || StudyError::refused(format!("experiments/methodology.toml: {text:?}: no such count"));
        let (wanted, behind) = after.split_once('}').ok_or_else(wrong)?;
        filled += before;
        filled += &grouped(lookup(wanted, studies).ok_or_else(wrong)?);
        rest = behind;
    }
    Ok(filled + rest)
}

/// Such as `width: parameters, network mobilenext, width 1.0`.
fn lookup(wanted: &str, studies: &[Section]) -> Option<u64> {
    let (study, rest) = wanted.split_once(':')?;
    let mut parts = rest.split(',').map(str::trim);
    let what = parts.next()?;
    let axes = parts.map(|part| part.split_once(' ')).collect::<Option<Vec<_>>>()?;
    let section = studies.iter().find(|section| section.name == study)?;
    let has = |count: &&crate::claim::Count| {
        count.what == what
            && axes.iter().all(|(name, value)| count.axes.iter().any(|(axis, of)| axis == name && of == value))
    };
    section.counts.iter().find(has).map(|count| count.value)
}
