//! The forward pass of a [`Body`].

use sandglass_models::Unit;
use sandglass_ops::conv::After;
use sandglass_ops::map::Skip;
use sandglass_ops::norm::{Norm, Running};
use sandglass_ops::{Activation, Moments, OpError, Runtime, conv, map, pool};

use super::EngineError;
use super::body::{Body, Mode, Place, Source, Step};
use super::buffers::Buffers;

impl Body {
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
            let running = Running { mean, var, momentum: norm_momentum };
            state.norm = Norm::train(&moments, count, norm_eps, weight, bias, running)?;
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
                let after = moments.map_or(After::Raw, After::Moments);
                conv::forward(runtime, &shape, x, &weights[self.units[unit].at], map.values_mut(), after)?;
                self.values[to] = Some(map);
            }
            Step::Sum { main, skip, to } => {
                let mut map = buffers.take(self.len(to));
                let Place { channels, source, .. } = self.places[to];
                let activation =
                    if let Source::Sum { activation, .. } = source { activation } else { Activation::None };
                let skip = skip.map(|(skip, channels)| Skip { map: self.operand(skip), channels });
                map::write(runtime, self.operand(main), skip, activation, channels, map.values_mut())?;
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
}
