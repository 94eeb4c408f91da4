//! Image folders: `<class>/*.JPEG`, or the same below `train/` and `val/`.

use std::path::{Path, PathBuf};

use crate::classes::{IMAGENET, imagenet_label, imagenet_wnids};
use crate::dataset::Source;
use crate::{DataError, Dataset, Part};

const EXTENSIONS: [&str; 3] = ["jpeg", "jpg", "png"];

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
        std::fs::read(&path).map_err(DataError::io(&path))
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

/// Whether `folder` holds images in class folders, directly or below `train/` or `val/`.
pub(crate) fn is_image_folder(folder: &Path) -> bool {
    let holds_images = |folder: PathBuf| images(&folder).is_ok_and(|files| !files.is_empty());
    let holds_classes =
        |folder: &Path| class_names(folder).is_ok_and(|names| names.iter().any(|name| holds_images(folder.join(name))));
    ["", "train", "val"].iter().any(|below| holds_classes(&folder.join(below)))
}

/// With a classifier of 1000 outputs a label is a wnid's place among ImageNet's; otherwise its folder's place among the
/// sorted names (those of `train/` where there is one). A folder without `train/` and `val/` serves for either part.
pub(crate) fn open(folder: &Path, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    let (train, val) = (folder.join("train"), folder.join("val"));
    let root = match part {
        Part::Train if train.is_dir() => train.clone(),
        Part::Train if val.is_dir() => return Err(DataError::layout(folder, "has val/ but no train/")),
        Part::Validation if val.is_dir() => val,
        Part::Validation if train.is_dir() => return Err(DataError::layout(folder, "has train/ but no val/")),
        _ => folder.to_path_buf(),
    };
    let names: Vec<String> = if classes == Some(IMAGENET) {
        imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect()
    } else {
        class_names(if train.is_dir() { &train } else { &root })?
    };
    let (mut files, mut labels, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    for class in class_names(&root)? {
        let label = match classes {
            Some(IMAGENET) => imagenet_label(&class),
            _ => names.binary_search(&class).ok().map(|place| place as u32),
        };
        let list = if classes == Some(IMAGENET) { "ImageNet's classes" } else { "the classes in train/" };
        let label = label.ok_or_else(|| DataError::layout(&root.join(&class), format!("is not among {list}")))?;
        for (file, size) in images(&root.join(&class))? {
            files.push(Path::new(&class).join(file));
            sizes.push(size);
            labels.push(label);
        }
    }
    if files.is_empty() {
        return Err(DataError::layout(&root, "holds no <class>/*.JPEG"));
    }
    let name = folder.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy());
    Dataset::from_source(&name, names, Box::new(Files { root, files, sizes }), labels)
}

/// Names of the folders in `folder`, sorted.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Names and bytes of the images in `folder`, sorted.
fn images(folder: &Path) -> Result<Vec<(PathBuf, u64)>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = PathBuf::from(entry.file_name());
        let extension = name.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
            let size = std::fs::metadata(entry.path()).map_err(DataError::io(&entry.path()))?.len();
            files.push((name, size));
        }
    }
    files.sort_unstable();
    Ok(files)
}
