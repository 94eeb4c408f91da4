//! Image folders: images below `<class>/`, at any depth, or the same below `train/` and `val/`. Tiny-ImageNet's own `val/`
//! has its images in one folder and their classes in a list.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::classes::{IMAGENET, imagenet_label, imagenet_wnids};
use crate::dataset::Source;
use crate::{DataError, Dataset, Part};

/// Torchvision's list, and GIF and PBM.
const EXTENSIONS: [&str; 11] = ["jpeg", "jpg", "png", "bmp", "gif", "webp", "tif", "tiff", "pbm", "pgm", "ppm"];

/// What a validation part's folder is called, best first.
const VALIDATION: [&str; 3] = ["val", "validation", "valid"];

/// Beside Tiny-ImageNet's `images/`: a line for each, with its name, its class and a box.
const ANNOTATIONS: &str = "val_annotations.txt";

/// A class folder is walked down so far: links may lead in circles.
const MAX_DEPTH: usize = 16;

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

fn below(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_dir())
}

/// Whether `folder` holds folders that could be classes, or parts with such.
pub(crate) fn is_image_folder(folder: &Path) -> Result<bool, DataError> {
    Ok(!entries(folder)?.folders.is_empty())
}

/// With a classifier of 1000 outputs a label is a wnid's place among ImageNet's; otherwise its folder's place among the
/// sorted names (those of `train/` where there is one). A folder without `train/` and `val/` is no validation part.
pub(crate) fn open(folder: &Path, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    let (train, validation) = (below(folder, &["train"]), below(folder, &VALIDATION));
    let no_part = |reason: &str| DataError::no_part(folder, reason);
    let root = match (part, &train, validation) {
        (Part::Train, Some(train), _) => train.clone(),
        (Part::Train, None, Some(_)) => return Err(DataError::layout(folder, "has val/ but no train/")),
        (Part::Validation | Part::Scored, _, Some(validation)) => validation,
        (Part::Validation | Part::Scored, Some(_), None) => return Err(no_part("it has train/ but no val/")),
        (Part::Validation, None, None) => return Err(no_part("it has no train/ and val/")),
        (Part::Train | Part::Scored, None, None) => folder.to_path_buf(),
    };
    let found = entries(&root)?;
    let list_file = root.join(ANNOTATIONS);
    let is_annotated = list_file.is_file() && found.folders == ["images"];
    let (names, list) = match (&train, classes) {
        (_, Some(IMAGENET)) => (imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect(), "ImageNet's classes"),
        (Some(train), _) if *train != root => (entries(train)?.folders, "the classes in train/"),
        _ => (found.folders.clone(), ""),
    };
    let place = |class: &str| match classes {
        Some(IMAGENET) => imagenet_label(class),
        _ => names.binary_search_by(|name: &String| name.as_str().cmp(class)).ok().map(|place| place as u32),
    };
    let (mut passed_over, mut empty) = (found.passed_over, Vec::new());
    let (mut files, mut labels, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let mut class_folders = found.folders;
    if is_annotated {
        class_folders.clear();
        passed_over.clear();
        let images = images(&root, Path::new("images"), &mut passed_over)?;
        let annotations = Annotations::read(&list_file)?;
        for (file, size) in images {
            let class = annotations.class(&file)?;
            let unknown = || DataError::layout(&list_file, format!("{class:?} is not among the classes in train/"));
            labels.push(place(class).ok_or_else(unknown)?);
            files.push(file);
            sizes.push(size);
        }
        annotations.check_all_there(&files)?;
    }
    for class in class_folders {
        let label = place(&class);
        let label = label.ok_or_else(|| DataError::layout(&root.join(&class), format!("is not among {list}")))?;
        let images = images(&root, Path::new(&class), &mut passed_over)?;
        if images.is_empty() {
            empty.push(class);
        }
        for (file, size) in images {
            files.push(file);
            sizes.push(size);
            labels.push(label);
        }
    }
    if files.is_empty() {
        return Err(DataError::layout(&root, format!("holds no image in class folders{}", listed(&passed_over))));
    }
    if !empty.is_empty() {
        let names = empty.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if empty.len() > NAMED { format!(" and {} more", empty.len() - NAMED) } else { String::new() };
        let reason = format!("holds class folders without images: {names}{more}; move away what is no class");
        return Err(DataError::layout(&root, reason));
    }
    let name = folder.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy());
    let set = Dataset::from_source(&name, names, Box::new(Files { root, files, sizes }), labels)?;
    Ok(set.with_passed_over(passed_over))
}

/// Classes by the names of images.
struct Annotations {
    path: PathBuf,
    classes: BTreeMap<String, String>,
}

