//! Networks in 8 bits, compiled: the integers of [`Quantised`], to the bit, in fused steps over one arena.
//!
//! A convolution's requantisation, its clamp and a block's sum are its epilogue; the last layer's sums become scores as
//! they are. Maps are bytes `q + 128`, so that one format serves instructions for unsigned and for signed numbers.

use std::borrow::Cow;
use std::slice::GetDisjointMutError;
use std::sync::Arc;

use sandglass_models::{Activation, Conv, Graph, MapId, Node, Padding, Pool, Size, Window};
use sandglass_ops::int8::{self, Finish, Grid, Multiplier, Path, Rescale, Skip, Sum};
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Buffer, ConvShape, Runtime};
use sandglass_quant::layers::table;
use sandglass_quant::{Affine, IntLayer, Quantised, Scores};

use crate::arena::{self, Life};
use crate::{InferError, Line};

/// A quantised network, compiled for one input size and one image a call.
pub struct IntPlan {
    runtime: Arc<Runtime>,
    places: Vec<Place>,
    steps: Vec<Step>,
    scored: Scored,
    /// Bytes, on lines of the cache.
    arena: Buffer,
    sums: Vec<i32>,
}

/// A map while a plan runs. The first is that of the image.
#[derive(Clone, Copy)]
struct Place {
    height: usize,
    width: usize,
    channels: usize,
    affine: Affine,
    start: usize,
}

struct Step {
    name: String,
    op: Op,
    to: usize,
}

enum Op {
    Conv {
        conv: Box<ConvStep>,
        finish: Box<Finish>,
        skip: Option<(usize, Box<Sum>)>,
    },
    /// Sums that stay as they are.
    Sums(Box<ConvStep>),
    Add {
        main: usize,
        skip: usize,
        sum: Box<Sum>,
    },
    Gate {
        from: usize,
        by: usize,
        to: Rescale,
    },
    LookUp {
        from: usize,
        table: Box<[u8; 256]>,
        activation: Activation,
    },
    Average {
        from: usize,
        to: Rescale,
    },
    MaxPool {
        from: usize,
        shape: MaxPoolShape,
    },
}

struct ConvStep {
    shape: ConvShape,
    /// Over so many groups the network has it: its shape has as many times the work.
    groups: usize,
    from: usize,
    conv: int8::Conv,
    activation: Activation,
}

/// Where the scores come from.
enum Scored {
    /// The last layer's sums, times these.
    Sums(Vec<f64>),
    Map(usize),
}

impl Place {
    fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn grid(&self) -> Grid {
        Grid { scale: self.affine.scale, zero: byte(self.affine.zero_point as i8) }
    }
}

/// `q + 128`.
fn byte(q: i8) -> u8 {
    q.cast_unsigned() ^ 0x80
}

impl Op {
    fn reads(&self) -> Vec<usize> {
        match self {
            Self::Conv { conv, skip, .. } => [conv.from].into_iter().chain(skip.as_ref().map(|skip| skip.0)).collect(),
            Self::Sums(conv) => vec![conv.from],
            Self::Add { main, skip, .. } => vec![*main, *skip],
            Self::Gate { from, by, .. } => vec![*from, *by],
            Self::LookUp { from, .. } | Self::Average { from, .. } | Self::MaxPool { from, .. } => vec![*from],
        }
    }

    fn conv(&self) -> Option<&ConvStep> {
        match self {
            Self::Conv { conv, .. } | Self::Sums(conv) => Some(conv),
            _ => None,
        }
    }
}

impl IntPlan {
    /// For images of `height` x `width` pixels.
    ///
    /// # Errors
    /// Images of a size that the network does not take, a node that is not built here, or a scheme that emulates saturation,
    /// which these integers never do.
    pub fn new(
        runtime: Arc<Runtime>,
        network: &Quantised,
        (height, width): (usize, usize),
    ) -> Result<Self, InferError> {
        if network.scheme().saturate {
            let node = network.graph().maps().last().map_or_else(String::new, |map| map.name.clone());
            return Err(InferError::NotBuilt { node, what: "a scheme that saturates" });
        }
        let graph = network.graph();
        let sizes = graph.sizes(height, width)?;
        let maps = graph.maps().iter().zip(&sizes).zip(network.affines());
        let places = maps.map(|((map, &(height, width)), &affine)| Place {
            height,
            width,
            channels: map.channels,
            affine,
            start: 0,
        });
        let mut compiler = Compiler {
            path: Path::of(runtime.isa()),
            network,
            sizes: &sizes,
            aliases: (0..graph.maps().len()).collect(),
            places: places.collect(),
            steps: Vec::new(),
        };
        let scored = compiler.nodes()?;
        let Compiler { mut places, steps, .. } = compiler;
        let peak = lay_out(&mut places, &steps, &scored).ok_or(InferError::Memory)?;
        let sums = match &scored {
            Scored::Sums(scales) => vec![0; scales.len()],
            Scored::Map(_) => Vec::new(),
        };
        let arena = Buffer::try_zeros(peak.div_ceil(size_of::<f32>())).ok_or(InferError::Memory)?;
        Ok(Self { runtime, places, steps, scored, arena, sums })
    }

