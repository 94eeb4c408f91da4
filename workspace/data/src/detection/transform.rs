//! From an image and its objects to a detector's input.

use std::ops::Range;

use super::{DetectionAugment, DetectionSet, Object};
use crate::loader::Examples;
use crate::transform::{LARGEST, normalise};
use crate::{DataError, Draws, Picture, Protocol, resize};

/// One image's way into a batch: a plain resize to a square, whatever the aspect, which leaves boxes as they are.
///
/// The resize weighs the pixels as [`resize()`] does, over more of them where an image shrinks; the official code's reads four
/// pixels always.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectionTransform {
    input: usize,
    augment: Option<DetectionAugment>,
    protocol: Protocol,
}

impl DetectionTransform {
    /// To `input` x `input`; mean, standard deviation and interpolation are the protocol's, as of a classifier that
    /// the detector is made of.
    ///
    /// # Errors
    ///
    /// [`DataError::Protocol`] of a protocol that does not pass its check or has a resize before the input's, and of an
    /// `input` of 0 or more than 1024 pixels.
    pub fn evaluation(input: usize, protocol: &Protocol) -> Result<Self, DataError> {
        protocol.check()?;
        if protocol.resize.is_some() {
            return Err(DataError::Protocol("a detector sees the whole image: leave the resize out".to_string()));
        }
        if !(1..=LARGEST).contains(&input) {
            return Err(DataError::Protocol(format!("a detector's input of {input} pixels: use 1 to {LARGEST}")));
        }
        Ok(Self { input, augment: None, protocol: protocol.clone() })
    }

    /// As for evaluation, after augmentation.
    ///
    /// # Errors
    ///
    /// As [`DetectionTransform::evaluation`], and [`DataError::Augment`].
    pub fn training(input: usize, augment: &DetectionAugment, protocol: &Protocol) -> Result<Self, DataError> {
        augment.check()?;
        Ok(Self { augment: Some(augment.clone()), ..Self::evaluation(input, protocol)? })
    }

    /// Height and width of what `apply` writes.
    pub fn size(&self) -> (usize, usize) {
        (self.input, self.input)
    }

    /// Writes [input, input, 3], normalised, into `out`, and gives the objects that are to be found there. Without
    /// augmentation nothing is drawn and no object is lost.
    pub fn apply(&self, picture: &Picture, objects: &[Object], draws: &mut Draws, out: &mut [f32]) -> Vec<Object> {
        let Protocol { interpolation, mean, std, .. } = self.protocol;
        let fit = |picture: &Picture| resize(picture, self.input, self.input, interpolation);
        let (seen, objects) = match &self.augment {
            None => (fit(picture), objects.to_vec()),
            Some(augment) => {
                let fill = mean.map(|mean| (mean * 255.0 + 0.5) as u8);
                let (seen, objects) = augment.apply(picture, objects, fill, draws);
                (fit(&seen), objects)
            }
        };
        normalise(&seen.pixels, mean, std, out);
        objects
    }
}

impl Examples for DetectionSet {
    type Label = Vec<Object>;
    type Transform = DetectionTransform;

    fn name(&self) -> &str {
        self.name()
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn hash(&self) -> &str {
        self.hash()
    }

    fn runs(&self) -> Vec<Range<usize>> {
        self.runs()
    }

    fn size(transform: &DetectionTransform) -> (usize, usize) {
        transform.size()
    }

    fn prepare(
        &self,
        index: usize,
        transform: &DetectionTransform,
        draws: &mut Draws,
        image: &mut [f32],
    ) -> Result<Vec<Object>, DataError> {
        Ok(transform.apply(&*self.lend(index)?, self.objects(index), draws, image))
    }
}
