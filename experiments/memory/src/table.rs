//! How the study is laid out: the paper's table by its rule, then what plans take.

use std::collections::BTreeSet;

use sandglass_lab::Subject;
use sandglass_lab::told::{Timing, times};
use sandglass_models::NetworkConfig;
use sandglass_study::claim::Count;
use sandglass_study::paper::{PaperRow, PaperTable};
use sandglass_study::{Axis, Chart, Entry, Figure, Part, Point, Results, Scale, Section, Series, StudyError, Table};
use serde_json::json;

use crate::rule::{by_resolution, kilobytes, read_and_written};
use crate::{Memory, Network};

/// The input size of the paper's table.
const PAPER_INPUT: usize = 224;

/// A network and, by resolution, its channels by the rule.
struct Counted<'a> {
    network: &'a Network,
    most: Vec<(usize, usize)>,
}

impl Counted<'_> {
    fn channels(&self, height: usize) -> Option<usize> {
        self.most.iter().find(|(of, _)| *of == height).map(|(_, channels)| *channels)
    }

    fn largest(&self) -> f64 {
        self.most.iter().map(|&(height, channels)| kilobytes(height, channels)).fold(0.0, f64::max)
    }
}

pub(crate) fn section(results: &Results<'_, Memory>) -> Result<Section, StudyError> {
    let paper = results.head.paper()?;
    let counted = results.design.networks.iter().map(count).collect::<Result<Vec<_>, _>>()?;
    let mut parts = vec![Part::Table(by_rule(&counted, &paper)), Part::Notes(notes(results, &paper))];
    for scale in &results.scales {
        parts.extend(plans(scale, &results.design.plans));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.push(Part::Figure(through(results)?));
    let of_network = |of: &Counted<'_>| json!({"network": of.network.network, "channels_by_resolution": of.most});
    let data = json!({"study": results.head.name, "networks": counted.iter().map(of_network).collect::<Vec<_>>()});
    let counts = counted.iter().map(|of| Count {
        what: "bytes held at most".to_owned(),
        axes: vec![("network".to_owned(), of.network.network.clone())],
        value: (1000.0 * of.largest()).round() as u64,
    });
    Ok(Section { parts, counts: counts.collect(), data, ..Section::default() })
}

/// What each convolution reads and writes, from the images to the head.
fn through(results: &Results<'_, Memory>) -> Result<Figure, StudyError> {
    let series = |network: &Network| {
        let config: NetworkConfig = network.network.parse().map_err(StudyError::refused)?;
        let maps =
            config.build().and_then(|graph| read_and_written(&graph, PAPER_INPUT)).map_err(StudyError::refused)?;
        let all = maps.len().max(2) - 1;
        let point = |(at, bytes): (usize, usize)| Point {
            x: 100.0 * at as f64 / all as f64,
            y: bytes as f64 / 1e6,
            spread: None,
        };
        Ok(Series { name: network.title.clone(), points: maps.into_iter().enumerate().map(point).collect() })
    };
    let series = results.design.networks.iter().map(series).collect::<Result<Vec<_>, StudyError>>()?;
    let axis =
        |label: &str, words: &str, unit: &str| Axis { label: label.into(), words: words.into(), unit: unit.into() };
    let chart = Chart {
        name: "maps".to_owned(),
        title: format!("maps that a convolution reads and writes, {PAPER_INPUT} x {PAPER_INPUT}"),
        x: axis("way through the network (%)", "way through the network", ""),
        y: axis("read and written (MB)", "megabytes read and written", " MB"),
        series,
        is_minor: false,
        joined: true,
    };
    Ok(Figure {
        name: format!("{}-through", results.head.name),
        caption: "Activations of 16 bits that each convolution or linear layer reads and writes, one after the other from the images \
                  to the scores, with nothing fused."
            .to_owned(),
        charts: vec![chart],
    })
}

fn count(network: &Network) -> Result<Counted<'_>, StudyError> {
    let config: NetworkConfig = network.network.parse().map_err(StudyError::refused)?;
    let most = config.build().and_then(|graph| by_resolution(&graph, PAPER_INPUT)).map_err(StudyError::refused)?;
    Ok(Counted { network, most })
}

