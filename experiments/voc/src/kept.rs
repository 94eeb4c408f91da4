//! What a cell keeps beside its rows: every detection and object, and a few squares to be looked at.

use sandglass_data::{DetectionSet, Filter, Object, Split, encode_jpeg, resize};
use sandglass_detect::{Detection, ScoredImage, Truth};
use sandglass_ledger::{Boxes, Crop, DetectedImage, FoundBox, TrueBox};
use sandglass_study::CellError;

/// Pictures at most.
const PICTURES: usize = 8;

/// Side of a picture in pixels; a larger square of the image is made smaller.
pub(crate) const SIDE: usize = 160;

/// Side of the square, where the object is large, to the object's longer side.
const AROUND: f32 = 1.25;

/// Of JPEG, from 0 to 100.
const QUALITY: f32 = 85.0;

/// What was found in a set's images, as it was scored. Only test images are ever shown.
pub(crate) fn boxes(set: &DetectionSet, split: Split, images: &[ScoredImage]) -> Result<Boxes, CellError> {
    let mut kept: Vec<DetectedImage> =
        images.iter().enumerate().map(|(at, of)| image(set.image_name(at), of)).collect();
    let shown = if split == Split::Test { chosen(set) } else { Vec::new() };
    for (at, object) in shown {
        if let Some(image) = kept.get_mut(at) {
            image.crop = Some(crop(set, at, &object)?);
        }
    }
    Ok(Boxes { classes: set.classes().to_vec(), images: kept })
}

fn image(name: String, of: &ScoredImage) -> DetectedImage {
    let truth = |of: &Truth| TrueBox { class: of.class as u32, bounds: of.bbox, difficult: of.difficult };
    let found = |of: &Detection| FoundBox { class: of.class as u32, bounds: of.bbox, score: of.score };
    DetectedImage {
        name,
        truth: of.truth.iter().map(truth).collect(),
        found: of.detections.iter().map(found).collect(),
        crop: None,
    }
}

/// As it was scored.
pub(crate) fn scored(of: &DetectedImage) -> ScoredImage {
    let truth = |of: &TrueBox| Truth { class: of.class as usize, bbox: of.bounds, difficult: of.difficult };
    let found = |of: &FoundBox| Detection { class: of.class as usize, score: of.score, bbox: of.bounds };
    ScoredImage { detections: of.found.iter().map(found).collect(), truth: of.truth.iter().map(truth).collect() }
}

/// A rule that looks at no detector: the first images, in the set's order, whose first object that is not difficult is of a
/// class that none before shows, and that object.
fn chosen(set: &DetectionSet) -> Vec<(usize, Object)> {
    let mut chosen: Vec<(usize, Object)> = Vec::new();
    for at in 0..set.len() {
        let Some(&object) = set.objects(at).iter().find(|object| !object.difficult) else { continue };
        if chosen.len() < PICTURES && chosen.iter().all(|(_, other)| other.class != object.class) {
            chosen.push((at, object));
        }
    }
    chosen
}

/// The square around an object.
fn crop(set: &DetectionSet, at: usize, object: &Object) -> Result<Crop, CellError> {
    let (left, top, side) = square(object, set.size(at));
    let picture = set.picture(at).map_err(CellError::failed)?.crop(left as isize, top as isize, side, side);
    let picture = if side > SIDE { resize(&picture, SIDE, SIDE, Filter::Bilinear) } else { picture };
    let picture = encode_jpeg(&picture, QUALITY);
    let picture = picture.map_err(|error| CellError::Failed(format!("{}: {error}", set.image_name(at))))?;
    Ok(Crop { left: left as u32, top: top as u32, side: side as u32, picture })
}

/// Left, top and side in pixels, within an image of this height and width.
fn square(object: &Object, (height, width): (usize, usize)) -> (usize, usize, usize) {
    let [left, top, right, bottom] = object.bounds;
    let (across, down) = ((right - left) * width as f32, (bottom - top) * height as f32);
    let wanted = (AROUND * across.max(down)).ceil() as usize;
    let side = wanted.max(SIDE).min(height).min(width);
    let place = |low: f32, high: f32, size: usize| {
        let centre = (low + high) / 2.0 * size as f32;
        ((centre - side as f32 / 2.0).max(0.0) as usize).min(size - side)
    };
    (place(left, right, width), place(top, bottom, height), side)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: u32, bounds: [f32; 4], difficult: bool) -> Object {
        Object { class, bounds, difficult, truncated: false }
    }

    #[test]
    fn a_square_lies_around_its_object_and_in_its_image() {
        let whole = object(0, [0.0, 0.0, 1.0, 1.0], false);
        assert_eq!(square(&whole, (200, 256)), (28, 0, 200));
        assert_eq!(square(&whole, (96, 96)), (0, 0, 96));
        let corner = object(0, [0.9, 0.9, 1.0, 1.0], false);
        assert_eq!(square(&corner, (200, 256)), (96, 40, 160));
        let middle = object(0, [0.4, 0.4, 0.6, 0.6], false);
        assert_eq!(square(&middle, (300, 400)), (120, 70, 160));
        // 150 pixels and a quarter more.
        let wide = object(0, [0.25, 0.4, 0.625, 0.6], false);
        assert_eq!(square(&wide, (300, 400)), (81, 56, 188));
    }

    #[test]
    fn pictures_are_the_first_of_each_class_whatever_is_found() {
        let at = [0.0, 0.0, 0.5, 0.5];
        let objects = vec![
            vec![],
            vec![object(2, at, true), object(1, at, false)],
            vec![object(1, at, false), object(0, at, false)],
            vec![object(2, at, false)],
        ];
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        let set = DetectionSet::from_pixels("set", classes, true, (8, 8), vec![0; 4 * 192], objects).unwrap();
        let images: Vec<ScoredImage> = (0..4).map(|at| ScoredImage::of(&set, at, [])).collect();
        let kept = boxes(&set, Split::Test, &images).unwrap();
        let shown: Vec<bool> = kept.images.iter().map(|image| image.crop.is_some()).collect();
        assert_eq!(shown, [false, true, false, true]);
        assert!(boxes(&set, Split::Val, &images).unwrap().images.iter().all(|image| image.crop.is_none()));
        let back: Vec<ScoredImage> = kept.images.iter().map(scored).collect();
        assert_eq!(back, images);
    }
}
