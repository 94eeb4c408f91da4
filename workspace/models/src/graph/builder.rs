//! How a graph is written, node by node.

use super::{Graph, Map, MapId, Node};
use crate::error::MAX_CHANNELS;
use crate::{Activation, After, BatchNorm, Conv, Linear, ModelError, Pool, Unit};

/// Writes nodes, each reading maps that are there, and gives the id of each one's map.
///
/// ```
/// use sandglass_models::blocks::InvertedResidual;
/// use sandglass_models::GraphBuilder;
///
/// let mut g = GraphBuilder::new(16)?;
/// let x = g.images();
/// let tap = InvertedResidual { input: 16, output: 24, stride: 2, expand_ratio: 6.0 }.build(&mut g, "block", x)?;
/// let pooled = g.global_average("pool", tap)?;
/// let logits = g.linear("head", pooled, 10)?;
/// let graph = g.finish(vec![logits, tap])?;
/// assert_eq!(graph.tensors().last().unwrap().name, "head.bias");
/// # Ok::<(), sandglass_models::ModelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    maps: Vec<Map>,
    nodes: Vec<Node>,
    norm_eps: f32,
    norm_momentum: f32,
    /// Of drop-connect, in the block that is being written.
    drop_rate: f64,
}

impl GraphBuilder {
    /// A graph of images with this many channels, whose batch norms have PyTorch's eps of 1e-5 and momentum of 0.1.
    ///
    /// # Errors
    /// A number of channels out of range.
    pub fn new(channels: usize) -> Result<Self, ModelError> {
        let images = Map { name: "images".to_owned(), channels };
        check_channels(&images)?;
        Ok(Self { maps: vec![images], nodes: Vec::new(), norm_eps: 1e-5, norm_momentum: 0.1, drop_rate: 0.0 })
    }

    /// With this eps and momentum in the batch norms to come.
    #[must_use]
    pub fn with_norm(self, norm_eps: f32, norm_momentum: f32) -> Self {
        Self { norm_eps, norm_momentum, ..self }
    }

    /// At this rate the branches of blocks to come are dropped in training, if they have a shortcut.
    pub const fn set_drop_rate(&mut self, rate: f64) {
        self.drop_rate = rate;
    }

    /// The map of the images.
    pub const fn images(&self) -> MapId {
        MapId(0)
    }

