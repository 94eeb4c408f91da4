//! A network with its batch norms folded, in f32: what is calibrated, and what a quantised one is held against.

use std::sync::Mutex;

use sandglass_models::{Activation, Conv, Graph, Node, Pool, Size, Weights, fold};
use sandglass_ops::Runtime;

use crate::QuantError;
use crate::kernel::{Depthwise, FloatDense, Geometry};

/// A convolution or a linear layer (which is a pointwise convolution of one pixel) with the clamp that follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    pub name: String,
    pub conv: Conv,
    /// In PyTorch's order (OIHW).
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub low: f32,
    /// One a channel: cross-layer equalisation moves the 6 of a ReLU6.
    pub high: Vec<f32>,
}

impl Layer {
    /// Terms of each output's sum.
    pub fn terms(&self) -> usize {
        (self.weight.len() / self.conv.output.max(1)).max(1)
    }
}

/// A folded network.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    pub(crate) graph: Graph,
    /// Parallel to the graph's nodes.
    pub(crate) layers: Vec<Option<Layer>>,
}

/// Images [n, height, width, channels], normalised.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub values: &'a [f32],
    pub height: usize,
    pub width: usize,
}

/// The scores of one image's classes.
pub type Scores = Vec<f64>;

impl Net {
    /// Of a graph and its weights, as they are trained.
    ///
    /// # Errors
    /// Weights that do not fold, or a node that is not built in integers, by its name.
    pub fn new(graph: &Graph, weights: &Weights) -> Result<Self, QuantError> {
        let (graph, weights) = fold(graph, weights)?;
        let graph = graph.activations_apart();
        let layers = graph.nodes().iter().map(|node| layer(&graph, node, &weights)).collect::<Result<_, _>>()?;
        Ok(Self { graph, layers })
    }

    /// The folded graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// With ReLU in place of every ReLU6.
    #[must_use]
    pub fn with_relu(mut self) -> Self {
        for layer in self.layers.iter_mut().flatten().filter(|layer| layer.low == 0.0) {
            layer.high.fill(f32::INFINITY);
        }
        self
    }

    /// Scores for each image.
    ///
    /// # Errors
    /// Images of a size that the graph does not take.
    pub fn scores(&self, runtime: &Runtime, images: &Images) -> Result<Vec<Scores>, QuantError> {
        let float = Float::new(self, runtime, images)?;
        let output = self.output();
        each(runtime, images, &self.graph, |image| {
            let maps = float.maps(image, |_, _| ());
            maps[output].iter().map(|&score| f64::from(score)).collect()
        })
    }

    /// Place of the map of scores.
    pub(crate) fn output(&self) -> usize {
        self.graph.outputs().first().map_or(0, |map| map.index())
    }
}

fn layer(graph: &Graph, node: &Node, weights: &Weights) -> Result<Option<Layer>, QuantError> {
    let (name, conv, activation) = match node {
        Node::Conv { unit, .. } => (&unit.name, unit.conv, unit.activation),
        Node::Linear { linear, .. } => (&linear.name, Conv::pointwise(linear.input, linear.output), Activation::None),
        Node::Add { activation, .. } => {
            clamp(*activation).ok_or_else(|| not_built(graph, node, "this activation"))?;
            return Ok(None);
        }
        Node::Pool { .. }
        | Node::Gate { .. }
        | Node::Activate { .. }
        | Node::Dropout { .. }
        | Node::DropConnect { .. }
        | Node::Idle { .. } => return Ok(None),
        Node::Concat { .. } => return Err(not_built(graph, node, "a concatenation")),
    };
    let (low, high) = clamp(activation).ok_or_else(|| not_built(graph, node, "this activation"))?;
    let tensor = |leaf: &str, expected: usize| {
        let what = format!("{name}.{leaf}");
        let found = weights.get(&what).map_or(0, <[f32]>::len);
        match weights.get(&what) {
            Some(values) if values.iter().any(|value| !value.is_finite()) => Err(QuantError::NotFinite(what)),
            Some(values) if found == expected => Ok(values.to_vec()),
            _ => Err(QuantError::Length { what, expected, found }),
        }
    };
    let weight = tensor("weight", conv.weight_shape().iter().product())?;
    let bias = tensor("bias", conv.output)?;
    Ok(Some(Layer { name: name.clone(), conv, weight, bias, low, high: vec![high; conv.output] }))
}

