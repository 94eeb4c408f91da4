//! Pascal VOC's devkit: `JPEGImages/ID.jpg`, `Annotations/ID.xml` and lists of ids in `ImageSets/Main/`, in a folder or in a
//! tar archive, which is read where it lies. Sets of other classes in its layout name them in `classes.txt`.

mod annotation;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::dataset::{Opened, Source};
use crate::{DataError, Dataset, DetectionSet, EmbeddedDetection, Object, Picture, Split, find_data, root};
use annotation::Annotation;
pub use annotation::AnnotationError;
use files::Files;

/// In the devkit's order.
pub const VOC_CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Below a devkit's year.
const LISTS: &str = "ImageSets/Main";

/// Below a year whose classes are not Pascal VOC's: their names, one a line.
const CLASSES: &str = "classes.txt";

/// Bytes that a list may take; the longest official one takes 180 kB.
const LONGEST_LIST: u64 = 4 << 20;

/// Bytes that an annotation may take; the longest official one takes 40 kB.
const LONGEST_ANNOTATION: u64 = 1 << 20;

/// One year of the devkit.
struct Devkit {
    /// As `VOC2007`.
    year: String,
    files: Files,
    /// Where it lies below `files`: empty, or with a slash at its end.
    below: String,
    classes: Vec<String>,
}

/// Opens a detection set: `embedded`, or one list of a devkit, which is found as [`open_voc`] says.
///
/// # Errors
///
/// As [`open_voc`].
pub fn open_detection(what: &str, split: Split) -> Result<DetectionSet, DataError> {
    if what == "embedded" { EmbeddedDetection::default().open(split) } else { open_voc(&[(what, split)]) }
}

