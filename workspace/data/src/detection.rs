//! Images with objects in boxes: what a detector learns from and is scored on.

mod augment;
mod drawn;
mod photometric;
mod transform;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Picture, Remarks};
pub use augment::DetectionAugment;
pub use drawn::EmbeddedDetection;
pub use transform::DetectionTransform;

/// One object in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Place among the set's classes.
    pub class: u32,
    /// Left, top, right and bottom edge, as fractions of the image's width and height.
    pub bounds: [f32; 4],
    /// Too hard to be asked for: finding it is no merit, missing it no fault.
    pub difficult: bool,
    /// Part of it lies outside the image. Kept for the set's hash; nothing here is done with it.
    pub truncated: bool,
}

impl Object {
    /// [xmin, ymin, xmax, ymax] in VOC's pixels, which are counted from 1 and belong to the box at both ends: the numbers of
    /// the annotation, to within a thousandth of a pixel. `size`: the image's height and width.
    pub fn voc_bounds(&self, (height, width): (usize, usize)) -> [f64; 4] {
        let [left, top, right, bottom] = self.bounds.map(f64::from);
        let (height, width) = (height as f64, width as f64);
        [left * width + 1.0, top * height + 1.0, right * width, bottom * height]
    }
}

/// Which images of a detection set, by the names of VOC's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Those that a detector learns from while recipes are compared.
    Train,
    /// Those that recipes are compared on.
    Val,
    /// Both.
    TrainVal,
    /// Those that it is scored on.
    Test,
}

impl Split {
    /// All four.
    pub const ALL: [Split; 4] = [Split::Train, Split::Val, Split::TrainVal, Split::Test];

    /// Whether the two should have no image in common.
    pub(crate) fn is_apart_from(self, other: Self) -> bool {
        let is_within = |part, whole| matches!((part, whole), (Split::Train | Split::Val, Split::TrainVal));
        self != other && !is_within(self, other) && !is_within(other, self)
    }

    /// In small letters.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::TrainVal => "trainval",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Split::ALL.into_iter().find(|split| split.name() == name).ok_or_else(|| DataError::Split(name.to_string()))
    }
}

/// Images, the objects in each, and the names of their classes; clones share the images.
#[derive(Clone)]
pub struct DetectionSet {
    /// Its labels are all 0 and say nothing.
    images: Dataset,
    objects: Arc<[Vec<Object>]>,
    /// Height and width of each image.
    sizes: Arc<[(usize, usize)]>,
    hash: String,
    /// Lists that name some of its images too and should not, and how many.
    shared: Arc<[(String, usize)]>,
}

impl DetectionSet {
    /// Images of one size as bytes, [n, height, width, 3], and the objects in each.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where `pixels` are not as many, [`DataError::Labels`] of an object whose class is beyond
    /// `classes` or whose box is empty or not within the image.
    pub fn from_pixels(
        name: &str,
        classes: Vec<String>,
        synthetic: bool,
        size: (usize, usize),
        pixels: Vec<u8>,
        objects: Vec<Vec<Object>>,
    ) -> Result<Self, DataError> {
        let sizes = vec![size; objects.len()];
        let images = Dataset::from_pixels(name, classes, synthetic, size, pixels, vec![0; objects.len()])?;
        Self::assemble(images, objects, sizes)
    }

    /// One list of objects and one size for each image.
    pub(crate) fn assemble(
        images: Dataset,
        objects: Vec<Vec<Object>>,
        sizes: Vec<(usize, usize)>,
    ) -> Result<Self, DataError> {
        for (image, of) in objects.iter().enumerate() {
            for (place, object) in of.iter().enumerate() {
                if let Some(reason) = fault(object, images.classes().len()) {
                    let reason = format!("{}, object {}: {reason}", images.image_name(image), place + 1);
                    return Err(DataError::Labels { set: images.name().to_string(), reason });
                }
            }
        }
        Ok(Self::hashed(images, objects, sizes.into()))
    }

