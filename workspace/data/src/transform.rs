//! From a decoded image to a network's input, for evaluation and for training.

use serde::{Deserialize, Serialize};

use crate::augment::{self, Augment};
use crate::resize::resize_window;
use crate::{DataError, Dataset, Draws, Filter, IMAGENET, Picture, Protocol, resize};

/// Pixels of an input's side that a batch of a network's activations still fits into memory with.
pub(crate) const LARGEST: usize = 1024;

/// How an image comes to the size of the network's input.
///
/// `height`, `width` and `size` are the input's, `short` is the short side before the crop, all in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "said once, above")]
pub enum Fit {
    /// The images have that size already.
    Own { height: usize, width: usize },
    /// torchvision's `Resize(short, filter)` and `CenterCrop(size)`.
    Centre { short: usize, size: usize, filter: Filter },
    /// torchvision's `RandomResizedCrop(size, scale=(smallest, 1))`; bilinear or bicubic by chance, as timm does.
    RandomArea { size: usize, smallest: f64 },
}

impl Fit {
    /// Without a draw: of a random area the whole.
    pub fn of(&self, picture: &Picture) -> Picture {
        match *self {
            Fit::Own { .. } => picture.clone(),
            Fit::Centre { short, size, filter } => centre(picture, short, size, filter),
            Fit::RandomArea { size, .. } => resize(picture, size, size, Filter::Bilinear),
        }
    }

    fn draw(&self, picture: &Picture, draws: &mut Draws) -> Picture {
        let Fit::RandomArea { size, smallest } = *self else { return self.of(picture) };
        let (left, top, width, height) = augment::random_area(picture, smallest, draws);
        let filter = if draws.coin() { Filter::Bilinear } else { Filter::Bicubic };
        resize(&picture.crop(left as isize, top as isize, width, height), size, size, filter)
    }
}

/// One image's way into a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    fit: Fit,
    augment: Option<Augment>,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Transform {
    /// With the mean and standard deviation of `Protocol::default()`.
    pub fn new(fit: Fit, augment: Option<Augment>) -> Self {
        Self::normalised(fit, augment, &Protocol::default())
    }

    fn normalised(fit: Fit, augment: Option<Augment>, protocol: &Protocol) -> Self {
        Self { fit, augment, mean: protocol.mean, std: protocol.std }
    }

    /// Short side to `protocol.resize` and a centre crop of `input` x `input`; without an `input`, of 224 where
    /// `classes` is 1000 and of the images' own size elsewhere. [`Protocol::resize`] says what is done where it is none.
    ///
    /// # Errors
    ///
    /// A protocol that does not pass its check; an input that is too large, not named though the images' own size is
    /// none or no square, or larger than the resize, which would frame every image in black.
    pub fn evaluation(
        set: &Dataset,
        classes: usize,
        input: Option<usize>,
        protocol: &Protocol,
    ) -> Result<Self, DataError> {
        protocol.check()?;
        let input = input.or((classes == IMAGENET).then_some(224));
        let filter = protocol.interpolation;
        let fit = match (protocol.resize, input) {
            (Some(short), _) => Fit::Centre { short, size: cropped(set, input, short)?, filter },
            (None, Some(input)) if classes == IMAGENET => {
                let size = side(set, input)?;
                Fit::Centre { short: size * 256 / 224, size, filter }
            }
            (None, _) => own_or_centre(set, input, filter)?,
        };
        Ok(Self::normalised(fit, None, protocol))
    }

    /// `input` None: the images' own size. Of the protocol only mean and standard deviation count.
    ///
    /// # Errors
    ///
    /// A protocol that does not pass its check; an input that is too large, or not named though the images differ in
    /// size; random areas of images that are no squares, without an input.
    pub fn training(
        set: &Dataset,
        augment: &Augment,
        input: Option<usize>,
        protocol: &Protocol,
    ) -> Result<Self, DataError> {
        protocol.check()?;
        let fit = own_or_centre(set, input, Filter::Bilinear)?;
        if augment.pad_crop > 0 && augment.smallest_area == 0.0 && matches!(fit, Fit::Centre { .. }) {
            let reason = "pad_crop would crop once more what a centre crop has cut: images of other sizes than the input's \
                          take augment.smallest_area";
            return Err(size_error(set, reason));
        }
        let fit = match (augment.smallest_area, fit) {
            (0.0, fit) => fit,
            (smallest, Fit::Centre { size, .. }) => Fit::RandomArea { size, smallest },
            (smallest, Fit::Own { height, width }) if height == width => Fit::RandomArea { size: height, smallest },
            _ => return Err(size_error(set, "random areas need a square input; name its size")),
        };
        Ok(Self::normalised(fit, Some(augment.clone()), protocol))
    }

    /// Height and width of what `apply` writes.
    pub fn size(&self) -> (usize, usize) {
        match self.fit {
            Fit::Own { height, width } => (height, width),
            Fit::Centre { size, .. } | Fit::RandomArea { size, .. } => (size, size),
        }
    }

    /// Pixels of the short side before a centre crop, where there is one.
    pub fn short(&self) -> Option<usize> {
        match self.fit {
            Fit::Centre { short, .. } => Some(short),
            Fit::Own { .. } | Fit::RandomArea { .. } => None,
        }
    }

    /// Writes [height, width, 3], normalised, into `out`. Without augmentation nothing is drawn.
    pub fn apply(&self, picture: &Picture, draws: &mut Draws, out: &mut [f32]) {
        let mut picture = self.fit.draw(picture, draws);
        if let Some(augment) = &self.augment {
            picture = augment.on_bytes(picture, draws);
        }
        normalise(&picture.pixels, self.mean, self.std, out);
        if let Some(augment) = &self.augment {
            augment.cut_out(out, picture.height, picture.width, draws);
        }
    }
}

