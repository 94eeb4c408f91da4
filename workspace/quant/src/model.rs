//! A network in whichever arithmetic its scheme asks for.

use sandglass_ops::Runtime;

use crate::{Calibration, Fake, Images, Net, QuantError, Quantised, Scheme, Scores, Warning, quantise};

/// What gives scores.
#[derive(Clone, Debug)]
pub enum Model {
    Float(Net),
    /// Activations in 8 bits, weights in f32.
    Fake(Fake),
    Integer(Quantised),
}

impl Model {
    /// `net`, which [`Scheme::shape`] gave and was calibrated, as the scheme has it.
    ///
    /// # Errors
    /// As [`quantise`].
    pub fn of(net: &Net, calibration: &Calibration, scheme: &Scheme) -> Result<(Self, Vec<Warning>), QuantError> {
        if scheme.float_weights {
            return Ok((Self::Fake(Fake::new(net, calibration, scheme)?), Vec::new()));
        }
        let (quantised, warnings) = quantise(net, calibration, scheme)?;
        Ok((Self::Integer(quantised), warnings))
    }

    /// Scores for each image.
    ///
    /// # Errors
    /// Images of a size that the network does not take.
    pub fn scores(&self, runtime: &Runtime, images: &Images) -> Result<Vec<Scores>, QuantError> {
        match self {
            Self::Float(net) => net.scores(runtime, images),
            Self::Fake(fake) => fake.scores(runtime, images),
            Self::Integer(quantised) => quantised.scores(runtime, images),
        }
    }
}