    /// The threads and the instruction set that it runs on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Bytes of all maps.
    pub fn arena_bytes(&self) -> usize {
        size_of_val(&*self.arena)
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.steps.iter().filter_map(|step| step.op.conv()).map(|conv| conv.conv.bytes()).sum()
    }

    /// The scores of one image [height, width, channels]: those of [`Quantised::scores`], to the bit.
    ///
    /// # Errors
    /// Floats that are not one image.
    pub fn run(&mut self, image: &[f32]) -> Result<Scores, InferError> {
        self.run_and_tell(image, |_| ())
    }

    /// As [`IntPlan::run`]; `done` is told of each step that is done, by its index among [`IntPlan::lines`].
    ///
    /// # Errors
    /// As for [`IntPlan::run`].
    pub fn run_and_tell(&mut self, image: &[f32], mut done: impl FnMut(usize)) -> Result<Scores, InferError> {
        let Self { runtime, places, steps, scored, arena, sums } = self;
        let arena = arena.bytes_mut();
        let first = places[0];
        if image.len() != first.len() {
            return Err(InferError::Images { found: image.len(), image: first.len(), most: 1 });
        }
        let input = &mut arena[first.start..first.start + first.len()];
        int8::quantise(runtime, image, first.grid(), input)?;
        for (index, Step { op, to, .. }) in steps.iter().enumerate() {
            run(runtime, op, places, *to, arena, sums)?;
            done(index);
        }
        Ok(match scored {
            Scored::Sums(scales) => sums.iter().zip(scales).map(|(&sum, scale)| f64::from(sum) * *scale).collect(),
            Scored::Map(map) => {
                let place = places[*map];
                let bytes = &arena[place.start..place.start + place.len()];
                let real = |&byte: &u8| f64::from(place.affine.dequantise((byte ^ 0x80).cast_signed()));
                bytes.iter().map(real).collect()
            }
        })
    }

    /// The scores of each of some images.
    ///
    /// # Errors
    /// Floats that are no whole number of images.
    pub fn scores(&mut self, images: &[f32]) -> Result<Vec<Scores>, InferError> {
        images.chunks(self.places[0].len().max(1)).map(|image| self.run(image)).collect()
    }

    /// Its steps, in the order in which they run.
    pub fn lines(&self) -> Vec<Line> {
        self.steps.iter().map(|step| self.line(step)).collect()
    }

    fn line(&self, Step { name, op, to }: &Step) -> Line {
        let to = self.places[*to];
        let operation = match op {
            Op::Conv { conv, skip: None, .. } | Op::Sums(conv) => conv.describe(""),
            Op::Conv { conv, skip: Some((_, sum)), .. } => conv.describe(&format!(" + {} channels", sum.added())),
            Op::Add { sum, .. } => format!("+ {} channels", sum.added()),
            Op::Gate { .. } => "gate".to_owned(),
            Op::LookUp { activation, .. } => format!("table of {}", activation_name(*activation)),
            Op::Average { .. } => "average".to_owned(),
            Op::MaxPool { shape, .. } => format!("{0}x{0} max-pool /{1}", shape.kernel, shape.stride),
        };
        let (madds, weights) = op.conv().map_or((0, 0), |ConvStep { shape, groups, conv, .. }| {
            ((shape.out_height() * shape.out_width() * shape.weight_len() / groups) as u64, conv.bytes() as u64)
        });
        let written = if matches!(op, Op::Sums(_)) { 4 * to.len() } else { to.len() };
        let read: usize = op.reads().into_iter().map(|place| self.places[place].len()).sum();
        Line {
            name: name.clone(),
            operation,
            output: (to.height, to.width, to.channels),
            madds,
            bytes: (read + written) as u64 + weights,
        }
    }
}

impl ConvStep {
    fn describe(&self, more: &str) -> String {
        let mut text = format!("{0}x{0}", self.shape.kernel);
        if self.shape.depthwise {
            text += " depthwise";
        }
        if self.shape.stride > 1 {
            text += &format!(" /{}", self.shape.stride);
        }
        text += more;
        match self.activation {
            Activation::None => text,
            activation => text + ", " + activation_name(activation),
        }
    }
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "nothing",
        Activation::Relu => "relu",
        Activation::Relu6 => "relu6",
        Activation::Silu => "silu",
        Activation::Sigmoid => "sigmoid",
    }
}

