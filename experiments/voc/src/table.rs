//! How the study is laid out: the paper's table, who leads on our images, each class, and what heads cost.

use sandglass_data::DetectionAugment;
use sandglass_models::{Cost, Counted, DetectorConfig};
use sandglass_study::claim::Count;
use sandglass_study::paper::{LEGEND, PaperTable};
use sandglass_study::{CellResult, Entry, Mark, Outcome, Part, Results, Scale, Section, StudyError, Table, grouped};
use sandglass_train::Recipe;
use serde_json::json;

use crate::paired::{Lead, Score, leads, leads_table, scores, scores_table};
use crate::seen::{Seen, Shown, seen};
use crate::{Cell, Detector, Voc, Work};

/// Where MobileNetV2's paper counts heads.
const HEADS: &str = "mbv2_ssd_cost";

/// The side of the paper's inputs.
const PAPER_INPUT: usize = 320;

pub(crate) fn section(results: &Results<'_, Voc>) -> Result<Section, StudyError> {
    let paper =
        results.head.paper_table.as_deref().ok_or_else(|| StudyError::refused("this method needs a paper_table"))?;
    let paper = PaperTable::find(paper)?;
    let columns = columns(results);
    let mut parts =
        vec![Part::Table(overview(results, &paper, &columns)?), Part::Notes(notes(results, &paper, &columns))];
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for scale in &results.scales {
        let detectors = &results.design.detectors;
        let (scores, left_out) = scores(scale, detectors);
        let (leads, shown) = (leads(scale, detectors), shown(scale, detectors));
        let Seen { curves, pictures, notes, problems: unusable } = seen(&results.experiment.project, scale, &shown);
        problems.extend(unusable);
        if scores.is_empty() && left_out.is_empty() {
            continue;
        }
        let on = match scores.first() {
            Some(first) if scores.iter().all(|score| score.data == first.data) => {
                format!("On the same {} images.", first.images)
            }
            _ => "Not all on the same images: only what is on the same is compared.".to_owned(),
        };
        let synthetic = if scale.profile.synthetic { " (synthetic)" } else { "" };
        parts.push(Part::Heading(format!("{}{synthetic}", scale.profile.title)));
        parts.push(Part::Table(scores_table(&scores)));
        if !leads.is_empty() {
            parts.push(Part::Table(leads_table(&leads)));
        }
        let sure = format!(
            "{on} Intervals of 95 % are over images that are drawn anew, alike for all detectors, and moved \
             so that the mean of the draws is the value (images that are drawn twice lift average precision); where there are \
             several seeds, together with that over seeds, by Student's t. Seeds are averaged, and compared pair by pair."
        );
        parts.push(Part::Notes(std::iter::once(sure).chain(left_out).collect()));
        parts.extend(by_class(&shown).map(Part::Table));
        parts.extend(curves.map(Part::Figure));
        parts.extend(pictures.map(Part::Pictures));
        if !notes.is_empty() {
            parts.push(Part::Notes(notes));
        }
        all.push((scale.profile.name.clone(), scores, leads));
    }
    let (heads, counts) = heads(results)?;
    if !counts.is_empty() {
        parts.push(Part::Heading("What heads cost".to_owned()));
        parts.push(Part::Table(heads));
        let of_heads = PaperTable::find(HEADS)?;
        let whole = "An SSD detector here has SSDLite's extra layers under heads of full convolutions, as the official code has \
                     it; the extra layers and heads that are counted alone are full convolutions all, as the paper counts SSD.";
        parts.push(Part::Notes(vec![of_heads.origin(), of_heads.notes, whole.to_owned()]));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    Ok(Section { parts, counts, problems, data: data(results, &columns, &all), ..Section::default() })
}

/// A scale and a start of training.
struct Column {
    heading: String,
    note: String,
    /// Parallel to the design's detectors.
    outcomes: Vec<Outcome>,
}

fn columns(results: &Results<'_, Voc>) -> Vec<Column> {
    let mut columns = Vec::new();
    for scale in &results.scales {
        let mut names: Vec<(&str, Option<&str>)> = Vec::new();
        for result in scale.cells.iter().filter(|result| !result.rows.is_empty()) {
            let name = (result.cell.name.as_str(), result.cell.variation.as_deref());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        columns.extend(names.into_iter().filter_map(|name| column(results, scale, name)));
    }
    columns
}

fn column(results: &Results<'_, Voc>, scale: &Scale<'_, Voc>, name: (&str, Option<&str>)) -> Option<Column> {
    let here = |result: &&CellResult<'_, Cell>| (result.cell.name.as_str(), result.cell.variation.as_deref()) == name;
    let cells = || scale.cells.iter().filter(here);
    let row = cells().find_map(|result| result.row("map"));
    let cell = cells().next()?.cell;
    let of = |detector: &Detector| Outcome::of("map", cells().filter(|result| result.cell.network == detector.network));
    let recipe = name.1.map_or_else(String::new, |recipe| format!(", {recipe}"));
    let synthetic = if scale.profile.synthetic { " (synthetic)" } else { "" };
    let facts = row.map_or_else(String::new, |row| format!("data set {}{synthetic}, {} images.", row.dataset, row.n));
    let about = match &cell.work {
        Work::Score(_) => "Trained by others, on other images.".to_owned(),
        Work::Train { recipe, .. } => format!("{} {}", scale.profile.note, told(recipe)),
    };
    let note = format!("Ours, {}, {}{recipe}: {facts} {about}", scale.profile.title, name.0);
    // Costs beside it are of the published width.
    let width = if cell.width == 1.0 { String::new() } else { format!(", width {}", cell.width) };
    Some(Column {
        heading: format!("mAP, ours, {}{width}, {1}x{1}, {2}{recipe} (%)", scale.profile.title, cell.input, name.0),
        note: note.trim_end().to_owned(),
        outcomes: results.design.detectors.iter().map(of).collect(),
    })
}

/// What recipes differ in.
fn told(recipe: &Recipe) -> String {
    let Recipe { epochs, batch, lr, detection, .. } = recipe;
    let DetectionAugment { photometric, expand, smallest_side, flip } = detection;
    let expanded = format!("expanded up to {expand} times");
    let cropped = format!("cropped down to {smallest_side} of a side");
    let augment = match (*expand > 0.0, *smallest_side > 0.0) {
        (true, true) => format!("{expanded} and {cropped}"),
        (true, false) => format!("{expanded} and not cropped"),
        (false, true) => format!("{cropped} and not expanded"),
        (false, false) => "neither expanded nor cropped".to_owned(),
    };
    let others = match (*photometric, *flip) {
        (true, true) => "mirrored, and changed in colour",
        (true, false) => "not mirrored, and changed in colour",
        (false, true) => "mirrored, and not changed in colour",
        (false, false) => "neither mirrored nor changed in colour",
    };
    format!("{epochs} epochs, batches of {batch}, learning rate {lr}, images {augment}, {others}.")
}

fn cost(detector: &Detector) -> Result<Cost, StudyError> {
    let config: DetectorConfig = detector.network.parse().map_err(StudyError::refused)?;
    let (input, built) = (config.name.input(), config.build().map_err(StudyError::refused)?);
    built.graph.cost(input, input).map_err(StudyError::refused)
}

/// All of the paper's lines in its order, then what it does not have.
fn overview(results: &Results<'_, Voc>, paper: &PaperTable, columns: &[Column]) -> Result<Table, StudyError> {
    let fixed = [
        ("detector", false),
        ("params, paper (M)", true),
        ("params, exact", true),
        ("multiply-adds, paper (B)", true),
        ("multiply-adds, exact", true),
        ("mAP, paper (%)", true),
    ];
    let fixed = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let mut table = Table::new(fixed.chain(columns.iter().map(|column| (column.heading.clone(), true))));
    let detectors = &results.design.detectors;
    let of_paper = paper.row.iter().map(|row| {
        let built = detectors.iter().position(|of| of.backbone.as_deref() == row.text("backbone"));
        (Some(row), built)
    });
    let others = (0..detectors.len()).filter(|&at| detectors[at].backbone.is_none()).map(|at| (None, Some(at)));
    for (row, built) in of_paper.chain(others) {
        let title = match (built, row) {
            (Some(at), _) => detectors[at].title.clone(),
            (None, Some(row)) => {
                format!("{} on {}", row.text("method").unwrap_or_default(), row.text("backbone").unwrap_or_default())
            }
            (None, None) => String::new(),
        };
        let cost = built.map(|at| cost(&detectors[at])).transpose()?;
        let printed = |key: &str| paper.entry(row, key, 1).unwrap_or_else(Entry::dash);
        let exact = |of: fn(&Cost) -> u64| cost.as_ref().map_or_else(Entry::dash, |cost| grouped(of(cost)).into());
        let fixed: [Entry; 6] = [
            title.into(),
            printed("params_m"),
            exact(|cost| cost.params),
            printed("madds_b"),
            exact(|cost| cost.madds_total),
            printed("map_pct"),
        ];
        let ours = columns.iter().map(|column| built.map_or_else(Entry::dash, |at| column.outcomes[at].entry()));
        table.push(fixed.into_iter().chain(ours));
    }
    Ok(table)
}

fn notes(results: &Results<'_, Voc>, paper: &PaperTable, columns: &[Column]) -> Vec<String> {
    let mut notes = vec![
        format!("Costs are of detectors as published: their own inputs and classes. {}", paper.notes),
        LEGEND.to_owned(),
        "Ours: mean \u{b1} sample standard deviation over n seeds; average precision by Pascal VOC 2007's eleven points; the last \
         epoch's weights, rounded to f16 where that holds them. What is trained here finds edges between pixels, and an \
         annotation's pixels are compared as the edges around them; TensorFlow's boxes are compared with the annotations' \
         numbers as they stand, as its own tools do."
            .to_owned(),
    ];
    notes.extend(columns.iter().map(|column| column.note.clone()));
    for scale in &results.scales {
        let (open, all) = scale.open();
        if open > 0 {
            notes.push(format!("Not done: {open} of {all} cells of profile {}.", scale.profile.name));
        }
    }
    notes
}

/// Of one recipe, detectors that started as the first did, and those from elsewhere; each with its cells that have a score.
fn shown<'a>(scale: &'a Scale<'a, Voc>, detectors: &'a [Detector]) -> Vec<Shown<'a>> {
    let trained = |result: &&CellResult<'_, Cell>| matches!(result.cell.work, Work::Train { .. });
    // Of a search no recipe is the one to be shown.
    let first = scale.cells.iter().find(trained).map(|result| result.cell).filter(|cell| cell.variation.is_none());
    let is_here = |result: &&CellResult<'_, Cell>| match &result.cell.work {
        Work::Score(_) => true,
        work @ Work::Train { .. } => first.is_some_and(|first| first.work.start() == work.start()),
    };
    let here = || scale.cells.iter().filter(is_here).filter(|result| result.value("map").is_some());
    let of = |detector: &'a Detector| {
        (detector, here().filter(|result| result.cell.network == detector.network).collect::<Vec<_>>())
    };
    detectors.iter().map(of).filter(|(_, cells)| !cells.is_empty()).collect()
}