    /// What the images are called, where they have no files of their own.
    fn named(self, names: Vec<String>) -> Self {
        Self { images: self.images.with_image_names(names), ..self }
    }

    fn hashed(images: Dataset, objects: Vec<Vec<Object>>, sizes: Arc<[(usize, usize)]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(images.hash().as_bytes());
        for of in &objects {
            // With their number, so that no object is another image's.
            hasher.update(&(of.len() as u64).to_le_bytes());
            for object in of {
                hasher.update(&object.class.to_le_bytes());
                object.bounds.iter().for_each(|edge| {
                    hasher.update(&edge.to_le_bytes());
                });
                hasher.update(&[u8::from(object.difficult), u8::from(object.truncated)]);
            }
        }
        let hash = hasher.finalize().to_hex().to_string();
        Self { images, objects: objects.into(), sizes, hash, shared: Arc::default() }
    }

    pub(crate) fn with_shared(self, shared: Vec<(String, usize)>) -> Self {
        Self { shared: shared.into(), ..self }
    }

    /// Other lists of its devkits that name some of its images too, such as the training list of what is scored; and how many.
    pub fn shared(&self) -> &[(String, usize)] {
        &self.shared
    }

    /// The devkit's year and the list, or the set's own.
    pub fn name(&self) -> &str {
        self.images.name()
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// True where a subset holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of their numbers; the background is none of them.
    pub fn classes(&self) -> &[String] {
        self.images.classes()
    }

    /// True where the images are drawn by code.
    pub fn synthetic(&self) -> bool {
        self.images.synthetic()
    }

    /// Hex BLAKE3, the same on every machine, of the images as [`Dataset::hash`] has it and of every object.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What an image is called, by no other image's name: `VOC2007/JPEGImages/000012.jpg`; `train 7` where there are no
    /// files.
    ///
    /// Panics where `index` is not below `len`, as slices do.
    pub fn image_name(&self, index: usize) -> String {
        self.images.image_name(index)
    }

    /// The objects in image `index`, in the annotation's order. Panics where it is not below `len`, as slices do.
    pub fn objects(&self, index: usize) -> &[Object] {
        &self.objects[index]
    }

    /// Height and width of image `index`. Panics where it is not below `len`, as slices do.
    pub fn size(&self, index: usize) -> (usize, usize) {
        self.sizes[index]
    }

    /// A copy of image `index`. Panics where it is not below `len`, as slices do.
    ///
    /// # Errors
    ///
    /// An image that cannot be read or decoded, or has another size than its annotation says.
    pub fn picture(&self, index: usize) -> Result<Picture, DataError> {
        self.images.picture(index)
    }

    /// Image `index`, without a copy where it is held decoded.
    pub(crate) fn lend(&self, index: usize) -> Result<Cow<'_, Picture>, DataError> {
        self.images.lend(index)
    }

    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        self.images.runs()
    }

    /// How many images have such a remark; None where they were not read when the set was opened.
    pub fn remarked(&self, has: impl Fn(&Remarks) -> bool) -> Option<usize> {
        self.images.remarked(has)
    }

    /// In words: how many images with how many objects of how many classes; images without, and images that other lists name.
    pub fn listing(&self) -> String {
        let objects = || self.objects.iter().flatten();
        let difficult = objects().filter(|object| object.difficult).count();
        let counted = |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
        let bare = self.objects.iter().filter(|objects| objects.is_empty()).count();
        let bare = if bare == 0 { String::new() } else { format!(", {bare} without any") };
        let shared: String =
            self.shared.iter().map(|(list, count)| format!(", {count} of the images are in {list} too")).collect();
        // Its labels say nothing, nor which of two that are the same is the wrong one.
        let unheeded: String = self.images.unheeded().map(|(count, what)| format!(", {count} {what}")).collect();
        format!(
            "{} with {} ({difficult} of them difficult) of {}{bare}{shared}{unheeded}",
            counted(self.len(), "image", "images"),
            counted(objects().count(), "object", "objects"),
            counted(self.classes().len(), "class", "classes")
        )
    }

    /// The same images without the difficult objects, as the official code trains.
    pub fn without_difficult(&self) -> Self {
        let easy = |of: &Vec<Object>| of.iter().copied().filter(|object| !object.difficult).collect();
        Self::hashed(self.images.clone(), self.objects.iter().map(easy).collect(), self.sizes.clone())
    }
}

