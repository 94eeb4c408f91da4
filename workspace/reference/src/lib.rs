//! Graphs as plain candle networks: slow, readable, on any device and in any float type.
//!
//! Maps are N x C x H x W; a linear layer's is N x C. There is no dropout, for candle's cannot be seeded: a dropout node
//! hands on what it reads.

#![warn(clippy::missing_errors_doc)]

mod ops;

pub use ops::{activate, batch_norm, conv2d, global_avg_pool, max_pool, relu6, residual_add};

use candle_core::{Result, Tensor, bail};
use candle_nn::{BatchNormConfig, Conv2d, Conv2dConfig, Func, Linear, Module, ModuleT, VarBuilder};
use sandglass_models::{After, BatchNorm, Conv, Graph, Node, Pool, Unit};

/// What a node learns.
#[derive(Clone, Debug)]
enum Layer {
    Nothing,
    Conv(Conv2d, Option<candle_nn::BatchNorm>),
    Linear(Linear),
}

/// A graph with its tensors.
///
/// As a [`ModuleT`] it gives the graph's first output; `train` takes batch statistics and moves the running ones.
#[derive(Clone, Debug)]
pub struct Network {
    graph: Graph,
    /// Parallel to the graph's nodes.
    layers: Vec<Layer>,
}

impl Network {
    /// Takes the graph's tensors by their names from `vb`.
    ///
    /// # Errors
    /// A tensor that `vb` lacks, or has in another shape.
    pub fn new(graph: &Graph, vb: &VarBuilder) -> Result<Self> {
        let layers = graph.nodes().iter().map(|node| layer(node, vb)).collect::<Result<_>>()?;
        Ok(Self { graph: graph.clone(), layers })
    }

    /// All outputs, in the graph's order.
    ///
    /// # Errors
    /// Images that the graph does not take, or one value per channel in a batch norm that trains.
    pub fn outputs(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        // A node's map lies one place after the node.
        let mut maps = vec![images.clone()];
        for (node, layer) in self.graph.nodes().iter().zip(&self.layers) {
            maps.push(forward(node, layer, &maps, train)?);
        }
        Ok(self.graph.outputs().iter().map(|map| maps[map.index()].clone()).collect())
    }

    /// In evaluation mode, as a `Module`.
    pub fn into_module(self) -> Func<'static> {
        candle_nn::func(move |images| self.forward_t(images, false))
    }
}

impl ModuleT for Network {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        match self.outputs(images, train)?.into_iter().next() {
            Some(output) => Ok(output),
            None => bail!("a graph without outputs"),
        }
    }
}

fn layer(node: &Node, vb: &VarBuilder) -> Result<Layer> {
    match node {
        Node::Conv { unit, .. } => {
            let Unit { conv, name, after, .. } = unit;
            let Conv { input, output, groups, window } = *conv;
            // What lies around the map is added by hand: candle has neither unequal sides nor every gradient.
            let config = Conv2dConfig { stride: window.stride, groups, ..Default::default() };
            let (kernel, vb_conv) = (window.kernel, vb.pp(name));
            let conv = match after {
                After::Bias | After::BiasNorm(_) => candle_nn::conv2d(input, output, kernel, config, vb_conv)?,
                After::Norm(_) => candle_nn::conv2d_no_bias(input, output, kernel, config, vb_conv)?,
            };
            let norm = match after {
                After::Bias => None,
                After::Norm(norm) | After::BiasNorm(norm) => {
                    let BatchNorm { name, eps, momentum } = norm;
                    let (eps, momentum) = (f64::from(*eps), f64::from(*momentum));
                    let config = BatchNormConfig { eps, momentum, ..Default::default() };
                    Some(candle_nn::batch_norm(output, config, vb.pp(name))?)
                }
            };
            Ok(Layer::Conv(conv, norm))
        }
        Node::Linear { linear, .. } => {
            Ok(Layer::Linear(candle_nn::linear(linear.input, linear.output, vb.pp(&linear.name))?))
        }
        _ => Ok(Layer::Nothing),
    }
}

fn forward(node: &Node, layer: &Layer, maps: &[Tensor], train: bool) -> Result<Tensor> {
    match (node, layer) {
        (Node::Conv { unit, from, .. }, Layer::Conv(conv, norm)) => {
            let mut x = conv2d(conv, &maps[from.index()], unit.conv.window)?;
            if let Some(norm) = norm {
                x = batch_norm(norm, &x, train)?;
            }
            activate(&x, unit.activation)
        }
        (Node::Linear { from, .. }, Layer::Linear(linear)) => linear.forward(&maps[from.index()].flatten_from(1)?),
        (Node::Add { main, skip, channels, activation, .. }, _) => {
            activate(&residual_add(&maps[skip.index()], &maps[main.index()], *channels)?, *activation)
        }
        (Node::Gate { from, by, .. }, _) => maps[from.index()].broadcast_mul(&maps[by.index()]),
        (Node::Concat { from, .. }, _) => {
            Tensor::cat(&from.iter().map(|map| &maps[map.index()]).collect::<Vec<_>>(), 1)
        }
        (Node::Pool { pool: Pool::Max(window), from, .. }, _) => max_pool(&maps[from.index()], *window),
        (Node::Pool { pool: Pool::GlobalAverage, from, .. }, _) => {
            global_avg_pool(&maps[from.index()])?.unsqueeze(2)?.unsqueeze(3)
        }
        (Node::Dropout { from, .. } | Node::DropConnect { from, .. } | Node::Idle { from, .. }, _) => {
            Ok(maps[from.index()].clone())
        }
        (Node::Activate { activation, from, .. }, _) => activate(&maps[from.index()], *activation),
        (Node::Conv { .. } | Node::Linear { .. }, _) => bail!("a layer that is not its node's"),
    }
}
