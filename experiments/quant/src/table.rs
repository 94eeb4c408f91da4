//! How the study is laid out: the answer, the gap by scheme, every network, the given ones, and what each layer costs.

use sandglass_lab::told::unreadable;
use sandglass_ledger::stats::rank_correlation;
use sandglass_study::paper::{Confidence, LEGEND, PaperTable};
use sandglass_study::{DASH, Entry, Mark, Part, Results, Section, StudyError, Table, grouped};
use serde::Serialize;

use crate::cell::F32;
use crate::figures::figures;
use crate::measurements::{Measured, Measurements, Pair};
use crate::paired::{Interval, Unit, difference_of_drops, gap};
use crate::{Quant, Source, latency};

/// The paper's values: its gap in 8 bits, and what each family drops.
#[derive(Clone, Debug, Serialize)]
struct Paper {
    gap: f64,
    gap_before: f64,
    drops: [f64; 2],
    /// As sure as the least sure of the four values.
    #[serde(skip)]
    confidence: Confidence,
    #[serde(skip)]
    stands: String,
}

impl Paper {
    fn find(table: &PaperTable, [first, second]: [&str; 2]) -> Option<Self> {
        let row = |model: &str, bits: f64| table.row(&[("model", model)], &[("bits_weights", bits)]);
        let rows = [row(first, 32.0)?, row(second, 32.0)?, row(first, 8.0)?, row(second, 8.0)?];
        let [before, other_before, after, other_after] = rows.map(|row| row.number("top1_pct"));
        let ([before, other_before], [after, other_after]) = ([before?, other_before?], [after?, other_after?]);
        let sure = rows.map(|row| (table.confidence(row), table.stands(row)));
        let (confidence, stands) = sure.into_iter().max_by_key(|(confidence, _)| *confidence)?;
        Some(Self {
            gap: other_after - after,
            gap_before: other_before - before,
            drops: [before - after, other_before - other_after],
            confidence,
            stands,
        })
    }

    fn difference(&self) -> f64 {
        self.drops[0] - self.drops[1]
    }
}

/// A scheme at one scale, over all widths and seeds at which both families are there.
#[derive(Clone, Debug, Serialize)]
struct Line {
    scale: String,
    synthetic: bool,
    scheme: String,
    /// Widths and seeds.
    units: usize,
    /// No width has two: the interval is over images alone.
    has_one_seed: bool,
    /// Second family less first, in f32 and in 8 bits, in points.
    gap_before: Option<Interval>,
    gap: Option<Interval>,
    drops: [Option<Interval>; 2],
    /// What the first family drops more than the second.
    difference: Option<Interval>,
    #[serde(skip)]
    rows: Vec<String>,
}

