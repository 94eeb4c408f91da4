//! How the study is laid out: the spirals, the collapsed share beside the exact one, then what networks keep.

use sandglass_ledger::Row;
use sandglass_ledger::stats::{Interval, mean};
use sandglass_study::{CellResult, DASH, Entry, Mark, Outcome, Part, Results, Scale, Section, StudyError, Table};
use serde::Serialize;
use serde_json::json;

use crate::figures::{Shares, positive, spirals};
use crate::layers::{Relu, relus};
use crate::plane::expected;
use crate::{Cell, Manifold, Network};

/// Far above what sums of angles round to, and far below what is printed; in percent.
const ROUNDING: f64 = 1e-9;

/// Of layers of one number of outputs, over all seeds.
#[derive(Clone, Debug, Serialize)]
struct Collapsed {
    outputs: usize,
    /// In percent, on average.
    exact: f64,
    /// Over seeds, in percent; None for one seed.
    measured: Option<Interval>,
    layers: u64,
    /// Layers that collapse any of the plane.
    collapsing: u64,
    #[serde(skip)]
    rows: Vec<String>,
}

/// A network at one scale.
struct Measured<'a> {
    result: &'a CellResult<'a, Cell>,
    cell: &'a Network,
    relus: Vec<Relu>,
}

pub(crate) fn section(results: &Results<'_, Manifold>) -> Result<Section, StudyError> {
    let design = results.design;
    let mut parts = vec![Part::Curves(spirals(&results.head.name, &design.dimensions))];
    let mut data = Vec::new();
    let mut shares: Vec<Shares> = Vec::new();
    for scale in &results.scales {
        let title = &scale.profile.title;
        let random = collapsed(scale, &design.dimensions);
        let networks = measured(scale)?;
        let is_run = networks.iter().any(|of| of.row().is_some());
        if !random.is_empty() {
            parts.push(Part::Heading(format!("Random layers, {title}")));
            parts.push(Part::Table(of_random(&random)));
            parts.push(Part::Notes(vec![
                "Of a layer the share is exact; the interval is of its mean over seeds, by Student's t, and no share is below 0. \
                 Where no layer collapses anything it is the exact one of Clopper and Pearson, of the share of layers."
                    .to_owned(),
                "Expected of m outputs is (1 + m) / 2^m: the plane is lost where fewer than two outputs are positive. Of three \
                 each layer collapses just half: a point and its opposite have three positive outputs between them."
                    .to_owned(),
            ]));
        }
        if is_run {
            parts.push(Part::Heading(format!("Networks, {title}")));
            parts.push(Part::Table(of_networks(results, &networks)));
            parts.push(Part::Notes(of_images(scale, &networks)));
            if let Some(width) = widest(&networks) {
                if !scale.profile.synthetic {
                    parts.push(Part::Heading(format!("Every expansion, {title}, width {width:?}, trained")));
                    parts.push(Part::Table(by_layer(results, &networks, width)));
                }
                shares.extend(before_and_after(results, scale, &networks, width));
            }
        }
        let (open, all) = scale.open();
        if open > 0 {
            let name = &scale.profile.name;
            parts.push(Part::Notes(vec![format!("Not done: {open} of {all} cells of profile {name}.")]));
        }
        data.push(json!({
            "scale": scale.profile.name,
            "random_layers": random,
            "networks": networks.iter().map(Measured::json).collect::<Vec<_>>(),
        }));
    }
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.extend(positive(&results.head.name, &shares).map(Part::Figure));
    let data = json!({ "study": results.head.name, "scales": data });
    Ok(Section { parts, data, ..Section::default() })
}

fn collapsed(scale: &Scale<'_, Manifold>, dimensions: &[usize]) -> Vec<Collapsed> {
    let cells: Vec<_> = scale.cells.iter().filter(|result| result.cell.random().is_some()).collect();
    let of = |&outputs: &usize| {
        let part = outputs.to_string();
        let rows =
            |metric: &str| -> Vec<&Row> { cells.iter().filter_map(|cell| cell.row_of(metric, Some(&part))).collect() };
        let (shares, collapsing) = (rows("collapsed"), rows("collapsing"));
        let values: Vec<f64> = shares.iter().filter_map(|row| row.value).collect();
        (!values.is_empty()).then(|| Collapsed {
            outputs,
            exact: 100.0 * expected(outputs),
            measured: mean(&values),
            layers: shares.iter().map(|row| row.n).sum(),
            collapsing: collapsing.iter().filter_map(|row| row.value).fold(0.0, |sum, x| sum + x) as u64,
            rows: shares.iter().map(|row| row.id()).collect(),
        })
    };
    dimensions.iter().filter_map(of).collect()
}

