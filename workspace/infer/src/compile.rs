//! From nodes to steps: what is fused, and what is packed.

use std::ops::Range;

use sandglass_models::{After, Conv, Graph, MapId, Node, Padding, Pool, Size, Unit, Weights, Window};
use sandglass_ops::conv::Packed;
use sandglass_ops::norm::Norm;
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Activation, ConvShape, Runtime};

use crate::error::InferError;
use crate::plan::Options;
use crate::program::{ConvStep, Op, Place, Program, Skip, Step, Sums};

impl Program {
    pub fn new(
        runtime: &Runtime,
        graph: &Graph,
        weights: &Weights,
        (height, width): Size,
        Options { batch, memory_groups: groups }: Options,
    ) -> Result<Self, InferError> {
        let sizes = graph.sizes(height, width)?;
        let places = graph.maps().iter().zip(sizes);
        let places =
            places.map(|(map, (height, width))| Place { height, width, channels: map.channels, is_scratch: false });
        let program = Self { places: places.collect(), steps: Vec::new(), outputs: Vec::new() };
        let mut compiler = Compiler {
            runtime,
            graph,
            weights,
            aliases: (0..graph.maps().len()).collect(),
            uses: uses(graph),
            groups,
            program,
        };
        compiler.nodes()?;
        let Compiler { aliases, mut program, .. } = compiler;
        program.outputs = graph.outputs().iter().map(|map| aliases[map.index()]).collect();
        program.chain(runtime, batch);
        Ok(program)
    }
}

/// How often each map is read by nodes or given as an output.
fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.maps().len()];
    let read = graph.nodes().iter().flat_map(Node::reads).chain(graph.outputs().iter().copied());
    read.for_each(|map| uses[map.index()] += 1);
    uses
}

struct Compiler<'a> {
    runtime: &'a Runtime,
    graph: &'a Graph,
    weights: &'a Weights,
    /// The place of each map: its own, or where nothing is done to it, that of the map that it is made of.
    aliases: Vec<usize>,
    uses: Vec<usize>,
    groups: usize,
    program: Program,
}

/// A unit, the map that it reads and the one that it writes.
#[derive(Clone, Copy)]
struct Placed<'a> {
    unit: &'a Unit,
    from: MapId,
    to: MapId,
}

/// What a convolution's epilogue does beside its own scale, shift and activation.
#[derive(Clone, Copy)]
struct Tail {
    skip: Option<Skip>,
    activation: Activation,
    to: usize,
}

impl<'a> Compiler<'a> {
    fn nodes(&mut self) -> Result<(), InferError> {
        let inner = self.inner_maps();
        for node in self.graph.nodes() {
            let to = node.writes();
            let name = self.graph.maps()[to.index()].name.clone();
            let not_built = |what| InferError::NotBuilt { node: name.clone(), what };
            let op = match node {
                Node::Conv { unit, from, to } => {
                    // What a block or a sum takes in is compiled with it.
                    if !inner[to.index()] && !self.is_summed(*to) {
                        let tail = Tail { skip: None, activation: kernels(unit.activation), to: to.index() };
                        self.conv(Placed { unit, from: *from, to: *to }, tail)?;
                    }
                    continue;
                }
                Node::Add { main, skip, channels, activation, .. } => {
                    let skip = Skip { place: self.place(*skip), channels: *channels };
                    if self.program.places[skip.place].channels != self.program.places[to.index()].channels {
                        return Err(not_built("a sum of maps that differ in channels"));
                    }
                    let tail = Tail { skip: Some(skip), activation: kernels(*activation), to: to.index() };
                    match self.summed(*main) {
                        Some(placed) => {
                            self.conv(placed, tail)?;
                            continue;
                        }
                        None => Op::Add { main: self.place(*main), skip, activation: tail.activation },
                    }
                }
                Node::Gate { from, by, .. } => Op::Gate { from: self.place(*from), by: self.place(*by) },
                Node::Concat { from, .. } => Op::Concat { from: from.iter().map(|&map| self.place(map)).collect() },
                Node::Pool { pool: Pool::GlobalAverage, from, .. } => Op::Average { from: self.place(*from) },
                Node::Pool { pool: Pool::Max(window), from, .. } => {
                    let Padding::Symmetric(padding) = window.padding else { return Err(not_built("SAME padding")) };
                    let Window { kernel, stride, .. } = *window;
                    let from = self.place(*from);
                    let Place { height, width, channels, .. } = self.program.places[from];
                    let shape = MaxPoolShape { images: 1, height, width, channels, kernel, stride, padding };
                    Op::MaxPool { shape, from }
                }
                Node::Activate { .. } => return Err(not_built("an activation apart")),
                Node::Dropout { from, .. } | Node::DropConnect { from, .. } | Node::Idle { from, .. } => {
                    self.aliases[to.index()] = self.place(*from);
                    continue;
                }
                Node::Linear { linear, from, .. } => {
                    // A 1x1 convolution with bias over one pixel.
                    let conv = Conv::pointwise(linear.input, linear.output);
                    let unit = Unit {
                        conv,
                        name: linear.name.clone(),
                        after: After::Bias,
                        activation: sandglass_models::Activation::None,
                    };
                    let tail = Tail { skip: None, activation: Activation::None, to: to.index() };
                    self.step(
                        Placed { unit: &unit, from: *from, to },
                        self.place(*from),
                        Part::All,
                        Sums::Whole,
                        tail,
                    )?;
                    continue;
                }
            };
            self.push(name, op, to.index());
        }
        Ok(())
    }

