//! Where data lies, and data sets by name.

use std::path::{Path, PathBuf};

use crate::{DataError, Dataset, Embedded, Hub, IMAGENET, Part, cifar10, cifar10_from_hub, folder, parquet, shards};

/// `SANDGLASS_DATA`; unset, `data` in the repository or, where that is absent, `../shared/data` beside it.
///
/// The repository is the nearest folder upwards with a `Cargo.lock`, or the current one.
pub fn data_root() -> PathBuf {
    if let Some(root) = std::env::var_os("SANDGLASS_DATA").filter(|root| !root.is_empty()) {
        return root.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let repository = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(&here);
    let own = repository.join("data");
    let shared = repository.join("../shared/data");
    if !own.is_dir() && shared.is_dir() { shared } else { own }
}

/// Whether `SANDGLASS_OFFLINE=1` forbids opening a socket.
pub fn offline() -> bool {
    std::env::var_os("SANDGLASS_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Opens a data set: `embedded`, a folder, a parquet file, or the name of a folder below the data root. Nothing is
/// downloaded; `cifar10` is also found in the hub's cache.
///
/// `classes` is the classifier's number of outputs where it is known: labels beyond it are an error, and with 1000 the
/// labels of image folders are places in ImageNet's own list. A folder without parts holds the same images (and has the
/// same hash) as training and as validation part.
pub fn open(what: &str, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    let set = if what == "embedded" { Embedded::default().open(part)? } else { open_path(what, part, classes)? };
    if let Some(classes) = classes {
        set.check_labels(classes)?;
    }
    Ok(set)
}

fn open_path(what: &str, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    let given = PathBuf::from(what);
    let path = if given.exists() { given.clone() } else { data_root().join(what) };
    if what == "cifar10" && !path.exists() {
        // Fetched before; this function opens no socket.
        let hub = Hub { offline: true, ..Hub::from_env() };
        let folder =
            cifar10_from_hub(&hub).map_err(|_| DataError::layout(&path, "is missing: run make data-cifar10"))?;
        return parquet::open(what, &shards::shards(&folder, part)?, None);
    }
    if !path.exists() {
        let reason = format!("no such folder, nor in the data root {}", data_root().display());
        return Err(DataError::layout(&given, reason));
    }
    let name = path.canonicalize().ok();
    let name = name.as_deref().unwrap_or(&path).file_name().unwrap_or_default().to_string_lossy();
    if path.is_file() {
        return parquet::open(&name, std::slice::from_ref(&path), None);
    }
    if cifar10::is_cifar10(&path) {
        return cifar10::open(&path, part);
    }
    if let Some(below) = shards::parquet_folder(&path) {
        let set = parquet::open(&name, &shards::shards(&below, part)?, class_names(&path)?)?;
        return if classes == Some(IMAGENET) { set.with_imagenet_labels() } else { Ok(set) };
    }
    if folder::is_image_folder(&path) {
        return folder::open(&path, part, classes);
    }
    Err(DataError::layout(
        &path,
        "holds neither <class>/*.JPEG (or train/ and val/), nor *.parquet, nor CIFAR-10's *.bin",
    ))
}

/// From `wnids.txt` (in any order; a label is a place among the sorted wnids), if there is one.
fn class_names(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    let path = folder.join("wnids.txt");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(DataError::io(&path))?;
    let mut names: Vec<String> = text.split_whitespace().map(String::from).collect();
    names.sort_unstable();
    Ok(Some(names))
}
