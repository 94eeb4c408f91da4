//! Blocks as steps over maps.
//!
//! A unit's map is its raw convolution output, read through batch norm and activation. A map is stored in full only
//! where a block ends in a sum. The gradient of a map is always that of the batch norm's output that it came from:
//! the mask is applied and a shortcut's share added while it is written.

use sandglass_models::{Activation, Block, MaxPool, Shortcut, Unit};
use sandglass_ops::map::Operand;
use sandglass_ops::norm::Norm;
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{self as ops, ConvShape, MapShape};

use super::EngineError;
use super::buffers::Map;

/// Running statistics are constants; `keep` what a backward needs.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Eval { keep: bool },
    Train,
}

/// Where a map's values come from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Source {
    Image,
    /// Raw output of a unit, read through its batch norm and activation.
    Raw {
        unit: usize,
    },
    /// Stored in full: a unit's normalised output, perhaps with a shortcut, activated.
    Sum {
        unit: usize,
        activation: ops::Activation,
    },
    /// Stored in full, from no batch norm.
    Pooled,
}

pub(super) struct Place {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub source: Source,
    /// The last step that reads the map in a forward.
    pub last_reader: usize,
    /// The first step whose backward adds to the map's gradient, and so the one that completes it.
    pub first_reader: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    Conv {
        unit: usize,
        from: usize,
        to: usize,
    },
    /// `to` = unit's map + the first `channels` of `skip`, activated.
    Sum {
        main: usize,
        skip: Option<(usize, usize)>,
        to: usize,
    },
    MaxPool {
        pool: MaxPool,
        from: usize,
        to: usize,
    },
}

/// A unit's place in the weights, and what a pass leaves for its backward.
pub(super) struct UnitState {
    pub unit: Unit,
    /// Index of the convolution's weights; the batch norm's four tensors follow.
    pub at: usize,
    /// The place of its raw output.
    pub to: usize,
    pub height: usize,
    pub width: usize,
    pub norm: Norm,
    /// Sums over its normalised output's gradient `g`, and over `g` times the normalised value.
    pub sum: Vec<f64>,
    pub product: Vec<f64>,
}

pub(super) struct Body {
    pub units: Vec<UnitState>,
    pub places: Vec<Place>,
    pub steps: Vec<Step>,
    pub values: Vec<Option<Map>>,
    pub gradients: Vec<Option<Map>>,
    /// Whose gradient a map's is: a sum hands its own on.
    pub gradient_of: Vec<usize>,
    /// Readers of each gradient in a backward that have yet to come.
    pub readers: Vec<usize>,
    pub mode: Mode,
    pub images: usize,
}

/// An activation as the kernels name it.
pub(super) fn activation(activation: Activation) -> ops::Activation {
    match activation {
        Activation::None => ops::Activation::None,
        Activation::Relu => ops::Activation::Relu,
        Activation::Relu6 => ops::Activation::Relu6,
    }
}

impl Body {
    pub fn new(blocks: &[Block], height: usize, width: usize) -> Result<Self, EngineError> {
        let channels = blocks.first().ok_or(EngineError::Empty)?.input();
        let image = Place { height, width, channels, source: Source::Image, last_reader: 0, first_reader: 0 };
        let mut body = Self {
            units: Vec::new(),
            places: vec![image],
            steps: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            gradient_of: Vec::new(),
            readers: Vec::new(),
            mode: Mode::Train,
            images: 0,
        };
        let mut at = 0;
        for block in blocks {
            body.add_block(block, at)?;
            at += block.tensors().len();
        }
        for place in 0..body.places.len() {
            let reads = |step: &Step| match *step {
                Step::Conv { from, .. } | Step::MaxPool { from, .. } => from == place,
                Step::Sum { main, skip, .. } => main == place || skip.is_some_and(|(skip, _)| skip == place),
            };
            let trained = |step: &Step| !matches!(step, Step::Sum { .. }) && reads(step);
            body.places[place].last_reader = body.steps.iter().rposition(reads).unwrap_or(usize::MAX);
            body.places[place].first_reader = body.steps.iter().position(trained).unwrap_or(usize::MAX);
        }
        body.values.resize_with(body.places.len(), || None);
        body.gradients.resize_with(body.places.len(), || None);
        Ok(body)
    }

    fn add_place(&mut self, height: usize, width: usize, channels: usize, source: Source) -> usize {
        self.places.push(Place { height, width, channels, source, last_reader: 0, first_reader: 0 });
        self.places.len() - 1
    }