/// Gives each place its start, and the length of the arena.
fn lay_out(places: &mut [Place], steps: &[Step], scored: &Scored) -> Option<usize> {
    let mut lives: Vec<Life> = places.iter().map(|_| Life { len: 0, steps: 0..0 }).collect();
    // The image is there before the first step.
    lives[0] = Life { len: places[0].len(), steps: 0..1 };
    for (index, Step { op, to, .. }) in steps.iter().enumerate() {
        for place in op.reads().into_iter().chain([*to]) {
            let life = &mut lives[place];
            let start = if life.len == 0 { index } else { life.steps.start };
            *life = Life { len: places[place].len(), steps: start..index + 1 };
        }
    }
    if let Scored::Map(map) = scored {
        lives[*map].steps.end = steps.len() + 1;
    }
    let (starts, peak) = arena::place(&lives)?;
    places.iter_mut().zip(starts).for_each(|(place, start)| place.start = start);
    Some(peak)
}

fn run(
    runtime: &Runtime,
    op: &Op,
    places: &[Place],
    to: usize,
    arena: &mut [u8],
    sums: &mut [i32],
) -> Result<(), InferError> {
    let range = |place: usize| places[place].start..places[place].start + places[place].len();
    let channels = |place: usize| places[place].channels;
    let apart = |_: GetDisjointMutError| InferError::Memory;
    if let Op::Sums(conv) = op {
        return Ok(conv.conv.sums(runtime, &conv.shape, &arena[range(conv.from)], sums)?);
    }
    let reads = op.reads();
    let (first, second) = (reads[0], reads.get(1).copied().filter(|second| *second != reads[0]));
    let second = second.map_or(0..0, range);
    let [out, first, second] = arena.get_disjoint_mut([range(to), range(first), second]).map_err(apart)?;
    let (first, second): (&[u8], &[u8]) = (first, second);
    let second = if second.is_empty() { first } else { second };
    match op {
        Op::Conv { conv, finish, skip } => {
            let skip = skip.as_ref().map(|(place, sum)| Skip { map: second, channels: channels(*place), sum });
            conv.conv.run(runtime, &conv.shape, first, finish, skip, out)?;
        }
        Op::Add { main, skip, sum } => {
            int8::add(runtime, (first, channels(*main)), (second, channels(*skip)), sum, out)?;
        }
        Op::Gate { from, by, to } => {
            let zeros = (places[*from].grid().zero, places[*by].grid().zero);
            int8::gate(runtime, (first, second), zeros, *to, out)?;
        }
        Op::LookUp { table, .. } => int8::look_up(runtime, first, table, out)?,
        Op::Average { from, to } => int8::average(first, places[*from].grid().zero, *to, out)?,
        Op::MaxPool { shape, .. } => int8::max_pool(shape, first, out)?,
        Op::Sums(_) => {}
    }
    Ok(())
}

struct Compiler<'a> {
    path: Path,
    network: &'a Quantised,
    sizes: &'a [Size],
    /// The place of each map: its own, or where nothing is done to it, that of the map that it is made of.
    aliases: Vec<usize>,
    places: Vec<Place>,
    steps: Vec<Step>,
}

