//! What a detector found in every image and what is there, beside the rows, so that it can be scored and drawn again.

use std::path::{Path, PathBuf};

use polars::prelude::{Column, DataFrame};

use crate::field::Field;
use crate::file::{ReadError, WriteError};
use crate::predictions::{CHECKPOINT, predictions_path};
use crate::sealed::{self, Sealed};

/// An object that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrueBox {
    pub class: u32,
    /// `[left, top, right, bottom]` as Pascal VOC annotates them: pixels from 1, which belong to the box at both ends.
    pub bounds: [f32; 4],
    /// Finding it counts neither way.
    pub difficult: bool,
}

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundBox {
    pub class: u32,
    /// `[left, top, right, bottom]` in the image's pixels, as its detector counts them: of one that was trained here, edges
    /// from 0.
    pub bounds: [f32; 4],
    /// From 0 to 1.
    pub score: f32,
}

/// A square of an image that is kept to be looked at, smaller or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Of its edges and of its side in the image, in pixels.
    pub left: u32,
    pub top: u32,
    pub side: u32,
    /// JPEG.
    pub picture: Vec<u8>,
}

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedImage {
    /// Its name within the data set.
    pub name: String,
    pub truth: Vec<TrueBox>,
    /// By falling score.
    pub found: Vec<FoundBox>,
    pub crop: Option<Crop>,
}

/// What was found in a data set, and what is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxes {
    /// Names of the classes, from class 0.
    pub classes: Vec<String>,
    /// In the data set's order.
    pub images: Vec<DetectedImage>,
}

/// What was found, and by which file.
#[derive(Clone, Debug, PartialEq)]
pub struct Detections {
    /// SHA-256 of the checkpoint.
    pub checkpoint: String,
    pub boxes: Boxes,
}

impl Boxes {
    /// Whether the same was found of the same; what is kept to be looked at does not matter.
    pub fn agree(&self, other: &Self) -> bool {
        let numbers = |image: &DetectedImage| (image.name.clone(), image.truth.clone(), image.found.clone());
        self.classes == other.classes && self.images.iter().map(numbers).eq(other.images.iter().map(numbers))
    }
}

/// The fact that holds the names of classes, as JSON.
pub(crate) const CLASSES: &str = "sandglass.classes";

/// Writes `root/<study>/<profile>/<cell>.parquet`, a row for each image, whole or not at all, and returns the path.
///
/// # Errors
/// A file that cannot be made or written.
pub fn write_detections(root: &Path, cell: [&str; 3], detections: &Detections) -> Result<PathBuf, WriteError> {
    let path = predictions_path(root, cell);
    let Detections { checkpoint, boxes: Boxes { classes, images } } = detections;
    let classes = serde_json::to_string(classes).map_err(|error| WriteError::Parquet(error.to_string()))?;
    sealed::write(&path, images.len(), &[(CHECKPOINT, checkpoint.clone()), (CLASSES, classes)], || columns(images))?;
    Ok(path)
}

fn columns(images: &[DetectedImage]) -> Vec<Column> {
    fn column<T: Field>(name: &str, images: &[DetectedImage], of: impl Fn(&DetectedImage) -> T) -> Column {
        let values: Vec<T> = images.iter().map(of).collect();
        T::column(name, &values.iter().collect::<Vec<_>>())
    }
    let square = |crop: &Crop| vec![crop.left, crop.top, crop.side];
    vec![
        column("name", images, |image| image.name.clone()),
        column("true_class", images, |image| image.truth.iter().map(|of| of.class).collect::<Vec<_>>()),
        column("true_bounds", images, |image| image.truth.iter().flat_map(|of| of.bounds).collect::<Vec<_>>()),
        column("true_difficult", images, |image| {
            image.truth.iter().map(|of| u32::from(of.difficult)).collect::<Vec<_>>()
        }),
        column("found_class", images, |image| image.found.iter().map(|of| of.class).collect::<Vec<_>>()),
        column("found_bounds", images, |image| image.found.iter().flat_map(|of| of.bounds).collect::<Vec<_>>()),
        column("found_score", images, |image| image.found.iter().map(|of| of.score).collect::<Vec<_>>()),
        column("crop", images, |image| image.crop.as_ref().map_or_else(Vec::new, square)),
        column("picture", images, |image| image.crop.as_ref().map(|crop| crop.picture.clone())),
    ]
}