/// Opens one list of a devkit, or several one after another, as `VOC2007` and `VOC2012` are joined for training.
///
/// A devkit is the folder of a year (`VOCdevkit/VOC2007`), one that holds a single year, or a tar archive of either; it may
/// lie below a data root. Where there is no folder `VOCdevkit` but a `VOCdevkit.tar`, `VOCdevkit/VOC2007` is found in it.
///
/// Classes are [`VOC_CLASSES`], or those of a `classes.txt` in the year's folder, one name a line; of several years the same.
///
/// Coordinates in the annotations are pixels, counted from 1, and both ends belong to the box. Bounds are the outer edges of
/// these pixels, `(xmin - 1) / width` to `xmax / width`, so that a box of one pixel is as wide as a pixel. (The official
/// detection code takes 1 from all four numbers: its boxes end one pixel earlier.)
///
/// # Errors
///
/// [`DataError::Broken`] names the first annotations, with line and object, and the first images that are missing, damaged
/// or of another size than annotated: nothing is left out in silence. A list that is not there names those that are.
pub fn open_voc(lists: &[(&str, Split)]) -> Result<DetectionSet, DataError> {
    let mut images = Images { kits: Vec::new(), entries: Vec::new() };
    let (mut objects, mut sizes, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut shared = Vec::new();
    for &(what, split) in lists {
        let kit = find(what)?;
        let name = format!("{} {split}", kit.year);
        if let Some(other) = images.kits.first().filter(|other| other.classes != kit.classes) {
            let reason = format!("its classes are not those of {}", other.year);
            return Err(DataError::Labels { set: name, reason });
        }
        shared.extend(kit.shared(split)?.into_iter().map(|(list, count)| (format!("{} {list}", kit.year), count)));
        for (entry, annotation) in kit.read(&name, split, images.kits.len())? {
            images.entries.push(entry);
            sizes.push((annotation.height, annotation.width));
            objects.push(annotation.objects);
        }
        images.kits.push(kit);
        names.push(name);
    }
    let mut once = BTreeSet::new();
    if let Some(twice) = images.entries.iter().find(|entry| !once.insert(&entry.name)) {
        let reason = format!("{} is in two of the lists", twice.name);
        return Err(DataError::Labels { set: names.join(" + "), reason });
    }
    let classes = images.kits.first().map(|kit| kit.classes.clone()).unwrap_or_default();
    let labels = vec![0; objects.len()];
    let images = Dataset::from_source(&names.join(" + "), classes, Box::new(images), labels, Opened::ForUse)?;
    Ok(DetectionSet::assemble(images, objects, sizes)?.with_shared(shared))
}

fn find(what: &str) -> Result<Devkit, DataError> {
    let there = |path: &Path| {
        let below_roots = || path.to_str().and_then(find_data);
        if path.exists() { Some(path.to_path_buf()) } else { below_roots() }
    };
    let path = Path::new(what);
    if let Some(path) = there(path) {
        let files = if path.is_dir() { Files::Folder(path.clone()) } else { Files::tar(&path)? };
        return only_year(&path, files, "");
    }
    // Within an archive that it names, or that of a folder that it lies in.
    for folder in path.ancestors().filter(|folder| folder.file_name().is_some()) {
        let mut packed = folder.as_os_str().to_os_string();
        packed.push(".tar");
        let archive = [folder, Path::new(&packed)].into_iter().filter_map(there).find(|path| path.is_file());
        if let (Some(archive), Ok(rest)) = (archive, path.strip_prefix(folder)) {
            let rest = rest.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
            return only_year(&archive, Files::tar(&archive)?, &rest);
        }
    }
    Err(root::nowhere(what, ""))
}

/// The year that `files` hold, of those that end in `rest` where it is not empty.
fn only_year(path: &Path, files: Files, rest: &str) -> Result<Devkit, DataError> {
    let folders: Vec<String> = files.holders(LISTS)?;
    let wanted = |folder: &&String| {
        let folder = folder.trim_end_matches('/');
        folder.strip_suffix(rest).is_some_and(|before| rest.is_empty() || before.is_empty() || before.ends_with('/'))
    };
    match folders.iter().filter(wanted).collect::<Vec<_>>()[..] {
        [below] => {
            let below = below.clone();
            let year = match below.trim_end_matches('/').rsplit('/').next() {
                Some(year) if !year.is_empty() => year.to_string(),
                _ => file_name(path),
            };
            let classes = classes(&files, &format!("{below}{CLASSES}"))?;
            Ok(Devkit { year, files, below, classes })
        }
        // As a folder that is not there.
        [] if !folders.is_empty() => {
            let (what, reason) = (path.join(rest).display().to_string(), format!("no such year{}", among(&folders)));
            Err(DataError::Nowhere { what, reason })
        }
        [] => Err(DataError::layout(&path.join(rest), "holds no year of a VOC devkit")),
        _ => Err(DataError::layout(path, format!("holds several years{}; name one below it", among(&folders)))),
    }
}

/// Pascal VOC's where there is no file that names others.
fn classes(files: &Files, inside: &str) -> Result<Vec<String>, DataError> {
    if files.size(inside)?.is_none() {
        return Ok(VOC_CLASSES.map(String::from).to_vec());
    }
    let path = files.path(inside);
    let names: Vec<String> = lines(files, inside)?.into_iter().map(|(name, _)| name).collect();
    let mut once = BTreeSet::new();
    match names.iter().find(|name| !once.insert(*name)) {
        _ if names.is_empty() => Err(DataError::layout(&path, "names no class")),
        Some(twice) => Err(DataError::layout(&path, format!("names {twice:?} twice"))),
        None => Ok(names),
    }
}

/// Those of a text that are not blank, each with its number.
fn lines(files: &Files, inside: &str) -> Result<Vec<(String, usize)>, DataError> {
    let bytes = files.read(inside, LONGEST_LIST)?;
    let text = String::from_utf8(bytes).map_err(|_| DataError::layout(&files.path(inside), "is no UTF-8 text"))?;
    let numbered = text.trim_start_matches('\u{feff}').lines().zip(1..);
    let numbered = numbered.map(|(line, number)| (line.trim().to_owned(), number));
    Ok(numbered.filter(|(line, _)| !line.is_empty()).collect())
}

fn file_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = path.file_name().map_or_else(|| "VOC".into(), |name| name.to_string_lossy());
    name.trim_end_matches(".tar").to_string()
}

fn among(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(": it has {}", names.join(", ")) }
}