impl Compiler<'_> {
    fn nodes(&mut self) -> Result<Scored, InferError> {
        let graph = self.network.graph();
        let output = graph.outputs().first().map_or(0, |map| map.index());
        let mut scored = Scored::Map(output);
        for (at, node) in graph.nodes().iter().enumerate() {
            let to = node.writes();
            let not_built = |what| InferError::NotBuilt { node: graph.maps()[to.index()].name.clone(), what };
            let place = |map: &MapId| self.aliases[map.index()];
            let rescale = |real: f64| Rescale { multiplier: Multiplier::of(real), zero: self.grid(to).zero };
            let scale = |map: &MapId| f64::from(self.places[map.index()].affine.scale);
            let op = match node {
                Node::Conv { from, .. } | Node::Linear { from, .. } => {
                    let Some(layer) = self.network.layer(at) else { return Err(not_built("a layer without weights")) };
                    let conv = self.conv(layer, node, *from)?;
                    if to.index() == output && !self.network.scheme().int8_logits {
                        let scales = layer.scales.iter().map(|&of| scale(from) * f64::from(of)).collect();
                        scored = Scored::Sums(scales);
                        Op::Sums(Box::new(conv))
                    } else {
                        let high: Vec<u8> = layer.high.iter().map(|&high| byte(high as i8)).collect();
                        let multipliers = layer.multipliers(self.affine(*from), self.affine(to));
                        let low = byte(layer.low as i8);
                        let finish = Finish::new(multipliers, conv.conv.largest(), self.grid(to).zero, low, &high);
                        Op::Conv { conv: Box::new(conv), finish: Box::new(finish), skip: None }
                    }
                }
                Node::Add { main, skip, channels, activation, .. } => {
                    let (low, high) = self.affine(to).bounds(*activation);
                    let clamp = (byte(low), byte(high));
                    let sum = Sum::new(self.grid(*main), self.grid(*skip), self.grid(to), *channels, clamp);
                    let (main, skip) = (place(main), place(skip));
                    // The convolution that was just compiled takes the sum in.
                    let is_alone = self.uses(main) == 1 && self.places[main].len() == self.places[to.index()].len();
                    match self.steps.last_mut() {
                        Some(Step { op: Op::Conv { skip: none @ None, .. }, to: last, name })
                            if *last == main && is_alone =>
                        {
                            *none = Some((skip, Box::new(sum)));
                            *last = to.index();
                            name.clone_from(&graph.maps()[to.index()].name);
                            continue;
                        }
                        _ => Op::Add { main, skip, sum: Box::new(sum) },
                    }
                }
                Node::Gate { from, by, .. } => {
                    Op::Gate { from: place(from), by: place(by), to: rescale(scale(from) * scale(by) / scale(&to)) }
                }
                Node::Activate { activation, from, .. } => {
                    // Of bytes from 0 on, as of steps from -128 on.
                    let table = table(*activation, self.affine(*from), self.affine(to)).map(byte);
                    Op::LookUp { from: place(from), table: Box::new(table), activation: *activation }
                }
                Node::Pool { pool: Pool::GlobalAverage, from, .. } => {
                    let Place { height, width, .. } = self.places[from.index()];
                    let pixels = (height * width) as f64;
                    Op::Average { from: place(from), to: rescale(scale(from) / (pixels * scale(&to))) }
                }
                Node::Pool { pool: Pool::Max(window), from, .. } => {
                    let Padding::Symmetric(padding) = window.padding else { return Err(not_built("SAME padding")) };
                    let Window { kernel, stride, .. } = *window;
                    let Place { height, width, channels, .. } = self.places[from.index()];
                    let shape = MaxPoolShape { images: 1, height, width, channels, kernel, stride, padding };
                    Op::MaxPool { from: place(from), shape }
                }
                Node::Dropout { from, .. } | Node::DropConnect { from, .. } | Node::Idle { from, .. } => {
                    self.aliases[to.index()] = place(from);
                    continue;
                }
                Node::Concat { .. } => return Err(not_built("a concatenation")),
            };
            let name = graph.maps()[to.index()].name.clone();
            self.steps.push(Step { name, op, to: to.index() });
        }
        if let Scored::Map(map) = &mut scored {
            *map = self.aliases[*map];
        }
        Ok(scored)
    }

    fn affine(&self, map: MapId) -> Affine {
        self.places[map.index()].affine
    }

    fn grid(&self, map: MapId) -> Grid {
        self.places[map.index()].grid()
    }

    /// How often the map of a place is read, or given as an output.
    fn uses(&self, place: usize) -> usize {
        let graph: &Graph = self.network.graph();
        let is_step = |node: &&Node| self.aliases[node.writes().index()] == node.writes().index();
        let read = graph.nodes().iter().filter(is_step).flat_map(Node::reads);
        read.chain(graph.outputs().iter().copied()).filter(|map| self.aliases[map.index()] == place).count()
    }

    fn conv(&self, layer: &IntLayer, node: &Node, from: MapId) -> Result<ConvStep, InferError> {
        let not_built = |what| InferError::NotBuilt { node: layer.name.clone(), what };
        let depthwise = layer.conv.is_depthwise();
        let (conv, weights) = match depthwise {
            true => (layer.conv, Cow::Borrowed(layer.weight.as_slice())),
            false => (layer.conv.ungrouped(), layer.conv.ungroup(&layer.weight)),
        };
        let Conv { window, input, output, groups } = conv;
        let (height, width) = self.sizes[from.index()];
        // A linear layer is a 1x1 convolution over one pixel.
        let Window { kernel, stride, .. } = window;
        let (padding, fewer) = (0, [0; 2]);
        let shape = ConvShape { images: 1, height, width, input, output, kernel, stride, padding, fewer, depthwise };
        let padding = window.padding(height).zip(window.padding(width));
        let shape = padding.and_then(|(rows, columns)| shape.padded([rows, columns]));
        let shape = shape.ok_or_else(|| not_built("a window padded like that"))?;
        let conv = int8::Conv::new(self.path, &shape, &weights, &layer.bias, self.grid(from).zero)?;
        let activation = match node {
            Node::Conv { unit, .. } => unit.activation,
            _ => Activation::None,
        };
        let groups = layer.conv.groups / groups;
        Ok(ConvStep { shape, groups, from: self.aliases[from.index()], conv, activation })
    }
}
