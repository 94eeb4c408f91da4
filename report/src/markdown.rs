//! The report as markdown, for a code host.

use sandglass_study::{Part, Section, escape};

use crate::html::Shown;

pub(crate) const GENERATED: &str = "Made by `make report` from the rows in `results/rows`. Do not edit.";

pub(crate) fn page(title: &str, sections: &[Shown<'_>], problems: &[String]) -> String {
    let mut text = format!("# {title}\n\n{GENERATED}\n");
    for shown in sections {
        let section = shown.section;
        text.push_str(&format!("\n## {}\n\n{}\n", section.title, section.question));
        for (part, charts) in shown.parts() {
            text.push('\n');
            match part {
                Part::Heading(heading) => text.push_str(&format!("### {heading}\n")),
                Part::Prose(prose) => text.push_str(&format!("{prose}\n")),
                Part::Notes(notes) => text.push_str(&list(notes)),
                Part::Table(table) => text.push_str(&table.markdown()),
                Part::Figure(figure) => {
                    for chart in charts {
                        text.push_str(&format!("![{}]({})\n", escape(&chart.label), chart.file));
                    }
                    text.push_str(&format!("\n{}\n", figure.caption));
                }
            }
        }
        text.push_str("\n### Run it again\n\n");
        for (what, command) in &section.commands {
            text.push_str(&format!("- {what}: `{command}`\n"));
        }
        text.push_str("\n### Where the numbers come from\n\n");
        text.push_str(&section.provenance.markdown());
    }
    text.push_str(&format!("\n## Problems\n\n{}\n", problem_count(problems)));
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&list(problems));
    }
    text
}

/// What the README shows: the section's first table, and the notes on it.
pub(crate) fn headline(section: &Section) -> String {
    let table = section.parts.iter().find_map(|part| if let Part::Table(table) = part { Some(table) } else { None });
    let notes = section.parts.iter().find_map(|part| if let Part::Notes(notes) = part { Some(notes) } else { None });
    let table = table.map(|table| table.markdown()).unwrap_or_default();
    format!("{table}\n{}", notes.map(|notes| list(notes)).unwrap_or_default())
}

pub(crate) fn problem_count(problems: &[String]) -> String {
    match problems.len() {
        0 => "Every row file that was found is sound and used.".into(),
        1 => "1 row file or row is not used:".into(),
        n => format!("{n} row files or rows are not used:"),
    }
}

fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {}\n", item.replace(['\n', '\r'], " "))).collect()
}
