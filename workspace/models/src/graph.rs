//! A network as a graph: maps, and the nodes that write them.
//!
//! This is the one description that everything else walks: costs, tensor names, the plain candle networks, and the
//! compiled network that trains. Nothing is executed here.

mod apart;
mod builder;

pub use builder::GraphBuilder;

use crate::{
    Activation, After, BatchNorm, Conv, Linear, ModelError, Padding, PaddingRule, Pool, Size, TensorSpec, Unit,
};

/// A map of the graph that gave this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(usize);

impl MapId {
    /// The map's place in [`Graph::maps`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What flows from node to node: for each image `channels` values a pixel. Its height and width follow from the
/// input's ([`Graph::sizes`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Of the node that writes it, such as `features.3.conv.0.0` or `features.3.add`.
    pub name: String,
    pub channels: usize,
}

impl Map {
    /// Of the block whose node writes it: such as `features.3` of `features.3.conv.0.0`.
    pub fn block(&self) -> &str {
        let second = self.name.match_indices('.').map(|(at, _)| at).nth(1);
        &self.name[..second.unwrap_or(self.name.len())]
    }
}

/// One operation: reads maps, writes the map `to`.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Conv {
        unit: Unit,
        from: MapId,
        to: MapId,
    },
    /// `main`, the first `channels` of `skip` added to its own, then activated.
    Add {
        main: MapId,
        skip: MapId,
        channels: usize,
        activation: Activation,
        to: MapId,
    },
    /// Each channel of `from` times its one value in `by`, a map of one pixel (squeeze-and-excite).
    Gate {
        from: MapId,
        by: MapId,
        to: MapId,
    },
    /// All channels of maps of one size, in order.
    Concat {
        from: Vec<MapId>,
        to: MapId,
    },
    Pool {
        pool: Pool,
        from: MapId,
        to: MapId,
    },
    /// Where a recipe's dropout acts in training; at any other time `to` is `from`.
    Dropout {
        from: MapId,
        to: MapId,
    },
    /// Where whole images of a block's branch are dropped in training, before its shortcut is added; at any other time `to`
    /// is `from`. Only in graphs that were [asked for it](crate::NetworkConfig::build_with_drop_connect).
    DropConnect {
        rate: f64,
        from: MapId,
        to: MapId,
    },
    Linear {
        linear: Linear,
        from: MapId,
        to: MapId,
    },
    /// An activation that is a step of its own ([`Graph::activations_apart`]).
    Activate {
        activation: Activation,
        from: MapId,
        to: MapId,
    },
    /// A batch norm that an official network keeps in its state dict and never runs: `to` is `from`.
    Idle {
        norm: BatchNorm,
        channels: usize,
        from: MapId,
        to: MapId,
    },
}

impl Node {
    /// The maps that the node reads.
    pub fn reads(&self) -> Vec<MapId> {
        match self {
            Self::Conv { from, .. }
            | Self::Pool { from, .. }
            | Self::Dropout { from, .. }
            | Self::DropConnect { from, .. }
            | Self::Linear { from, .. }
            | Self::Activate { from, .. }
            | Self::Idle { from, .. } => vec![*from],
            Self::Add { main, skip, .. } => vec![*main, *skip],
            Self::Gate { from, by, .. } => vec![*from, *by],
            Self::Concat { from, .. } => from.clone(),
        }
    }

    /// The map that the node writes.
    pub const fn writes(&self) -> MapId {
        match self {
            Self::Conv { to, .. }
            | Self::Add { to, .. }
            | Self::Gate { to, .. }
            | Self::Concat { to, .. }
            | Self::Pool { to, .. }
            | Self::Dropout { to, .. }
            | Self::DropConnect { to, .. }
            | Self::Linear { to, .. }
            | Self::Activate { to, .. }
            | Self::Idle { to, .. } => *to,
        }
    }

    /// Whether the map that it writes is the one that it reads, but in training.
    pub const fn hands_on(&self) -> bool {
        matches!(self, Self::Dropout { .. } | Self::DropConnect { .. } | Self::Idle { .. })
    }
}

/// Nodes in the order in which they run, made by a [`GraphBuilder`]: each map is written once and before it is read, and
/// what a node reads has the channels that it expects.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    maps: Vec<Map>,
    nodes: Vec<Node>,
    outputs: Vec<MapId>,
}

impl Graph {
    /// The images come first; each node's map is called by that node's name.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The map of the images.
    pub const fn images(&self) -> MapId {
        MapId(0)
    }

    /// In the order in which they run, which is that of their tensors in a state dict.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the network gives: a classifier's logits, or any other maps. At least one.
    pub fn outputs(&self) -> &[MapId] {
        &self.outputs
    }

