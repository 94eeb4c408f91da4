//! A labelled set of images, in memory as bytes where it is small, else read image by image.

mod division;
mod labels;
#[cfg(test)]
mod tests;
mod told;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::decode::decode_and_tell;
use crate::reading::{Reading, read_all, room};
use crate::{DataError, Picture, Remarks};
use told::Origin;

pub use told::Repeated;

/// Encoded images up to this many bytes are decoded once, when the set is opened.
pub(crate) const SMALL: u64 = 512 << 20;

/// What tells an image's encoded bytes from any others: half of their BLAKE3.
pub(crate) type Digest = [u8; 16];

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    half
}

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Those that a network learns from.
    Train,
    /// Those that it is scored on; of sets without labelled test images these are what papers call validation.
    Validation,
    /// What somebody names to be scored: the validation part, or all of a set that is not divided into parts.
    Scored,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation | Part::Scored => "validation",
        }
    }
}

/// Encoded images in files.
pub(crate) trait Source: Send + Sync {
    /// What image `index` is called; better no other image is called so.
    fn name(&self, index: usize) -> String;

    /// Where it lies, for errors, and where its name is not its own.
    fn location(&self, index: usize) -> String {
        self.name(index)
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError>;

    /// Whether a decoded image is what the set says of it.
    fn check(&self, _index: usize, _picture: &Picture) -> Result<(), DataError> {
        Ok(())
    }

    /// Bytes of all images together, roughly.
    fn total_bytes(&self) -> u64;

    /// Lengths of the runs of images that are cheap to read together; empty where any order is as good.
    fn runs(&self) -> &[usize] {
        &[]
    }

    /// Feeds what tells this set from another without reading its images.
    fn fingerprint(&self, hasher: &mut blake3::Hasher);
}

enum Images {
    Decoded {
        /// Height and width, where all images share them.
        size: Option<(usize, usize)>,
        pictures: Vec<Picture>,
    },
    Encoded(Box<dyn Source>),
}

/// What a set is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    ForUse,
    /// Its images are compared with others' byte by byte, and not looked at.
    ForBytes,
}

/// What decides a label's place among the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// The set lists its classes by name: folders, a file's metadata, a file of names.
    Listed,
    /// Labels are names that nobody lists: the classes are these, in alphabetical order.
    Alphabetical,
    /// Labels are numbers, and nobody says what they are called.
    Numbers,
}

/// Images, labels and class names; clones share the images.
#[derive(Clone)]
pub struct Dataset {
    name: String,
    classes: Arc<[String]>,
    naming: Naming,
    origin: Arc<Origin>,
    /// Of labels that are numbers and were written as text, each text once.
    spelt: Arc<[String]>,
    synthetic: bool,
    hash: String,
    images: Arc<Images>,
    labels: Arc<[u32]>,
    /// Of the images; empty where the source is asked.
    names: Arc<[String]>,
    /// Of the encoded bytes; empty where they are not at hand.
    digests: Arc<[Digest]>,
    /// By the places of the images that they are of; None where these were not read when the set was opened.
    remarks: Option<Arc<[(u32, Remarks)]>>,
    /// Lengths of the runs of images that the loader keeps together; empty where it shuffles all.
    runs: Arc<[usize]>,
    /// Places in what is above, where this is a part of a set.
    members: Option<Arc<[u32]>>,
}

impl Dataset {
    /// Images of one size as bytes, [n, height, width, 3].
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where `pixels` are not as many, [`DataError::Labels`] where a label is beyond `classes`.
    pub fn from_pixels(
        name: &str,
        classes: Vec<String>,
        synthetic: bool,
        (height, width): (usize, usize),
        pixels: Vec<u8>,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        let bytes = height.saturating_mul(width).saturating_mul(3);
        if pixels.len() != bytes.saturating_mul(labels.len()) {
            let reason = format!("{} labels, but {} bytes of pixels at {height} x {width}", labels.len(), pixels.len());
            return Err(DataError::Size { set: name.to_string(), reason });
        }
        let mut hasher = hasher(&labels);
        hasher.update(&pixels);
        let picture = |index: usize| Picture { width, height, pixels: pixels[index * bytes..][..bytes].to_vec() };
        let images = Images::Decoded {
            size: Some((height, width)),
            pictures: (0..labels.len()).into_par_iter().map(picture).collect(),
        };
        Self::assemble(name, classes, synthetic, hasher, images, labels)
    }

