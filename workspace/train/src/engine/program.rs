//! A graph as steps over places: what runs when, and what is stored how.
//!
//! A unit's place holds its raw convolution output, read through batch norm and activation. A map is stored in full only
//! where it is a sum, or where a max-pool reads it. The gradient of a unit's place is always that of its batch norm's
//! output: the mask is applied, and the shares of other readers are added, while it is written.

use sandglass_models::{self as models, After, Conv, Graph, MapId, Node, Padding, Pool, Size, Window};
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Activation, ConvShape};

use super::EngineError;

/// Where a place's values come from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Source {
    /// Stored as it is read.
    Plain,
    /// Raw output of a unit.
    Raw { unit: usize },
    /// Stored in full, activated: the output of `unit`, which nothing else reads, perhaps with a shortcut. So its gradient
    /// is also that of the unit's batch norm.
    Sum { unit: usize, activation: Activation },
}

pub(super) struct Place {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub source: Source,
    /// The last step that reads the map in a forward; none where it is an output, which is kept.
    pub last_reader: Option<usize>,
    /// The first step that reads the map: the last one in a backward, whose share completes the map's gradient.
    pub first_reader: Option<usize>,
}

impl Place {
    /// Its readers are found later.
    fn new((height, width): Size, channels: usize, source: Source) -> Self {
        Self { height, width, channels, source, last_reader: None, first_reader: None }
    }
}

/// What an addition adds to its main operand.
#[derive(Clone, Copy)]
pub(super) struct Skip {
    pub place: usize,
    /// So many of its first channels.
    pub channels: usize,
    /// A unit without activation that nothing else reads, added whole (ResNet): the sum's gradient is its batch norm's too.
    pub projection: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Op {
    Conv {
        unit: usize,
        from: usize,
    },
    /// The main operand written out in full, with a shortcut if there is one, clamped.
    Add {
        main: usize,
        skip: Option<Skip>,
        activation: Activation,
    },
    MaxPool {
        /// Its images are a pass's: none here.
        shape: MaxPoolShape,
        from: usize,
    },
    AveragePool {
        from: usize,
    },
    /// Each pixel times the one value of its image in `by`, which is stored.
    Gate {
        from: usize,
        by: usize,
    },
    Drop {
        drop: usize,
        from: usize,
    },
    Linear {
        linear: usize,
        from: usize,
    },
}

impl Op {
    fn reads(&self, place: usize) -> bool {
        match *self {
            Self::Add { main, skip, .. } => main == place || skip.is_some_and(|skip| skip.place == place),
            Self::Gate { from, by } => from == place || by == place,
            Self::Conv { from, .. }
            | Self::MaxPool { from, .. }
            | Self::AveragePool { from }
            | Self::Drop { from, .. }
            | Self::Linear { from, .. } => from == place,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Step {
    pub op: Op,
    /// The place that it writes.
    pub to: usize,
}

/// Convolution, batch norm or bias, activation.
pub(super) struct Unit {
    /// Of the convolution, for errors.
    pub name: String,
    /// Its images are a pass's: none here.
    pub shape: ConvShape,
    /// As the weights have it: `shape` knows no groups.
    pub conv: Conv,
    /// None: a bias alone. It is read as a batch norm whose statistics are constants, mean 0 and variance 1.
    pub norm: Option<NormRule>,
    /// Whether the convolution has a bias, be it before a batch norm.
    pub has_bias: bool,
    pub activation: Activation,
    /// Index of the convolution's weights; the bias and the batch norm's four tensors follow, as far as there are any.
    pub at: usize,
    /// The place of its raw output.
    pub to: usize,
}

#[derive(Clone, Copy)]
pub(super) struct NormRule {
    pub eps: f32,
    pub momentum: f32,
}

/// Factors that training draws for each batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drop {
    /// How many an image has.
    pub factors: usize,
    /// None: that of the recipe's dropout.
    pub rate: Option<f64>,
}

impl Unit {
    /// Index of the batch norm's first tensor.
    pub fn norm_at(&self) -> usize {
        self.at + 1 + usize::from(self.has_bias)
    }
}

/// A matrix, and the index of its weights; its bias follows.
pub(super) struct Matrix {
    /// As a 1x1 convolution of one pixel; its images are a pass's: none here.
    pub shape: ConvShape,
    pub at: usize,
}

/// Place `i` is the graph's map `i`; places that only the engine knows come after.
pub(super) struct Program {
    pub places: Vec<Place>,
    pub steps: Vec<Step>,
    pub units: Vec<Unit>,
    pub linears: Vec<Matrix>,
    /// The places of the graph's outputs.
    pub outputs: Vec<usize>,
    /// Dropout and drop-connect, in the order in which they run.
    pub drops: Vec<Drop>,
}

/// An activation as the kernels name it.
fn kernels(activation: models::Activation) -> Activation {
    match activation {
        models::Activation::None => Activation::None,
        models::Activation::Relu => Activation::Relu,
        models::Activation::Relu6 => Activation::Relu6,
        models::Activation::Silu => Activation::Silu,
        models::Activation::Sigmoid => Activation::Sigmoid,
    }
}

/// How often each map is read by nodes or given as an output.
fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.maps().len()];
    let reads = graph.nodes().iter().flat_map(Node::reads);
    reads.chain(graph.outputs().iter().copied()).for_each(|map| uses[map.index()] += 1);
    uses
}

impl Program {
    /// For images of this size.
    pub fn new(graph: &Graph, height: usize, width: usize) -> Result<Self, EngineError> {
        let sizes = graph.sizes(height, width)?;
        let places = graph.maps().iter().zip(sizes);
        let mut program = Self {
            places: places.map(|(map, size)| Place::new(size, map.channels, Source::Plain)).collect(),
            steps: Vec::new(),
            units: Vec::new(),
            linears: Vec::new(),
            outputs: graph.outputs().iter().map(|map| map.index()).collect(),
            drops: Vec::new(),
        };
        let uses = uses(graph);
        let mut at = 0;
        for node in graph.nodes() {
            let name = graph.map(node.writes()).map_or("", |map| &map.name);
            program.node(node, &uses, at).map_err(|what| EngineError::NotBuilt { node: name.to_owned(), what })?;
            at += node.tensors().len();
        }
        program.find_readers();
        Ok(program)
    }

