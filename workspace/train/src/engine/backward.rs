//! The backward pass: steps in reverse, maps given back as it goes.
//!
//! A map's readers each add a share to its gradient. The reader that comes last, which is the map's first in the
//! forward, writes the whole: it adds what has arrived, applies the mask of the map's activation and takes the sums for
//! the map's batch norm in one go. A sum has nothing to write; it hands its own gradient on.

use std::sync::Arc;

use sandglass_ops::map::{Gradient, Mask, Producer, Sink, Sums};
use sandglass_ops::norm::{self, NormFactors};
use sandglass_ops::pool::MaxPoolShape;
use sandglass_ops::{Activation, conv, gate, pool};

use super::EngineError;
use super::body::{Body, NormState, Share};
use super::buffers::Map;
use super::program::{Op, Place, Source, Step};

/// What a backward reads, and what it writes beside maps.
pub(super) struct Tensors<'a> {
    pub weights: &'a [Vec<f32>],
    /// Parallel to the weights, overwritten.
    pub gradients: &'a mut [Vec<f32>],
}

impl Body {
    /// Given the gradients of the program's outputs, those of all trained tensors and, where asked for, of the images.
    pub fn backward(
        &mut self,
        tensors: &mut Tensors,
        outputs: &[&[f32]],
        image_gradient: Option<&mut Vec<f32>>,
    ) -> Result<(), EngineError> {
        let to_images = image_gradient.is_some();
        for (index, gradient) in outputs.iter().enumerate() {
            let place = self.program.outputs[index];
            let mut map = self.buffers.take(gradient.len());
            map.values_mut().copy_from_slice(gradient);
            self.add_share(place, Arc::new(map), self.program.places[place].channels)?;
        }
        for index in (0..self.program.steps.len()).rev() {
            let Step { op, to } = self.program.steps[index];
            match self.gradient(to)? {
                Some(gradient) => self.step_back(index, gradient, tensors, to_images)?,
                None => self.no_gradient(op, tensors),
            }
            self.give_value(to);
        }
        if let Some(out) = image_gradient {
            out.clear();
            match self.gradient(0)? {
                Some(map) => {
                    out.extend_from_slice(map.values());
                    self.give(map);
                }
                None => out.resize(self.len(0), 0.0),
            }
        }
        self.release();
        Ok(())
    }

    /// The complete gradient of a place all of whose readers are done; none where no output depends on it.
    fn gradient(&mut self, place: usize) -> Result<Option<Arc<Map>>, EngineError> {
        if let Some(map) = self.gradients[place].take() {
            return Ok(Some(map));
        }
        let Some(share) = self.shares[place].take() else { return Ok(None) };
        let Place { channels, source, .. } = self.program.places[place];
        if source == Source::Plain && share.channels == channels {
            return Ok(Some(share.map));
        }
        let map = self.own(share, channels);
        self.write_gradient(place, map, true, |body, sink| body.finish(place, sink))?;
        Ok(self.gradients[place].take())
    }