fn not_built(graph: &Graph, node: &Node, what: &'static str) -> QuantError {
    let node = graph.map(node.writes()).map_or_else(String::new, |map| map.name.clone());
    QuantError::NotBuilt { node, what }
}

/// What an activation clamps to; none for one that is no clamp.
pub(crate) const fn clamp(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Relu6 => Some((0.0, 6.0)),
        Activation::Silu | Activation::Sigmoid => None,
    }
}

/// An activation that is no clamp, in f64.
pub(crate) fn smooth(activation: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + libm::exp(-x));
    match activation {
        Activation::Silu => x * sigmoid,
        Activation::Sigmoid => sigmoid,
        Activation::None | Activation::Relu | Activation::Relu6 => x,
    }
}

/// `run` for each image, on all threads; results in the images' order.
pub(crate) fn each<R: Send>(
    runtime: &Runtime,
    images: &Images,
    graph: &Graph,
    run: impl Fn(&[f32]) -> R + Sync,
) -> Result<Vec<R>, QuantError> {
    let len = image_len(graph, images);
    let count = images.values.len() / len;
    if count * len != images.values.len() {
        let (expected, found) = (count * len, images.values.len());
        return Err(QuantError::Length { what: "images".to_owned(), expected, found });
    }
    let results: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::new(None)).collect();
    runtime.run(count, &|at| {
        let result = run(&images.values[at * len..][..len]);
        *results[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
    });
    let results = results.into_iter().filter_map(|slot| slot.into_inner().ok().flatten());
    Ok(results.collect())
}

/// Values of one image.
pub(crate) fn image_len(graph: &Graph, images: &Images) -> usize {
    let channels = graph.map(graph.images()).map_or(1, |map| map.channels);
    (images.height * images.width * channels).max(1)
}

/// A net made ready for images of one size.
pub(crate) struct Float<'a> {
    net: &'a Net,
    isa: sandglass_ops::Isa,
    sizes: Vec<Size>,
    kernels: Vec<Option<(Geometry, Kernel)>>,
}

enum Kernel {
    Dense(FloatDense),
    Depthwise(Depthwise<f32>),
}

impl<'a> Float<'a> {
    pub fn new(net: &'a Net, runtime: &Runtime, images: &Images) -> Result<Self, QuantError> {
        let sizes = net.graph.sizes(images.height, images.width)?;
        let kernel = |(node, layer): (&Node, &Option<Layer>)| {
            let Layer { conv, weight, .. } = layer.as_ref()?;
            let kernel = match conv.is_depthwise() {
                true => Kernel::Depthwise(Depthwise::new(conv, weight, |w| w)),
                false => Kernel::Dense(FloatDense::new(&conv.ungrouped(), &conv.ungroup(weight))),
            };
            Some((Geometry::new(conv.ungrouped(), sizes[node.reads().first()?.index()])?, kernel))
        };
        let kernels = net.graph.nodes().iter().zip(&net.layers).map(kernel).collect();
        Ok(Self { net, isa: runtime.isa(), sizes, kernels })
    }

    /// All maps of one image; `after` may change each as soon as it is there, the image first.
    pub fn maps(&self, image: &[f32], after: impl Fn(usize, &mut Vec<f32>)) -> Vec<Vec<f32>> {
        let mut maps = vec![image.to_vec()];
        after(0, &mut maps[0]);
        for at in 0..self.kernels.len() {
            let mut map = self.node(at, &maps);
            after(at + 1, &mut map);
            maps.push(map);
        }
        maps
    }

