//! The backward pass of a [`Body`]: steps in reverse, maps given back as it goes.

use sandglass_ops::map::{Mask, Producer, Sink, Sums};
use sandglass_ops::norm::{self, NormFactors};
use sandglass_ops::{Activation, MapShape, OpError, Runtime, conv, pool};

use super::EngineError;
use super::body::{Body, Mode, Source, Step, activation};
use super::buffers::{Buffers, Map};

impl Body {
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
            let inner = activation(state.unit.activation);
            let mask = match self.places[place].source {
                Source::Sum { activation, .. } if activation != Activation::None => {
                    Some(Mask::Stored { data: self.values(place), activation })
                }
                Source::Raw { .. } if inner != Activation::None => {
                    Some(Mask::Norm { affine: state.norm.affine(), activation: inner })
                }
                _ => None,
            };
            Producer { h: self.values(state.to), mean: &state.norm.mean, inv_std: &state.norm.inv_std, mask }
        });
        let skip = skip.and_then(|(from, first)| Some((self.gradients[from].as_ref()?.values(), first)));
        let sums = Sums { gradient: &mut sum, product: &mut product };
        let sink = Sink { out: out.values_mut(), skip, producer: producer.map(|producer| (producer, sums)) };
        let outcome = write(self, sink);
        if let Some(unit) = unit {
            (self.units[unit].sum, self.units[unit].product) = (sum, product);
        }
        outcome?;
        self.gradients[place] = Some(out);
        Ok(())
    }

    /// Writes the last map's gradient: `write(runtime, sink, the map's shape)`.
    pub fn begin_backward(
        &mut self,
        buffers: &mut Buffers,
        n: usize,
        write: impl FnOnce(&Runtime, Sink<'_>, MapShape) -> Result<(), OpError>,
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
        let shape = MapShape { images: n, ..self.shape(last) };
        self.sink_to(buffers, last, None, |_, sink| write(runtime, sink, shape))
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
                        Source::Raw { unit } if self.is_projection(index, skip) => {
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
            backward(self, Some(Sink::plain(share.values_mut())))?;
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
        let shape = self.shape(sum_place);
        let (mut sum, mut product) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
        let state = &self.units[unit];
        let h = self.values(state.to);
        let producer = Producer { h, mean: &state.norm.mean, inv_std: &state.norm.inv_std, mask: None };
        let sums = Sums { gradient: &mut sum, product: &mut product };
        let sink = Sink { out: gradient.values_mut(), skip: None, producer: Some((producer, sums)) };
        norm::sink(runtime, sink, shape)?;
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
