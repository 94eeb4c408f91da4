//! What a graph becomes: steps over places, each a call of an operator, and how long each place is needed.

use sandglass_ops::conv::{Chain, Packed, Stage};
use sandglass_ops::map::{self, Affine};
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Activation, ConvShape, MapShape};

use crate::arena::Life;

/// A map while a plan runs. The first is that of the images, which lies where the caller has it.
#[derive(Clone, Debug)]
pub struct Place {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Scratch, which one call needs once, whatever the number of images.
    pub is_scratch: bool,
}

impl Place {
    /// Floats for `images` images.
    pub fn len(&self, images: usize) -> usize {
        self.image_len().saturating_mul(if self.is_scratch { 1 } else { images })
    }

    pub fn image_len(&self) -> usize {
        self.height.saturating_mul(self.width).saturating_mul(self.channels)
    }

    pub fn shape(&self, images: usize) -> MapShape {
        MapShape { images, area: self.height * self.width, channels: self.channels }
    }
}

/// One call of an operator, which writes place `to`.
pub struct Step {
    /// Of the nodes that it stands for.
    pub name: String,
    pub op: Op,
    pub to: usize,
}

/// Numbers are places; shapes are those of one image.
pub enum Op {
    Conv(Box<ConvStep>),
    Chain(Box<ChainStep>),
    Add { main: usize, skip: Skip, activation: Activation },
    Gate { from: usize, by: usize },
    Concat { from: Vec<usize> },
    MaxPool { shape: MaxPoolShape, from: usize },
    Average { from: usize },
}

/// A convolution and all that its epilogue does.
pub struct ConvStep {
    pub shape: ConvShape,
    /// Over so many groups the network has it: its shape has as many times the work.
    pub groups: usize,
    pub from: usize,
    pub weights: Packed,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub skip: Option<Skip>,
    pub activation: Activation,
    pub sums: Sums,
}

/// A depthwise convolution and the 1x1 convolutions around it that run with it, line by line.
pub struct ChainStep {
    pub expand: Option<ConvStep>,
    pub depthwise: ConvStep,
    pub project: Option<ConvStep>,
    pub scratch: usize,
}

impl ChainStep {
    pub fn convs(&self) -> impl Iterator<Item = &ConvStep> {
        self.expand.iter().chain([&self.depthwise]).chain(&self.project)
    }

    pub fn from(&self) -> usize {
        self.expand.as_ref().unwrap_or(&self.depthwise).from
    }

    pub fn skip(&self) -> Option<Skip> {
        self.project.as_ref().unwrap_or(&self.depthwise).skip
    }

    /// For `images` images.
    pub fn chain<'a>(&'a self, images: usize, skip: Option<map::Skip<'a>>) -> Chain<'a> {
        let stage = |conv: &'a ConvStep| Stage {
            shape: ConvShape { images, ..conv.shape },
            weights: &conv.weights,
            affine: Affine { scale: &conv.scale, shift: &conv.shift },
            activation: conv.activation,
        };
        let depthwise = stage(&self.depthwise);
        Chain { expand: self.expand.as_ref().map(stage), depthwise, project: self.project.as_ref().map(stage), skip }
    }
}

impl ConvStep {
    pub fn is_pointwise(&self) -> bool {
        let ConvShape { kernel, stride, padding, depthwise, .. } = self.shape;
        !depthwise && (kernel, stride, padding) == (1, 1, 0)
    }
}

/// The first `channels` of a map, added.
#[derive(Clone, Copy)]
pub struct Skip {
    pub place: usize,
    pub channels: usize,
}

/// Which part of its sums a convolution takes.
#[derive(Clone, Copy, PartialEq)]
pub enum Sums {
    /// All of them, in one go.
    Whole,
    /// Those over the first channels: what it writes is no map yet.
    First,
    /// Those over some more.
    Next,
    /// Those over the last, and the epilogue.
    Last,
}

impl Op {
    /// Its convolutions, in the order in which they run.
    pub fn convs(&self) -> Vec<&ConvStep> {
        match self {
            Self::Conv(conv) => vec![conv],
            Self::Chain(chain) => chain.convs().collect(),
            _ => Vec::new(),
        }
    }

    /// What it adds, of a block's shortcut.
    pub fn skip(&self) -> Option<Skip> {
        match self {
            Self::Conv(conv) => conv.skip,
            Self::Chain(chain) => chain.skip(),
            Self::Add { skip, .. } => Some(*skip),
            _ => None,
        }
    }

    pub fn reads(&self) -> Vec<usize> {
        match self {
            Self::Conv(conv) => [conv.from].into_iter().chain(conv.skip.map(|skip| skip.place)).collect(),
            Self::Chain(chain) => {
                [chain.from(), chain.scratch].into_iter().chain(chain.skip().map(|skip| skip.place)).collect()
            }
            Self::Add { main, skip, .. } => vec![*main, skip.place],
            Self::Gate { from, by } => vec![*from, *by],
            Self::Concat { from } => from.clone(),
            Self::MaxPool { from, .. } | Self::Average { from } => vec![*from],
        }
    }
}

/// A graph as steps over places.
pub struct Program {
    pub places: Vec<Place>,
    pub steps: Vec<Step>,
    pub outputs: Vec<usize>,
}

impl Program {
    /// How many floats each place takes for a batch, and how long it is needed. Nothing is taken for the images, nor for
    /// maps that fusing did away with.
    pub fn lives(&self, batch: usize) -> Option<Vec<Life>> {
        let never = Life { len: 0, steps: 0..0 };
        let mut lives = vec![never; self.places.len()];
        for (index, step) in self.steps.iter().enumerate() {
            for place in step.op.reads().into_iter().chain([step.to]).filter(|&place| place > 0) {
                let life = &mut lives[place];
                let start = if life.steps.is_empty() { index } else { life.steps.start };
                let len = Some(self.places[place].len(batch)).filter(|&len| len < usize::MAX)?;
                *life = Life { len, steps: start..index + 1 };
            }
        }
        for &place in self.outputs.iter().filter(|&&place| place > 0) {
            lives[place].steps.end = self.steps.len();
        }
        Some(lives)
    }
}