fn fault(object: &Object, classes: usize) -> Option<String> {
    let [left, top, right, bottom] = object.bounds;
    let within = |from: f32, to: f32| 0.0 <= from && from < to && to <= 1.0;
    if object.class as usize >= classes {
        Some(format!("class {} is beyond the {classes} classes", object.class))
    } else if !within(left, right) || !within(top, bottom) {
        Some(format!("the box {:?} is empty, or not within the image", object.bounds))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: u32, bounds: [f32; 4]) -> Object {
        Object { class, bounds, difficult: class == 1, truncated: false }
    }

    fn set(objects: Vec<Vec<Object>>) -> Result<DetectionSet, DataError> {
        let classes = vec!["a".to_string(), "b".to_string()];
        let pixels = (0..objects.len() * 12).map(|value| value as u8).collect();
        DetectionSet::from_pixels("set", classes, true, (2, 2), pixels, objects)
    }

    const WHOLE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

    #[test]
    fn objects_that_cannot_be_are_refused_and_named() {
        let message = |object| set(vec![vec![], vec![self::object(0, WHOLE), object]]).err().unwrap().to_string();
        assert!(message(object(2, WHOLE)).contains("image 1, object 2: class 2 is beyond the 2 classes"));
        for bounds in [[0.5, 0.0, 0.5, 1.0], [0.0, 0.7, 1.0, 0.2], [-0.1, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.1]] {
            assert!(message(object(0, bounds)).contains("object 2: the box"), "{bounds:?}");
        }
        assert!(message(object(0, [f32::NAN, 0.0, 1.0, 1.0])).contains("object 2: the box"));
        assert!(DetectionSet::from_pixels("set", vec![], true, (2, 2), vec![0; 11], vec![vec![]]).is_err());
    }

    #[test]
    fn the_hash_covers_every_part_of_every_object() {
        let base = vec![vec![object(0, WHOLE)], vec![object(1, WHOLE), object(0, [0.0, 0.0, 0.5, 0.5])]];
        let hash = |objects| set(objects).unwrap().hash().to_string();
        let mut hashes = std::collections::BTreeSet::from([hash(base.clone())]);
        let changes: [fn(&mut Vec<Vec<Object>>); 6] = [
            |objects| objects[1][0].class = 0,
            |objects| objects[1][1].bounds[2] = 0.75,
            |objects| objects[0][0].difficult = true,
            |objects| objects[0][0].truncated = true,
            |objects| objects[1].swap(0, 1),
            |objects| {
                let moved = objects[1].remove(0);
                objects[0].push(moved);
            },
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert!(hashes.insert(hash(changed)));
        }
    }

    #[test]
    fn difficult_objects_can_be_left_out() {
        let set = set(vec![vec![object(0, WHOLE)], vec![object(1, WHOLE)], vec![]]).unwrap();
        assert_eq!(set.listing(), "3 images with 2 objects (1 of them difficult) of 2 classes, 1 without any");
        let easy = set.without_difficult();
        assert_eq!((easy.len(), easy.objects(0).len(), easy.objects(1).len()), (3, 1, 0));
        assert_ne!(easy.hash(), set.hash());
    }

    #[test]
    fn splits_are_named_as_vocs_lists() {
        for split in Split::ALL {
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
        assert_eq!(
            "Test".parse::<Split>().unwrap_err().to_string(),
            "no split is called \"Test\": use train, val, trainval or test"
        );
    }
}
