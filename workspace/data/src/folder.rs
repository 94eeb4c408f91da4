//! Image folders: images below `<class>/`, at any depth, or the same below `train/` and `val/`. Tiny-ImageNet's own `val/`
//! has its images in one folder and their classes in a list.

mod annotations;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::classes::{IMAGENET, imagenet_label, imagenet_wnids, is_wnid};
use crate::dataset::{Opened, Source};
use crate::{DataError, Dataset, Part, repeats};
use annotations::{ANNOTATIONS, Annotations};
pub(crate) use files::is_resource_fork;
use files::{BESIDE_CLASSES, Entries, count_files, entries, holds_image, images};

/// What the folders of the parts are called, in any case of letters.
const TRAIN: [&str; 1] = ["train"];
const VALIDATION: [&str; 3] = ["val", "validation", "valid"];

/// Parts that are neither, or are called otherwise. A class is not called so by intent.
const OTHER_PARTS: [&str; 6] = ["test", "training", "testing", "dev", "eval", "evaluation"];

/// As [`BESIDE_CLASSES`], of files that lie higher.
const BESIDE_PARTS: &str = " beside the parts";

/// How many class folders an error names.
const NAMED: usize = 5;

struct Files {
    root: PathBuf,
    /// Below `root`.
    files: Vec<PathBuf>,
    sizes: Vec<u64>,
}

impl Source for Files {
    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn encoded(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let path = self.root.join(&self.files[index]);
        sandglass_files::read(&path).map_err(DataError::io(&path))
    }

    fn total_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    fn fingerprint(&self, hasher: &mut blake3::Hasher) {
        for (file, size) in self.files.iter().zip(&self.sizes) {
            hasher.update(file.as_os_str().as_encoded_bytes());
            hasher.update(&size.to_le_bytes());
        }
    }
}

pub(crate) fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// A folder's parts, by the names of their folders, and its other folders.
struct Parts {
    train: Option<String>,
    validation: Option<String>,
    beside: Vec<String>,
}

impl Parts {
    /// No folder becomes a class because nobody knew it for a part, nor the reverse: one that could be either is refused.
    fn of(folder: &Path) -> Result<Self, DataError> {
        let folders = entries(folder)?.folders;
        let take = |names: &[&str], what: &str| -> Result<Option<String>, DataError> {
            let mut found = folders.iter().filter(|name| is_one_of(name, names));
            let Some(first) = found.next() else { return Ok(None) };
            // Two names of one folder are one part.
            let place = |name: &str| folder.join(name).canonicalize().ok();
            match found.find(|other| place(other) != place(first)) {
                Some(other) => {
                    let reason =
                        format!("holds {first}/ and {other}/, which both are its {what} part: name one of them");
                    Err(DataError::layout(folder, reason))
                }
                None => Ok(Some(first.clone())),
            }
        };
        let (train, validation) = (take(&TRAIN, "training")?, take(&VALIDATION, "validation")?);
        let is_part = |name: &String| is_one_of(name, &TRAIN) || is_one_of(name, &VALIDATION);
        let beside: Vec<String> = folders.iter().filter(|name| !is_part(name)).cloned().collect();
        match (&train, &validation) {
            (None, None) => {
                if let Some(part) = beside.iter().find(|name| is_one_of(name, &OTHER_PARTS)) {
                    let reason = format!(
                        "holds {part}/, which is no class by its name: name the part itself, or call parts train/ and val/"
                    );
                    return Err(DataError::layout(folder, reason));
                }
            }
            // One such name may be a class's: there are trains among the classes of several sets.
            (Some(one), None) | (None, Some(one)) => {
                for other in beside.iter().filter(|name| !is_one_of(name, &OTHER_PARTS)) {
                    if holds_image(&folder.join(other))? {
                        let reason = format!(
                            "holds {one}/, a part by its name, and images in {other}/ beside it: name the part itself, or \
                             move classes, {one} too, below a folder val/ or train/"
                        );
                        return Err(DataError::layout(folder, reason));
                    }
                }
            }
            (Some(_), Some(_)) => {}
        }
        Ok(Self { train, validation, beside })
    }
}

pub(crate) fn has_training(folder: &Path) -> Result<bool, DataError> {
    Ok(Parts::of(folder)?.train.is_some())
}

/// The validation part and the training part, where the one is the other once more: by a link, or with all its images under
/// the same names.
pub(crate) fn repeated(folder: &Path) -> Result<Option<[String; 2]>, DataError> {
    let Parts { train: Some(train), validation: Some(validation), .. } = Parts::of(folder)? else { return Ok(None) };
    let [ours, theirs] = [&validation, &train].map(|part| folder.join(part));
    let same = Some([format!("{validation}/"), format!("{train}/")]);
    if repeats::is_same(&ours, &theirs) {
        return Ok(same);
    }
    let classes = entries(&ours)?.folders;
    if classes.is_empty() || classes != entries(&theirs)?.folders {
        return Ok(None);
    }
    let mut files = Vec::new();
    for class in classes {
        let of = |root: &Path| images(root, Path::new(&class), &mut BTreeMap::new());
        let own = of(&ours)?;
        // A training part is not read to be scored: what is wrong with it is no matter here.
        if !of(&theirs).is_ok_and(|others| others == own) {
            return Ok(None);
        }
        files.extend(own);
    }
    let is_copy = files.iter().all(|(file, _)| repeats::is_same(&ours.join(file), &theirs.join(file)));
    Ok(same.filter(|_| is_copy))
}

