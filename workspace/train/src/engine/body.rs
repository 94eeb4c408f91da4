//! Blocks as steps over maps.
//!
//! A unit's map is its raw convolution output, read through batch norm and activation. A map is stored in full only
//! where a block ends in a sum. The gradient of a map is always that of the batch norm's output that it came from:
//! the mask is applied and a shortcut's share added while it is written.

use sandglass_models::{Activation, Block, MaxPool, Shortcut, Unit};
use sandglass_ops::conv::{self, ConvShape, Moments};
use sandglass_ops::map::{self, Mask, Operand, Producer, Sink};
use sandglass_ops::norm::{self, Norm, NormFactors};
use sandglass_ops::pool::{self, MaxPoolShape};
use sandglass_ops::{OpError, Runtime};

use super::EngineError;
use super::buffers::{Buffers, Map};

/// Running statistics are constants; `keep` what a backward needs.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Eval { keep: bool },
    Train,
}

/// Where a map's values come from.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Image,
    /// Raw output of a unit, read through its batch norm and activation.
    Raw {
        unit: usize,
    },
    /// Stored in full: a unit's normalised output, perhaps with a shortcut, clamped.
    Sum {
        unit: usize,
        low: f32,
        high: f32,
    },
    /// Stored in full, from no batch norm.
    Pooled,
}

struct Place {
    height: usize,
    width: usize,
    channels: usize,
    source: Source,
    /// The step that reads the map last in a forward, and so first... last in a backward: see [`Body::consumers`].
    last_reader: usize,
    first_reader: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Conv {
        unit: usize,
        from: usize,
        to: usize,
    },
    /// `to` = unit's map + the first `channels` of `skip`, clamped.
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
struct UnitState {
    unit: Unit,
    /// Index of the convolution's weights; the batch norm's four tensors follow.
    at: usize,
    height: usize,
    width: usize,
    norm: Norm,
    /// Sums over its normalised output's gradient `g`, and over `g` times the normalised value.
    sum: Vec<f64>,
    product: Vec<f64>,
}

pub(super) struct Body {
    units: Vec<UnitState>,
    places: Vec<Place>,
    steps: Vec<Step>,
    values: Vec<Option<Map>>,
    gradients: Vec<Option<Map>>,
    /// Whose gradient a map's is: a sum hands its own on.
    gradient_of: Vec<usize>,
    /// Readers of each gradient in a backward that have yet to come.
    readers: Vec<usize>,
    mode: Mode,
    images: usize,
}

fn bounds(activation: Activation) -> (f32, f32) {
    match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
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
            let (low, high) = bounds(if plain { last.activation } else { block.activation });
            let to = self.add_place(height, width, channels, Source::Sum { unit, low, high });
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

    fn len(&self, place: usize) -> usize {
        let Place { height, width, channels, .. } = self.places[place];
        self.images * height * width * channels
    }

    fn values(&self, place: usize) -> &[f32] {
        self.values[place].as_ref().map_or(&[], Map::values)
    }

    fn operand(&self, place: usize) -> Operand<'_> {
        let data = self.values(place);
        match self.places[place].source {
            Source::Raw { unit } => {
                let (low, high) = bounds(self.units[unit].unit.activation);
                Operand { data, affine: Some(self.units[unit].norm.affine(low, high)) }
            }
            _ => Operand::plain(data),
        }
    }