    /// The map of one node, given those before it.
    pub fn node(&self, at: usize, maps: &[Vec<f32>]) -> Vec<f32> {
        let graph = &self.net.graph;
        let channels = |map: sandglass_models::MapId| graph.maps()[map.index()].channels;
        match &graph.nodes()[at] {
            Node::Conv { from, .. } | Node::Linear { from, .. } => self.convolution(at, &maps[from.index()]),
            Node::Add { main, skip, channels: added, activation, .. } => {
                let (low, high) = clamp(*activation).unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
                let mut map = maps[main.index()].clone();
                let pixels =
                    map.chunks_exact_mut(channels(*main)).zip(maps[skip.index()].chunks_exact(channels(*skip)));
                for (main, skip) in pixels {
                    main.iter_mut().zip(skip).take(*added).for_each(|(main, skip)| *main += skip);
                    main.iter_mut().for_each(|x| *x = x.max(low).min(high));
                }
                map
            }
            Node::Pool { pool: Pool::Max(window), from, .. } => {
                let conv = Conv { window: *window, ..Conv::depthwise(channels(*from), window.kernel, window.stride) };
                max_pool(conv, self.sizes[from.index()], &maps[from.index()], f32::NEG_INFINITY, f32::max)
            }
            Node::Pool { pool: Pool::GlobalAverage, from, .. } => {
                let channels = channels(*from);
                let map = &maps[from.index()];
                let mut sums = vec![0f64; channels];
                for pixel in map.chunks_exact(channels) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                let pixels = (map.len() / channels) as f64;
                sums.into_iter().map(|sum| (sum / pixels) as f32).collect()
            }
            Node::Gate { from, by, .. } => {
                let (map, by) = (&maps[from.index()], &maps[by.index()]);
                map.iter().zip(by.iter().cycle()).map(|(x, by)| x * by).collect()
            }
            Node::Activate { activation, from, .. } => {
                maps[from.index()].iter().map(|&x| smooth(*activation, x.into()) as f32).collect()
            }
            Node::Dropout { from, .. } | Node::DropConnect { from, .. } | Node::Idle { from, .. } => {
                maps[from.index()].clone()
            }
            // Refused when the net was made.
            Node::Concat { .. } => Vec::new(),
        }
    }

    fn convolution(&self, at: usize, x: &[f32]) -> Vec<f32> {
        let (Some(layer), Some((g, kernel))) = (&self.net.layers[at], &self.kernels[at]) else { return Vec::new() };
        let mut map = Vec::with_capacity(g.pixels() * g.conv.output);
        (0..g.pixels()).for_each(|_| map.extend(&layer.bias));
        match kernel {
            Kernel::Dense(dense) if g.conv.window.kernel == 1 && g.conv.window.stride == 1 => {
                dense.multiply(self.isa, x, &mut map);
            }
            Kernel::Dense(dense) => dense.multiply(self.isa, &g.rows(x, [0.0, 0.0], false, |x| x), &mut map),
            Kernel::Depthwise(depthwise) => depthwise.multiply(self.isa, x, g, &mut map),
        }
        if layer.low == 0.0 {
            for pixel in map.chunks_exact_mut(g.conv.output) {
                pixel.iter_mut().zip(&layer.high).for_each(|(x, &high)| *x = x.max(0.0).min(high));
            }
        }
        map
    }
}

/// The largest of each window; what lies outside never wins.
pub(crate) fn max_pool<T: Copy>(conv: Conv, size: Size, x: &[T], least: T, larger: fn(T, T) -> T) -> Vec<T> {
    let Some(g) = Geometry::new(conv, size) else { return Vec::new() };
    let rows = g.rows(x, [least, least], false, |x| x);
    let mut map = Vec::with_capacity(g.pixels() * conv.input);
    for row in rows.chunks_exact(conv.input * conv.window.kernel.pow(2)) {
        let of = |channel: usize| row.iter().skip(channel).step_by(conv.input).fold(least, |a, &b| larger(a, b));
        map.extend((0..conv.input).map(of));
    }
    map
}