    /// Channels of a map.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn channels(&self, map: MapId) -> Result<usize, ModelError> {
        self.maps.get(map.0).map(|map| map.channels).ok_or(ModelError::UnknownMap(map.0))
    }

    /// The map that the node of this name writes.
    ///
    /// # Errors
    /// No such node so far.
    pub fn find(&self, name: &str) -> Result<MapId, ModelError> {
        let at = self.maps.iter().position(|map| map.name == name);
        at.map(MapId).ok_or_else(|| ModelError::NoMap(name.to_owned()))
    }

    /// Nodes so far.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True before the first node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Convolution, batch norm, activation; the two names are places in a state dict.
    ///
    /// # Errors
    /// As for [`GraphBuilder::unit`].
    pub fn conv_norm(
        &mut self,
        conv: Conv,
        [name, norm]: [String; 2],
        activation: Activation,
        x: MapId,
    ) -> Result<MapId, ModelError> {
        let after = After::Norm(BatchNorm { name: norm, ..self.norm() });
        self.unit(Unit { conv, name, after, activation }, x)
    }

    /// Convolution, batch norm or bias, activation.
    ///
    /// # Errors
    /// Channels that are not those of `x`, or groups that do not divide them.
    pub fn unit(&mut self, unit: Unit, x: MapId) -> Result<MapId, ModelError> {
        self.check_reads(&unit.name, unit.conv.input, x)?;
        let Conv { input, output, groups, .. } = unit.conv;
        let divides = |channels: usize| channels.checked_rem(groups) == Some(0);
        if !divides(input) || !divides(output) {
            return Err(ModelError::Groups { name: unit.name, groups, input, output });
        }
        let (name, channels) = (unit.name.clone(), unit.conv.output);
        self.node(name, channels, |to| Node::Conv { unit, from: x, to })
    }

    /// `main`, the first `channels` of `skip` added to its own, then activated.
    ///
    /// # Errors
    /// More channels than either has.
    pub fn add(
        &mut self,
        name: &str,
        (main, skip): (MapId, MapId),
        channels: usize,
        activation: Activation,
    ) -> Result<MapId, ModelError> {
        let all = self.channels(main)?;
        for map in [main, skip] {
            let found = self.channels(map)?;
            if channels > found {
                return Err(ModelError::Reads { name: name.to_owned(), expected: channels, found });
            }
        }
        self.node(name.to_owned(), all, |to| Node::Add { main, skip, channels, activation, to })
    }

    /// Each channel of `x` times its one value in `by`.
    ///
    /// # Errors
    /// Where the two differ in channels.
    pub fn gate(&mut self, name: &str, x: MapId, by: MapId) -> Result<MapId, ModelError> {
        let channels = self.channels(x)?;
        self.check_reads(name, channels, by)?;
        self.node(name.to_owned(), channels, |to| Node::Gate { from: x, by, to })
    }

    /// All channels of `maps`, in order.
    ///
    /// # Errors
    /// No maps, or too many channels.
    pub fn concat(&mut self, name: &str, maps: Vec<MapId>) -> Result<MapId, ModelError> {
        let channels = maps.iter().try_fold(0usize, |sum, &map| Ok(sum.saturating_add(self.channels(map)?)))?;
        self.node(name.to_owned(), channels, |to| Node::Concat { from: maps, to })
    }

    /// `x` below the pool's windows.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn pool(&mut self, name: &str, pool: Pool, x: MapId) -> Result<MapId, ModelError> {
        let channels = self.channels(x)?;
        self.node(name.to_owned(), channels, |to| Node::Pool { pool, from: x, to })
    }

    /// The mean over all pixels.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn global_average(&mut self, name: &str, x: MapId) -> Result<MapId, ModelError> {
        self.pool(name, Pool::GlobalAverage, x)
    }

    /// Where a recipe's dropout acts.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn dropout(&mut self, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let channels = self.channels(x)?;
        self.node(name.to_owned(), channels, |to| Node::Dropout { from: x, to })
    }

    /// Where drop-connect acts on a block's branch `x`; `x` itself at a rate of 0.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn drop_connect(&mut self, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let (channels, rate) = (self.channels(x)?, self.drop_rate);
        match rate > 0.0 {
            true => self.node(name.to_owned(), channels, |to| Node::DropConnect { rate, from: x, to }),
            false => Ok(x),
        }
    }

    /// A batch norm that is kept in the state dict and never run.
    ///
    /// # Errors
    /// The id of another graph.
    pub fn idle_norm(&mut self, name: &str, x: MapId) -> Result<MapId, ModelError> {
        let channels = self.channels(x)?;
        let norm = BatchNorm { name: name.to_owned(), ..self.norm() };
        self.node(name.to_owned(), channels, |to| Node::Idle { norm, channels, from: x, to })
    }

    /// Fully connected, with bias.
    ///
    /// # Errors
    /// A number of outputs out of range.
    pub fn linear(&mut self, name: &str, x: MapId, output: usize) -> Result<MapId, ModelError> {
        let linear = Linear { name: name.to_owned(), input: self.channels(x)?, output };
        self.node(name.to_owned(), output, |to| Node::Linear { linear, from: x, to })
    }

    /// The graph, which gives `outputs` in this order.
    ///
    /// # Errors
    /// No output, or the id of another graph.
    pub fn finish(self, outputs: Vec<MapId>) -> Result<Graph, ModelError> {
        if outputs.is_empty() {
            return Err(ModelError::NoOutput);
        }
        outputs.iter().try_for_each(|&map| self.channels(map).map(|_| ()))?;
        Ok(Graph { maps: self.maps, nodes: self.nodes, outputs })
    }

    /// A batch norm to come, without its name.
    pub(crate) fn norm(&self) -> BatchNorm {
        BatchNorm { name: String::new(), eps: self.norm_eps, momentum: self.norm_momentum }
    }

    fn check_reads(&self, name: &str, expected: usize, x: MapId) -> Result<(), ModelError> {
        let found = self.channels(x)?;
        if expected == found { Ok(()) } else { Err(ModelError::Reads { name: name.to_owned(), expected, found }) }
    }

    fn node(&mut self, name: String, channels: usize, node: impl FnOnce(MapId) -> Node) -> Result<MapId, ModelError> {
        let (map, to) = (Map { name, channels }, MapId(self.maps.len()));
        check_channels(&map)?;
        self.maps.push(map);
        self.nodes.push(node(to));
        Ok(to)
    }
}

fn check_channels(map: &Map) -> Result<(), ModelError> {
    if (1..=MAX_CHANNELS).contains(&map.channels) {
        return Ok(());
    }
    Err(ModelError::MapChannels { name: map.name.clone(), channels: map.channels })
}