    /// A small source that is to be used is decoded at once, in parallel, and must hold no broken image; its images are kept
    /// where they fit. Another one stays encoded.
    pub(crate) fn from_source(
        name: &str,
        classes: Vec<String>,
        source: Box<dyn Source>,
        labels: Vec<u32>,
        opened: Opened,
    ) -> Result<Self, DataError> {
        if opened == Opened::ForUse && source.total_bytes() <= SMALL {
            return Self::from_small(name, classes, source, labels, room());
        }
        let mut hasher = hasher(&labels);
        source.fingerprint(&mut hasher);
        let runs = source.runs().into();
        let set = Self::assemble(name, classes, false, hasher, Images::Encoded(source), labels)?;
        Ok(Self { runs, ..set })
    }

    /// Up to `room` bytes of images of differing sizes are kept decoded; nothing else depends on it.
    fn from_small(
        name: &str,
        classes: Vec<String>,
        source: Box<dyn Source>,
        labels: Vec<u32>,
        room: usize,
    ) -> Result<Self, DataError> {
        let Reading { names, digests, remarks, size, pictures } = read_all(name, &*source, labels.len(), room)?;
        let mut hasher = hasher(&labels);
        match (size, &pictures) {
            (Some(_), Some(pictures)) => pictures.iter().for_each(|picture| {
                hasher.update(&picture.pixels);
            }),
            _ => names.iter().zip(&digests).for_each(|(name, digest)| {
                // With its length, so that no name runs into what follows.
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(digest);
            }),
        }
        // Images of differing sizes come in the same order whether they are kept or not.
        let runs = if size.is_some() { [].into() } else { source.runs().into() };
        let images = match pictures {
            Some(pictures) => Images::Decoded { size, pictures },
            None => Images::Encoded(source),
        };
        let set = Self::assemble(name, classes, false, hasher, images, labels)?;
        Ok(Self { names: names.into(), digests: digests.into(), remarks: Some(remarks.into()), runs, ..set })
    }

    fn assemble(
        name: &str,
        classes: Vec<String>,
        synthetic: bool,
        hasher: blake3::Hasher,
        images: Images,
        labels: Vec<u32>,
    ) -> Result<Self, DataError> {
        if let Some(class) = twice(&classes) {
            let reason = format!("its list of classes names {class:?} twice");
            return Err(DataError::Labels { set: name.to_string(), reason });
        }
        let set = Self {
            name: name.to_string(),
            classes: classes.into(),
            naming: Naming::Listed,
            origin: Arc::default(),
            spelt: [].into(),
            synthetic,
            hash: hasher.finalize().to_hex().to_string(),
            images: Arc::new(images),
            labels: labels.into(),
            names: [].into(),
            digests: [].into(),
            remarks: None,
            runs: [].into(),
            members: None,
        };
        set.check_labels(set.classes.len())?;
        Ok(set)
    }

    /// The classes are numbers: nobody says what they are called. `spelt`: what texts the labels were, where they were text.
    pub(crate) fn without_names(self, spelt: Vec<String>) -> Self {
        Self { naming: Naming::Numbers, spelt: spelt.into(), ..self }
    }

    /// The classes are the labels' own names: nobody lists them.
    pub(crate) fn alphabetical(self) -> Self {
        Self { naming: Naming::Alphabetical, ..self }
    }

    /// Calls the images by part and place, where they have no files of their own.
    pub(crate) fn numbered(self, part: Part) -> Self {
        let names = (0..self.labels.len()).map(|place| format!("{} {place}", part.name())).collect();
        self.with_image_names(names)
    }

    /// One for each image.
    pub(crate) fn with_image_names(self, names: Vec<String>) -> Self {
        Self { names: names.into(), ..self }
    }