    /// A step's part in the gradients of what it reads, given that of what it wrote.
    fn step_back(
        &mut self,
        index: usize,
        mut gradient: Arc<Map>,
        tensors: &mut Tensors,
        to_images: bool,
    ) -> Result<(), EngineError> {
        let Step { op, to } = self.program.steps[index];
        match op {
            Op::Conv { unit, from } => self.unit_back(index, (unit, from, to), &gradient, tensors, to_images)?,
            Op::Add { main, skip, .. } => {
                if let Some(skip) = skip {
                    if skip.projection {
                        gradient = self.take_sums(skip.place, gradient)?;
                        self.gradients[skip.place] = Some(gradient.clone());
                    } else {
                        self.add_share(skip.place, gradient.clone(), skip.channels)?;
                    }
                }
                match self.program.places[to].source {
                    Source::Sum { .. } => self.gradients[main] = Some(gradient.clone()),
                    _ => self.add_share(main, gradient.clone(), self.program.places[to].channels)?,
                }
            }
            Op::MaxPool { shape, from } => self.share_to(index, from, |body, sink| {
                let shape = MaxPoolShape { images: body.images, ..shape };
                Ok(pool::max_backward(&body.runtime, &shape, body.values(from)?, gradient.values(), sink)?)
            })?,
            Op::AveragePool { from } => self.share_to(index, from, |body, sink| {
                Ok(pool::average_backward(&body.runtime, gradient.values(), body.shape(from), sink)?)
            })?,
            Op::Gate { from, by } => {
                let mut of_gate = Vec::new();
                self.share_to(index, from, |body, sink| {
                    let (x, by, shape) = (body.operand(from)?, body.values(by)?, body.shape(from));
                    of_gate = gate::backward(&body.runtime, gradient.values(), x, by, shape, sink)?;
                    Ok(())
                })?;
                self.share_to(index, by, |body, sink| {
                    sink.out.copy_from_slice(&of_gate);
                    body.finish(by, sink)
                })?;
            }
            Op::Drop { drop, from } => self.share_to(index, from, |body, sink| {
                sink.out.copy_from_slice(gradient.values());
                body.drop(drop, sink.out);
                body.finish(from, sink)
            })?,
            Op::Linear { linear, from } => {
                let (shape, at) = self.matrix(linear);
                let bias = &mut tensors.gradients[at + 1];
                bias.fill(0.0);
                for row in gradient.values().chunks_exact(shape.output) {
                    bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
                }
                let (weights, out) = (&tensors.weights[at], &mut tensors.gradients[at]);
                self.share_to(index, from, |body, sink| {
                    let g = Gradient { data: gradient.values(), norm: None };
                    Ok(conv::backward(&body.runtime, &shape, body.operand(from)?, weights, g, out, Some(sink))?)
                })?;
            }
        }
        self.give(gradient);
        Ok(())
    }

    fn unit_back(
        &mut self,
        index: usize,
        (unit, from, to): (usize, usize, usize),
        gradient: &Map,
        tensors: &mut Tensors,
        to_images: bool,
    ) -> Result<(), EngineError> {
        let of = &self.program.units[unit];
        let (shape, conv, at, norm_at, has_bias) = (self.conv_shape(unit), of.conv, of.at, of.norm_at(), of.has_bias);
        let has_norm = of.norm.is_some();
        let NormState { norm, sum, product } = &self.norms[unit];
        let factors = match self.training && has_norm {
            true => NormFactors::train(norm, sum, product, self.len(to) / shape.output),
            false => NormFactors::eval(norm),
        };
        let Tensors { weights, gradients } = tensors;
        if has_norm {
            gradients[norm_at].iter_mut().zip(product).for_each(|(to, sum)| *to = *sum as f32);
            gradients[norm_at + 1].iter_mut().zip(sum).for_each(|(to, sum)| *to = *sum as f32);
        }
        if has_bias {
            // The statistics of a batch undo a bias before them.
            let share = |scale: f32| if self.training && has_norm { 0.0 } else { f64::from(scale) };
            let sums = sum.iter().zip(&norm.scale);
            gradients[at + 1].iter_mut().zip(sums).for_each(|(to, (sum, scale))| *to = (sum * share(*scale)) as f32);
        }
        let weights = conv.ungroup(&weights[at]);
        let own = &mut gradients[at];
        let mut spread = vec![0.0; if weights.len() > own.len() { weights.len() } else { 0 }];
        let mut back = |body: &Self, sink: Option<Sink>| -> Result<(), EngineError> {
            let g = factors.gradient(&body.norms[unit].norm, body.values(to)?, gradient.values());
            let out: &mut [f32] = if spread.is_empty() { &mut *own } else { &mut spread };
            conv::backward(&body.runtime, &shape, body.operand(from)?, &weights, g, out, sink)?;
            if !spread.is_empty() {
                conv.regroup(&spread, own);
            }
            Ok(())
        };
        if from == 0 && !to_images {
            back(self, None)
        } else {
            self.share_to(index, from, |body, sink| back(body, Some(sink)))
        }
    }

    /// Zeros for the tensors of a step that no output depends on.
    fn no_gradient(&self, op: Op, tensors: &mut Tensors) {
        let range = match op {
            Op::Conv { unit, .. } => {
                let unit = &self.program.units[unit];
                unit.at..unit.norm_at() + if unit.norm.is_some() { 2 } else { 0 }
            }
            Op::Linear { linear, .. } => self.program.linears[linear].at..self.program.linears[linear].at + 2,
            _ => return,
        };
        tensors.gradients[range].iter_mut().for_each(|gradient| gradient.fill(0.0));
    }