impl Collapsed {
    /// Of layers none of which collapses anything, what could still be missed: the exact bound of Clopper and Pearson on the
    /// share of layers, of which no more than all of the plane is lost.
    fn interval(&self) -> Option<Interval> {
        match self.collapsing {
            0 => Some(Interval {
                effect: 0.0,
                low: 0.0,
                high: 100.0 * (1.0 - libm::pow(0.025, 1.0 / self.layers.max(1) as f64)),
            }),
            _ => self.measured,
        }
    }
}

fn of_random(lines: &[Collapsed]) -> Table {
    let mut table = Table::new([
        ("outputs", true),
        ("collapsed, exact on average (%)", true),
        ("collapsed, measured (%)", true),
        ("95 % interval", true),
        ("holds the exact share", false),
        ("layers", true),
        ("that collapse anything", true),
    ]);
    for line in lines {
        let ours = |text: String| Entry::new(text, Mark::Ours, line.rows.clone());
        let interval = line.interval();
        let entries: [Entry; 7] = [
            line.outputs.to_string().into(),
            digits(line.exact).into(),
            interval.map_or_else(Entry::dash, |of| ours(digits(of.effect))),
            interval.map_or_else(|| "one seed".to_owned(), range).into(),
            interval
                .map_or_else(|| DASH.to_owned(), |of| if holds(of, line.exact) { "yes" } else { "no" }.to_owned())
                .into(),
            sandglass_study::grouped(line.layers).into(),
            ours(sandglass_study::grouped(line.collapsing)),
        ];
        table.push(entries);
    }
    table
}

fn range(of: Interval) -> String {
    format!("{} to {}", digits(of.low.max(0.0)), digits(of.high))
}

/// But for rounding, which is all that seeds differ in where every layer collapses the same.
fn holds(of: Interval, exact: f64) -> bool {
    Interval { low: of.low - ROUNDING, high: of.high + ROUNDING, ..of }.holds(exact)
}

/// In percent, and a share of less than a thousandth not as nothing.
fn digits(percent: f64) -> String {
    if percent == 0.0 || percent >= 0.01 { format!("{percent:.3}") } else { format!("{percent:.7}") }
}

/// Every network that the profile plans, run or not.
fn measured<'a>(scale: &'a Scale<'_, Manifold>) -> Result<Vec<Measured<'a>>, StudyError> {
    let of = |result: &'a CellResult<'_, Cell>| {
        let cell = result.cell.network()?;
        let graph = cell.network.build().map_err(StudyError::refused);
        Some(graph.map(|graph| Measured { result, cell, relus: relus(&graph) }))
    };
    scale.cells.iter().filter_map(of).collect()
}

impl Measured<'_> {
    fn name(&self) -> String {
        self.cell.network.to_string()
    }

    /// The headline's, where there is a value.
    fn row(&self) -> Option<&Row> {
        self.result.row("kept").filter(|row| row.value.is_some())
    }

    fn channels(&self, part: &str) -> Option<&Row> {
        self.result.row_of("channels", Some(part))
    }

    fn layer(&self, metric: &str, relu: &Relu) -> Option<f64> {
        self.result.row_of(metric, Some(&relu.name))?.value
    }

    /// The mean of a metric over some ReLUs; None without any.
    fn mean(&self, metric: &str, of: impl Fn(&Relu) -> bool) -> Option<f64> {
        let relus: Vec<&Relu> = self.relus.iter().filter(|relu| of(relu)).collect();
        let values = relus.iter().map(|relu| self.layer(metric, relu)).collect::<Option<Vec<f64>>>()?;
        (!values.is_empty()).then(|| values.iter().fold(0.0, |sum, x| sum + x) / values.len() as f64)
    }

    fn json(&self) -> serde_json::Value {
        let interval = |row: Option<&Row>| row.and_then(|row| mean(&row.samples));
        json!({
            "network": self.name(),
            "width": self.cell.network.width,
            "weights": self.cell.weights(),
            "positive": interval(self.channels("positive")),
            "needed": self.channels("needed").and_then(|row| row.value),
            "kept": interval(self.row()),
        })
    }
}

