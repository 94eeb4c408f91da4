//! The network in integers.

use sandglass_models::{Conv, Graph, Node, Pool, Size};
use sandglass_ops::{Isa, Runtime};

use crate::layers::{Finish, IntConv, Product, Sum, global_pool, table};
use crate::net::{each, max_pool};
use crate::quantise::keeps_scale;
use crate::{Affine, Images, Multiplier, QuantError, Scheme, Scores};

/// A convolution or a linear layer in 8 bits, as it is kept in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct IntLayer {
    pub name: String,
    pub conv: Conv,
    /// In PyTorch's order (OIHW).
    pub weight: Vec<i8>,
    /// One a channel, also where all are equal.
    pub scales: Vec<f32>,
    /// One a channel, in the scale of the sums: input's times weights'.
    pub bias: Vec<i32>,
    /// The clamp that an activation is, in steps of the output; the upper bound one a channel.
    pub low: i32,
    pub high: Vec<i32>,
}

impl IntLayer {
    /// What brings the layer's sums to its output's scale, one a channel.
    pub fn multipliers(&self, input: Affine, output: Affine) -> Vec<Multiplier> {
        let real = |&scale: &f32| f64::from(input.scale) * f64::from(scale) / f64::from(output.scale);
        self.scales.iter().map(|scale| Multiplier::of(real(scale))).collect()
    }
}

/// A network that computes in integers from its first layer to its scores.
#[derive(Clone, Debug)]
pub struct Quantised {
    graph: Graph,
    scheme: Scheme,
    /// Parallel to the maps.
    affines: Vec<Affine>,
    /// Parallel to the nodes, as the following.
    layers: Vec<Option<IntLayer>>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Conv(Box<IntConv>, Finish),
    Add {
        sum: Sum,
        low: i32,
        high: i32,
    },
    Gate(Product),
    /// Of -128, -127 and so on.
    Table(Box<[i8; 256]>),
    Pool,
    HandOn,
}

/// Gives nodes that hand on what they read its scale.
pub(crate) fn share_affines(graph: &Graph, affines: &mut [Affine]) {
    for node in graph.nodes().iter().filter(|node| keeps_scale(node)) {
        if let [from] = node.reads()[..] {
            affines[node.writes().index()] = affines[from.index()];
        }
    }
}

impl Quantised {
    pub(crate) fn new(
        graph: Graph,
        affines: Vec<Affine>,
        layers: Vec<Option<IntLayer>>,
        scheme: Scheme,
    ) -> Result<Self, QuantError> {
        let step = |(node, layer): (&Node, &Option<IntLayer>)| -> Result<Step, QuantError> {
            let output = affines[node.writes().index()];
            match (node, layer) {
                (Node::Conv { from, .. } | Node::Linear { from, .. }, Some(layer)) => {
                    let finish = Finish {
                        multipliers: layer.multipliers(affines[from.index()], output),
                        zero_point: output.zero_point,
                        low: layer.low,
                        high: layer.high.clone(),
                    };
                    let conv = IntConv::new(&layer.name, layer.conv, &layer.weight, &layer.bias)?;
                    Ok(Step::Conv(Box::new(conv), finish))
                }
                (Node::Add { main, skip, activation, .. }, _) => {
                    let sum = Sum::new(affines[main.index()], affines[skip.index()], output);
                    let (low, high) = output.bounds(*activation);
                    Ok(Step::Add { sum, low: low.into(), high: high.into() })
                }
                (Node::Gate { from, by, .. }, _) => {
                    Ok(Step::Gate(Product::new(affines[from.index()], affines[by.index()], output)))
                }
                (Node::Activate { activation, from, .. }, _) => {
                    Ok(Step::Table(Box::new(table(*activation, affines[from.index()], output))))
                }
                (Node::Pool { pool: Pool::GlobalAverage, .. }, _) => Ok(Step::Pool),
                _ => Ok(Step::HandOn),
            }
        };
        let steps = graph.nodes().iter().zip(&layers).map(step).collect::<Result<_, _>>()?;
        Ok(Self { graph, scheme, affines, layers, steps })
    }

