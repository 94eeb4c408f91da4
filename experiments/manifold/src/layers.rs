//! How many channels a network's ReLU6 leave positive, pixel by pixel (MobileNetV2, Figure 7).

use sandglass_data::{Dataset, Part, Transform};
use sandglass_infer::{Options, Plan};
use sandglass_lab::{Lab, calibration_images};
use sandglass_ledger::stats::resamples;
use sandglass_models::{Activation, Graph, MapId, Node, checkpoint};
use sandglass_study::{Artefact, CellError, Facts, Headline, Measurement, Value};

use crate::Network;

/// Compiled plans, whose maps are those of the engine that trains.
pub(crate) const ENGINE: &str = "infer";

pub(crate) const HEADLINE: Headline =
    Headline { metric: "kept", title: "pixels with enough positive channels (%)", counted: "images" };

/// Images of a call: all maps of a network lie in memory at once.
const BATCH: usize = 8;
/// All cells of a profile look at the same images.
const SEED: u64 = 0;

/// A convolution's ReLU or ReLU6.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Relu {
    pub name: String,
    map: MapId,
    channels: usize,
    /// Positive channels that tell a pixel's values before it: those of the narrowest map of the block so far.
    needed: usize,
    /// What is lost at the other end, too.
    clamp: f32,
    /// Behind a convolution of 1x1, where the lemma holds as it stands; a depthwise one mixes pixels.
    pub expands: bool,
}

/// Without the stem's, which reads windows that overlap.
pub(crate) fn relus(graph: &Graph) -> Vec<Relu> {
    let map = |id: MapId| &graph.maps()[id.index()];
    let (mut block, mut narrowest) = ("", usize::MAX);
    let mut relus = Vec::new();
    for node in graph.nodes() {
        let Node::Conv { unit, from, to } = node else { continue };
        if map(*to).block() != block {
            (block, narrowest) = (map(*to).block(), usize::MAX);
        }
        narrowest = narrowest.min(map(*from).channels);
        let clamp = match unit.activation {
            Activation::Relu => f32::INFINITY,
            Activation::Relu6 => 6.0,
            Activation::None | Activation::Silu | Activation::Sigmoid => continue,
        };
        if *from != graph.images() {
            relus.push(Relu {
                name: map(*to).name.clone(),
                map: *to,
                channels: map(*to).channels,
                needed: narrowest,
                clamp,
                expands: !unit.conv.is_depthwise(),
            });
        }
    }
    relus
}

impl Relu {
    fn needed_percent(&self) -> f64 {
        100.0 * self.needed as f64 / self.channels as f64
    }
}

/// What was counted of one ReLU.
#[derive(Clone, Debug, PartialEq)]
struct Counts {
    channels: usize,
    pixels: u64,
    /// Over all pixels the sum of their positive channels, and of its square.
    positive: u64,
    squares: u64,
    clamped: u64,
    least: u64,
    most: u64,
    /// Pixels with as many as are needed.
    kept: u64,
    /// Image by image, in percent: channels that are positive, pixels that are kept.
    by_image: Vec<[f64; 2]>,
}

impl Counts {
    fn new(channels: usize) -> Self {
        let none = 0;
        Self {
            channels,
            pixels: none,
            positive: none,
            squares: none,
            clamped: none,
            least: u64::MAX,
            most: none,
            kept: none,
            by_image: Vec::new(),
        }
    }

    /// One image's map.
    fn add(&mut self, relu: &Relu, map: &[f32]) {
        let (mut positive, mut kept, mut pixels) = (0, 0, 0);
        for pixel in map.chunks_exact(relu.channels) {
            let own = pixel.iter().filter(|x| **x > 0.0).count() as u64;
            positive += own;
            kept += u64::from(own >= relu.needed as u64);
            pixels += 1;
            self.squares += own * own;
            self.clamped += pixel.iter().filter(|x| **x >= relu.clamp).count() as u64;
            (self.least, self.most) = (self.least.min(own), self.most.max(own));
        }
        self.positive += positive;
        self.kept += kept;
        self.pixels += pixels;
        let of_pixels = |count: u64, each: usize| 100.0 * count as f64 / (pixels * each as u64) as f64;
        self.by_image.push([of_pixels(positive, relu.channels), of_pixels(kept, 1)]);
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / (self.pixels * self.channels as u64) as f64
    }

    /// The spread of the share over pixels, in points.
    fn sd(&self) -> f64 {
        let n = self.pixels as f64;
        let mean = self.positive as f64 / n;
        let variance = (self.squares as f64 / n - mean * mean).max(0.0);
        100.0 * variance.sqrt() / self.channels as f64
    }

    fn of_channels(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.channels as f64
    }