    /// Appends a node's steps, `at` being the index of its first tensor; an error says what is not built.
    fn node(&mut self, node: &Node, uses: &[usize], at: usize) -> Result<(), &'static str> {
        let to = node.writes().index();
        let op = match node {
            Node::Conv { unit, from, .. } => self.unit(unit, *from, at, to)?,
            Node::Add { main, skip, channels, activation, .. } => {
                let activation = kernels(*activation);
                if !activation.is_known_by_output() {
                    return Err("an activation after a sum whose derivative does not follow from its output");
                }
                let (main, skip) = (main.index(), skip.index());
                // The sum's gradient is written for one batch norm, in one go with the mask of its own activation.
                match self.sole_source(main, uses) {
                    Some(unit) => self.places[to].source = Source::Sum { unit, activation },
                    None if activation == Activation::None => (),
                    None => return Err("an activated sum of other than a unit without activation"),
                }
                let projection = *channels == self.places[skip].channels && self.sole_source(skip, uses).is_some();
                Op::Add { main, skip: Some(Skip { place: skip, channels: *channels, projection }), activation }
            }
            Node::Pool { pool: Pool::Max(window), from, .. } => {
                let from = self.stored(from.index(), uses);
                let Padding::Symmetric(padding) = window.padding else { return Err("SAME padding") };
                let Window { kernel, stride, .. } = *window;
                let Place { height, width, channels, .. } = self.places[from];
                let shape = MaxPoolShape { images: 0, height, width, channels, kernel, stride, padding };
                Op::MaxPool { shape, from }
            }
            Node::Pool { pool: Pool::GlobalAverage, from, .. } => Op::AveragePool { from: from.index() },
            Node::Dropout { from, .. } => {
                let Place { height, width, channels, .. } = self.places[to];
                self.drop(Drop { factors: height * width * channels, rate: None }, *from)
            }
            Node::DropConnect { rate, from, .. } => self.drop(Drop { factors: 1, rate: Some(*rate) }, *from),
            Node::Linear { linear, from, .. } => {
                let conv = Conv::pointwise(linear.input, linear.output);
                self.linears.push(Matrix { shape: conv_shape(&conv, (1, 1))?, at });
                Op::Linear { linear: self.linears.len() - 1, from: from.index() }
            }
            Node::Idle { from, .. } => Op::Add { main: from.index(), skip: None, activation: Activation::None },
            Node::Gate { from, by, .. } => Op::Gate { from: from.index(), by: self.stored(by.index(), uses) },
            Node::Concat { .. } => return Err("a concatenation"),
            Node::Activate { .. } => return Err("an activation apart"),
        };
        self.steps.push(Step { op, to });
        Ok(())
    }

