//! A compiled graph: places, steps, and the call that runs them.

use std::ops::Range;
use std::slice::GetDisjointMutError;
use std::sync::Arc;

use sandglass_models::{Graph, Weights};
use sandglass_ops::conv::{self, After};
use sandglass_ops::map::{self, Affine, Operand};
use sandglass_ops::pool::{self, MaxPoolShape};
use sandglass_ops::{Buffer, ConvShape, Runtime, gate};

use crate::InferError;
use crate::arena;
use crate::program::{ConvStep, Op, Place, Program, Skip, Step, Sums};

/// How a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest number of images of a call.
    pub batch: usize,
    /// In how many groups of channels, at most, the wide map inside an inverted residual is made, so that it never exists
    /// whole: MobileNetV2, section 5.1. The same bits in less memory. A sandglass has no such map.
    pub memory_groups: usize,
}

impl Default for Options {
    /// One image, whole maps.
    fn default() -> Self {
        Self { batch: 1, memory_groups: 1 }
    }
}

/// A graph and its weights, compiled for one input size.
pub struct Plan {
    runtime: Arc<Runtime>,
    layout: Layout,
    pub(crate) steps: Vec<Step>,
    outputs: Vec<usize>,
    arena: Buffer,
    batch: usize,
}

/// All places, and where in the arena each begins.
struct Layout {
    places: Vec<Place>,
    starts: Vec<usize>,
}

/// What the steps of a call read and write.
struct Maps<'a> {
    layout: &'a Layout,
    arena: &'a mut [f32],
    images: &'a [f32],
    n: usize,
}

/// What a plan gives for a batch: for each output of its graph a map [n, height, width, channels].
pub struct Outputs<'a> {
    plan: &'a Plan,
    images: &'a [f32],
    n: usize,
}

impl Plan {
    /// For images of `height` x `width` pixels.
    ///
    /// # Errors
    /// Images of a size that the graph does not take, weights that are not the graph's, a node that is not built here, or
    /// options of 0.
    pub fn new(
        runtime: Arc<Runtime>,
        graph: &Graph,
        weights: &Weights,
        (height, width): (usize, usize),
        options: Options,
    ) -> Result<Self, InferError> {
        let Options { batch, memory_groups } = options;
        for (what, value) in [("a batch", batch), ("memory groups", memory_groups)] {
            if value == 0 {
                return Err(InferError::Zero { what });
            }
        }
        let program = Program::new(&runtime, graph, weights, (height, width), options)?;
        let lives = program.lives(batch).ok_or(InferError::Memory)?;
        let (starts, peak) = arena::place(&lives).ok_or(InferError::Memory)?;
        let arena = Buffer::try_zeros(peak).ok_or(InferError::Memory)?;
        let Program { places, steps, outputs } = program;
        let layout = Layout { places, starts };
        Ok(Self { runtime, layout, steps, outputs, arena, batch })
    }

    /// The threads and the instruction set that it runs on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Height, width and channels of the images.
    pub fn input(&self) -> (usize, usize, usize) {
        self.shape(0)
    }

    /// Height, width and channels of each output.
    pub fn outputs(&self) -> Vec<(usize, usize, usize)> {
        self.outputs.iter().map(|&place| self.shape(place)).collect()
    }

    /// Images per call that the plan was made for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Bytes of all maps, the images not among them: what a call takes beside the weights.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len() * size_of::<f32>()
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        let bytes = |step: &Step| step.op.convs().into_iter().map(|conv| conv.weights.bytes()).sum::<usize>();
        self.steps.iter().map(bytes).sum()
    }

    /// The outputs for `images` [n, height, width, channels]. Allocates nothing.
    ///
    /// # Errors
    /// Floats that are not 1 to [`Plan::batch`] images.
    pub fn run<'a>(&'a mut self, images: &'a [f32]) -> Result<Outputs<'a>, InferError> {
        self.run_and_tell(images, |_| ())
    }

    /// As [`Plan::run`]; `done` is told of each step that is done, by its index among [`Plan::lines`].
    ///
    /// # Errors
    /// As for [`Plan::run`].
    pub fn run_and_tell<'a>(
        &'a mut self,
        images: &'a [f32],
        mut done: impl FnMut(usize),
    ) -> Result<Outputs<'a>, InferError> {
        let image = self.place(0).image_len();
        let n = images.len() / image.max(1);
        if n == 0 || n > self.batch || n * image != images.len() {
            return Err(InferError::Images { found: images.len(), image, most: self.batch });
        }
        let Self { runtime, layout, steps, arena, .. } = self;
        let mut maps = Maps { layout, arena, images, n };
        for (index, step) in steps.iter().enumerate() {
            maps.step(runtime, step)?;
            done(index);
        }
        Ok(Outputs { plan: self, images, n })
    }

    pub(crate) fn place(&self, place: usize) -> &Place {
        &self.layout.places[place]
    }

    fn shape(&self, place: usize) -> (usize, usize, usize) {
        let Place { height, width, channels, .. } = *self.place(place);
        (height, width, channels)
    }
}