pub(crate) fn section(results: &Results<'_, Quant>) -> Result<Section, StudyError> {
    let networks = &results.design.networks;
    let [first, second] = &networks[..] else {
        return Err(StudyError::refused("networks: name the two that are compared"));
    };
    let (names, words) = ([first.network.as_str(), &second.network], [first.paper.as_str(), &second.paper]);
    let paper = Paper::find(&results.head.paper()?, words);
    let mut scales: Vec<Measurements> = results.scales.iter().map(|scale| Measurements::of(results, scale)).collect();
    // What was drawn by code shows that all works, and stands behind what is real.
    scales.sort_by_key(|scale| scale.synthetic);
    let families: Vec<&Measurements> = scales.iter().filter(|scale| scale.compares_families()).collect();
    let lines: Vec<Line> = families.iter().flat_map(|scale| lines(scale, names)).collect();

    let mut parts = vec![Part::Notes(answer(paper.as_ref(), words, &lines, &scales))];
    parts.push(Part::Table(overview(paper.as_ref(), words, &lines)));
    parts.push(Part::Notes(notes(&scales)));
    for scale in &families {
        parts
            .push(Part::Heading(format!("{}: {} minus {} in 8 bits, at equal width", scale.title, words[1], words[0])));
        parts.push(Part::Table(gaps(scale, names)));
    }
    for scale in scales.iter().filter(|scale| !scale.cells.is_empty()) {
        parts.push(Part::Heading(format!("{}: every network", scale.title)));
        parts.push(Part::Table(every(scale)));
        if !scale.note.is_empty() {
            parts.push(Part::Notes(vec![scale.note.to_owned()]));
        }
    }
    parts.extend(published()?);
    let (real, drawn): (Vec<_>, Vec<_>) = results.scales.iter().partition(|scale| !scale.profile.synthetic);
    for scale in real.into_iter().chain(drawn) {
        parts.extend(latency::parts(scale, networks));
    }
    parts.extend(latency::published()?);
    let orders: Vec<String> = scales.iter().filter_map(|scale| orders(scale, &results.design.plain)).collect();
    if !orders.is_empty() {
        parts.push(Part::Heading("What the drops go with".to_owned()));
        parts.push(Part::Notes(orders));
    }
    let costs = costs(&scales);
    if !costs.rows.is_empty() {
        parts.push(Part::Heading("The layers that cost most".to_owned()));
        parts.push(Part::Table(costs));
        parts.push(Part::Notes(vec![
            "Signal to quantisation noise at the scores, gained where the layer alone stays in f32: one scale a tensor, \
             calibration images."
                .to_owned(),
        ]));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.extend(figures(&results.head.name, &scales, results.design).into_iter().map(Part::Figure));
    let data = serde_json::json!({
        "study": results.head.name, "paper": paper, "lines": lines, "latency": latency::data(results),
    });
    Ok(Section { parts, problems: unreadable(&results.experiment.project, results), data, ..Section::default() })
}

fn lines(scale: &Measurements, names: [&str; 2]) -> Vec<Line> {
    let line = |scheme: String| {
        let pairs = scale.pairs(names, &scheme);
        let gap_of = |at: usize| {
            let sides = pairs.iter().map(|pair| (pair.width(), [&pair.first[at].right, &pair.second[at].right]));
            gap(&sides.collect::<Vec<_>>())
        };
        let drop_of = |side: &dyn for<'p> Fn(&'p Pair<'_, '_>) -> [&'p Measured<'p>; 2]| {
            let sides = pairs.iter().map(|pair| {
                let [float, quantised] = side(pair);
                (pair.width(), [&quantised.right, &float.right])
            });
            gap(&sides.collect::<Vec<_>>())
        };
        let units = pairs.iter().map(|pair| Unit {
            width: pair.width(),
            first: [&pair.first[0].right, &pair.first[1].right],
            second: [&pair.second[0].right, &pair.second[1].right],
        });
        Line {
            scale: scale.title.to_owned(),
            synthetic: scale.synthetic,
            units: pairs.len(),
            has_one_seed: pairs
                .iter()
                .all(|pair| pairs.iter().filter(|other| other.width() == pair.width()).count() == 1),
            gap_before: gap_of(0),
            gap: gap_of(1),
            drops: [drop_of(&|pair| pair.first), drop_of(&|pair| pair.second)],
            difference: difference_of_drops(&units.collect::<Vec<_>>()),
            rows: pairs
                .iter()
                .flat_map(|pair| [pair.first, pair.second].concat())
                .filter_map(|m| Some(m.row()?.id()))
                .collect(),
            scheme,
        }
    };
    scale.schemes().into_iter().map(line).filter(|line| line.units > 0).collect()
}

/// The first three lines: the paper's gap, ours, and whether the difference of drops is there.
fn answer(paper: Option<&Paper>, words: [&str; 2], lines: &[Line], scales: &[Measurements]) -> Vec<String> {
    let [first, second] = words;
    let of_paper = paper.map_or_else(
        || "The paper's values are not known.".to_owned(),
        |paper| {
            format!(
                "Paper, ImageNet: in 8 bits {second} leads {first} by {:.2} points, {:.2} before: {first} drops {:.2} points \
                 and {second} {:.2}, which is {:.2} less.",
                paper.gap,
                paper.gap_before,
                paper.drops[0],
                paper.drops[1],
                paper.difference()
            )
        },
    );
    let real: Vec<&Line> = lines.iter().filter(|line| !line.synthetic).collect();
    let wanted = |line: &&&Line| MAIN.contains(&line.scheme.as_str());
    let ours: Vec<String> = real
        .iter()
        .filter(wanted)
        .map(|line| {
            let gap = |gap: Option<Interval>| gap.map_or(DASH.to_owned(), signed);
            let seeds = if line.has_one_seed { ", one seed" } else { "" };
            format!("{} {}: {} (f32: {}{seeds})", line.scale, line.scheme, gap(line.gap), gap(line.gap_before))
        })
        .collect();
    let todo: Vec<String> = scales
        .iter()
        .filter(|scale| scale.scores && !scale.synthetic && scale.open.0 > 0)
        .map(|scale| format!("{} of {} cells of {}", scale.open.0, scale.open.1, scale.name))
        .collect();
    let ours = match ours.is_empty() {
        true if todo.is_empty() => "Ours, at equal width: not measured on real images.".to_owned(),
        true => format!("Ours, at equal width: not measured on real images yet ({} not done).", todo.join(", ")),
        false => format!("Ours, gap in 8 bits at equal width, over all widths: {}.", ours.join("; ")),
    };
    vec![of_paper, ours, format!("Is the difference of drops there? {}", verdict(paper, second, &real))]
}