/// What was written for a cell.
///
/// # Errors
/// A file that is not there, was changed, or holds something else, such as a box of a class that has no name.
pub fn read_detections(root: &Path, cell: [&str; 3]) -> Result<Detections, ReadError> {
    sealed::read(&predictions_path(root, cell), detections)
}

pub(crate) fn detections(of: &Sealed) -> Result<Detections, String> {
    let checkpoint = of.fact(CHECKPOINT).ok_or("it names no checkpoint")?.to_owned();
    let classes = of.fact(CLASSES).ok_or("it names no classes")?;
    let classes: Vec<String> = serde_json::from_str(classes).map_err(|error| format!("its classes: {error}"))?;
    let images = (0..of.frame.height()).map(|at| image(&of.frame, at)).collect::<Result<Vec<_>, _>>()?;
    let numbers = |image: &DetectedImage| {
        let truth = image.truth.iter().map(|of| (of.class, of.bounds, 0.0));
        truth.chain(image.found.iter().map(|of| (of.class, of.bounds, of.score))).collect::<Vec<_>>()
    };
    for (class, bounds, score) in images.iter().flat_map(numbers) {
        if class as usize >= classes.len() {
            return Err(format!("a box of class {class}, and {} have names", classes.len()));
        }
        if !bounds.iter().chain([&score]).all(|number| number.is_finite()) {
            return Err("a box or a score that is not finite".into());
        }
    }
    Ok(Detections { checkpoint, boxes: Boxes { classes, images } })
}

fn image(frame: &DataFrame, at: usize) -> Result<DetectedImage, String> {
    let name = String::value(frame, "name", at)?;
    let bounds = |column: &str| -> Result<Vec<[f32; 4]>, String> {
        let flat = Vec::<f32>::value(frame, column, at)?;
        let (bounds, rest) = flat.as_chunks::<4>();
        if rest.is_empty() { Ok(bounds.to_vec()) } else { Err(format!("{column} has no four edges in row {at}")) }
    };
    let numbers = |column: &str| Vec::<u32>::value(frame, column, at);
    let (true_class, true_bounds, difficult) =
        (numbers("true_class")?, bounds("true_bounds")?, numbers("true_difficult")?);
    let (found_class, found_bounds, scores) =
        (numbers("found_class")?, bounds("found_bounds")?, Vec::<f32>::value(frame, "found_score", at)?);
    let lengths =
        [(true_class.len(), true_bounds.len(), difficult.len()), (found_class.len(), found_bounds.len(), scores.len())];
    if lengths.iter().any(|(classes, bounds, rest)| classes != bounds || classes != rest) {
        return Err(format!("boxes, classes and scores differ in number in row {at}"));
    }
    let truth = true_class.into_iter().zip(true_bounds).zip(difficult);
    let found = found_class.into_iter().zip(found_bounds).zip(scores);
    let crop = match (numbers("crop")?.as_slice(), Option::<Vec<u8>>::value(frame, "picture", at)?) {
        ([], None) => None,
        (&[left, top, side], Some(picture)) if side > 0 => Some(Crop { left, top, side, picture }),
        _ => return Err(format!("a picture without a place, or a place without one or without a side, in row {at}")),
    };
    Ok(DetectedImage {
        name,
        truth: truth.map(|((class, bounds), of)| TrueBox { class, bounds, difficult: of != 0 }).collect(),
        found: found.map(|((class, bounds), score)| FoundBox { class, bounds, score }).collect(),
        crop,
    })
}