/// Bytes to ((byte / 255) - mean) / std, in PyTorch's order of roundings.
pub(crate) fn normalise(bytes: &[u8], mean: [f32; 3], std: [f32; 3], out: &mut [f32]) {
    let pixels = bytes.as_chunks::<3>().0;
    for (out, pixel) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        for channel in 0..3 {
            out[channel] = (f32::from(pixel[channel]) / 255.0 - mean[channel]) / std[channel];
        }
    }
}

fn size_error(set: &Dataset, reason: &str) -> DataError {
    DataError::Size { set: set.name().to_string(), reason: reason.to_string() }
}

fn side(set: &Dataset, size: usize) -> Result<usize, DataError> {
    let reason = || format!("an input of {size} x {size} pixels: use 1 to {LARGEST}");
    if (1..=LARGEST).contains(&size) { Ok(size) } else { Err(size_error(set, &reason())) }
}

/// The side of a crop from images whose short side is `short`.
fn cropped(set: &Dataset, input: Option<usize>, short: usize) -> Result<usize, DataError> {
    let own = set.size().filter(|(height, width)| height == width).map(|(height, _)| height);
    let size = input.or(own).ok_or_else(|| size_error(set, "its images share no square size; name the input's"))?;
    let size = side(set, size)?;
    if (size..=2 * LARGEST).contains(&short) {
        Ok(size)
    } else {
        let reason = format!("a resize to {short} pixels for an input of {size}: use {size} to {}", 2 * LARGEST);
        Err(size_error(set, &reason))
    }
}

fn own_or_centre(set: &Dataset, input: Option<usize>, filter: Filter) -> Result<Fit, DataError> {
    match (set.size(), input) {
        (Some((height, width)), None) => Ok(Fit::Own { height, width }),
        (Some((height, width)), Some(input)) if (height, width) == (input, input) => Ok(Fit::Own { height, width }),
        (_, Some(size)) => side(set, size).map(|size| Fit::Centre { short: size, size, filter }),
        (None, None) => Err(size_error(set, "its images differ in size; name the input's")),
    }
}

/// torchvision's `Resize` (the short side becomes `short`, the long one is cut to whole pixels) and `CenterCrop` (halves go
/// to the even pixel, as Python rounds; black where it reaches over the border). Only what is cut out is made.
fn centre(picture: &Picture, short: usize, size: usize, filter: Filter) -> Picture {
    let (width, height) = (picture.width, picture.height);
    let long = |long: usize, of: usize| (short * long / of.max(1)).max(1);
    let (width, height) = if width <= height { (short, long(height, width)) } else { (long(width, height), short) };
    let start = |whole: usize| ((whole as f64 - size as f64) / 2.0).round_ties_even() as isize;
    let (left, top) = (start(width), start(height));
    let within =
        |start: isize, whole: usize| start.max(0) as usize..(start + size as isize).min(whole as isize) as usize;
    let window = resize_window(picture, (width, height), within(left, width), within(top, height), filter);
    if (window.width, window.height) == (size, size) {
        window
    } else {
        window.crop(left.min(0), top.min(0), size, size)
    }
}