/// The schemes that the first lines tell.
const MAIN: [&str; 3] = ["per-channel", "per-tensor", "per-channel-avx2"];

const RULE: &str = "the rule: it is in favour, or against, where the 95 % interval of the difference of drops, paired over images \
                    and seeds, each width once, lies above 0, or below it; what was drawn by code does not count";

fn verdict(paper: Option<&Paper>, second: &str, lines: &[&Line]) -> String {
    let known: Vec<(&Line, Interval)> = lines.iter().filter_map(|line| Some((*line, line.difference?))).collect();
    if known.is_empty() {
        return format!("Not decided: nothing is measured on real images ({RULE}).");
    }
    let names = |keep: &dyn Fn(&Interval) -> bool| {
        let names: Vec<String> = known
            .iter()
            .filter(|(_, of)| keep(of))
            .map(|(line, _)| format!("{} {}", line.scale, line.scheme))
            .collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let told = |(line, of): &(&Line, Interval)| {
        let holds = paper.map_or("", |paper| match (of.low()..=of.high()).contains(&paper.difference()) {
            true => ", which holds the paper's",
            false => ", without the paper's",
        });
        let seeds = if line.has_one_seed { ", one seed" } else { "" };
        format!("{} {}: {}{seeds}{holds}", line.scale, line.scheme, signed(*of))
    };
    let main = known.iter().filter(|(line, _)| MAIN.contains(&line.scheme.as_str())).map(told);
    format!(
        "{}. In favour of {second}: {}. Against it: {}. ({RULE}.)",
        main.collect::<Vec<_>>().join("; "),
        names(&|interval| interval.low() > 0.0),
        names(&|interval| interval.high() < 0.0),
    )
}

fn signed(interval: Interval) -> String {
    format!("{:+.2} \u{b1} {:.2}", interval.mean, interval.half)
}

fn interval(of: Option<Interval>, rows: &[String]) -> Entry {
    match of {
        Some(of) => Entry::new(signed(of), Mark::Ours, rows.to_vec()),
        None => Entry::new(DASH, Mark::Missing, Vec::new()),
    }
}

/// A line for each scheme, the paper's first.
fn overview(paper: Option<&Paper>, [first, second]: [&str; 2], lines: &[Line]) -> Table {
    let mut table = Table::new([
        ("scale".to_owned(), false),
        ("scheme".to_owned(), false),
        ("networks of each".to_owned(), true),
        (format!("{second} minus {first}, f32"), true),
        ("the same, 8 bits".to_owned(), true),
        (format!("drop, {first}"), true),
        (format!("drop, {second}"), true),
        ("difference of drops".to_owned(), true),
    ]);
    if let Some(paper) = paper {
        let printed = |value: f64| Entry::printed(format_args!("{value:+.2}"), paper.confidence, paper.stands.clone());
        let text = |text: &str| Entry::from(text.to_owned());
        let [a, b] = paper.drops;
        table.push([
            text("paper, ImageNet"),
            text("not told"),
            text("1"),
            printed(paper.gap_before),
            printed(paper.gap),
            printed(a),
            printed(b),
            printed(paper.difference()),
        ]);
    }
    for line in lines {
        let synthetic = if line.synthetic { " (drawn by code)" } else { "" };
        table.push([
            format!("{}{synthetic}", line.scale).into(),
            line.scheme.clone().into(),
            line.units.to_string().into(),
            interval(line.gap_before, &line.rows),
            interval(line.gap, &line.rows),
            interval(line.drops[0], &line.rows),
            interval(line.drops[1], &line.rows),
            interval(line.difference, &line.rows),
        ]);
    }
    table
}

fn notes(scales: &[Measurements]) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Points of top-1 accuracy, with intervals of 95 % on the same images; each width counts once, and \
             of several seeds of a width their variance is added. A drop above 0 is a loss. {LEGEND}"
        ),
        "per-channel, per-tensor: one scale for each channel of a weight, or one for all of it; ranges are least and largest \
         value over 512 calibration images, maps have one scale each. avx2: pairs of products are added in 16 bits that \
         saturate, as on CPUs without VNNI. pointwise-per-tensor: depthwise weights alone by channel. clip: weights are cut \
         at 15. equalised: scales are evened out between layers that follow each other; relu: with ReLU in place of ReLU6; \
         corrected: biases moved by what rounding does to them on average. activations-only: weights stay in f32. int8-logits: \
         scores in 8 bits too, else the classifier's accumulators times their scales. In full: workspace/quant/schemes.toml."
            .to_owned(),
        "bytes: of the file; checkpoints that were trained here are kept in half precision, so that f32 is two bytes a \
         parameter there."
            .to_owned(),
    ];
    let open = scales.iter().filter(|scale| scale.open.0 > 0);
    notes.extend(
        open.map(|scale| format!("Not done: {} of {} cells of profile {}.", scale.open.0, scale.open.1, scale.name)),
    );
    notes
}

