//! From a decoded image to a network's input, for evaluation and for training.

use serde::{Deserialize, Serialize};

use crate::augment::{self, Augment};
use crate::{DataError, Dataset, Draws, Filter, Picture, resize};

/// Mean and standard deviation of ImageNet's channels in 0..1, used for every data set.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Pixels of an input's side that a batch of a network's activations still fits into memory with.
const LARGEST: usize = 1024;

/// How an image comes to the size of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fit {
    /// The images have that size already.
    Own { height: usize, width: usize },
    /// torchvision's `Resize(short)`, bilinear, and `CenterCrop(size)`.
    Centre { short: usize, size: usize },
    /// torchvision's `RandomResizedCrop(size, scale=(smallest, 1))`; bilinear or bicubic by chance, as timm does.
    RandomArea { size: usize, smallest: f64 },
}

impl Fit {
    /// Without a draw: of a random area the whole.
    pub fn of(&self, picture: &Picture) -> Picture {
        match *self {
            Fit::Own { .. } => picture.clone(),
            Fit::Centre { short, size } => centre_crop(&resize_short(picture, short), size),
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
}

impl Transform {
    pub fn new(fit: Fit, augment: Option<Augment>) -> Self {
        Self { fit, augment }
    }

    /// With `classes` = 1000, ImageNet's: short side to 256, centre crop of 224 (or `input`, in that proportion).
    /// Otherwise the images' own size, or short side to `input` and a centre crop.
    pub fn evaluation(set: &Dataset, classes: usize, input: Option<usize>) -> Result<Self, DataError> {
        let fit = if classes == 1000 {
            let size = side(set, input.unwrap_or(224))?;
            Fit::Centre { short: size * 256 / 224, size }
        } else {
            own_or_centre(set, input)?
        };
        Ok(Self { fit, augment: None })
    }

    /// `input` None: the images' own size.
    pub fn training(set: &Dataset, augment: &Augment, input: Option<usize>) -> Result<Self, DataError> {
        let fit = match (augment.smallest_area, own_or_centre(set, input)?) {
            (0.0, fit) => fit,
            (smallest, Fit::Centre { size, .. }) => Fit::RandomArea { size, smallest },
            (smallest, Fit::Own { height, width }) if height == width => Fit::RandomArea { size: height, smallest },
            _ => return Err(size_error(set, "random areas need a square input; name its size")),
        };
        Ok(Self { fit, augment: Some(augment.clone()) })
    }

    /// Height and width of what `apply` writes.
    pub fn size(&self) -> (usize, usize) {
        match self.fit {
            Fit::Own { height, width } => (height, width),
            Fit::Centre { size, .. } | Fit::RandomArea { size, .. } => (size, size),
        }
    }

    /// Writes [height, width, 3], normalised, into `out`. Without augmentation nothing is drawn.
    pub fn apply(&self, picture: &Picture, draws: &mut Draws, out: &mut [f32]) {
        let mut picture = self.fit.draw(picture, draws);
        if let Some(augment) = &self.augment {
            picture = augment.on_bytes(picture, draws);
        }
        normalise(&picture.pixels, out);
        if let Some(augment) = &self.augment {
            augment.cut_out(out, picture.height, picture.width, draws);
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

fn own_or_centre(set: &Dataset, input: Option<usize>) -> Result<Fit, DataError> {
    match (set.size(), input) {
        (Some((height, width)), None) => Ok(Fit::Own { height, width }),
        (Some((height, width)), Some(input)) if (height, width) == (input, input) => Ok(Fit::Own { height, width }),
        (_, Some(size)) => side(set, size).map(|size| Fit::Centre { short: size, size }),
        (None, None) => Err(size_error(set, "its images differ in size; name the input's")),
    }
}

/// torchvision's `Resize`: the short side becomes `short`, the long one is cut to whole pixels.
pub(crate) fn resize_short(picture: &Picture, short: usize) -> Picture {
    let (width, height) = (picture.width, picture.height);
    let long = |long: usize, of: usize| (short * long / of.max(1)).max(1);
    if width <= height {
        resize(picture, short, long(height, width), Filter::Bilinear)
    } else {
        resize(picture, long(width, height), short, Filter::Bilinear)
    }
}

/// torchvision's `CenterCrop`: halves go to the even pixel, as Python rounds.
pub(crate) fn centre_crop(picture: &Picture, size: usize) -> Picture {
    let start = |whole: usize| ((whole as f64 - size as f64) / 2.0).round_ties_even() as isize;
    picture.crop(start(picture.width), start(picture.height), size, size)
}

/// Bytes to ((byte / 255) - mean) / std, in PyTorch's order of roundings.
fn normalise(bytes: &[u8], out: &mut [f32]) {
    let pixels = bytes.as_chunks::<3>().0;
    for (out, pixel) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        for channel in 0..3 {
            out[channel] = (f32::from(pixel[channel]) / 255.0 - MEAN[channel]) / STD[channel];
        }
    }
}