    fn values(&self, relu: &Relu) -> Vec<Value> {
        let value = |metric, unit, value| Value {
            part: Some(relu.name.clone()),
            ..Value::exact(metric, unit, value, self.by_image.len() as u64)
        };
        vec![
            value("positive", "%", self.percent(self.positive)),
            value("positive_sd", "points", self.sd()),
            value("positive_least", "%", self.of_channels(self.least)),
            value("positive_most", "%", self.of_channels(self.most)),
            value("needed", "%", relu.needed_percent()),
            value("kept", "%", 100.0 * self.kept as f64 / self.pixels as f64),
            value("clamped", "%", self.percent(self.clamped)),
        ]
    }
}

/// Images as a network reads them.
pub(crate) struct Images {
    pub set: Dataset,
    /// [n, height, width, 3].
    pub pixels: Vec<f32>,
    /// Height and width.
    pub size: (usize, usize),
}

/// Images of a part, as many as are wanted or all.
pub(crate) fn images(lab: &Lab, cell: &Network, part: Part, count: usize) -> Result<Images, CellError> {
    let classes = cell.network.classes;
    let set = lab.data(&cell.data, part, classes)?;
    let transform = Transform::evaluation(&set, classes, Some(cell.input), &cell.evaluation);
    let transform = transform.map_err(CellError::failed)?;
    let (size, (_, threads)) = (transform.size(), lab.runtime());
    let (pixels, _) = calibration_images(&set, transform, count, SEED, threads as usize).map_err(CellError::failed)?;
    Ok(Images { set, pixels, size })
}

/// Shares of each ReLU, and the means over those behind an expansion, image by image.
pub(crate) fn measure(lab: &Lab, cell: &Network, file: &Artefact) -> Result<Measurement, CellError> {
    let Images { set, pixels, size } = images(lab, cell, Part::Validation, cell.images)?;
    let graph = cell.network.build().map_err(CellError::failed)?;
    let relus = relus(&graph);
    let weights = checkpoint::load(&file.path, graph.tensors()).map_err(CellError::failed)?;
    // A ReLU would turn what is no number into 0.
    if weights.values.iter().flatten().any(|value| !value.is_finite()) {
        return Err(CellError::Failed(format!("{}: weights that are no numbers", file.path.display())));
    }
    let graph = graph.with_outputs(relus.iter().map(|relu| relu.map).collect()).map_err(CellError::failed)?;
    let options = Options { batch: BATCH, ..Options::default() };
    let mut plan = Plan::new(lab.pool()?, &graph, &weights, size, options).map_err(CellError::failed)?;
    let counts = count(&mut plan, &relus, &pixels)?;

    let mut values = of_expansions(&relus, &counts);
    values.extend(relus.iter().zip(&counts).flat_map(|(relu, counts)| counts.values(relu)));
    let kept = values.first().map_or(0.0, |value| value.value);
    Ok(Measurement {
        data: Facts { hash: set.hash().to_owned(), synthetic: set.synthetic() },
        engine: Some(ENGINE.to_owned()),
        values,
        predictions: Vec::new(),
        boxes: None,
        summary: format!("behind expansions {kept:.1} % of pixels keep enough channels"),
    })
}

/// `plan` gives the map of each ReLU.
fn count(plan: &mut Plan, relus: &[Relu], images: &[f32]) -> Result<Vec<Counts>, CellError> {
    let (height, width, channels) = plan.input();
    let sizes = plan.outputs();
    let mut all: Vec<Counts> = relus.iter().map(|relu| Counts::new(relu.channels)).collect();
    for batch in images.chunks(BATCH * height * width * channels) {
        let outputs = plan.run(batch).map_err(CellError::failed)?;
        for (at, (relu, counts)) in relus.iter().zip(&mut all).enumerate() {
            let (height, width, channels) = sizes[at];
            let maps = outputs.get(at).unwrap_or_default().chunks_exact(height * width * channels);
            maps.for_each(|map| counts.add(relu, map));
        }
    }
    Ok(all)
}

