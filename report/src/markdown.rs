//! The report as markdown, for a code host.

use sandglass_study::{Curves, Drawing, Figure, Part, Pictures, Section, escape};

use crate::html::{Piece, Shown};

pub(crate) const GENERATED: &str = "Made by `make report` from the rows in `results/rows`. Do not edit.";

pub(crate) fn page(title: &str, sections: &[Shown<'_>], problems: &[String]) -> String {
    let mut text = format!("# {title}\n\n{GENERATED}\n");
    for shown in sections {
        let section = shown.section;
        text.push_str(&format!("\n## {}\n", section.title));
        if !section.question.is_empty() {
            text.push_str(&format!("\n{}\n", section.question));
        }
        if !section.sources.is_empty() {
            text.push('\n');
            text.push_str(&list(&section.sources));
        }
        for Piece { part, pictures, .. } in shown.pieces() {
            text.push('\n');
            match part {
                Part::Heading(heading) => text.push_str(&format!("### {heading}\n")),
                Part::Claim { says, study, .. } => {
                    text.push_str(&format!("### {says}\n"));
                    if let Some(study) = study {
                        text.push_str(&format!("\nStudy: {study}.\n"));
                    }
                }
                Part::Prose(prose) => text.push_str(&format!("{prose}\n")),
                Part::Notes(notes) => text.push_str(&list(notes)),
                Part::Table(table) => text.push_str(&table.markdown()),
                Part::Figure(Figure { caption, .. })
                | Part::Drawing(Drawing { caption, .. })
                | Part::Curves(Curves { caption, .. })
                | Part::Pictures(Pictures { caption, .. }) => {
                    for picture in pictures {
                        text.push_str(&format!("![{}]({})\n", escape(&picture.label), picture.file));
                    }
                    text.push_str(&format!("\n{caption}\n"));
                }
            }
        }
        if !section.commands.is_empty() {
            text.push_str("\n### Run it again\n\n");
        }
        for (what, command) in &section.commands {
            text.push_str(&format!("- {what}: `{command}`\n"));
        }
        if !section.provenance.rows.is_empty() {
            text.push_str("\n### Where the numbers come from\n\n");
            text.push_str(&section.provenance.markdown());
        }
    }
    text.push_str(&format!("\n## Problems\n\n{}\n", problem_count(problems)));
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&list(problems));
    }
    text
}

/// What the README shows: the headline tables of the first two sections that have one. Without any the first table there is.
pub(crate) fn headline(sections: &[Section]) -> String {
    let tables = sections.iter().filter_map(|section| Some((section, section.headline.as_ref()?)));
    let tables = tables.take(2).map(|(section, table)| format!("{}:\n\n{}", section.title, table.markdown()));
    let tables: Vec<String> = tables.collect();
    if !tables.is_empty() {
        return tables.join("\n");
    }
    let first = sections.iter().flat_map(|section| &section.parts).find_map(|part| match part {
        Part::Table(table) => Some(table.markdown()),
        _ => None,
    });
    first.unwrap_or_default()
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
