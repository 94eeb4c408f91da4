//! The report as markdown, for a code host.

use sandglass_study::escape;

use crate::Section;

pub(crate) const GENERATED: &str = "Made by `make report` from the rows in `results/rows`. Do not edit.";

pub(crate) fn page(sections: &[Section], problems: &[String]) -> String {
    let mut text = format!("# Sandglass: MobileNeXt and MobileNetV2 reproduced\n\n{GENERATED}\n");
    for section in sections {
        text.push_str(&format!("\n## {}\n\n{}\n\n", section.title, section.question));
        text.push_str(&section.table.markdown());
        text.push('\n');
        text.push_str(&list(&section.notes));
        if let Some((heading, gaps)) = &section.gaps {
            text.push_str(&format!("\n### {heading}\n\n{}", gaps.markdown()));
        }
        text.push_str(&format!("\n{}\n", section.analysis));
        for figure in &section.figures {
            text.push('\n');
            for panel in &figure.panels {
                text.push_str(&format!("![{}]({})\n", escape(&panel.label), panel.file));
            }
            text.push_str(&format!("\n{}\n", figure.caption));
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

/// What the README shows.
pub(crate) fn headline(section: &Section) -> String {
    format!("{}\n{}", section.table.markdown(), list(&section.notes))
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