fn of_networks(results: &Results<'_, Manifold>, networks: &[Measured<'_>]) -> Table {
    let mut table = Table::new([
        ("width", true),
        ("network", false),
        ("weights", false),
        ("positive behind an expansion (%)", true),
        ("spread over pixels (points)", true),
        ("needed (%)", true),
        ("pixels with enough (%)", true),
        ("at 6 (%)", true),
        ("positive behind a depthwise (%)", true),
        ("needed there (%)", true),
    ]);
    for of in networks {
        let rows = || of.row().map(Row::id).into_iter().collect::<Vec<_>>();
        let ours = |value: Option<f64>, digits: usize| {
            value.map_or_else(Entry::dash, |value| Entry::new(format!("{value:.digits$}"), Mark::Ours, rows()))
        };
        let expands = |relu: &Relu| relu.expands;
        let depthwise = |relu: &Relu| !relu.expands;
        let entries: [Entry; 10] = [
            format!("{:?}", of.cell.network.width).into(),
            title(results, of).into(),
            of.cell.weights().to_owned().into(),
            // What is not there says why.
            of.channels("positive").map_or_else(|| Outcome::of("kept", [of.result].into_iter()).entry(), with_interval),
            ours(of.mean("positive_sd", expands), 1),
            ours(of.channels("needed").and_then(|row| row.value), 1),
            of.row().map_or_else(Entry::dash, with_interval),
            ours(of.mean("clamped", expands), 2),
            ours(of.mean("positive", depthwise), 1),
            ours(of.mean("needed", depthwise), 1),
        ];
        table.push(entries);
        if let Some(difference) = difference(networks, of) {
            table.push(difference);
        }
    }
    table
}

/// What a trained network has more than the one before it of the same width, on the same images.
fn difference(networks: &[Measured<'_>], of: &Measured<'_>) -> Option<[Entry; 10]> {
    let width = of.cell.network.width;
    let first = networks.iter().find(|other| other.cell.trained && other.cell.network.width == width)?;
    if !of.cell.trained || first.name() == of.name() {
        return None;
    }
    let paired = |pair: [Option<&Row>; 2]| {
        let [a, b] = [pair[0]?, pair[1]?];
        let same = a.data_hash == b.data_hash && a.samples.len() == b.samples.len();
        let differences: Vec<f64> = b.samples.iter().zip(&a.samples).map(|(b, a)| b - a).collect();
        let Interval { effect, low, high } = mean(&differences).filter(|_| same)?;
        Some(Entry::new(format!("{effect:+.2} ({low:+.2} to {high:+.2})"), Mark::Ours, vec![a.id(), b.id()]))
    };
    let text = |text: &str| Entry::from(text.to_owned());
    Some([
        format!("{width:?}").into(),
        text("difference (points)"),
        text(of.cell.weights()),
        paired([first.channels("positive"), of.channels("positive")])?,
        text(""),
        text(""),
        paired([first.row(), of.row()])?,
        text(""),
        text(""),
        text(""),
    ])
}

/// A mean over images.
fn with_interval(row: &Row) -> Entry {
    let text = match (mean(&row.samples), row.value) {
        (Some(Interval { effect, low, high }), _) => format!("{effect:.1} ({low:.1} to {high:.1})"),
        (None, Some(value)) => format!("{value:.1}"),
        (None, None) => DASH.to_owned(),
    };
    Entry::new(text, Mark::Ours, vec![row.id()])
}

/// As its paper calls it.
fn title(results: &Results<'_, Manifold>, of: &Measured<'_>) -> String {
    let name = of.name();
    let variant = results.design.networks.iter().find(|variant| variant.network == name);
    variant.map_or(name, |variant| variant.paper.clone())
}

fn of_images(scale: &Scale<'_, Manifold>, networks: &[Measured<'_>]) -> Vec<String> {
    let row = networks.iter().find_map(Measured::row);
    let images = row
        .map_or_else(String::new, |row| format!("{} validation images of {}, the same for all. ", row.n, row.dataset));
    vec![
        format!(
            "{images}Shares are means over images, pixels and layers, with 95 % intervals over images by Student's t; one \
             training each. Differences are paired over images. The spread is a standard deviation within a layer, the mean \
             of layers."
        ),
        "Initial are the weights that this training began with, and in batch norms the statistics of 64 training images, as in \
         its first step."
            .to_owned(),
        "Needed are as many channels as the narrowest map of the block, up to the ReLU, has: a sixth where the ratio is 6, more \
         where a sandglass's hidden width is rounded up, a quarter at MobileNetV2's last layer. A pixel has enough where so \
         many are positive. Behind a depthwise convolution that stands in a wide map (a sandglass's first, and that of \
         MobileNetV2's first block) all are needed; the stem is left out, for it reads windows that overlap."
            .to_owned(),
        "The lemma is ReLU's: a channel that ReLU6 holds at 6 is positive and lost as well, and stands beside.".to_owned(),
    ]
    .into_iter()
    .chain(Some(scale.profile.note.clone()).filter(|note| !note.is_empty()))
    .collect()
}