    /// What it was quantised from, batch norms folded.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// By which it was quantised.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Scale and zero point of each map.
    pub fn affines(&self) -> &[Affine] {
        &self.affines
    }

    /// The convolution or linear layer that is node `node` of the graph.
    pub fn layer(&self, node: usize) -> Option<&IntLayer> {
        self.layers.get(node)?.as_ref()
    }

    /// Scores for each image: the last accumulators times their scales, or the logits in 8 bits if the scheme says so.
    ///
    /// # Errors
    /// Images of a size that the graph does not take.
    pub fn scores(&self, runtime: &Runtime, images: &Images) -> Result<Vec<Scores>, QuantError> {
        let sizes = self.graph.sizes(images.height, images.width)?;
        each(runtime, images, &self.graph, |image| self.run(runtime.isa(), &sizes, image).1)
    }

    /// All maps of one image in 8 bits, and its scores.
    pub(crate) fn run(&self, isa: Isa, sizes: &[Size], image: &[f32]) -> (Vec<Vec<i8>>, Scores) {
        let mut maps = vec![image.iter().map(|&x| self.affines[0].quantise(x)).collect::<Vec<i8>>()];
        for at in 0..self.steps.len() {
            maps.push(self.node(isa, sizes, at, &maps));
        }
        let scores = self.score(isa, sizes, &maps);
        (maps, scores)
    }

    /// The map of one node, given those before it.
    pub(crate) fn node(&self, isa: Isa, sizes: &[Size], at: usize, maps: &[Vec<i8>]) -> Vec<i8> {
        let channels = |map: sandglass_models::MapId| self.graph.maps()[map.index()].channels;
        match (&self.graph.nodes()[at], &self.steps[at]) {
            (Node::Conv { .. } | Node::Linear { .. }, Step::Conv(_, finish)) => {
                finish.apply(isa, &self.accumulators(isa, sizes, at, maps))
            }
            (Node::Add { main, skip, channels: added, .. }, Step::Add { sum, low, high }) => {
                let side = |map: sandglass_models::MapId| (maps[map.index()].as_slice(), channels(map));
                sum.apply(side(*main), side(*skip), *added, (*low, *high))
            }
            (Node::Gate { from, by, .. }, Step::Gate(product)) => product.apply(&maps[from.index()], &maps[by.index()]),
            (Node::Activate { from, .. }, Step::Table(table)) => {
                maps[from.index()].iter().map(|&q| table[(i32::from(q) + 128) as usize]).collect()
            }
            (Node::Pool { pool: Pool::GlobalAverage, from, to }, _) => {
                let (input, output) = (self.affines[from.index()], self.affines[to.index()]);
                global_pool(&maps[from.index()], channels(*from), input, output)
            }
            (Node::Pool { pool: Pool::Max(window), from, .. }, _) => {
                let conv = Conv { window: *window, ..Conv::depthwise(channels(*from), window.kernel, window.stride) };
                max_pool(conv, sizes[from.index()], &maps[from.index()], i8::MIN, i8::max)
            }
            (node, _) => node.reads().first().map_or_else(Vec::new, |from| maps[from.index()].clone()),
        }
    }

    fn accumulators(&self, isa: Isa, sizes: &[Size], at: usize, maps: &[Vec<i8>]) -> Vec<i32> {
        let (Step::Conv(conv, _), [from]) = (&self.steps[at], &self.graph.nodes()[at].reads()[..]) else {
            return Vec::new();
        };
        let (size, zero) = (sizes[from.index()], self.affines[from.index()].zero_point);
        conv.accumulate(isa, &maps[from.index()], size, zero, self.scheme.saturate).unwrap_or_default()
    }

    /// Pairs that saturate in one node, of how many, for the maps of one image.
    pub(crate) fn saturated(&self, sizes: &[Size], at: usize, maps: &[Vec<i8>]) -> (u64, u64) {
        match (&self.steps[at], &self.graph.nodes()[at].reads()[..]) {
            (Step::Conv(conv, _), [from]) => {
                conv.saturated(&maps[from.index()], sizes[from.index()], self.affines[from.index()].zero_point)
            }
            _ => (0, 0),
        }
    }