/// Whether `folder` holds folders that could be classes, or parts with such.
pub(crate) fn is_image_folder(folder: &Path) -> Result<bool, DataError> {
    Ok(!entries(folder)?.folders.is_empty())
}

/// In words: the kinds of files in a folder that holds nothing that is read.
pub(crate) fn instead(folder: &Path) -> Result<String, DataError> {
    Ok(listed(&entries(folder)?.passed_over).replace(BESIDE_CLASSES, ""))
}

/// Folders with images beside parquet files.
///
/// # Errors
///
/// Where one of them is a part by its name, so that the set is there twice.
pub(crate) fn beside_parquet(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut found = Vec::new();
    for name in entries(folder)?.folders {
        if !holds_image(&folder.join(&name))? {
            continue;
        }
        if [&TRAIN[..], &VALIDATION, &OTHER_PARTS].iter().any(|names| is_one_of(&name, names)) {
            let reason = format!("holds parquet files and images in {name}/: name one of them");
            return Err(DataError::layout(folder, reason));
        }
        found.push(format!("{name}/"));
    }
    Ok(found)
}

/// With a classifier of 1000 outputs a label is a wnid's place among ImageNet's; otherwise its folder's place among the
/// sorted names (those of `train/` where there is one). A folder without `train/` and `val/` is no validation part.
pub(crate) fn open(folder: &Path, part: Part, classes: Option<usize>, opened: Opened) -> Result<Dataset, DataError> {
    let Parts { train, validation, mut beside } = Parts::of(folder)?;
    let found = match (part, &train, &validation) {
        (Part::Train, Some(train), _) => Some(train),
        (Part::Train, None, Some(validation)) => {
            return Err(DataError::layout(folder, format!("has {validation}/ but no train/")));
        }
        (Part::Validation | Part::Scored, _, Some(validation)) => Some(validation),
        (Part::Validation | Part::Scored, Some(train), None) => {
            let test = beside.iter().find(|name| name.eq_ignore_ascii_case("test"));
            let hint = test.map_or_else(String::new, |test| format!("; {test}/ is scored where it is named itself"));
            return Err(DataError::no_part(folder, &format!("it has {train}/ but no val/{hint}")));
        }
        (Part::Validation, None, None) => return Err(DataError::no_part(folder, "it has no train/ and val/")),
        (Part::Train | Part::Scored, None, None) => None,
    };
    let root = found.map_or_else(|| folder.to_path_buf(), |part| folder.join(part));
    let Entries { folders, mut passed_over } = entries(&root)?;
    let list_file = root.join(ANNOTATIONS);
    let annotations = match list_file.is_file() && folders == ["images"] {
        true => Some(Annotations::read(&list_file)?),
        false => None,
    };
    // ImageNet's classes in English are folders as others are, and find their places later.
    let is_by_wnid = annotations.is_some() || folders.iter().any(|class| is_wnid(class));
    let (names, list): (Vec<String>, String) = match (&train, classes, &annotations) {
        (_, Some(IMAGENET), _) if is_by_wnid => {
            (imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect(), "ImageNet's classes".to_owned())
        }
        (Some(train), ..) if found != Some(train) => match entries(&folder.join(train))?.folders {
            // No class of the validation part would be among its own.
            none if none.is_empty() => {
                let reason = "holds no class folders, which say what the classes of a set's other parts are";
                let place = folder.join(train);
                return Err(DataError::layout(&place, format!("{reason}{}", listed(&entries(&place)?.passed_over))));
            }
            classes => (classes, format!("the classes in {train}/")),
        },
        (_, _, Some(annotations)) => (annotations.classes(), String::new()),
        _ => (folders.clone(), String::new()),
    };
    let place = |class: &str| match classes {
        Some(IMAGENET) if is_by_wnid => imagenet_label(class),
        _ => names.binary_search_by(|name: &String| name.as_str().cmp(class)).ok().map(|place| place as u32),
    };
    let (mut files, mut labels, mut sizes, mut empty) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut nested = Vec::new();
    if let Some(mut annotations) = annotations {
        annotations.is_read(&mut passed_over);
        for (file, size) in images(&root, Path::new("images"), &mut passed_over)? {
            let (line, class) = annotations.take(&file)?;
            let unknown = || DataError::layout(&list_file, format!("line {line}: {class:?} is not among {list}"));
            labels.push(place(&class).ok_or_else(unknown)?);
            files.push(file);
            sizes.push(size);
        }
        annotations.check_all_taken()?;
    } else {
        check_places_differ(&root, &folders)?;
        for class in folders {
            let label = place(&class);
            let unknown = || {
                let same = names.iter().find(|name| name.nfc().eq(class.nfc()));
                let form = same.map_or_else(String::new, |name| {
                    format!(", where {name:?} is the same in another Unicode form: rename one")
                });
                let missing = match class == "images" && !list_file.exists() {
                    true => format!(": {ANNOTATIONS}, in which Tiny-ImageNet says its classes, is not beside it"),
                    false => String::new(),
                };
                let mixed = match is_by_wnid && !is_wnid(&class) {
                    true => ", which other folders here call by their wnids",
                    false => "",
                };
                DataError::layout(&root.join(&class), format!("is not among {list}{form}{missing}{mixed}"))
            };
            let label = label.ok_or_else(unknown)?;
            let images = images(&root, Path::new(&class), &mut passed_over)?;
            nested.extend(nested_folders(&class, &images, &names));
            if images.is_empty() {
                empty.push(class);
            }
            for (file, size) in images {
                files.push(file);
                sizes.push(size);
                labels.push(label);
            }
        }
    }
    if files.is_empty() {
        // As Spark divides tables (`label=3/`), and the hub a set's configurations.
        let divided = empty.iter().find(|name| name.contains('=')).or(empty.first());
        let hint = match divided.filter(|_| passed_over.contains_key("parquet")) {
            Some(name) => {
                format!("; parquet files in folders such as {name}/ are scored where these are named themselves")
            }
            None => String::new(),
        };
        let reason = format!("holds no image in class folders{}{hint}", listed(&passed_over));
        return Err(DataError::layout(&root, reason));
    }
    if !empty.is_empty() {
        let names = empty.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if empty.len() > NAMED { format!(" and {} more", empty.len() - NAMED) } else { String::new() };
        let passed_over = listed(&passed_over);
        let advice = match ["Annotations", "ImageSets"].iter().all(|name| empty.iter().any(|empty| empty == name)) {
            true => "it is a year of a VOC devkit, whose images have boxes and not one class each",
            false => "move away what is no class",
        };
        let reason = format!("holds class folders without images: {names}{more}; {advice}{passed_over}");
        return Err(DataError::layout(&root, reason));
    }
    let part = found.map_or_else(|| "all of it".to_owned(), |part| format!("{part}/"));
    match found {
        Some(_) => {
            for (kind, count) in entries(folder)?.passed_over {
                let kind = kind.replace(BESIDE_CLASSES, BESIDE_PARTS);
                *passed_over.entry(kind).or_default() += count;
            }
            for part in beside.iter().filter(|name| is_one_of(name, &OTHER_PARTS)) {
                count_files(folder, part, &mut passed_over);
            }
            beside.iter_mut().for_each(|name| name.push('/'));
        }
        // These are its classes.
        None => beside.clear(),
    }
    let name = folder.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy());
    let set = Dataset::from_source(&name, names, Box::new(Files { root, files, sizes }), labels, opened)?;
    let set = set.with_passed_over(passed_over).with_nested(nested).with_origin(part, beside);
    if classes == Some(IMAGENET) && !is_by_wnid { set.with_imagenet_labels() } else { Ok(set) }
}

