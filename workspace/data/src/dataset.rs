//! A labelled set of images, in memory as bytes where it is small, else read image by image.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::classes::{imagenet_label, imagenet_wnids};
use crate::{DataError, Draws, Picture, Purpose, decode};

/// Encoded images up to this many bytes are decoded once, when the set is opened.
const SMALL: u64 = 512 << 20;

/// Decoded images beyond this many bytes are not kept.
const KEPT: usize = 2 << 30;

/// Images that are decoded in parallel before they are put in place.
const CHUNK: usize = 1024;

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    Validation,
}

/// Encoded images in files.
pub(crate) trait Source: Send + Sync {
    /// What an error calls image `index`.
    fn name(&self, index: usize) -> String;

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError>;

    /// Bytes of all images together, roughly.
    fn total_bytes(&self) -> u64;

    /// Lengths of the runs of images that are cheap to read together; empty where any order is as good.
    fn runs(&self) -> &[usize] {
        &[]
    }

    /// Feeds what tells this set from another without reading its images.
    fn fingerprint(&self, hasher: &mut blake3::Hasher);
}

/// Images of one size: [n, height, width, 3].
struct Decoded {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

enum Images {
    Decoded(Decoded),
    Encoded(Box<dyn Source>),
}

/// Images, labels and class names; clones share the images.
#[derive(Clone)]
pub struct Dataset {
    name: String,
    classes: Arc<[String]>,
    synthetic: bool,
    hash: String,
    images: Arc<Images>,
    labels: Arc<[u32]>,
    /// Places in `images` and `labels`, where this is a part of a set.
    members: Option<Arc<[u32]>>,
}

impl Dataset {
    /// Images of one size as bytes, [n, height, width, 3].
    pub fn from_pixels(
        name: &str,
        classes: Vec<String>,
        synthetic: bool,
        (height, width): (usize, usize),
        pixels: Vec<u8>,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        if pixels.len() != labels.len() * height * width * 3 {
            let reason = format!("{} labels, but {} bytes of pixels at {height} x {width}", labels.len(), pixels.len());
            return Err(DataError::Size { set: name.to_string(), reason });
        }
        let mut hasher = hasher(&labels);
        hasher.update(&pixels);
        let images = Images::Decoded(Decoded { height, width, pixels });
        Self::assemble(name, classes, synthetic, hasher, images, labels)
    }

    /// A small source is decoded at once, in parallel, and must hold no broken image; if its images have one size they
    /// are kept. A large one stays encoded.
    pub(crate) fn from_source(
        name: &str,
        classes: Vec<String>,
        source: Box<dyn Source>,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        let mut hasher = hasher(&labels);
        source.fingerprint(&mut hasher);
        let small = source.total_bytes() <= SMALL;
        let set = Self::assemble(name, classes, false, hasher, Images::Encoded(source), labels)?;
        if !small {
            return Ok(set);
        }
        match set.decode_all()? {
            Some(Decoded { height, width, pixels }) => {
                let labels = set.labels.to_vec();
                Self::from_pixels(name, set.classes.to_vec(), false, (height, width), pixels, labels)
            }
            None => Ok(set),
        }
    }