impl Annotations {
    fn read(path: &Path) -> Result<Self, DataError> {
        let text = sandglass_files::read_text(path).map_err(DataError::io(path))?;
        let mut classes = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let wrong = |what: &str| DataError::layout(path, format!("line {number} {what}"));
            let mut words = line.split_whitespace();
            let (Some(image), Some(class)) = (words.next(), words.next()) else {
                return Err(wrong("has no image and class"));
            };
            if classes.insert(image.to_owned(), class.to_owned()).is_some() {
                return Err(wrong(&format!("names {image} once more")));
            }
        }
        Ok(Self { path: path.into(), classes })
    }

    fn class(&self, file: &Path) -> Result<&str, DataError> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let class = self.classes.get(name).map(String::as_str);
        class.ok_or_else(|| DataError::layout(&self.path, format!("does not name {}", file.display())))
    }

    /// Each name is one of `files`, which are all named.
    fn check_all_there(&self, files: &[PathBuf]) -> Result<(), DataError> {
        if files.len() == self.classes.len() {
            return Ok(());
        }
        let is_there = |name: &String| files.iter().any(|file| file.ends_with(name));
        let (what, missing) = ("names an image that is not there", self.classes.keys().find(|name| !is_there(name)));
        Err(DataError::layout(&self.path, format!("{what}: {}", missing.map_or("", String::as_str))))
    }
}

/// `; passed over: 3 webp, 1 txt`, or nothing.
fn listed(passed_over: &BTreeMap<String, u64>) -> String {
    let kinds: Vec<String> = passed_over.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if kinds.is_empty() { String::new() } else { format!("; passed over: {}", kinds.join(", ")) }
}

/// What lies in a folder whose folders are classes.
struct Entries {
    /// Names, sorted; hidden ones are none.
    folders: Vec<String>,
    /// Files, which have no class, by kind.
    passed_over: BTreeMap<String, u64>,
}

fn entries(folder: &Path) -> Result<Entries, DataError> {
    let (mut folders, mut passed_over) = (Vec::new(), BTreeMap::new());
    for (name, kind) in list(folder)? {
        match kind {
            Kind::Folder if is_hidden(&name) => {}
            Kind::Folder => folders.push(name.into_string().map_err(|name| {
                DataError::layout(folder, format!("holds a folder whose name is not UTF-8: {name:?}; rename it"))
            })?),
            Kind::File(_) | Kind::Other => {
                *passed_over.entry(format!("{} beside the class folders", extension(&name))).or_default() += 1;
            }
        }
    }
    folders.sort_unstable();
    Ok(Entries { folders, passed_over })
}

enum Kind {
    Folder,
    /// With its bytes.
    File(u64),
    /// Pipes, sockets, links to nothing: reading one could wait for ever.
    Other,
}

fn list(folder: &Path) -> Result<Vec<(OsString, Kind)>, DataError> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.map_err(DataError::io(folder))?;
        // Follows links.
        let kind = match std::fs::metadata(entry.path()) {
            Ok(of) if of.is_dir() => Kind::Folder,
            Ok(of) if of.is_file() => Kind::File(of.len()),
            Ok(_) => Kind::Other,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kind::Other,
            Err(error) => return Err(DataError::io(&entry.path())(error)),
        };
        Ok((entry.file_name(), kind))
    };
    std::fs::read_dir(folder).map_err(DataError::io(folder))?.map(entry).collect()
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// In small letters.
fn extension(name: &OsString) -> String {
    let extension = Path::new(name).extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.unwrap_or_else(|| "without extension".to_string())
}

/// Paths below `root` and bytes of the images of a class, in torchvision's order: folder by folder, by name.
fn images(
    root: &Path,
    class: &Path,
    passed_over: &mut BTreeMap<String, u64>,
) -> Result<Vec<(PathBuf, u64)>, DataError> {
    let mut images = Vec::new();
    let mut folders = vec![(class.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(DataError::layout(&root.join(&folder), "lies too deep: does a link lead in a circle?"));
        }
        for (name, kind) in list(&root.join(&folder))? {
            let mut pass = |kind: String| *passed_over.entry(kind).or_default() += 1;
            let extension = extension(&name);
            match kind {
                Kind::Folder if is_hidden(&name) => pass("hidden folder".to_string()),
                Kind::Folder => folders.push((folder.join(name), depth + 1)),
                Kind::File(size) if EXTENSIONS.contains(&extension.as_str()) => {
                    images.push((folder.clone(), name, size));
                }
                Kind::File(_) => pass(extension),
                Kind::Other => pass("no regular file".to_string()),
            }
        }
    }
    // By bytes, as Python sorts: a path would be compared name by name.
    images.sort_unstable_by(|(a, a_name, _), (b, b_name, _)| {
        let bytes = |folder: &Path| folder.as_os_str().as_encoded_bytes().to_vec();
        bytes(a).cmp(&bytes(b)).then_with(|| a_name.cmp(b_name))
    });
    Ok(images.into_iter().map(|(folder, name, size)| (folder.join(name), size)).collect())
}
