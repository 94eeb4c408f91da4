//! What passes over a [`Program`] leave behind: maps, gradients, batch norms.

use std::sync::Arc;

use sandglass_ops::map::Operand;
use sandglass_ops::norm::Norm;
use sandglass_ops::{ConvShape, MapShape, Runtime};

use super::EngineError;
use super::buffers::{Buffers, Map};
use super::program::{Drop, Matrix, Place, Program, Source};

/// A unit's batch norm in the last forward, and the sums that its backward needs.
pub(super) struct NormState {
    pub norm: Norm,
    /// Sums over its normalised output's gradient `g`, and over `g` times the normalised value.
    pub sum: Vec<f64>,
    pub product: Vec<f64>,
}

/// A part of a map's gradient: that of its first `channels`.
pub(super) struct Share {
    pub map: Arc<Map>,
    pub channels: usize,
}

pub(super) struct Body {
    pub runtime: Arc<Runtime>,
    pub program: Program,
    pub buffers: Buffers,
    /// Parallel to the program's units.
    pub norms: Vec<NormState>,
    /// Parallel to the program's places, as are the gradients.
    pub values: Vec<Option<Map>>,
    /// Complete ones. A sum and its operands share one.
    pub gradients: Vec<Option<Arc<Map>>>,
    /// What has arrived of gradients that are not complete.
    pub shares: Vec<Option<Share>>,
    /// Factors of the last forward, for all drops.
    pub drops: Option<Vec<f32>>,
    /// Whether the last forward took batch statistics.
    pub training: bool,
    /// Images of the last forward.
    pub images: usize,
}

impl Body {
    pub fn new(runtime: Arc<Runtime>, program: Program) -> Self {
        let norm = |channels: usize| NormState {
            norm: Norm::default(),
            sum: vec![0.0; channels],
            product: vec![0.0; channels],
        };
        let places = program.places.len();
        Self {
            runtime,
            norms: program.units.iter().map(|unit| norm(unit.shape.output)).collect(),
            program,
            buffers: Buffers::default(),
            values: (0..places).map(|_| None).collect(),
            gradients: (0..places).map(|_| None).collect(),
            shares: (0..places).map(|_| None).collect(),
            drops: None,
            training: false,
            images: 0,
        }
    }

    /// Gives back all maps.
    pub fn release(&mut self) {
        for place in 0..self.values.len() {
            self.give_value(place);
            if let Some(map) = self.gradients[place].take() {
                self.give(map);
            }
            if let Some(share) = self.shares[place].take() {
                self.give(share.map);
            }
        }
    }

    pub fn give_value(&mut self, place: usize) {
        if let Some(map) = self.values[place].take() {
            self.buffers.give(map);
        }
    }

    /// Back to the buffers, unless another place holds it too.
    pub fn give(&mut self, map: Arc<Map>) {
        if let Ok(map) = Arc::try_unwrap(map) {
            self.buffers.give(map);
        }
    }

    /// Elements of a place's map.
    pub fn len(&self, place: usize) -> usize {
        let Place { height, width, channels, .. } = self.program.places[place];
        self.images * height * width * channels
    }

    pub fn values(&self, place: usize) -> Result<&[f32], EngineError> {
        self.values[place].as_ref().map(Map::values).ok_or(EngineError::NoForward)
    }

    /// A place's map as its readers see it.
    pub fn operand(&self, place: usize) -> Result<Operand<'_>, EngineError> {
        let data = self.values(place)?;
        Ok(match self.program.places[place].source {
            Source::Raw { unit } => {
                let activation = self.program.units[unit].activation;
                Operand { data, affine: Some(self.norms[unit].norm.affine()), activation }
            }
            Source::Sum { .. } | Source::Plain => Operand::plain(data),
        })
    }

    /// Of a place's map.
    pub fn shape(&self, place: usize) -> MapShape {
        let Place { height, width, channels, .. } = self.program.places[place];
        MapShape { images: self.images, area: height * width, channels }
    }

    pub fn conv_shape(&self, unit: usize) -> ConvShape {
        ConvShape { images: self.images, ..self.program.units[unit].shape }
    }

    pub fn matrix(&self, linear: usize) -> (ConvShape, usize) {
        let Matrix { shape, at } = self.program.linears[linear];
        (ConvShape { images: self.images, ..shape }, at)
    }

    /// The values of a map, or of its gradient, times the last forward's factors.
    pub fn drop(&self, drop: usize, map: &mut [f32]) {
        let Some(factors) = &self.drops else { return };
        let factors_of = |drops: &[Drop]| drops.iter().map(|drop| drop.factors).sum::<usize>() * self.images;
        let (before, own) = (&self.program.drops[..drop], &self.program.drops[drop..=drop]);
        let factors = &factors[factors_of(before)..][..factors_of(own)];
        for (values, factor) in map.chunks_exact_mut(map.len() / factors.len()).zip(factors) {
            values.iter_mut().for_each(|x| *x *= factor);
        }
    }
}