    /// A new map with the share that the step `index` adds to the gradient of `from`: all of it, if it comes last.
    fn share_to(
        &mut self,
        index: usize,
        from: usize,
        write: impl FnOnce(&Self, Sink) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let map = self.buffers.take(self.len(from));
        let completes = self.program.places[from].first_reader == Some(index);
        self.write_gradient(from, map, completes, write)
    }

    /// Adds a gradient that is there already to what has arrived for `place`.
    fn add_share(&mut self, place: usize, map: Arc<Map>, channels: usize) -> Result<(), EngineError> {
        match self.shares[place].replace(Share { map, channels }) {
            None => Ok(()),
            Some(before) => {
                let map = self.own(before, self.program.places[place].channels);
                self.write_gradient(place, map, false, |body, sink| body.finish(place, sink))
            }
        }
    }

    /// A share as a map of its own, with zeros in the channels that it does not concern.
    fn own(&mut self, share: Share, channels: usize) -> Map {
        let mut own = match Arc::try_unwrap(share.map) {
            Ok(map) => map,
            Err(shared) => {
                let mut copy = self.buffers.take(shared.values().len());
                copy.values_mut().copy_from_slice(shared.values());
                copy
            }
        };
        if share.channels < channels {
            own.values_mut().chunks_exact_mut(channels).for_each(|pixel| pixel[share.channels..].fill(0.0));
        }
        own
    }

    /// `map` becomes what has arrived of the gradient of `place`: `write` fills it, what had arrived before is added. If
    /// that `completes` it, the mask is applied and the sums for the batch norm are taken.
    fn write_gradient(
        &mut self,
        place: usize,
        mut map: Map,
        completes: bool,
        write: impl FnOnce(&Self, Sink) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let arrived = self.shares[place].take();
        let unit = match self.program.places[place].source {
            Source::Raw { unit } | Source::Sum { unit, .. } if completes => Some(unit),
            _ => None,
        };
        let (mut sum, mut product) = match unit {
            Some(unit) => (std::mem::take(&mut self.norms[unit].sum), std::mem::take(&mut self.norms[unit].product)),
            None => (Vec::new(), Vec::new()),
        };
        let outcome = unit.map(|unit| self.producer(place, unit)).transpose().and_then(|producer| {
            let skip = arrived.as_ref().map(|share| (share.map.values(), share.channels));
            let sums = Sums { gradient: &mut sum, product: &mut product };
            write(self, Sink { out: map.values_mut(), skip, producer: producer.map(|producer| (producer, sums)) })
        });
        if let Some(unit) = unit {
            (self.norms[unit].sum, self.norms[unit].product) = (sum, product);
        }
        outcome?;
        if let Some(share) = arrived {
            self.give(share.map);
        }
        let map = Arc::new(map);
        match completes {
            true => self.gradients[place] = Some(map),
            false => {
                let channels = self.program.places[place].channels;
                self.shares[place] = Some(Share { map, channels });
            }
        }
        Ok(())
    }

    /// The batch norm of `unit` as the gradient of `place` needs it: mask and statistics.
    fn producer(&self, place: usize, unit: usize) -> Result<Producer<'_>, EngineError> {
        let norm = &self.norms[unit].norm;
        let mask = match self.program.places[place].source {
            Source::Sum { activation: Activation::None, .. } | Source::Plain => None,
            Source::Sum { activation, .. } => Some(Mask::Stored { data: self.values(place)?, activation }),
            Source::Raw { unit } => match self.program.units[unit].activation {
                Activation::None => None,
                activation => Some(Mask::Norm { affine: norm.affine(), activation }),
            },
        };
        Ok(Producer { h: self.values(self.program.units[unit].to)?, mean: &norm.mean, inv_std: &norm.inv_std, mask })
    }

    /// A sink's work on the gradient of `place` that it already holds.
    fn finish(&self, place: usize, sink: Sink) -> Result<(), EngineError> {
        Ok(norm::sink(&self.runtime, sink, self.shape(place))?)
    }

    /// The gradient of a projection's output, and so of its sum, after the sums for its batch norm are taken.
    fn take_sums(&mut self, place: usize, gradient: Arc<Map>) -> Result<Arc<Map>, EngineError> {
        let channels = self.program.places[place].channels;
        let map = self.own(Share { map: gradient, channels }, channels);
        self.write_gradient(place, map, true, |body, sink| body.finish(place, sink))?;
        self.gradients[place].take().ok_or(EngineError::NoForward)
    }
}