    fn drop(&mut self, drop: Drop, from: MapId) -> Op {
        self.drops.push(drop);
        Op::Drop { drop: self.drops.len() - 1, from: from.index() }
    }

    fn unit(&mut self, unit: &models::Unit, from: MapId, at: usize, to: usize) -> Result<Op, &'static str> {
        let norm = match &unit.after {
            After::Norm(norm) | After::BiasNorm(norm) => Some(NormRule { eps: norm.eps, momentum: norm.momentum }),
            After::Bias => None,
        };
        let has_bias = matches!(unit.after, After::Bias | After::BiasNorm(_));
        let activation = kernels(unit.activation);
        let conv = unit.conv;
        let from = from.index();
        let index = self.units.len();
        self.places[to].source = Source::Raw { unit: index };
        let size = (self.places[from].height, self.places[from].width);
        let (name, shape) = (unit.name.clone(), conv_shape(&conv, size)?);
        self.units.push(Unit { name, shape, conv, norm, has_bias, activation, at, to });
        Ok(Op::Conv { unit: index, from })
    }

    /// The unit without activation whose output is used once and so hands its reader's gradient on.
    fn sole_source(&self, place: usize, uses: &[usize]) -> Option<usize> {
        match self.places[place].source {
            Source::Raw { unit } if uses[place] == 1 && self.units[unit].activation == Activation::None => Some(unit),
            _ => None,
        }
    }

    /// The place where a map is stored as it is read: for a unit's raw output, a new one.
    fn stored(&mut self, place: usize, uses: &[usize]) -> usize {
        let Source::Raw { unit } = self.places[place].source else { return place };
        let activation = self.units[unit].activation;
        let is_sum = uses[place] == 1 && activation.is_known_by_output();
        let source = if is_sum { Source::Sum { unit, activation } } else { Source::Plain };
        let Place { height, width, channels, .. } = self.places[place];
        let to = self.places.len();
        self.places.push(Place::new((height, width), channels, source));
        // Reading the unit's output activates it.
        self.steps.push(Step { op: Op::Add { main: place, skip: None, activation: Activation::None }, to });
        to
    }

    fn find_readers(&mut self) {
        for (index, place) in self.places.iter_mut().enumerate() {
            let reads = |step: &Step| step.op.reads(index);
            place.first_reader = self.steps.iter().position(reads);
            place.last_reader = self.steps.iter().rposition(reads).filter(|_| !self.outputs.contains(&index));
        }
    }
}

fn conv_shape(conv: &Conv, (height, width): Size) -> Result<ConvShape, &'static str> {
    let Window { kernel, stride, .. } = conv.window;
    let shape = ConvShape {
        images: 0,
        height,
        width,
        input: conv.input,
        output: conv.output,
        kernel,
        stride,
        padding: 0,
        fewer: [0; 2],
        depthwise: conv.is_depthwise(),
    };
    let padding = conv.window.padding(height).zip(conv.window.padding(width));
    padding.and_then(|(rows, columns)| shape.padded([rows, columns])).ok_or("a window padded like that")
}
