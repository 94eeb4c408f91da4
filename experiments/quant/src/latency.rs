//! Times, network by network and scheme by scheme, and what others published of theirs.

use sandglass_lab::told::{Timing, ratio};
use sandglass_lab::{Subject, Variant};
use sandglass_study::paper::{Confidence, LEGEND, PaperTable};
use sandglass_study::{Entry, Mark, Part, Results, Scale, StudyError, Table};
use serde_json::json;

use crate::cell::F32;
use crate::{Cell, Quant};

/// Cells of times of a scale.
fn timings<'a>(scale: &'a Scale<'a, Quant>) -> impl Iterator<Item = Timing<'a, Cell>> {
    scale.cells.iter().filter_map(|result| Some(Timing { latency: result.cell.timed()?, result }))
}

/// Nothing where nothing was run.
pub(crate) fn parts(scale: &Scale<'_, Quant>, networks: &[Variant]) -> Vec<Part> {
    let timings: Vec<_> = timings(scale).collect();
    if timings.iter().all(|timing| timing.result.rows.is_empty()) {
        return Vec::new();
    }
    let input = timings.first().map_or(0, |timing| timing.latency.input);
    let mut notes = vec![
        format!(
            "One image of {input} x {input} pixels and 1000 classes; weights are drawn, and ranges are those of the image. \
             Medians of rounds; ratios are of the same round, with the 10th and 90th percentile. ONNX Runtime runs the same weights \
             in the same rounds, in 8 bits as a QDQ file: activations of 8 bits without a sign, weights with one."
        ),
        "A time is its scheme's. Here per-channel and per-tensor differ in numbers alone, with or without equalisation: a plan has \
         a factor and a clamp for each channel either way, so that the same kernels read and write the same bytes, and what \
         lies between their times is the machine's. Another engine need not: channels that equalisation clamps at different \
         values are operations of their own in the file. What saturates (avx2) and activations-only have no time: the first is \
         emulated, the second rounds maps in f32, and both by loops that are written to be read. Our plans never saturate; \
         ONNX Runtime's kernels do on CPUs without VNNI."
            .to_owned(),
    ];
    notes.extend(timings.iter().map(Timing::note));
    notes.extend(Some(scale.profile.note.clone()).filter(|note| !note.is_empty()));
    vec![
        Part::Heading(format!("{}: latency by scheme", scale.profile.title)),
        Part::Table(table(&timings, networks)),
        Part::Notes(notes),
    ]
}

/// A line for each network, scheme and number of threads.
fn table(timings: &[Timing<'_, Cell>], networks: &[Variant]) -> Table {
    let mut table = Table::new([
        ("network", false),
        ("width", true),
        ("scheme", false),
        ("threads", true),
        ("ours (ms)", true),
        ("ours to our f32", true),
        ("ONNX Runtime (ms)", true),
        ("ONNX Runtime to its f32", true),
        ("ours to ONNX Runtime", true),
        ("plan reads and writes (MB)", true),
    ]);
    for timing in timings {
        for subject in &timing.latency.subjects {
            let title =
                networks.iter().find(|of| of.network == subject.network).map_or(&subject.network, |of| &of.paper);
            let words =
                [title.clone(), format!("{:?}", subject.width), scheme(subject), timing.latency.threads.to_string()];
            let Some(times) = timing.of(subject) else {
                let missing = std::iter::repeat_n(timing.missing(), 6);
                table.push(words.into_iter().map(Entry::from).chain(missing));
                continue;
            };
            let entry = |text: Option<String>| {
                text.map_or_else(Entry::dash, |text| Entry::new(text, Mark::Ours, times.rows.clone()))
            };
            let peer = times.onnxruntime;
            let measured = [
                Some(format!("{:.2}", times.latency)),
                times.to_f32.map(ratio),
                peer.map(|peer| format!("{:.2}", peer.latency)),
                peer.and_then(|peer| peer.to_f32).map(ratio),
                peer.map(|peer| ratio(peer.ours_to_it)),
                Some(format!("{:.2}", times.bytes_moved / 1e6)),
            ];
            table.push(words.into_iter().map(Entry::from).chain(measured.map(entry)));
        }
    }
    table
}

fn scheme(subject: &Subject) -> String {
    subject.scheme.as_ref().map_or(F32, |of| &of.name).to_owned()
}

/// What others published, each line by its own engine and scheme.
pub(crate) fn published() -> Result<[Part; 3], StudyError> {
    let paper = PaperTable::find("latency_published")?;
    let mut table = Table::new([
        ("published by", false),
        ("machine", false),
        ("network", false),
        ("width", true),
        ("scheme", false),
        ("f32 (ms)", true),
        ("8 bits (ms)", true),
        ("8 bits to f32", true),
    ]);
    for row in &paper.row {
        let text = |key: &str| Entry::from(row.text(key).unwrap_or_default().to_owned());
        let number = |key: &str| row.number(key).map_or_else(Entry::unknown, |value| paper.printed(row, value));
        let to_f32 = row.number("ms").zip(row.number("ms_f32")).map(|(ms, float)| format!("{:.2}", ms / float));
        let derived = paper.confidence(row).max(Confidence::Derived);
        let to_f32 = to_f32.map_or_else(Entry::unknown, |ratio| Entry::printed(ratio, derived, paper.stands(row)));
        let width = Entry::from(row.number("width").map_or_else(String::new, |width| format!("{width:?}")));
        let words = [text("source_name"), text("machine"), text("network"), width, text("scheme")];
        table.push(words.into_iter().chain([number("ms_f32"), number("ms"), to_f32]));
    }
    Ok([
        Part::Heading("Published: latency in f32 and in 8 bits".to_owned()),
        Part::Table(table),
        Part::Notes(vec![format!("{} {}", paper.notes, LEGEND)]),
    ])
}

pub(crate) fn data(results: &Results<'_, Quant>) -> Vec<serde_json::Value> {
    let of_timing = |timing: Timing<'_, Cell>| {
        let subjects = timing.latency.subjects.iter().filter_map(|subject| {
            let times = timing.of(subject)?;
            let peer = times.onnxruntime;
            Some(json!({
                "network": subject.network, "width": subject.width, "scheme": scheme(subject), "ms": times.latency,
                "to_f32": times.to_f32, "onnxruntime_ms": peer.map(|peer| peer.latency),
                "onnxruntime_to_f32": peer.and_then(|peer| peer.to_f32), "to_onnxruntime": peer.map(|peer| peer.ours_to_it),
            }))
        });
        let (threads, input) = (timing.latency.threads, timing.latency.input);
        json!({"threads": threads, "input": input, "subjects": subjects.collect::<Vec<_>>()})
    };
    results.scales.iter().flat_map(timings).map(of_timing).collect()
}