/// The folders within a class that may be meant as classes: where its images do not all lie in one folder, and where a folder is
/// called as a class is.
fn nested_folders(class: &str, images: &[(PathBuf, u64)], classes: &[String]) -> Vec<String> {
    let folders: BTreeSet<&Path> = images.iter().filter_map(|(file, _)| file.parent()).collect();
    let is_class = |folder: &Path| {
        let name = folder.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name != class && classes.binary_search_by(|other| other.as_str().cmp(name)).is_ok())
    };
    let is_one = folders.len() == 1;
    let below = folders.into_iter().filter(|folder| *folder != Path::new(class));
    below.filter(|folder| !is_one || is_class(folder)).map(|folder| format!("{}/", folder.display())).collect()
}

/// Two classes that are one folder, by a link, would have the same images.
fn check_places_differ(root: &Path, classes: &[String]) -> Result<(), DataError> {
    let mut taken: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for class in classes {
        let path = root.join(class);
        if let Some(other) = taken.insert(path.canonicalize().map_err(DataError::io(&path))?, class) {
            return Err(DataError::layout(root, format!("its classes {other} and {class} are one folder, by a link")));
        }
    }
    Ok(())
}

/// `; passed over: 3 webp, 1 txt`, or nothing.
fn listed(passed_over: &BTreeMap<String, u64>) -> String {
    let kinds: Vec<String> = passed_over.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if kinds.is_empty() { String::new() } else { format!("; passed over: {}", kinds.join(", ")) }
}