impl Devkit {
    /// Every image of a list with its annotation. `set` is named by errors, `number` is the kit's own.
    fn read(&self, set: &str, split: Split, number: usize) -> Result<Vec<(Entry, Annotation)>, DataError> {
        let ids = self.ids(split)?;
        let read: Vec<_> = ids.par_iter().map(|(id, line)| self.entry(split, id, *line, number)).collect();
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for image in read {
            match image {
                Ok(image) => found.push(image),
                Err(error) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() { Ok(found) } else { Err(DataError::broken(set, ids.len(), failures)) }
    }

    fn entry(&self, split: Split, id: &str, line: usize, kit: usize) -> Result<(Entry, Annotation), DataError> {
        let inside = format!("{}JPEGImages/{id}.jpg", self.below);
        let bytes = self.files.size(&inside)?.ok_or_else(|| {
            let named = |ending: &str| {
                matches!(self.files.size(&format!("{}JPEGImages/{id}{ending}", self.below)), Ok(Some(_)))
            };
            let other = ["", ".jpeg", ".JPG", ".JPEG", ".png", ".PNG"].into_iter().find(|ending| named(ending));
            let other = other.map_or_else(String::new, |ending| {
                format!("; {id}{ending} lies there, and a list has ids of images in .jpg")
            });
            let reason = format!("is not there, but line {line} of {LISTS}/{split}.txt names it{other}");
            DataError::layout(&self.files.path(&inside), reason)
        })?;
        let xml = format!("{}Annotations/{id}.xml", self.below);
        let path = self.files.path(&xml);
        let text = self.files.read(&xml, LONGEST_ANNOTATION)?;
        let annotation = Annotation::parse(&text, &self.classes)
            .map_err(|reason| DataError::Annotation { name: path.display().to_string(), reason })?;
        let name = format!("{}/JPEGImages/{id}.jpg", self.year);
        let size = (annotation.height, annotation.width);
        Ok((Entry { kit, name, inside, bytes, annotation: path, size, size_line: annotation.size_line }, annotation))
    }

    /// How many images of a list other lists name too, which should have none of them.
    fn shared(&self, split: Split) -> Result<Vec<(Split, usize)>, DataError> {
        let own: BTreeSet<String> = self.ids(split)?.into_iter().map(|(id, _)| id).collect();
        let apart = Split::ALL.into_iter().filter(|&other| split.is_apart_from(other));
        // What is wrong with a list that was not asked for is told where it is.
        let shared = apart.map(|other| {
            let ids = self.ids(other).unwrap_or_default();
            (other, ids.iter().filter(|(id, _)| own.contains(id)).count())
        });
        Ok(shared.filter(|(_, count)| *count > 0).collect())
    }

    /// The ids of a list, each with its line.
    fn ids(&self, split: Split) -> Result<Vec<(String, usize)>, DataError> {
        let inside = format!("{}{LISTS}/{split}.txt", self.below);
        let path = self.files.path(&inside);
        let refused = |line: usize, reason: String| DataError::layout(&path, format!("line {line}: {reason}"));
        if self.files.size(&inside)?.is_none() {
            let has =
                |split: &Split| matches!(self.files.size(&format!("{}{LISTS}/{split}.txt", self.below)), Ok(Some(_)));
            let names: Vec<String> = Split::ALL.iter().filter(|split| has(split)).map(Split::to_string).collect();
            return Err(DataError::layout(&path, format!("is not there{}", among(&names))));
        }
        let mut ids = Vec::new();
        let mut first_at: BTreeMap<String, usize> = BTreeMap::new();
        for (id, line) in lines(&self.files, &inside)? {
            // It becomes part of a path, and must not lead out of the devkit.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            if !id.bytes().all(plain) || id.starts_with('.') {
                let of_class = id.split_whitespace().nth(1).is_some_and(|word| ["-1", "0", "1"].contains(&word));
                let hint =
                    if of_class { ": lists of one class, with -1, 0 or 1 behind each, are not read" } else { "" };
                return Err(refused(line, format!("{id:?} is no image's id{hint}")));
            }
            if let Some(first) = first_at.insert(id.clone(), line) {
                return Err(refused(line, format!("repeats {id} of line {first}")));
            }
            ids.push((id, line));
        }
        if ids.is_empty() { Err(DataError::layout(&path, "names no image")) } else { Ok(ids) }
    }
}

/// One image of a list.
struct Entry {
    kit: usize,
    /// What it is called wherever the devkit lies.
    name: String,
    /// Where it lies below the kit's files.
    inside: String,
    bytes: u64,
    annotation: PathBuf,
    /// Height and width, as annotated.
    size: (usize, usize),
    size_line: u32,
}

struct Images {
    kits: Vec<Devkit>,
    entries: Vec<Entry>,
}

impl Source for Images {
    fn name(&self, index: usize) -> String {
        self.entries[index].name.clone()
    }

    fn location(&self, index: usize) -> String {
        let entry = &self.entries[index];
        self.kits[entry.kit].files.path(&entry.inside).display().to_string()
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let entry = &self.entries[index];
        self.kits[entry.kit].files.read(&entry.inside, entry.bytes)
    }

    fn check(&self, index: usize, picture: &Picture) -> Result<(), DataError> {
        let Entry { annotation, size: (height, width), size_line, .. } = &self.entries[index];
        if (picture.height, picture.width) == (*height, *width) {
            return Ok(());
        }
        let reason =
            format!("the size is {width} x {height}, but the image's is {} x {}", picture.width, picture.height);
        let reason = AnnotationError { line: *size_line, object: None, reason };
        Err(DataError::Annotation { name: annotation.display().to_string(), reason })
    }

    fn total_bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }

    fn fingerprint(&self, hasher: &mut blake3::Hasher) {
        for Entry { name, bytes, .. } in &self.entries {
            hasher.update(name.as_bytes());
            hasher.update(&bytes.to_le_bytes());
        }
    }
}