    fn score(&self, isa: Isa, sizes: &[Size], maps: &[Vec<i8>]) -> Scores {
        let Some(output) = self.graph.outputs().first().map(|map| map.index()) else { return Vec::new() };
        let layer = output.checked_sub(1).and_then(|at| Some((at, self.layer(at)?)));
        match (layer, self.scheme.int8_logits) {
            (Some((at, layer)), false) => {
                let [from] = self.graph.nodes()[at].reads()[..] else { return Vec::new() };
                let input = f64::from(self.affines[from.index()].scale);
                let sums = self.accumulators(isa, sizes, at, maps);
                let scales = layer.scales.iter().cycle();
                sums.iter().zip(scales).map(|(&sum, &scale)| f64::from(sum) * (input * f64::from(scale))).collect()
            }
            _ => maps[output].iter().map(|&q| self.affines[output].dequantise(q).into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sandglass_models::{NetworkConfig, NetworkName, Weights};
    use sandglass_ops::Runtime;

    use super::*;
    use crate::net::Float;
    use crate::{Fake, Net, calibrate, quantise};

    fn random(at: usize) -> f32 {
        let z = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z >> 40) as f32 / (1u32 << 23) as f32) - 1.0
    }

    /// Each layer alone, on the integers' own input: f32 with the rounded weights, then rounded, is at most a step away.
    #[test]
    fn integers_follow_rounded_f32_layer_by_layer() {
        let equalised = Scheme { equalise: true, ..Scheme::built_in("per-tensor").unwrap() };
        for (name, width, scheme) in [
            (NetworkName::MobileNetV2, 0.35, Scheme::default()),
            (NetworkName::MobileNeXt, 0.35, equalised.clone()),
            // Gates, tables and groups.
            (NetworkName::EfficientNetB0, 1.0, equalised),
            (NetworkName::MobileNeXtSeL, 1.0, Scheme { correct_bias: true, ..Scheme::default() }),
        ] {
            let config = NetworkConfig { width, classes: 7, ..NetworkConfig::new(name) };
            let graph = config.build().unwrap();
            let mut weights = Weights::zeros(graph.tensors());
            for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
                let fan_in: usize = spec.shape.iter().skip(1).product();
                let gain = if spec.shape.len() > 1 { (5.0 / fan_in as f32).sqrt() } else { 0.6 };
                let start =
                    if spec.name.ends_with("running_var") || spec.name.ends_with(".1.weight") { 1.0 } else { 0.0 };
                values.iter_mut().enumerate().for_each(|(at, x)| *x = start + gain * random(at + 7919 * seed));
            }
            let (runtime, side) = (Runtime::new(1).unwrap(), 33);
            let values: Vec<f32> = (0..3 * side * side).map(|at| 2.0 * random(at)).collect();
            let images = Images { values: &values, height: side, width: side };
            let net = scheme.shape(Net::new(&graph, &weights).unwrap());
            let calibration = calibrate(&runtime, &net, &images, scheme.observer).unwrap();
            let (quantised, _) = quantise(&net, &calibration, &scheme).unwrap();
            let graph = net.graph();
            let sizes = graph.sizes(side, side).unwrap();
            let (maps, _) = quantised.run(Isa::Portable, &sizes, &values);
            let fake = Fake::of(&net, &quantised);
            let float = Float::new(&fake.net, &runtime, &images).unwrap();
            let real =
                |at: usize| maps[at].iter().map(|&q| quantised.affines()[at].dequantise(q)).collect::<Vec<f32>>();
            let reals: Vec<Vec<f32>> = (0..maps.len()).map(real).collect();
            let mut differ = 0;
            for at in 0..graph.nodes().len() {
                let map = float.node(at, &reals);
                let rounded = map.iter().map(|&x| quantised.affines()[at + 1].quantise(x));
                for (rounded, &own) in rounded.zip(&maps[at + 1]) {
                    let steps = (i32::from(rounded) - i32::from(own)).abs();
                    assert!(steps <= 1, "{name}, {}: {steps} steps", graph.maps()[at + 1].name);
                    differ += steps;
                }
            }
            let all: usize = maps.iter().map(Vec::len).sum();
            assert!((differ as usize) < all / 50, "{name}: {differ} of {all}");
        }
    }
}
