//! One study as the report shows it.

use sandglass_ledger::{Row, Status};
use sandglass_study::verbs::Opened;
use sandglass_study::{Comparison, Table, plan};

use crate::{ReportError, plot};

/// Charts side by side.
#[derive(Clone, Debug)]
pub struct Figure {
    pub panels: Vec<Panel>,
    pub caption: String,
}

/// A chart with words for those who cannot see it.
#[derive(Clone, Debug)]
pub struct Panel {
    /// File name beside the markdown.
    pub file: String,
    /// What it shows, in one sentence.
    pub label: String,
    /// Text and axes in `currentColor`.
    pub svg: String,
}

impl Panel {
    /// With a grey that is readable on light and on dark, for use outside the page.
    pub fn standalone(&self) -> String {
        self.svg.replace("currentColor", "#767676")
    }
}

#[derive(Clone, Debug)]
pub struct Section {
    pub name: String,
    pub title: String,
    pub question: String,
    pub analysis: String,
    pub comparison: Comparison,
    pub table: Table,
    pub notes: Vec<String>,
    /// Differences between the two networks, where there are two.
    pub gaps: Option<(String, Table)>,
    pub figures: Vec<Figure>,
    /// Every cell that has a row: where its number comes from.
    pub provenance: Table,
    /// Commands that print the table, and that measure it again.
    pub commands: Vec<(String, String)>,
}

impl Section {
    pub fn of(opened: &Opened) -> Result<Self, ReportError> {
        let study = &opened.study;
        let comparison = Comparison::of(study, &opened.ledger, None)?;
        let rows: Vec<&Row> =
            opened.ledger.rows.iter().filter(|row| row.study == study.name && row.metric == "top1").collect();
        let mut commands = vec![(
            "Print this table and evaluate its cached checkpoints again".to_owned(),
            format!("sandglass table {} --verify all", study.name),
        )];
        commands.extend(study.profile.iter().map(|profile| {
            let what = format!("Measure what is missing of profile {} ({})", profile.name, profile.title);
            (what, format!("sandglass run {} --profile {}", study.name, profile.name))
        }));
        Ok(Self {
            name: study.name.clone(),
            title: study.title.clone(),
            question: study.question.clone(),
            analysis: study.analysis.trim().to_owned(),
            table: comparison.table(),
            notes: comparison.notes(),
            gaps: comparison.gaps(),
            figures: plot::figures(&comparison)?,
            provenance: provenance(&rows),
            commands,
            comparison,
        })
    }
}

fn provenance(rows: &[&Row]) -> Table {
    let headings = [
        ("row", false),
        ("top-1 (%)", true),
        ("images", true),
        ("commit", false),
        ("checkpoint", false),
        ("data", false),
        ("machine", false),
        ("took", true),
        ("runs it again", false),
    ];
    let mut table = Table::new(headings);
    for row in rows {
        let value = match (row.status, row.value) {
            (Status::Ok, Some(value)) => format!("{value:.2}"),
            (status, _) => format!("{}: {}", status.word(), row.error.as_deref().unwrap_or("no reason given")),
        };
        table.push([
            row.id(),
            value,
            row.n.to_string(),
            format!("{}{}", short(&row.commit), if row.dirty { " with changes" } else { "" }),
            short(row.checkpoint_hash.as_deref().unwrap_or("\u{2013}")).to_owned(),
            short(&row.data_hash).to_owned(),
            format!("{}, {}, {} threads", row.machine, row.isa, row.threads),
            plan::duration(row.seconds),
            row.command.clone(),
        ]);
    }
    table
}

/// The first digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..10).unwrap_or(hash)
}