    /// Name and channels of a map; none for the id of another graph.
    pub fn map(&self, map: MapId) -> Option<&Map> {
        self.maps.get(map.0)
    }

    /// The same graph, which gives these of its maps.
    ///
    /// # Errors
    /// No output, or the id of another graph.
    pub fn with_outputs(self, outputs: Vec<MapId>) -> Result<Self, ModelError> {
        if outputs.is_empty() {
            return Err(ModelError::NoOutput);
        }
        match outputs.iter().find(|map| self.map(**map).is_none()) {
            Some(map) => Err(ModelError::UnknownMap(map.0)),
            None => Ok(Self { outputs, ..self }),
        }
    }

    /// With this eps in all batch norms.
    #[must_use]
    pub fn with_norm_eps(mut self, eps: f32) -> Self {
        for node in &mut self.nodes {
            if let Node::Conv { unit: Unit { after: After::Norm(norm) | After::BiasNorm(norm), .. }, .. } = node {
                norm.eps = eps;
            }
        }
        self
    }

    /// With this padding around all windows of more than one place.
    #[must_use]
    pub fn with_padding(mut self, rule: PaddingRule) -> Self {
        for node in &mut self.nodes {
            match node {
                Node::Conv { unit: Unit { conv: Conv { window, .. }, .. }, .. }
                | Node::Pool { pool: Pool::Max(window), .. }
                    if window.kernel > 1 =>
                {
                    window.padding = match rule {
                        PaddingRule::Symmetric => Padding::Symmetric(window.kernel / 2),
                        PaddingRule::Same => Padding::Same,
                    };
                }
                _ => {}
            }
        }
        self
    }

    /// All tensors in state-dict order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.nodes.iter().flat_map(Node::tensors).collect()
    }

    /// The same graph with other units, whose channels and groups must stay: what a builder gave fits together.
    pub(crate) fn map_units(&self, unit: impl Fn(&Unit) -> Unit) -> Self {
        let node = |node: &Node| match node {
            Node::Conv { unit: of, from, to } => Node::Conv { unit: unit(of), from: *from, to: *to },
            other => other.clone(),
        };
        Self { nodes: self.nodes.iter().map(node).collect(), ..self.clone() }
    }

    /// Height and width of every map, for images of `height` x `width` pixels.
    ///
    /// # Errors
    /// Where the images are empty or too large, or a window or a sum does not fit at this size.
    pub fn sizes(&self, height: usize, width: usize) -> Result<Vec<Size>, ModelError> {
        if height == 0 || width == 0 {
            return Err(ModelError::EmptyInput { height, width });
        }
        if height > MAX_SIDE || width > MAX_SIDE {
            return Err(ModelError::Overflow);
        }
        // A node's map lies one place after the node, for the images come first.
        let mut sizes = Vec::with_capacity(self.maps.len());
        sizes.push((height, width));
        for (node, map) in self.nodes.iter().zip(&self.maps[1..]) {
            let size = output_size(node, &sizes);
            sizes.push(size.map_err(|what| ModelError::Size { map: map.name.clone(), what })?);
        }
        Ok(sizes)
    }
}

/// Side lengths beyond this overflow somewhere in any network.
const MAX_SIDE: usize = 1 << 31;

fn output_size(node: &Node, sizes: &[Size]) -> Result<Size, &'static str> {
    let size = |map: &MapId| sizes[map.0];
    let window = |window: &crate::Window, (height, width): Size| {
        window.output_size(height).zip(window.output_size(width)).ok_or("its window does not fit on the map")
    };
    match node {
        Node::Conv { unit, from, .. } => window(&unit.conv.window, size(from)),
        Node::Pool { pool: Pool::Max(max), from, .. } => window(max, size(from)),
        Node::Pool { pool: Pool::GlobalAverage, .. } => Ok((1, 1)),
        Node::Add { main, skip, .. } if size(main) != size(skip) => Err("the maps to add differ in size"),
        Node::Gate { by, .. } if size(by) != (1, 1) => Err("a gate of more than one pixel"),
        Node::Linear { from, .. } if size(from) != (1, 1) => Err("a linear layer on a map of more than one pixel"),
        Node::Concat { from, .. } => match from.split_first() {
            Some((first, rest)) if rest.iter().all(|map| size(map) == size(first)) => Ok(size(first)),
            _ => Err("the maps to join differ in size"),
        },
        Node::Add { main: from, .. }
        | Node::Gate { from, .. }
        | Node::Dropout { from, .. }
        | Node::DropConnect { from, .. }
        | Node::Idle { from, .. }
        | Node::Activate { from, .. }
        | Node::Linear { from, .. } => Ok(size(from)),
    }
}