/// Average precision of each class, seeds averaged. None without a row.
fn by_class(shown: &[Shown<'_>]) -> Option<Table> {
    let (_, cells) = shown.first()?;
    let classes: Vec<&str> = cells.first()?.rows.iter().filter_map(|row| row.part.as_deref()).collect();
    let headings = shown.iter().map(|(detector, _)| (format!("AP, {} (%)", detector.title), true));
    let fixed = [("class", false), ("objects", true)].map(|(heading, right)| (heading.to_owned(), right));
    let mut table = Table::new(fixed.into_iter().chain(headings));
    for class in classes {
        let rows = |cells: &[&CellResult<'_, Cell>]| -> Vec<_> {
            cells.iter().filter_map(|result| result.row_of("ap", Some(class)).cloned()).collect()
        };
        let objects = rows(cells).first().map_or(0, |row| row.n);
        let entries = shown.iter().map(|(_, cells)| {
            let rows = rows(cells);
            let values: Vec<f64> = rows.iter().filter_map(|row| row.value).collect();
            match values.len() {
                0 => Entry::dash(),
                n => {
                    let mean = values.iter().sum::<f64>() / n as f64;
                    Entry::new(format!("{mean:.1}"), Mark::Ours, rows.iter().map(sandglass_ledger::Row::id).collect())
                }
            }
        });
        let entries: Vec<Entry> = entries.collect();
        table.push([class.to_owned().into(), objects.to_string().into()].into_iter().chain(entries));
    }
    Some(table)
}

/// Printed against counted, and the counts for claims.
fn heads(results: &Results<'_, Voc>) -> Result<(Table, Vec<Count>), StudyError> {
    let paper = PaperTable::find(HEADS)?;
    let columns = [
        ("what is counted", false),
        ("classes", true),
        ("params, paper (M)", true),
        ("params, exact", true),
        ("multiply-adds, paper (B)", true),
        ("multiply-adds, exact", true),
    ];
    let mut table = Table::new(columns.map(|(heading, right)| (heading.to_owned(), right)));
    let mut counts = Vec::new();
    for of in &results.design.heads {
        let counted: Counted = of.network.parse().map_err(StudyError::refused)?;
        let cost = counted.with(1.0, of.classes, 2).and_then(|counted| counted.cost(PAPER_INPUT, PAPER_INPUT));
        let cost = cost.map_err(StudyError::refused)?;
        let row = of.head.as_deref().and_then(|head| paper.row(&[("head", head)], &[]));
        let printed = |key: &str, digits: usize| paper.entry(row, key, digits).unwrap_or_else(Entry::dash);
        table.push([
            of.title.clone().into(),
            of.classes.to_string().into(),
            printed("params_m", 1),
            grouped(cost.params).into(),
            printed("madds_b", 2),
            grouped(cost.madds_total).into(),
        ]);
        for (what, value) in [("parameters", cost.params), ("multiply-adds", cost.madds_total)] {
            let axes = vec![("network".to_owned(), of.network.clone()), ("classes".to_owned(), of.classes.to_string())];
            counts.push(Count { what: what.to_owned(), axes, value });
        }
    }
    Ok((table, counts))
}

fn data(results: &Results<'_, Voc>, columns: &[Column], sure: &[(String, Vec<Score>, Vec<Lead>)]) -> serde_json::Value {
    let of_detector = |(at, detector): (usize, &Detector)| {
        let of = |column: &Column| json!({"scale": column.heading, "map": column.outcomes[at]});
        json!({"network": detector.network, "ours": columns.iter().map(of).collect::<Vec<_>>()})
    };
    let detectors: Vec<_> = results.design.detectors.iter().enumerate().map(of_detector).collect();
    let of_scale = |(scale, scores, leads): &(String, Vec<Score>, Vec<Lead>)| json!({"scale": scale, "scores": scores, "leads": leads});
    let sure: Vec<_> = sure.iter().map(of_scale).collect();
    json!({"study": results.head.name, "detectors": detectors, "leads": sure})
}