    fn conv_shape(&self, unit: usize) -> ConvShape {
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

    fn pool_shape(&self, pool: MaxPool, from: usize) -> MaxPoolShape {
        let Place { height, width, channels, .. } = self.places[from];
        let MaxPool { kernel, stride, padding } = pool;
        MaxPoolShape { images: self.images, height, width, channels, kernel, stride, padding }
    }

    /// Gives back all maps.
    pub fn release(&mut self, buffers: &mut Buffers) {
        for map in self.values.iter_mut().chain(&mut self.gradients).filter_map(Option::take) {
            buffers.give(map);
        }
    }

    fn begin(&mut self, buffers: &mut Buffers, mode: Mode, images: &[f32], n: usize) {
        self.release(buffers);
        self.images = n;
        self.mode = mode;
        let mut map = buffers.take(images.len());
        map.values_mut().copy_from_slice(images);
        self.values[0] = Some(map);
    }

    /// In evaluation mode.
    pub fn forward(
        &mut self,
        runtime: &Runtime,
        buffers: &mut Buffers,
        mode: Mode,
        weights: &[Vec<f32>],
        images: &[f32],
        n: usize,
    ) -> Result<(), EngineError> {
        self.begin(buffers, mode, images, n);
        for index in 0..self.steps.len() {
            if let Step::Conv { unit, .. } = self.steps[index] {
                self.step(runtime, buffers, index, weights, None)?;
                let state = &mut self.units[unit];
                let [_, weight, bias, mean, var] = &weights[state.at..state.at + 5] else { continue };
                state.norm = Norm::eval(mean, var, state.unit.norm_eps, weight, bias);
            } else {
                self.step(runtime, buffers, index, weights, None)?;
            }
            if matches!(mode, Mode::Eval { keep: false }) {
                self.forget(buffers, index);
            }
        }
        Ok(())
    }

    /// In training mode: the running statistics move.
    pub fn forward_train(
        &mut self,
        runtime: &Runtime,
        buffers: &mut Buffers,
        weights: &mut [Vec<f32>],
        images: &[f32],
        n: usize,
    ) -> Result<(), EngineError> {
        let count = |place: &Place| n * place.height * place.width;
        if self.places.iter().any(|place| matches!(place.source, Source::Raw { .. }) && count(place) < 2) {
            return Err(OpError::OneValuePerChannel.into());
        }
        self.begin(buffers, Mode::Train, images, n);
        let mut moments = Moments::default();
        for index in 0..self.steps.len() {
            let Step::Conv { unit, to, .. } = self.steps[index] else {
                self.step(runtime, buffers, index, weights, None)?;
                continue;
            };
            self.step(runtime, buffers, index, weights, Some(&mut moments))?;
            let count = self.len(to) / self.places[to].channels;
            let state = &mut self.units[unit];
            let Unit { norm_eps, norm_momentum, .. } = state.unit;
            let [_, weight, bias, mean, var] = &mut weights[state.at..state.at + 5] else { continue };
            state.norm = Norm::train(&moments, count, norm_eps, weight, bias, norm_momentum, mean, var)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        runtime: &Runtime,
        buffers: &mut Buffers,
        index: usize,
        weights: &[Vec<f32>],
        moments: Option<&mut Moments>,
    ) -> Result<(), EngineError> {
        match self.steps[index] {
            Step::Conv { unit, from, to } => {
                let mut map = buffers.take(self.len(to));
                let (shape, x) = (self.conv_shape(unit), self.operand(from));
                conv::forward(runtime, &shape, x, &weights[self.units[unit].at], map.values_mut(), moments)?;
                self.values[to] = Some(map);
            }
            Step::Sum { main, skip, to } => {
                let mut map = buffers.take(self.len(to));
                let Place { channels, source, .. } = self.places[to];
                let limits =
                    if let Source::Sum { low, high, .. } = source { (low, high) } else { bounds(Activation::None) };
                let skip = skip.map(|(skip, first)| (self.operand(skip), first));
                map::write(runtime, self.operand(main), skip, limits, channels, map.values_mut())?;
                self.values[to] = Some(map);
            }
            Step::MaxPool { pool, from, to } => {
                let mut map = buffers.take(self.len(to));
                pool::max(runtime, &self.pool_shape(pool, from), self.values(from), map.values_mut())?;
                self.values[to] = Some(map);
            }
        }
        Ok(())
    }

    /// Gives back what no later step reads.
    fn forget(&mut self, buffers: &mut Buffers, step: usize) {
        for (place, value) in self.places.iter().zip(&mut self.values) {
            if place.last_reader == step
                && let Some(map) = value.take()
            {
                buffers.give(map);
            }
        }
    }

    /// A new gradient of `place`, written by `write`, with the shortcut's share that `skip` holds.
    fn sink_to(
        &mut self,
        buffers: &mut Buffers,
        place: usize,
        skip: Option<(usize, usize)>,
        write: impl FnOnce(&Self, Sink<'_>) -> Result<(), OpError>,
    ) -> Result<(), EngineError> {
        let mut out = buffers.take(self.len(place));
        let unit = match self.places[place].source {
            Source::Raw { unit } | Source::Sum { unit, .. } => Some(unit),
            _ => None,
        };
        let (mut sum, mut product) = match unit {
            Some(unit) => (std::mem::take(&mut self.units[unit].sum), std::mem::take(&mut self.units[unit].product)),
            None => (Vec::new(), Vec::new()),
        };
        let producer = unit.map(|unit| {
            let state = &self.units[unit];
            let (low, high) = bounds(state.unit.activation);
            let mask = match self.places[place].source {
                Source::Sum { low, high, .. } if low > f32::NEG_INFINITY => {
                    Some(Mask::Stored { data: self.values(place), low, high })
                }
                Source::Raw { .. } if low > f32::NEG_INFINITY => Some(Mask::Norm(state.norm.affine(low, high))),
                _ => None,
            };
            let raw = self.raw_of(unit);
            Producer { h: self.values(raw), mean: &state.norm.mean, inv_std: &state.norm.inv_std, mask }
        });
        let skip = skip.and_then(|(from, first)| Some((self.gradients[from].as_ref()?.values(), first)));
        let sink = Sink { out: out.values_mut(), skip, producer, sums: (&mut sum, &mut product) };
        let outcome = write(self, sink);
        if let Some(unit) = unit {
            (self.units[unit].sum, self.units[unit].product) = (sum, product);
        }
        outcome?;
        self.gradients[place] = Some(out);
        Ok(())
    }

    /// The place of a unit's raw output.
    fn raw_of(&self, unit: usize) -> usize {
        self.places.iter().position(|place| place.source == Source::Raw { unit }).unwrap_or(0)
    }

    /// Writes the last map's gradient: `write(runtime, sink, images, area, channels)`.
    pub fn begin_backward(
        &mut self,
        buffers: &mut Buffers,
        n: usize,
        write: impl FnOnce(&Runtime, Sink<'_>, usize, usize, usize) -> Result<(), OpError>,
        runtime: &Runtime,
    ) -> Result<(), EngineError> {
        let last = self.places.len() - 1;
        self.gradient_of = (0..self.places.len()).collect();
        self.readers = vec![0; self.places.len()];
        for step in &self.steps {
            match *step {
                Step::Conv { to, .. } | Step::MaxPool { to, .. } => self.readers[to] += 1,
                Step::Sum { .. } => (),
            }
        }
        let (height, width, channels) = self.output();
        self.sink_to(buffers, last, None, |_, sink| write(runtime, sink, n, height * width, channels))
    }

    /// The rest of the backward; maps are given back as it goes.
    pub fn backward(
        &mut self,
        runtime: &Runtime,
        buffers: &mut Buffers,
        weights: &[Vec<f32>],
        out: &mut [Vec<f32>],
        mut images: Option<&mut Vec<f32>>,
    ) -> Result<(), EngineError> {
        // Shares of a map's gradient that arrive before its first reader's.
        let mut skips: Vec<Option<(usize, usize)>> = vec![None; self.places.len()];
        for index in (0..self.steps.len()).rev() {
            match self.steps[index] {
                Step::Sum { main, skip, to } => {
                    self.readers[to] = self.readers[main];
                    self.gradient_of[main] = to;
                    let Some((skip, first)) = skip else { continue };
                    self.readers[to] += 1;
                    match self.places[skip].source {
                        // A projection: the same gradient reaches its batch norm, whose sums are its own.
                        Source::Raw { unit } if self.raw_of(unit) == skip && self.is_projection(index, skip) => {
                            self.gradient_of[skip] = to;
                            self.project_sums(runtime, unit, to)?;
                        }
                        _ => skips[skip] = Some((to, first)),
                    }
                }
                Step::MaxPool { pool, from, to } => {
                    let shape = self.pool_shape(pool, from);
                    self.sink_to(buffers, from, None, |body, sink| {
                        let gradient = body.gradients[to].as_ref().map_or(&[][..], Map::values);
                        pool::max_backward(runtime, &shape, body.values(from), gradient, sink)
                    })?;
                    self.read(buffers, to);
                    self.give_value(buffers, to);
                }
                Step::Conv { unit, from, to } => {
                    self.unit_backward(
                        runtime,
                        buffers,
                        weights,
                        out,
                        index,
                        unit,
                        (from, to),
                        &mut skips,
                        images.is_some(),
                    )?;
                }
            }
        }
        if let (Some(images), Some(gradient)) = (&mut images, &self.gradients[0]) {
            images.clear();
            images.extend_from_slice(gradient.values());
        }
        self.release(buffers);
        Ok(())
    }

    fn unit_backward(
        &mut self,
        runtime: &Runtime,
        buffers: &mut Buffers,
        weights: &[Vec<f32>],
        out: &mut [Vec<f32>],
        index: usize,
        unit: usize,
        (from, to): (usize, usize),
        skips: &mut [Option<(usize, usize)>],
        to_images: bool,
    ) -> Result<(), EngineError> {
        let shape = self.conv_shape(unit);
        let count = self.len(to) / self.places[to].channels;
        let state = &self.units[unit];
        let at = state.at;
        let factors = match self.mode {
            Mode::Train => NormFactors::train(&state.norm, &state.sum, &state.product, count),
            Mode::Eval { .. } => NormFactors::eval(&state.norm),
        };
        out[at + 1].iter_mut().zip(&state.product).for_each(|(to, sum)| *to = *sum as f32);
        out[at + 2].iter_mut().zip(&state.sum).for_each(|(to, sum)| *to = *sum as f32);
        let source = self.gradient_of[to];
        let weights_gradient = &mut out[at];
        let mut backward = |body: &Self, sink: Option<Sink<'_>>| {
            let g = body.gradients[source].as_ref().map_or(&[][..], Map::values);
            let gradient = factors.gradient(&body.units[unit].norm, body.values(to), g);
            conv::backward(runtime, &shape, body.operand(from), &weights[at], gradient, weights_gradient, sink)
        };
        if from == 0 && !to_images {
            backward(self, None)?;
        } else if self.places[from].first_reader == index {
            let skip = skips[from].take();
            self.sink_to(buffers, from, skip, |body, sink| backward(body, Some(sink)))?;
            if let Some((skip, _)) = skip {
                self.read(buffers, skip);
            }
            if !matches!(self.places[from].source, Source::Raw { .. }) {
                self.give_value(buffers, from);
            }
        } else {
            // A projection's share: kept in the projection's own place until the block's first unit adds it.
            let mut share = buffers.take(self.len(from));
            let sink = Sink { out: share.values_mut(), skip: None, producer: None, sums: (&mut [], &mut []) };
            backward(self, Some(sink))?;
            self.read(buffers, source);
            self.give_value(buffers, to);
            self.gradients[to] = Some(share);
            self.readers[to] = 1;
            skips[from] = Some((to, self.places[from].channels));
            return Ok(());
        }
        self.read(buffers, source);
        self.give_value(buffers, to);
        Ok(())
    }

    /// True if the sum at `index` adds a convolution of its own.
    fn is_projection(&self, index: usize, skip: usize) -> bool {
        index > 0 && matches!(self.steps[index - 1], Step::Conv { to, .. } if to == skip)
    }

    /// Sums for the batch norm of a projection, whose output's gradient is that of the sum.
    fn project_sums(&mut self, runtime: &Runtime, unit: usize, sum_place: usize) -> Result<(), EngineError> {
        let Some(mut gradient) = self.gradients[sum_place].take() else { return Err(EngineError::NoForward) };
        let Place { height, width, channels, .. } = self.places[sum_place];
        let (mut sum, mut product) = (vec![0.0; channels], vec![0.0; channels]);
        let state = &self.units[unit];
        let h = self.values(self.raw_of(unit));
        let producer = Producer { h, mean: &state.norm.mean, inv_std: &state.norm.inv_std, mask: None };
        let sink =
            Sink { out: gradient.values_mut(), skip: None, producer: Some(producer), sums: (&mut sum, &mut product) };
        norm::sink(runtime, sink, self.images, height * width, channels)?;
        (self.units[unit].sum, self.units[unit].product) = (sum, product);
        self.gradients[sum_place] = Some(gradient);
        Ok(())
    }

    /// One reader of a gradient is done.
    fn read(&mut self, buffers: &mut Buffers, place: usize) {
        self.readers[place] = self.readers[place].saturating_sub(1);
        if self.readers[place] == 0
            && let Some(map) = self.gradients[place].take()
        {
            buffers.give(map);
        }
    }

    fn give_value(&mut self, buffers: &mut Buffers, place: usize) {
        if let Some(map) = self.values[place].take() {
            buffers.give(map);
        }
    }
}
