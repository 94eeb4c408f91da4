//! `sandglass report`: every study's table step, then `report/out` and the README's headline; or whether they still stand.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sandglass_report::Content;
use sandglass_study::claim::{self, Claims, Evidence, Prose};
use sandglass_study::{
    Manifest, Methodology, Part, Project, Record, Section, Shown, Study, Verify, disagreeing_predictions, tell,
};

/// Heads the report.
const TITLE: &str = "Sandglass: MobileNeXt and MobileNetV2 reproduced";

#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail where rows are missing, repeated, changed, stale or not finite, where the committed report is not
    /// that of the rows, or where a claim's rows are gone
    #[arg(long)]
    check: bool,
    /// Which cached checkpoints are evaluated again and compared with their rows; smallest if left out, none with --check
    #[arg(long, value_enum)]
    verify: Option<Verify>,
    /// Threads; all cores if left out
    #[arg(long)]
    threads: Option<usize>,
}

/// A report in memory, and what it tells against.
pub(super) struct Made {
    pub files: Vec<(PathBuf, String)>,
    problems: Vec<String>,
    /// What the committed report shows and is gone or changed.
    missed: Vec<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let project = Project::here()?;
    let studies = super::shelf(args.threads).all(&project)?;
    let verify = args.verify.unwrap_or(if args.check { Verify::None } else { Verify::Smallest });
    for study in &studies {
        study.verify(verify).with_context(|| format!("study {}", study.name()))?;
    }
    let made = make(&project, &studies)?;
    if args.check {
        return check(&project, made);
    }
    for missed in made.missed {
        tell(missed);
    }
    for path in sandglass_report::write(project.root(), &made.files)? {
        writeln!(io::stdout(), "{}", path.strip_prefix(project.root()).unwrap_or(&path).display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(project: &Project, made: Made) -> anyhow::Result<ExitCode> {
    let drift = sandglass_report::drift(project.root(), &made.files)?;
    let drift = drift.iter().map(|path| {
        let path = path.strip_prefix(project.root()).unwrap_or(path);
        format!("{}: is not what the rows give; `sandglass report` writes it", path.display())
    });
    let findings: Vec<String> = made.problems.into_iter().chain(made.missed).chain(drift).collect();
    for finding in &findings {
        tell(finding);
    }
    if findings.is_empty() {
        writeln!(io::stdout(), "the report is that of its rows")?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(format_args!("{} findings", findings.len()));
    Ok(ExitCode::FAILURE)
}

/// Checkpoints are not looked at.
pub(super) fn make(project: &Project, studies: &[Box<dyn Study>]) -> anyhow::Result<Made> {
    let mut sections = studies.iter().map(|study| study.section()).collect::<Result<Vec<Section>, _>>()?;
    let evidence: Vec<Evidence<'_>> = studies.iter().flat_map(|study| study.evidence()).collect();
    let claims = Claims::read(project)?;
    let judged = claim::judge(&claims, project, &evidence, &sections)?;
    let method = Methodology::read(project)?.sections(&sections)?;
    sections.extend(method);
    let prose = Prose(&judged);
    for section in &mut sections {
        resolve(section, &prose)?;
    }
    let readme = project.root().join("README.md");
    if readme.exists() {
        prose.resolve("README.md", &std::fs::read_to_string(&readme).with_context(|| readme.display().to_string())?)?;
    }
    let names: Vec<&str> = studies.iter().map(|study| study.name()).collect();
    sections.splice(0..0, claim::section(&judged, &names));

    // All studies of a project share its rows, so the first one knows all of them and all that is wrong with them.
    let first = studies.first();
    let mut problems: Vec<String> = first.iter().flat_map(|study| study.problems()).map(ToString::to_string).collect();
    problems.extend(first.iter().flat_map(|study| study.strangers(&names)));
    let rows = first.map(|study| study.rows()).unwrap_or_default();
    problems.extend(disagreeing_predictions(project, rows));
    let records: BTreeMap<String, Record> = rows.iter().map(|row| (row.id(), Record::of(row))).collect();
    let content = Content { title: TITLE, sections: &sections, problems: &problems, records: &records };
    let mut files = sandglass_report::build(&content)?.files(project.root())?;

    let now = Shown::now(project, rows, &judged)?;
    let mut missed = Shown::read(project)?.missed(&now);
    for listed in &Manifest::read(project)?.checkpoint {
        let name = format!("{}/{}/{}", listed.study, listed.profile, listed.cell);
        if !now.cells.contains_key(&name) {
            missed.push(format!("{name}: its checkpoint is listed, and its rows are gone"));
        }
    }
    files.push((Shown::path(project), now.text()));
    for problem in sections.into_iter().flat_map(|section| section.problems) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    Ok(Made { files, problems, missed })
}

/// Prose that leans on a verdict says so, and must be right.
fn resolve(section: &mut Section, prose: &Prose<'_, '_>) -> anyhow::Result<()> {
    let place = format!("study {}", section.name);
    for part in &mut section.parts {
        match part {
            Part::Prose(text) => *text = prose.resolve(&place, text)?,
            Part::Notes(notes) => {
                for note in notes {
                    *note = prose.resolve(&place, note)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