/// The largest width at which more than one network is trained; without any the first that is run.
fn widest(networks: &[Measured<'_>]) -> Option<f64> {
    let run = || networks.iter().filter(|of| of.row().is_some() && of.cell.trained).map(|of| of.cell.network.width);
    run()
        .filter(|width| run().filter(|other| other == width).count() > 1)
        .max_by(f64::total_cmp)
        .or_else(|| run().next())
}

fn by_layer(results: &Results<'_, Manifold>, networks: &[Measured<'_>], width: f64) -> Table {
    let mut table = Table::new([
        ("network", false),
        ("layer", false),
        ("positive (%)", true),
        ("spread over pixels (points)", true),
        ("least to most (%)", true),
        ("needed (%)", true),
        ("pixels with enough (%)", true),
        ("at 6 (%)", true),
    ]);
    for of in networks.iter().filter(|of| of.cell.trained && of.cell.network.width == width) {
        for relu in of.relus.iter().filter(|relu| relu.expands) {
            let value =
                |metric: &str| of.layer(metric, relu).map_or_else(|| DASH.to_owned(), |value| format!("{value:.1}"));
            let id = |metric: &str| of.result.row_of(metric, Some(&relu.name)).map(Row::id).into_iter().collect();
            let ours = |metric: &str| Entry::new(value(metric), Mark::Ours, id(metric));
            let entries: [Entry; 8] = [
                title(results, of).into(),
                relu.name.clone().into(),
                ours("positive"),
                ours("positive_sd"),
                format!("{} to {}", value("positive_least"), value("positive_most")).into(),
                value("needed").into(),
                ours("kept"),
                ours("clamped"),
            ];
            table.push(entries);
        }
    }
    table
}

/// What the figure shows: the expansions of each network before its training, and after it.
fn before_and_after(
    results: &Results<'_, Manifold>,
    scale: &Scale<'_, Manifold>,
    networks: &[Measured<'_>],
    width: f64,
) -> Vec<Shares> {
    let of_weights = |trained: bool| {
        let here = networks.iter().filter(|of| of.cell.trained == trained && of.cell.network.width == width);
        let here: Vec<&Measured<'_>> = here.filter(|of| of.row().is_some()).collect();
        let layers = |of: &&Measured<'_>| {
            let expansions = of.relus.iter().filter(|relu| relu.expands);
            let of_layer = |relu: &Relu| {
                Some([of.layer("positive", relu)?, of.layer("positive_sd", relu)?, of.layer("needed", relu)?])
            };
            (title(results, of), expansions.filter_map(of_layer).collect())
        };
        (!here.is_empty()).then(|| Shares {
            title: format!("{}, width {width:?}, {}", scale.profile.title, here[0].cell.weights()),
            is_minor: scale.profile.synthetic,
            networks: here.iter().map(layers).collect(),
        })
    };
    [false, true].into_iter().filter_map(of_weights).collect()
}