    fn add_unit(&mut self, unit: &Unit, at: usize, from: usize) -> Result<usize, EngineError> {
        let Place { height, width, channels, .. } = self.places[from];
        super::same(&unit.conv_name, unit.conv.input, channels)?;
        let index = self.units.len();
        let state = UnitState {
            unit: unit.clone(),
            at,
            to: self.places.len(),
            height,
            width,
            norm: Norm::default(),
            sum: vec![0.0; unit.conv.output],
            product: vec![0.0; unit.conv.output],
        };
        let (out_height, out_width) = (unit.conv.output_size(height), unit.conv.output_size(width));
        self.units.push(state);
        let to = self.add_place(out_height, out_width, unit.conv.output, Source::Raw { unit: index });
        self.steps.push(Step::Conv { unit: index, from, to });
        Ok(to)
    }

    fn add_block(&mut self, block: &Block, mut at: usize) -> Result<(), EngineError> {
        const TENSORS: usize = 5;
        let input = self.places.len() - 1;
        let mut main = input;
        for unit in &block.units {
            main = self.add_unit(unit, at, main)?;
            at += TENSORS;
        }
        let last = block.units.last().ok_or(EngineError::Empty)?;
        let skip = match &block.shortcut {
            Shortcut::None => None,
            Shortcut::Identity { channels } => Some((input, *channels)),
            Shortcut::Projection(unit) => Some((self.add_unit(unit, at, input)?, unit.conv.output)),
        };
        let plain = skip.is_none() && block.activation == Activation::None;
        if !plain && last.activation != Activation::None {
            return Err(EngineError::ActivatedSum(block.name.clone()));
        }
        if !plain || block.max_pool.is_some() {
            let Place { height, width, channels, .. } = self.places[main];
            let Source::Raw { unit } = self.places[main].source else { return Err(EngineError::Empty) };
            let activation = activation(if plain { last.activation } else { block.activation });
            let to = self.add_place(height, width, channels, Source::Sum { unit, activation });
            self.steps.push(Step::Sum { main, skip, to });
        }
        if let Some(pool) = block.max_pool {
            let from = self.places.len() - 1;
            let Place { height, width, channels, .. } = self.places[from];
            let size = |size: usize| (size + 2 * pool.padding - pool.kernel) / pool.stride + 1;
            let to = self.add_place(size(height), size(width), channels, Source::Pooled);
            self.steps.push(Step::MaxPool { pool, from, to });
        }
        Ok(())
    }

    pub fn input(&self) -> (usize, usize, usize) {
        let Place { height, width, channels, .. } = self.places[0];
        (height, width, channels)
    }

    pub fn output(&self) -> (usize, usize, usize) {
        let Place { height, width, channels, .. } = self.places[self.places.len() - 1];
        (height, width, channels)
    }

    /// The last map of the last forward.
    pub fn result(&self) -> Operand<'_> {
        self.operand(self.places.len() - 1)
    }

    pub(super) fn shape(&self, place: usize) -> MapShape {
        let Place { height, width, channels, .. } = self.places[place];
        MapShape { images: self.images, area: height * width, channels }
    }

    pub(super) fn len(&self, place: usize) -> usize {
        let Place { height, width, channels, .. } = self.places[place];
        self.images * height * width * channels
    }

    pub(super) fn values(&self, place: usize) -> &[f32] {
        self.values[place].as_ref().map_or(&[], Map::values)
    }

    pub(super) fn operand(&self, place: usize) -> Operand<'_> {
        let data = self.values(place);
        match self.places[place].source {
            Source::Raw { unit } => {
                let state = &self.units[unit];
                Operand { data, affine: Some(state.norm.affine()), activation: activation(state.unit.activation) }
            }
            _ => Operand::plain(data),
        }
    }

    pub(super) fn conv_shape(&self, unit: usize) -> ConvShape {
        let UnitState { unit, height, width, .. } = &self.units[unit];
        let conv = &unit.conv;
        ConvShape {
            images: self.images,
            height: *height,
            width: *width,
            input: conv.input,
            output: conv.output,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding(),
            depthwise: conv.is_depthwise(),
        }
    }

    pub(super) fn pool_shape(&self, pool: MaxPool, from: usize) -> MaxPoolShape {
        let Place { height, width, channels, .. } = self.places[from];
        let MaxPool { kernel, stride, padding } = pool;
        MaxPoolShape { images: self.images, height, width, channels, kernel, stride, padding }
    }
}