/// A line for each scheme, a column for each width: the gap over all its seeds.
fn gaps(scale: &Measurements, names: [&str; 2]) -> Table {
    let widths = scale.widths();
    let columns = widths.iter().map(|width| (format!("width {width:?}"), true));
    let mut table = Table::new([("scheme".to_owned(), false)].into_iter().chain(columns));
    let of = |scheme: &str| scale.pairs(names, scheme);
    let seed = |pair: &Pair| pair.first[1].cell.seed;
    let first = of(F32).iter().map(seed).min();
    let mut lines = vec![(F32.to_owned(), of(F32))];
    // Most schemes are there at the first seed alone, and are to be read beside the networks that they are made of.
    let only: Vec<Pair> = of(F32).into_iter().filter(|pair| Some(seed(pair)) == first).collect();
    if only.len() < of(F32).len() {
        lines.push((format!("{F32}, first seed"), only));
    }
    lines.extend(scale.schemes().into_iter().map(|scheme| (scheme.clone(), of(&scheme))));
    for (scheme, pairs) in lines {
        let at = |width: f64| {
            let at: Vec<&Pair> = pairs.iter().filter(|pair| pair.width() == width).collect();
            let rows: Vec<String> = at
                .iter()
                .flat_map(|pair| [pair.first[1], pair.second[1]])
                .filter_map(|m| Some(m.row()?.id()))
                .collect();
            let sides = at.iter().map(|pair| (width, [&pair.first[1].right, &pair.second[1].right]));
            interval(gap(&sides.collect::<Vec<_>>()), &rows)
        };
        table.push([Entry::from(scheme.clone())].into_iter().chain(widths.iter().map(|&width| at(width))));
    }
    table
}

/// A line for each cell.
fn every(scale: &Measurements) -> Table {
    let is_given = !scale.compares_families();
    let mut table = Table::new([
        ("network", false),
        ("width", true),
        (if is_given { "trained by" } else { "seed" }, !is_given),
        ("scheme", false),
        ("top-1 (%)", true),
        ("images right", true),
        ("drop (points)", true),
        ("top-5 (%)", true),
        ("bytes", true),
        ("pairs beyond 16 bits (%)", true),
    ]);
    for measured in &scale.cells {
        let of = |metric: &str, write: &dyn Fn(f64) -> String| match measured.value(metric) {
            Some(value) => Measured::entry(write(value), &[measured]),
            None => Entry::default(),
        };
        let sum = |metric: &str| measured.parts(metric).iter().map(|(_, value)| value).sum::<f64>();
        let pairs = sum("pairs");
        let saturated = match pairs > 0.0 {
            true => Measured::entry(format!("{:.4}", 100.0 * sum("saturated_pairs") / pairs), &[measured]),
            false => Entry::default(),
        };
        let drop = match (&measured.cell.scheme, scale.drop(measured), scale.float(measured.cell)) {
            (Some(_), Some(drop), Some(float)) => Measured::entry(signed(drop), &[float, measured]),
            _ => Entry::default(),
        };
        let bytes = if measured.cell.scheme.is_some() { "bytes" } else { "checkpoint_bytes" };
        let maker = match &measured.cell.source {
            Source::Given { name, .. } => name.clone(),
            Source::Kept(_) => measured.cell.seed.to_string(),
        };
        let n = measured.row().map_or(0, |row| row.n);
        table.push([
            measured.network().into(),
            format!("{:?}", measured.cell.network.width).into(),
            maker.into(),
            measured.scheme().into(),
            of("top1", &|value| format!("{value:.2}")),
            of("top1_count", &|value| format!("{value:.0} of {n}")),
            drop,
            of("top5", &|value| format!("{value:.2}")),
            of(bytes, &|value| grouped(value as u64)),
            saturated,
        ]);
    }
    table
}

