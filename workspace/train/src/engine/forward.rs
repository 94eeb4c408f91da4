//! The forward pass.

use sandglass_ops::conv::After;
use sandglass_ops::map::{Operand, Skip};
use sandglass_ops::norm::{Norm, Running};
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Activation, Moments, OpError, conv, gate, map, pool};

use super::EngineError;
use super::body::Body;
use super::program::{NormRule, Op, Place, Step, Unit};

/// The weights of a pass, and with them the statistics that batch norms take.
pub(super) enum Weights<'a> {
    /// Running ones.
    Eval(&'a [Vec<f32>]),
    /// The batch's own; the running ones move.
    Train(&'a mut [Vec<f32>]),
}

impl Weights<'_> {
    pub fn values(&self) -> &[Vec<f32>] {
        match self {
            Self::Eval(values) => values,
            Self::Train(values) => values,
        }
    }
}

impl Body {
    /// `keep`: what a backward needs; else only the outputs are left.
    pub fn forward(
        &mut self,
        mut weights: Weights,
        images: &[f32],
        n: usize,
        drops: Option<&[f32]>,
        keep: bool,
    ) -> Result<(), EngineError> {
        let training = matches!(weights, Weights::Train(_));
        if training {
            self.check_counts(n)?;
        }
        self.release();
        (self.images, self.training, self.drops) = (n, training, drops.map(<[f32]>::to_vec));
        let mut map = self.buffers.take(images.len());
        map.values_mut().copy_from_slice(images);
        self.values[0] = Some(map);

        let mut moments = Moments::default();
        for index in 0..self.program.steps.len() {
            self.step(index, weights.values(), training.then_some(&mut moments))?;
            if let Op::Conv { unit, .. } = self.program.steps[index].op {
                self.normalise(unit, &mut weights, &moments)?;
            }
            if !keep {
                self.forget(index);
            }
        }
        Ok(())
    }

    /// Before anything moves: a batch norm that trains needs two values a channel.
    fn check_counts(&self, n: usize) -> Result<(), EngineError> {
        let too_few = |unit: &Unit| {
            let Place { height, width, .. } = self.program.places[unit.to];
            unit.norm.is_some() && n.saturating_mul(height * width) < 2
        };
        if self.program.units.iter().any(too_few) { Err(OpError::OneValuePerChannel.into()) } else { Ok(()) }
    }

    fn step(&mut self, index: usize, weights: &[Vec<f32>], moments: Option<&mut Moments>) -> Result<(), EngineError> {
        let Step { op, to } = self.program.steps[index];
        let mut map = self.buffers.take(self.len(to));
        let (out, runtime) = (map.values_mut(), &self.runtime);
        match op {
            Op::Conv { unit, from } => {
                let Unit { conv, norm, at, .. } = &self.program.units[unit];
                let after = moments.filter(|_| norm.is_some()).map_or(After::Raw, After::Moments);
                let weights = conv.ungroup(&weights[*at]);
                conv::forward(runtime, &self.conv_shape(unit), self.operand(from)?, &weights, out, after)?;
            }
            Op::Add { main, skip, activation } => {
                let skip = match skip {
                    Some(skip) => Some(Skip { map: self.operand(skip.place)?, channels: skip.channels }),
                    None => None,
                };
                self.write(self.operand(main)?, skip, activation, to, out)?;
            }
            Op::MaxPool { shape, from } => {
                let shape = MaxPoolShape { images: self.images, ..shape };
                pool::max(runtime, &shape, self.values(from)?, out)?;
            }
            Op::AveragePool { from } => {
                pool::average(runtime, self.operand(from)?, self.shape(from), out)?;
            }
            Op::Gate { from, by } => {
                gate::forward(runtime, self.operand(from)?, self.values(by)?, self.shape(from), out)?;
            }
            Op::Drop { drop, from } => {
                self.write(self.operand(from)?, None, Activation::None, to, out)?;
                self.drop(drop, out);
            }
            Op::Linear { linear, from } => {
                let (shape, at) = self.matrix(linear);
                conv::forward(runtime, &shape, self.operand(from)?, &weights[at], out, After::Raw)?;
                for row in out.chunks_exact_mut(shape.output) {
                    row.iter_mut().zip(&weights[at + 1]).for_each(|(y, bias)| *y += bias);
                }
            }
        }
        self.values[to] = Some(map);
        Ok(())
    }

    /// `out` = a map of the shape of `place` as its readers see it, with a shortcut, activated.
    pub fn write(
        &self,
        main: Operand,
        skip: Option<Skip>,
        activation: Activation,
        place: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        Ok(map::write(&self.runtime, main, skip, activation, self.program.places[place].channels, out)?)
    }

    /// A place's map in full.
    pub fn read(&self, place: usize) -> Result<Vec<f32>, EngineError> {
        let mut out = vec![0.0; self.len(place)];
        self.write(self.operand(place)?, None, Activation::None, place, &mut out)?;
        Ok(out)
    }

    /// What a unit's output is read through from now on.
    fn normalise(&mut self, unit: usize, weights: &mut Weights, moments: &Moments) -> Result<(), EngineError> {
        let of = &self.program.units[unit];
        let (at, found) = (of.norm_at(), weights.values().len());
        let lacking = || EngineError::Length { what: of.name.clone(), expected: at + 4, found };
        let Some(NormRule { eps, momentum }) = of.norm else {
            self.norms[unit].norm = Norm::bias(&weights.values()[of.at + 1]);
            return Ok(());
        };
        // A bias before a batch norm is taken from the mean in place of being added to every value.
        let bias = if of.has_bias { weights.values()[of.at + 1].clone() } else { Vec::new() };
        let add =
            |mean: &mut [f32], sign: f32| mean.iter_mut().zip(&bias).for_each(|(mean, bias)| *mean += sign * bias);
        self.norms[unit].norm = match weights {
            Weights::Eval(values) => {
                let [weight, shift, mean, var, ..] = &values[at..] else { return Err(lacking()) };
                let mut mean = mean.clone();
                add(&mut mean, -1.0);
                Norm::eval(&mean, var, eps, weight, shift)
            }
            Weights::Train(values) => {
                let [weight, shift, mean, var, ..] = &mut values[at..] else { return Err(lacking()) };
                let count = self.len(of.to) / of.shape.output;
                add(mean, -1.0);
                let norm = Norm::train(moments, count, eps, weight, shift, Running { mean, var, momentum })?;
                add(mean, 1.0);
                norm
            }
        };
        Ok(())
    }

    /// Gives back what no later step reads.
    fn forget(&mut self, step: usize) {
        for place in 0..self.values.len() {
            if self.program.places[place].last_reader == Some(step) {
                self.give_value(place);
            }
        }
    }
}