fn by_rule(counted: &[Counted<'_>], paper: &PaperTable) -> Table {
    let mut columns = vec![("resolution".to_owned(), true)];
    for Counted { network, .. } in counted {
        if network.paper.is_some() {
            columns.push((format!("{}, paper: channels / Kb", network.title), true));
        }
        columns.push((format!("{}, by the rule: channels / Kb", network.title), true));
    }
    let mut table = Table::new(columns);
    let heights: BTreeSet<usize> = counted.iter().flat_map(|of| of.most.iter().map(|(height, _)| *height)).collect();
    for height in heights.into_iter().rev() {
        let row = paper.row(&[], &[("size_px", height as f64)]);
        let mut entries: Vec<Entry> = vec![format!("{height} x {height}").into()];
        for of in counted {
            entries.extend(of.network.paper.as_deref().map(|name| printed(paper, row, name)));
            let ours = of.channels(height);
            let text = ours.map(|channels| format!("{channels} / {:.0}", kilobytes(height, channels)));
            entries.push(text.map_or_else(Entry::dash, Entry::from));
        }
        table.push(entries);
    }
    let row = paper.row(&[("label", "max")], &[]);
    let mut entries: Vec<Entry> = vec!["most".to_owned().into()];
    for of in counted {
        entries.extend(of.network.paper.as_deref().map(|name| printed(paper, row, name)));
        entries.push(format!("{:.0}", of.largest()).into());
    }
    table.push(entries);
    table
}

/// Such as `16 / 400`; the largest has no channels.
fn printed(paper: &PaperTable, row: Option<&PaperRow>, name: &str) -> Entry {
    let number = |row: &PaperRow, what: &str| row.number(&format!("{name}_{what}"));
    let Some((row, kilobytes)) = row.and_then(|row| Some((row, number(row, "kb")?))) else {
        return Entry::unknown();
    };
    let channels = number(row, "channels").map_or_else(String::new, |channels| format!("{channels} / "));
    paper.printed(row, format_args!("{channels}{kilobytes}"))
}

fn notes(results: &Results<'_, Memory>, paper: &PaperTable) -> Vec<String> {
    let mut notes = vec![
        format!(
            "{PAPER_INPUT} x {PAPER_INPUT} pixels, activations of 16 bits, Kb of 1000 bytes. By the rule: the most channels of a map \
             between blocks, the stem's, the head's and the pooled map among them; what is inside a block is not counted."
        ),
        paper.notes.clone(),
        "Printed for MobileNetV2 is, at each resolution, the output width of the plan's row whose input has it, even where that \
         row halves it, and neither the stem's map (32 at 112 x 112) nor the head's (1280 at 7 x 7)."
            .to_owned(),
    ];
    for scale in &results.scales {
        let (open, all) = scale.open();
        if open > 0 {
            notes.push(format!("Not done: {open} of {all} cells of profile {}.", scale.profile.name));
        }
    }
    notes
}

fn plans(scale: &Scale<'_, Memory>, subjects: &[Subject]) -> Vec<Part> {
    let timings: Vec<_> = scale.cells.iter().map(|result| Timing { latency: result.cell, result }).collect();
    if timings.iter().all(|timing| timing.result.rows.is_empty()) {
        return Vec::new();
    }
    let line = |subject: &Subject| {
        let groups = if subject.memory_groups == 1 { "whole".to_owned() } else { subject.memory_groups.to_string() };
        (subject.clone(), vec![subject.network.clone().into(), groups.into()])
    };
    let lines: Vec<_> = subjects.iter().map(line).collect();
    let fixed = [("network", false), ("wide map in groups", true)];
    let table = times(fixed.map(|(heading, right)| (heading.to_owned(), right)).to_vec(), &lines, &timings);
    let input = timings.first().map_or(0, |timing| timing.latency.input);
    let mut notes = vec![format!(
        "What our compiled plans hold for one image of {input} x {input} pixels, in f32 and beside the weights, and what groups \
         cost in time: in how many groups of channels the wide map between an expansion and its depthwise convolution is \
         made, the same bits. What is held is the largest pair of maps at once, and where the convolutions of a block run line \
         by line already, groups save nothing. A sandglass's widest maps are its block's input and output, which no groups reach."
    )];
    notes.extend(timings.iter().map(Timing::note));
    notes.extend(Some(scale.profile.note.clone()).filter(|note| !note.is_empty()));
    vec![Part::Heading(format!("Our plans, {}", scale.profile.title)), Part::Table(table), Part::Notes(notes)]
}