/// Of the network: the first is the headline. `channels` has what is needed beside what is positive, and `channels_drawn`
/// both on images that are drawn anew, for a claim on one seed.
fn of_expansions(relus: &[Relu], counts: &[Counts]) -> Vec<Value> {
    let expansions: Vec<(&Relu, &Counts)> = relus.iter().zip(counts).filter(|(relu, _)| relu.expands).collect();
    let Some(images) = expansions.first().map(|(_, counts)| counts.by_image.len()) else { return Vec::new() };
    let mean = |of: &dyn Fn(&Relu, &Counts) -> f64| {
        expansions.iter().fold(0.0, |sum, (relu, counts)| sum + of(relu, counts)) / expansions.len() as f64
    };
    let by_image = |of: usize| (0..images).map(|at| mean(&|_, counts| counts.by_image[at][of])).collect::<Vec<_>>();
    let of_images = |metric, part: Option<&str>, samples: Vec<f64>| {
        let value = samples.iter().fold(0.0, |sum, x| sum + x) / samples.len() as f64;
        let samples = samples.into_iter().enumerate().map(|(at, x)| (at as f64, x)).collect();
        Value { part: part.map(str::to_owned), samples, ..Value::exact(metric, "%", value, images as u64) }
    };
    let needed = mean(&|relu, _| relu.needed_percent());
    let positive = by_image(0);
    let mut values = vec![of_images(HEADLINE.metric, None, by_image(1))];
    for (part, samples) in [("positive", positive), ("needed", vec![needed; images])] {
        let drawn = resamples(images).map(|times| {
            times.iter().zip(&samples).fold(0.0, |sum, (times, x)| sum + *times as f64 * x) / images as f64
        });
        let drawn = drawn.enumerate().map(|(at, x)| (at as f64, x)).collect();
        let of_part = of_images("channels", Some(part), samples.clone());
        values.push(Value { metric: "channels_drawn", samples: drawn, ..of_part.clone() });
        values.push(of_part);
    }
    values
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sandglass_models::{After, Conv, GraphBuilder, NetworkConfig, Unit, Weights};
    use sandglass_ops::Runtime;

    use super::*;

    fn of(network: &str) -> Vec<(usize, usize, bool)> {
        let graph = network.parse::<NetworkConfig>().unwrap().build().unwrap();
        relus(&graph).iter().map(|relu| (relu.needed, relu.channels, relu.expands)).collect()
    }

    /// By the papers' tables: a sixth behind most expansions, a quarter at the head; the first block of MobileNetV2 and the
    /// sandglass's first depthwise convolution have as many channels as they read.
    #[test]
    fn what_is_needed_is_the_blocks_narrowest_map() {
        let of_v2 = of("mobilenetv2");
        assert_eq!(of_v2[..5], [(32, 32, false), (16, 96, true), (16, 96, false), (24, 144, true), (24, 144, false)]);
        assert_eq!(of_v2.last(), Some(&(320, 1280, true)));
        // 16 blocks that expand, with a depthwise convolution each, the first block's, and the head.
        assert_eq!((of_v2.len(), of_v2.iter().filter(|relu| relu.2).count()), (34, 17));
        let of_next = of("mobilenext");
        assert_eq!(of_next[..3], [(32, 32, false), (16, 96, true), (96, 96, false)]);
        assert_eq!(of_next.last(), Some(&(208, 1280, true)));
        assert_eq!(of_next.iter().filter(|relu| relu.2).count(), 20);
        assert!(of_next.iter().filter(|relu| !relu.2).all(|(needed, channels, _)| needed == channels));
    }

    /// A stem that copies two channels, and four outputs: each of the two, both signs. Two are positive, but on an axis, and
    /// in the middle none; 7 is clamped.
    #[test]
    fn channels_are_counted_pixel_by_pixel() {
        let mut g = GraphBuilder::new(2).unwrap();
        let unit = |name: &str, conv, activation| Unit { name: name.to_owned(), conv, after: After::Bias, activation };
        let images = g.images();
        let x = g.unit(unit("features.0.0", Conv::pointwise(2, 2), Activation::None), images).unwrap();
        let y = g.unit(unit("features.1.conv.0", Conv::pointwise(2, 4), Activation::Relu6), x).unwrap();
        let graph = g.finish(vec![y]).unwrap();
        let relus = relus(&graph);
        assert_eq!((relus.len(), relus[0].needed, relus[0].expands), (1, 2, true));
        let mut weights = Weights::zeros(graph.tensors());
        weights.values[0] = vec![1.0, 0.0, 0.0, 1.0];
        weights.values[2] = vec![1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        let runtime = Arc::new(Runtime::new(1).unwrap());
        let mut plan =
            Plan::new(runtime, &graph, &weights, (1, 2), Options { batch: BATCH, ..Options::default() }).unwrap();
        // Three images of two pixels.
        let images = [1.0, -2.0, 3.0, 0.0, 0.0, 0.0, -1.0, -1.0, 7.0, 7.0, 1.0, 1.0];
        let counts = count(&mut plan, &relus, &images).unwrap();
        let found = &counts[0];
        assert_eq!((found.pixels, found.positive, found.kept, found.clamped), (6, 9, 4, 2));
        assert_eq!((found.least, found.most), (0, 2));
        assert_eq!(found.by_image, [[37.5, 50.0], [25.0, 50.0], [50.0, 100.0]]);
        // Numbers 2, 1, 0, 2, 2, 2 of 4: mean 1.5, mean square 17 / 6.
        assert!((found.sd() - 100.0 * (17.0f64 / 6.0 - 2.25).sqrt() / 4.0).abs() < 1e-12);

        let values = of_expansions(&relus, &counts);
        let value = |metric: &str, part: Option<&str>| {
            let found = values.iter().find(|value| value.metric == metric && value.part.as_deref() == part);
            found.unwrap_or_else(|| panic!("{metric}")).clone()
        };
        assert_eq!((values[0].metric, values[0].value), ("kept", 200.0 / 3.0));
        assert_eq!((value("channels", Some("positive")).value, value("channels", Some("needed")).value), (37.5, 50.0));
        let drawn = value("channels_drawn", Some("positive")).samples;
        assert!(drawn.len() == 1000 && drawn.iter().all(|(_, x)| (25.0..=50.0).contains(x)));
    }
}