/// Places that are written, and places that are read.
type Borrowed<'a> = ([&'a mut [f32]; 2], [&'a [f32]; 2]);

impl Layout {
    /// The part of the arena that a place takes for `n` images.
    fn range(&self, place: usize, n: usize) -> Range<usize> {
        let start = self.starts[place];
        start..start + self.places[place].len(n)
    }
}

impl Maps<'_> {
    fn step(&mut self, runtime: &Runtime, Step { op, to, .. }: &Step) -> Result<(), InferError> {
        let (n, to, places) = (self.n, *to, &self.layout.places);
        let channels = places[to].channels;
        match op {
            Op::Conv(conv) => {
                let (out, [from, skip]) = self.of(to, [conv.from, conv.skip.map_or(conv.from, |skip| skip.place)])?;
                run_conv(runtime, conv, n, from, skip, out)?;
            }
            Op::Chain(chain) => {
                let ([out, scratch], [from, skip]) = self.with_scratch(
                    [to, chain.scratch],
                    [chain.from(), chain.skip().map_or(chain.from(), |skip| skip.place)],
                )?;
                let skip = chain.skip().map(|Skip { channels, .. }| map::Skip { map: Operand::plain(skip), channels });
                chain.chain(n, skip).run(runtime, from, scratch, out)?;
            }
            Op::Add { main, skip: Skip { place, channels: reached }, activation } => {
                let (out, [main, skip]) = self.of(to, [*main, *place])?;
                let skip = map::Skip { map: Operand::plain(skip), channels: *reached };
                map::write(runtime, Operand::plain(main), Some(skip), *activation, channels, out)?;
            }
            Op::Gate { from, by } => {
                let (out, [from, by]) = self.of(to, [*from, *by])?;
                gate::forward(runtime, Operand::plain(from), by, places[to].shape(n), out)?;
            }
            Op::Concat { from } => {
                let mut first = 0;
                for &place in from {
                    let (out, [part, _]) = self.of(to, [place; 2])?;
                    map::join(runtime, (part, places[place].channels), (out, channels), first)?;
                    first += places[place].channels;
                }
            }
            Op::MaxPool { shape, from } => {
                let (out, [from, _]) = self.of(to, [*from; 2])?;
                pool::max(runtime, &MaxPoolShape { images: n, ..*shape }, from, out)?;
            }
            Op::Average { from } => {
                let (out, [map, _]) = self.of(to, [*from; 2])?;
                pool::average(runtime, Operand::plain(map), places[*from].shape(n), out)?;
            }
        }
        Ok(())
    }

    /// The map that is written, and two that are read; those may be one, or the images.
    fn of(&mut self, to: usize, reads: [usize; 2]) -> Result<(&mut [f32], [&[f32]; 2]), InferError> {
        let ([to, _], reads) = self.with_scratch([to, 0], reads)?;
        Ok((to, reads))
    }

    /// As [`Maps::of`], with a second place that is written.
    fn with_scratch(&mut self, [to, scratch]: [usize; 2], [a, b]: [usize; 2]) -> Result<Borrowed<'_>, InferError> {
        // Nothing of the arena for what does not lie there, or was taken already.
        let range = |place: usize| if place == 0 { 0..0 } else { self.layout.range(place, self.n) };
        let ranges = [range(to), range(scratch), range(a), if a == b { 0..0 } else { range(b) }];
        let apart = |_: GetDisjointMutError| InferError::Memory;
        let [to, scratch, first, second] = self.arena.get_disjoint_mut(ranges).map_err(apart)?;
        let first = if a == 0 { self.images } else { first };
        let second = match b {
            0 => self.images,
            _ if a == b => first,
            _ => second,
        };
        Ok(([to, scratch], [first, second]))
    }
}

fn run_conv(
    runtime: &Runtime,
    conv: &ConvStep,
    n: usize,
    from: &[f32],
    skip: &[f32],
    out: &mut [f32],
) -> Result<(), InferError> {
    let ConvStep { weights, scale, shift, activation, sums, .. } = conv;
    let shape = ConvShape { images: n, ..conv.shape };
    let after = match sums {
        Sums::First | Sums::Next => After::Raw,
        Sums::Whole | Sums::Last => {
            let skip = conv.skip.map(|Skip { channels, .. }| map::Skip { map: Operand::plain(skip), channels });
            After::Finish { affine: Affine { scale, shift }, skip, activation: *activation }
        }
    };
    match sums {
        Sums::Whole | Sums::First => {
            conv::forward_packed(runtime, &shape, Operand::plain(from), weights, out, after)?;
        }
        Sums::Next | Sums::Last => conv::go_on(runtime, &shape, from, weights, out, after)?,
    }
    Ok(())
}

impl<'a> Outputs<'a> {
    /// Those of the graph's output `index`; none beyond the last.
    pub fn get(&self, index: usize) -> Option<&'a [f32]> {
        let place = *self.plan.outputs.get(index)?;
        Some(if place == 0 { self.images } else { &self.plan.arena[self.plan.layout.range(place, self.n)] })
    }
}