    /// The folder's or file's name, or the set's own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.members.as_ref().map_or(self.labels.len(), |members| members.len())
    }

    /// True where a subset holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Whether the classes have names; else they are called by their numbers, as far as the labels go.
    pub fn names_classes(&self) -> bool {
        self.naming != Naming::Numbers
    }

    /// What decides a label: the `name` of a class, its `number`, or its place in the `alphabetical order` of the labels that
    /// there are, where these are names that nobody lists.
    pub fn labels_by(&self) -> &'static str {
        match self.naming {
            Naming::Listed => "name",
            Naming::Alphabetical => "alphabetical order",
            Naming::Numbers => "number",
        }
    }

    /// Bytes of the files, where the images still lie in them.
    pub(crate) fn encoded_bytes(&self) -> Option<u64> {
        match &*self.images {
            Images::Encoded(source) => Some(source.total_bytes()),
            Images::Decoded { .. } => None,
        }
    }

    /// True where the images are drawn by code.
    pub fn synthetic(&self) -> bool {
        self.synthetic
    }

    /// Hex BLAKE3, the same on every machine. Up to 512 MiB of encoded images are read when a set is opened, and the hash
    /// covers every byte: labels and pixels where all images have one size (and take up to 2 GiB), else labels, names
    /// and 16 bytes of each image's own BLAKE3, as it is encoded. Of larger sets it covers labels, file names and file
    /// sizes.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Height and width, where all images share them and are held decoded.
    pub fn size(&self) -> Option<(usize, usize)> {
        match &*self.images {
            Images::Decoded { size, .. } => *size,
            Images::Encoded(_) => None,
        }
    }

    /// What an image is called wherever the set lies, by no other image's name: `class/file.JPEG` below the part's
    /// folder; of parquet the path in the file, `shard.parquet row 7` where it has none, and both where others share the
    /// path (which is not looked for in sets too large to be read when they are opened); `validation 7` where there are
    /// no files.
    ///
    /// Panics where `index` is not below `len`, as slices do.
    pub fn image_name(&self, index: usize) -> String {
        let place = self.place(index);
        match (self.names.get(place), &*self.images) {
            (Some(name), _) => name.clone(),
            (None, Images::Encoded(source)) => source.name(place),
            (None, Images::Decoded { .. }) => format!("image {place}"),
        }
    }

    fn place(&self, index: usize) -> usize {
        self.members.as_ref().map_or(index, |members| members[index] as usize)
    }

    /// Panics where `index` is not below `len`, as slices do.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[self.place(index)]
    }

    /// A copy of image `index`. Panics where it is not below `len`, as slices do.
    ///
    /// # Errors
    ///
    /// An image that cannot be read or decoded.
    pub fn picture(&self, index: usize) -> Result<Picture, DataError> {
        self.lend(index).map(Cow::into_owned)
    }

    /// Image `index`, without a copy where it is held decoded.
    pub(crate) fn lend(&self, index: usize) -> Result<Cow<'_, Picture>, DataError> {
        let place = self.place(index);
        match &*self.images {
            Images::Decoded { pictures, .. } => Ok(Cow::Borrowed(&pictures[place])),
            Images::Encoded(source) => {
                decoded(&**source, place, &source.encoded(place)?).map(|(picture, _)| Cow::Owned(picture))
            }
        }
    }

    /// Decodes every image of a set that is not held decoded; the error names the broken ones. Small sets need it not:
    /// they were decoded when they were opened. Of ImageNet it takes about as long as an epoch.
    ///
    /// # Errors
    ///
    /// [`DataError::Broken`].
    pub fn verify(&self) -> Result<(), DataError> {
        if let Images::Decoded { .. } = &*self.images {
            return Ok(());
        }
        let failures: Vec<String> = self
            .runs()
            .into_iter()
            .flat_map(|run| run.into_par_iter().filter_map(|index| self.lend(index).err()).collect::<Vec<_>>())
            .map(|error| error.to_string())
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(DataError::broken(&self.name, self.len(), failures)) }
    }

    /// How many clones share the images.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.images)
    }

    /// Ranges of indices that are cheap to read together; one range where any order is as good.
    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        // Members in an order of their own lie in no runs.
        let sorted = self.members.as_ref().is_none_or(|members| members.is_sorted());
        if self.runs.is_empty() || !sorted {
            return std::iter::once(0..self.len()).collect();
        }
        let mut runs = Vec::new();
        let (mut end, mut from) = (0, 0);
        for length in self.runs.iter() {
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

/// Image `place` of its encoded bytes.
pub(crate) fn decoded(source: &dyn Source, place: usize, bytes: &[u8]) -> Result<(Picture, Remarks), DataError> {
    let (picture, remarks) =
        decode_and_tell(bytes).map_err(|reason| DataError::Image { name: source.location(place), reason })?;
    source.check(place, &picture)?;
    Ok((picture, remarks))
}

/// The first name that a list has more than once.
pub(crate) fn twice(names: &[String]) -> Option<&str> {
    let mut once = BTreeSet::new();
    names.iter().map(String::as_str).find(|name| !once.insert(*name))
}

fn hasher(labels: &[u32]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    labels.iter().for_each(|label| {
        hasher.update(&label.to_le_bytes());
    });
    hasher
}