    fn place(&self, map: MapId) -> usize {
        self.aliases[map.index()]
    }

    fn push(&mut self, name: String, op: Op, to: usize) {
        self.program.steps.push(Step { name, op, to });
    }

    /// The convolution that writes a map.
    fn writer(&self, map: MapId) -> Option<Placed<'a>> {
        // A node's map lies one place after the node, for the images come first.
        match self.graph.nodes().get(map.index().checked_sub(1)?)? {
            Node::Conv { unit, from, to } => Some(Placed { unit, from: *from, to: *to }),
            _ => None,
        }
    }

    /// The convolution that takes in the sum over its output: one without activation, whose output is read there alone.
    fn summed(&self, main: MapId) -> Option<Placed<'a>> {
        let is_linear = |unit: &Unit| unit.activation == sandglass_models::Activation::None;
        self.writer(main).filter(|placed| self.uses[main.index()] == 1 && is_linear(placed.unit))
    }

    /// Whether a sum takes in the convolution which writes `map`.
    fn is_summed(&self, map: MapId) -> bool {
        let takes_in = |node: &Node| matches!(node, Node::Add { main, .. } if *main == map);
        self.summed(map).is_some() && self.graph.nodes().iter().any(takes_in)
    }

    /// The expansion and the depthwise convolution before a projection, where their maps are to be made in groups.
    fn block(&self, project: Placed<'a>) -> Option<[Placed<'a>; 3]> {
        let is_pointwise = |placed: &Placed| {
            let Conv { groups, window, .. } = placed.unit.conv;
            groups == 1 && window == Conv::pointwise(1, 1).window
        };
        let sole = |map: MapId| self.writer(map).filter(|_| self.uses[map.index()] == 1);
        let middle = sole(project.from).filter(|middle| middle.unit.conv.is_depthwise())?;
        let expand = sole(middle.from).filter(is_pointwise)?;
        let is_wide = expand.unit.conv.output > expand.unit.conv.input.max(project.unit.conv.output);
        (self.groups > 1 && is_pointwise(&project) && is_wide).then_some([expand, middle, project])
    }

    /// The maps that exist in groups alone.
    fn inner_maps(&self) -> Vec<bool> {
        let mut inner = vec![false; self.uses.len()];
        for map in self.graph.nodes().iter().map(Node::writes) {
            let block = self.writer(map).and_then(|project| self.block(project));
            block
                .into_iter()
                .flat_map(|[expand, middle, _]| [expand, middle])
                .for_each(|of| inner[of.to.index()] = true);
        }
        inner
    }

    fn conv(&mut self, placed: Placed<'a>, tail: Tail) -> Result<(), InferError> {
        match self.block(placed) {
            Some(block) => self.in_groups(block, tail),
            None => self.step(placed, self.place(placed.from), Part::All, Sums::Whole, tail),
        }
    }

    /// MobileNetV2, section 5.1: the sum of the projections of groups of channels. Each element is one chain of sums still,
    /// and so has the same bits.
    fn in_groups(&mut self, [expand, middle, project]: [Placed<'a>; 3], tail: Tail) -> Result<(), InferError> {
        let channels = middle.unit.conv.output;
        // Whole vectors on every instruction set.
        let size = channels.div_ceil(self.groups).next_multiple_of(16);
        for start in (0..channels).step_by(size) {
            let group = start..channels.min(start + size);
            let mut from = self.place(expand.from);
            for placed in [expand, middle] {
                let to = self.program.places.len();
                let whole = &self.program.places[placed.to.index()];
                self.program.places.push(Place { channels: group.len(), ..whole.clone() });
                let tail = Tail { skip: None, activation: kernels(placed.unit.activation), to };
                self.step(placed, from, Part::Outputs(group.clone()), Sums::Whole, tail)?;
                from = to;
            }
            let sums = match (group.start == 0, group.end == channels) {
                (true, true) => Sums::Whole,
                (true, false) => Sums::First,
                (false, false) => Sums::Next,
                (false, true) => Sums::Last,
            };
            self.step(project, from, Part::Inputs(group), sums, tail)?;
        }
        Ok(())
    }

    /// Appends a convolution of `part` of its channels.
    fn step(&mut self, placed: Placed, from: usize, part: Part, sums: Sums, tail: Tail) -> Result<(), InferError> {
        let unit = placed.unit;
        let conv = unit.conv.ungrouped();
        let depthwise = conv.is_depthwise();
        let Window { kernel, stride, .. } = conv.window;

        let specs = unit.tensors();
        let tensors = specs.iter().map(|spec| {
            let values = self.weights.get(&spec.name).unwrap_or_default();
            let (expected, found) = (spec.len(), values.len());
            if expected == found {
                Ok(values)
            } else {
                Err(InferError::Weights { tensor: spec.name.clone(), expected, found })
            }
        });
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let outputs = part.outputs(conv.output);
        let of = |values: &[f32]| values[outputs.clone()].to_vec();
        let (scale, shift) = match (&unit.after, &tensors[1..]) {
            (After::Norm(norm), [weight, bias, mean, var]) => {
                let Norm { scale, shift, .. } = Norm::eval(mean, var, norm.eps, weight, bias);
                (of(&scale), of(&shift))
            }
            (After::BiasNorm(norm), [own, weight, bias, mean, var]) => {
                let mean: Vec<f32> = mean.iter().zip(*own).map(|(mean, own)| mean - own).collect();
                let Norm { scale, shift, .. } = Norm::eval(&mean, var, norm.eps, weight, bias);
                (of(&scale), of(&shift))
            }
            (_, rest) => {
                (vec![1.0; outputs.len()], rest.first().map_or_else(|| vec![0.0; outputs.len()], |bias| of(bias)))
            }
        };
        let weights = unit.conv.ungroup(tensors[0]);
        let filter = weights.len() / conv.output;
        let rows = weights[outputs.start * filter..outputs.end * filter].chunks_exact(filter);
        let inputs = part.inputs(conv.input);
        let taps = kernel * kernel;
        let weights: Vec<f32> = match depthwise {
            true => rows.flatten().copied().collect(),
            false => rows.flat_map(|row| &row[inputs.start * taps..inputs.end * taps]).copied().collect(),
        };
        let Place { height, width, channels: input, .. } = self.program.places[from];
        let shape = ConvShape {
            images: 1,
            height,
            width,
            input,
            output: outputs.len(),
            kernel,
            stride,
            padding: 0,
            fewer: [0; 2],
            depthwise,
        };
        let padding = conv.window.padding(height).zip(conv.window.padding(width));
        let shape = padding.and_then(|(rows, columns)| shape.padded([rows, columns]));
        let what = "a window padded like that";
        let shape = shape.ok_or_else(|| InferError::NotBuilt { node: unit.name.clone(), what })?;
        let conv = ConvStep {
            weights: Packed::new(self.runtime, &shape, &weights)?,
            shape,
            groups: unit.conv.groups / conv.groups,
            from,
            scale,
            shift,
            skip: tail.skip,
            activation: tail.activation,
            sums,
        };
        self.push(unit.name.clone(), Op::Conv(Box::new(conv)), tail.to);
        Ok(())
    }
}

/// The channels of a convolution that a step is about.
#[derive(Clone)]
enum Part {
    All,
    Outputs(Range<usize>),
    Inputs(Range<usize>),
}

impl Part {
    fn outputs(&self, all: usize) -> Range<usize> {
        if let Self::Outputs(part) = self { part.clone() } else { 0..all }
    }

    fn inputs(&self, all: usize) -> Range<usize> {
        if let Self::Inputs(part) = self { part.clone() } else { 0..all }
    }
}

fn kernels(activation: sandglass_models::Activation) -> Activation {
    match activation {
        sandglass_models::Activation::None => Activation::None,
        sandglass_models::Activation::Relu => Activation::Relu,
        sandglass_models::Activation::Relu6 => Activation::Relu6,
        sandglass_models::Activation::Silu => Activation::Silu,
        sandglass_models::Activation::Sigmoid => Activation::Sigmoid,
    }
}