/// What others published of MobileNetV2 and EfficientNet-lite0 in 8 bits.
fn published() -> Result<[Part; 3], StudyError> {
    let paper = PaperTable::find("mobilenetv2_quant_published")?;
    let mut table =
        Table::new([("published by", false), ("scheme", false), ("f32, top-1 (%)", true), ("8 bits, top-1 (%)", true)]);
    for row in &paper.row {
        let text = |key: &str| Entry::from(row.text(key).unwrap_or_default().to_owned());
        let number = |key: &str| match row.number(key) {
            Some(value) => paper.printed(row, value),
            None => Entry::unknown(),
        };
        table.push([text("source_name"), text("scheme"), number("top1_f32_pct"), number("top1_pct")]);
    }
    Ok([
        Part::Heading("Published: MobileNetV2 1.0 and EfficientNet-lite0 in 8 bits, all of ImageNet".to_owned()),
        Part::Table(table),
        Part::Notes(vec![format!("{} {}", paper.notes, LEGEND)]),
    ])
}

/// How the networks' drops are ordered beside what could explain them; None where too few networks are there.
fn orders(scale: &Measurements, plain: &[String]) -> Option<String> {
    if scale.synthetic || !scale.compares_families() {
        return None;
    }
    let of = |drops: &str, cause: &dyn Fn(&Measured) -> Option<f64>| {
        let told = plain.iter().filter_map(|scheme| {
            let seed = scale.cells.iter().map(|measured| measured.cell.seed).min();
            let cells = scale.cells.iter().filter(|of| of.scheme() == *scheme && Some(of.cell.seed) == seed);
            let pairs = cells.filter_map(|measured| {
                let is_dropped = |other: &&Measured| {
                    other.scheme() == format!("{scheme}{drops}") && other.is_of_same_checkpoint(measured.cell)
                };
                let dropped = scale.cells.iter().find(is_dropped)?;
                Some((scale.drop(dropped)?.mean, cause(measured)?))
            });
            let pairs: Vec<(f64, f64)> = pairs.collect();
            Some(format!("{scheme} {:+.2} ({} networks)", rank_correlation(&pairs)?, pairs.len()))
        });
        told.collect::<Vec<_>>().join(", ")
    };
    let noise = of("", &|measured| {
        let graph = measured.cell.network.build().ok()?.folded().activations_apart();
        let scores = graph.maps().last()?.name.clone();
        measured.parts("sqnr").into_iter().find(|(map, _)| *map == scores).map(|(_, decibels)| -decibels)
    });
    let saturated = of("-avx2", &|measured| {
        let sum = |metric: &str| measured.parts(metric).iter().map(|(_, value)| value).sum::<f64>();
        Some(sum("saturated_pairs") / sum("pairs")).filter(|share| share.is_finite())
    });
    (!noise.is_empty() && !saturated.is_empty()).then(|| {
        format!(
            "{}, rank correlation over the networks of the first seed (Spearman; 1: one order, 0: no relation): of the drop with \
             the noise at the scores {noise}; of the drop where 16 bits saturate with the share of pairs beyond them {saturated}.",
            scale.title
        )
    })
}

const SHOWN: usize = 5;

/// For each network whose layers were left out in turn, those that gain most.
fn costs(scales: &[Measurements]) -> Table {
    let mut table = Table::new([
        ("scale", false),
        ("network", false),
        ("width", true),
        ("layer", false),
        ("gain (dB)", true),
        ("of (dB)", true),
    ]);
    for scale in scales {
        for measured in &scale.cells {
            let Some(whole) = measured.value("score_sqnr") else { continue };
            let mut layers = measured.parts("score_sqnr");
            layers.sort_by(|a, b| b.1.total_cmp(&a.1));
            for (layer, sqnr) in layers.into_iter().take(SHOWN) {
                table.push([
                    scale.title.to_owned().into(),
                    measured.network().into(),
                    format!("{:?}", measured.cell.network.width).into(),
                    layer.to_owned().into(),
                    Measured::entry(format!("{:+.2}", sqnr - whole), &[measured]),
                    Measured::entry(format!("{whole:.2}"), &[measured]),
                ]);
            }
        }
    }
    table
}