    /// All images, if they share a size and are not too many; an error names the broken ones.
    fn decode_all(&self) -> Result<Option<Decoded>, DataError> {
        let size_of = |picture: &Picture| (picture.height, picture.width);
        // A first image that is broken fails once more below.
        let size = (!self.is_empty()).then(|| self.picture(0).ok()).flatten().as_ref().map(size_of);
        let total = size.map_or(usize::MAX, |(height, width)| (height * width * 3).saturating_mul(self.len()));
        let mut keep = total <= KEPT;
        let mut pixels = Vec::with_capacity(if keep { total } else { 0 });
        let mut failures = Vec::new();
        // Runs one after another, for a row group is read whole; within a run in parallel.
        let parts = self
            .runs()
            .into_iter()
            .flat_map(|run| run.clone().step_by(CHUNK).map(move |start| start..(start + CHUNK).min(run.end)));
        for part in parts {
            let fits = |picture: Picture| (keep && Some(size_of(&picture)) == size).then_some(picture);
            let pictures: Vec<_> = part.into_par_iter().map(|index| self.picture(index).map(fits)).collect();
            for picture in pictures {
                match picture {
                    Ok(Some(picture)) => pixels.extend_from_slice(&picture.pixels),
                    Ok(None) => keep = false,
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
        if !failures.is_empty() {
            return Err(DataError::broken(&self.name, self.len(), failures));
        }
        Ok(size.filter(|_| keep).map(|(height, width)| Decoded { height, width, pixels }))
    }

    fn assemble(
        name: &str,
        classes: Vec<String>,
        synthetic: bool,
        hasher: blake3::Hasher,
        images: Images,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        let set = Self {
            name: name.to_string(),
            classes: classes.into(),
            synthetic,
            hash: hasher.finalize().to_hex().to_string(),
            images: Arc::new(images),
            labels: labels.into(),
            members: None,
        };
        set.check_labels(set.classes.len())?;
        Ok(set)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn len(&self) -> usize {
        self.members.as_ref().map_or(self.labels.len(), |members| members.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// True where the images are drawn by code.
    pub fn synthetic(&self) -> bool {
        self.synthetic
    }

    /// Hex BLAKE3 of labels and pixels; of a set that is not kept decoded, of labels, file names and sizes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Height and width, where all images share them and are held decoded.
    pub fn size(&self) -> Option<(usize, usize)> {
        match &*self.images {
            Images::Decoded(images) => Some((images.height, images.width)),
            Images::Encoded(_) => None,
        }
    }

    fn place(&self, index: usize) -> usize {
        self.members.as_ref().map_or(index, |members| members[index] as usize)
    }

    /// Panics where `index` is not below `len`, as slices do.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[self.place(index)]
    }

    /// Panics where `index` is not below `len`, as slices do; fails on an image that cannot be read or decoded.
    pub fn picture(&self, index: usize) -> Result<Picture, DataError> {
        let place = self.place(index);
        match &*self.images {
            &Images::Decoded(Decoded { height, width, ref pixels }) => {
                let bytes = height * width * 3;
                let pixels = pixels[place * bytes..(place + 1) * bytes].to_vec();
                Ok(Picture { width, height, pixels })
            }
            Images::Encoded(source) => {
                decode(&source.encoded(place)?).map_err(|reason| DataError::Image { name: source.name(place), reason })
            }
        }
    }

    /// Decodes every image of a set that is not held decoded; the error names the broken ones. Small sets need it not:
    /// they were decoded when they were opened. Of ImageNet it takes about as long as an epoch.
    pub fn verify(&self) -> Result<(), DataError> {
        if let Images::Decoded(_) = &*self.images {
            return Ok(());
        }
        let failures: Vec<String> = self
            .runs()
            .into_iter()
            .flat_map(|run| run.into_par_iter().filter_map(|index| self.picture(index).err()).collect::<Vec<_>>())
            .map(|error| error.to_string())
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(DataError::broken(&self.name, self.len(), failures)) }
    }

    /// An error where a label does not fit a classifier of `classes` outputs.
    pub fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        match (0..self.len()).map(|index| self.label(index)).max() {
            Some(label) if label as usize >= classes => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!("label {label} is beyond the classifier's {classes} classes"),
            }),
            _ => Ok(()),
        }
    }

    /// For a classifier of ImageNet's classes: where classes are wnids, a label becomes the place among ImageNet's.
    pub(crate) fn with_imagenet_labels(self) -> Result<Self, DataError> {
        let is_wnid = |name: &String| name.len() == 9 && name.starts_with('n') && name[1..].parse::<u32>().is_ok();
        if !self.classes.iter().all(is_wnid) {
            return Ok(self);
        }
        let unknown = |wnid: &String| DataError::Labels {
            set: self.name.clone(),
            reason: format!("{wnid} is not among ImageNet's classes"),
        };
        let places = self.classes.iter().map(|wnid| imagenet_label(wnid).ok_or_else(|| unknown(wnid)));
        let places = places.collect::<Result<Vec<u32>, _>>()?;
        let labels: Vec<u32> = self.labels.iter().map(|&label| places[label as usize]).collect();
        let mut hasher = hasher(&labels);
        hasher.update(self.hash.as_bytes());
        let hash = hasher.finalize().to_hex().to_string();
        let classes = imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect();
        Ok(Self { classes, hash, labels: labels.into(), ..self })
    }

    /// The images at `indices`, which must be below `len`.
    pub fn subset(&self, name: &str, indices: &[u32]) -> Self {
        let members: Vec<u32> = indices.iter().map(|&index| self.place(index as usize) as u32).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        members.iter().for_each(|member| {
            hasher.update(&member.to_le_bytes());
        });
        let hash = hasher.finalize().to_hex().to_string();
        Self { name: name.to_string(), hash, members: Some(members.into()), ..self.clone() }
    }

    /// Cuts `count` images off by seed: (the rest, the development split). For sets of training images only.
    pub fn split(&self, count: usize, seed: u64) -> Result<(Self, Self), DataError> {
        if count >= self.len() {
            let reason = format!("a development split of {count} leaves nothing of {} images to train on", self.len());
            return Err(DataError::Size { set: self.name.clone(), reason });
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        Draws::new(seed, Purpose::Split, 0, 0).shuffle(&mut order);
        let (development, rest) = order.split_at_mut(count);
        development.sort_unstable();
        rest.sort_unstable();
        let named = |part: &str| format!("{} ({part} split, seed {seed})", self.name);
        Ok((self.subset(&named("training"), rest), self.subset(&named("development"), development)))
    }

    /// Ranges of indices that are cheap to read together; one range where any order is as good.
    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        let lengths = match &*self.images {
            Images::Encoded(source) => source.runs(),
            Images::Decoded(_) => &[],
        };
        if lengths.is_empty() {
            return std::iter::once(0..self.len()).collect();
        }
        let mut runs = Vec::new();
        let (mut end, mut from) = (0, 0);
        for length in lengths {
            end += length;
            let to = match &self.members {
                Some(members) => members.partition_point(|&member| (member as usize) < end),
                None => end,
            };
            runs.push(from..to);
            from = to;
        }
        runs
    }
}

fn hasher(labels: &[u32]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    labels.iter().for_each(|label| {
        hasher.update(&label.to_le_bytes());
    });
    hasher
}
