//! Where data lies, and data sets by name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::classes::{imagenet_wnids, is_numbered};
use crate::dataset::{Opened, SMALL};
use crate::{
    DataError, Dataset, Embedded, Hub, IMAGENET, Part, cifar10, cifar10_from_hub, folder, names, parquet, shards,
};

/// The folders below which data is looked for, in order: those of `SANDGLASS_DATA`, which lists them as `PATH` does;
/// where it is unset, `data` in the repository and `../shared/data` beside it. What is fetched goes into the first.
///
/// The repository is the nearest folder upwards with a `Cargo.lock`, or the current one.
pub fn data_roots() -> Vec<PathBuf> {
    roots(std::env::var_os("SANDGLASS_DATA"), &std::env::current_dir().unwrap_or_default())
}

fn roots(variable: Option<OsString>, here: &Path) -> Vec<PathBuf> {
    let variable = variable.unwrap_or_default();
    let named: Vec<PathBuf> = std::env::split_paths(&variable).filter(|root| !root.as_os_str().is_empty()).collect();
    if !named.is_empty() {
        return named;
    }
    let repository = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(here);
    vec![repository.join("data"), repository.join("../shared/data")]
}

/// The folder or file `name`, such as `tiny-imagenet` or `weights/mobilenetv2.safetensors`, below the first of
/// [`data_roots`] that holds it.
pub fn find_data(name: &str) -> Option<PathBuf> {
    below(&data_roots(), name).next()
}

/// What bears the name below each of the roots, in their order.
fn below(roots: &[PathBuf], name: &str) -> impl Iterator<Item = PathBuf> {
    roots.iter().map(move |root| root.join(name)).filter(move |path| !name.is_empty() && path.exists())
}

/// For errors.
fn listed(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether `SANDGLASS_OFFLINE=1` forbids opening a socket.
pub fn offline() -> bool {
    std::env::var_os("SANDGLASS_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Opens a data set: `embedded`, a folder, a parquet file, or the name of a folder below one of the data roots. Nothing is
/// downloaded; `cifar10` is also found in the hub's cache.
///
/// `classes` is the classifier's number of outputs where it is known: another number of named classes is an error, and so
/// are labels beyond it; with 1000, classes that are wnids or ImageNet's English names get their places in ImageNet's own
/// list, and 1000 classes of other names are an error. A folder or file without parts can be trained on or scored, but is no
/// validation part.
///
/// Parts are known by the names of folders or files, in any case of letters. A set that holds two of one kind (`val` and
/// `valid`, parquet files and folders, a shard and its copy) is an error, and so is a folder that could be a part or a class.
///
/// # Errors
///
/// What is nowhere, has no layout that is known, lacks the part, holds broken images, or classes that cannot be the
/// classifier's.
pub fn open(what: &str, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    let set = Request { classes, ..Request::new(what, part) }.open()?;
    if let Some(classes) = classes {
        set.check_classes(classes)?;
    }
    Ok(set)
}

/// As [`open`], for a classifier whose classes are known by name: labels are places among `names`, in whatever order the set
/// lists the same classes. Whether they are the same is for the caller to check; their number is.
///
/// # Errors
///
/// Those of [`open`]; labels that are numbers where `names` are too, in another order.
pub fn open_named(what: &str, part: Part, names: &[String]) -> Result<Dataset, DataError> {
    // A classifier of 1000 other classes knows nothing of ImageNet's.
    let is_imagenet = names == imagenet_wnids() || names.len() == IMAGENET && is_numbered(names);
    let request = Request { classes: is_imagenet.then_some(IMAGENET), names: Some(names), ..Request::new(what, part) };
    let set = request.open()?.in_order_of(names);
    set.check_classes_among(names)?;
    set.check_numbers(names)?;
    Ok(set)
}

/// The validation part of the set whose training part is `training`, with that one's labels; `classes` as for [`open`].
///
/// # Errors
///
/// Those of [`open`]; classes that are not those of the training part.
pub fn open_validation(what: &str, classes: Option<usize>, training: &Dataset) -> Result<Dataset, DataError> {
    let names = training.names_classes().then(|| training.classes());
    let set = Request { classes, names, ..Request::new(what, Part::Validation) }.open()?;
    if let Some(classes) = classes {
        set.check_classes(classes)?;
    }
    let set = match names {
        Some(names) => set.in_order_of(names),
        None => set,
    };
    set.check_same_classes(training)?;
    Ok(set)
}

/// How many images of a scored set are training images of the set `what` too, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The set has no training part.
    NoTraining,
    /// Some of so many scored images, or none.
    Images(usize),
    /// Why nobody knows: one part is too large to be read for this, or the training part is damaged.
    Unknown(String),
}

/// Compares the images of `scored`, a part of `what`, with those of its training part, where both are small.
///
/// # Errors
///
/// [`DataError::NoPart`] where the one part is the other by a link, or a copy of its files by name: its score says nothing.
/// Folders that cannot be read.
pub fn shared_with_training(what: &str, scored: &Dataset) -> Result<Shared, DataError> {
    // Embedded sets are drawn, whatever lies here.
    let Some(path) = place(what).filter(|path| what != "embedded" && path.is_dir()) else {
        return Ok(Shared::NoTraining);
    };
    let is_parquet = shards::is_parquet_folder(&path)?;
    if cifar10::is_cifar10(&path) || !is_parquet && !folder::has_training(&path)? {
        return Ok(Shared::NoTraining);
    }
    // Files that are the same need not be unpacked, and a large set's are found so at least.
    let repeated = if is_parquet { shards::repeated(&path)? } else { folder::repeated(&path)? };
    if let Some([part, of]) = repeated {
        let reason = format!("{part} is {of} once more: its validation images are its training images");
        return Err(DataError::no_part(&path, &reason));
    }
    let training = match (Request { opened: Opened::ForBytes, ..Request::new(what, Part::Train) }).open() {
        Ok(training) => training,
        Err(_) if is_parquet && shards::shards(&path, Part::Train).is_err() => return Ok(Shared::NoTraining),
        Err(error) => return Ok(Shared::Unknown(error.to_string())),
    };
    if !scored.knows_bytes() || training.encoded_bytes().is_none_or(|bytes| bytes > SMALL) {
        return Ok(Shared::Unknown("the set is large".to_owned()));
    }
    match scored.shared_with(&training) {
        Ok(count) => Ok(Shared::Images(count)),
        Err(error) => Ok(Shared::Unknown(error.to_string())),
    }
}

/// What is to be opened, and what is known of the classifier that it is for.
struct Request<'a> {
    what: &'a str,
    part: Part,
    /// The classifier's number of outputs.
    classes: Option<usize>,
    /// Its classes' names, for labels that are text.
    names: Option<&'a [String]>,
    opened: Opened,
}

impl<'a> Request<'a> {
    /// For whatever classifier.
    fn new(what: &'a str, part: Part) -> Self {
        Self { what, part, classes: None, names: None, opened: Opened::ForUse }
    }

    fn open(&self) -> Result<Dataset, DataError> {
        if self.what == "embedded" {
            let origin = if self.part == Part::Train { "train, drawn" } else { "validation, drawn" };
            return Ok(Embedded::default().open(self.part)?.with_origin(origin, Vec::new()));
        }
        let mut places = places(self.what).into_iter();
        let Some(path) = places.next() else { return self.open_at(None) };
        let same = places.map(|other| format!("{} of the same name", other.display())).collect();
        Ok(self.open_at(Some(path.clone()))?.with_place(&path, same))
    }

    fn open_at(&self, found: Option<PathBuf>) -> Result<Dataset, DataError> {
        if self.what == "cifar10" && found.is_none() {
            // Fetched before; this function opens no socket.
            let hub = Hub { offline: true, ..Hub::from_env() };
            let folder = cifar10_from_hub(&hub).map_err(|_| nowhere(self.what, ": run make data-cifar10"))?;
            return self.shards(self.what, &folder, Vec::new());
        }
        let path = found.ok_or_else(|| nowhere(self.what, ""))?;
        // As its archive unpacks.
        let path = Some(path.join(cifar10::FOLDER)).filter(|inner| cifar10::is_cifar10(inner)).unwrap_or(path);
        let name = path.canonicalize().ok();
        let name = name.as_deref().unwrap_or(&path).file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() {
            return match self.part {
                Part::Validation => Err(DataError::no_part(&path, "it is a file, which has no parts")),
                Part::Train | Part::Scored => {
                    let set = self.parquet(&name, std::slice::from_ref(&path), &path)?;
                    let beside = shards::is_one_of_several(&path).into_iter().collect();
                    self.in_imagenets_order(set.with_origin(&*name, beside))
                }
            };
        }
        if !path.is_dir() {
            return Err(DataError::layout(&path, "is neither a file nor a folder"));
        }
        let (is_cifar10, is_parquet) = (cifar10::is_cifar10(&path), shards::is_parquet_folder(&path)?);
        if is_cifar10 && is_parquet {
            let reason = "holds CIFAR-10's *.bin and parquet files: move one of the sets into a folder of its own";
            return Err(DataError::layout(&path, reason));
        }
        if is_cifar10 {
            return cifar10::open(&path, self.part);
        }
        if is_parquet {
            return self.in_imagenets_order(self.shards(&name, &path, folder::beside_parquet(&path)?)?);
        }
        if folder::is_image_folder(&path)? {
            return folder::open(&path, self.part, self.classes, self.opened);
        }
        let reason = "holds neither <class>/*.JPEG (or train/ and val/), nor *.parquet, nor CIFAR-10's *.bin";
        Err(DataError::layout(&path, format!("{reason}{}", folder::instead(&path)?)))
    }

    /// `folders_beside`: what lies beside the shards and is not read.
    fn shards(&self, name: &str, folder: &Path, folders_beside: Vec<String>) -> Result<Dataset, DataError> {
        let shards::Found { files, part, mut beside } = shards::shards(folder, self.part)?;
        beside.extend(folders_beside);
        Ok(self.parquet(name, &files, folder)?.with_origin(part, beside))
    }

    /// `place`: the file or folder that was named.
    fn parquet(&self, name: &str, files: &[PathBuf], place: &Path) -> Result<Dataset, DataError> {
        parquet::open(name, files, &names::beside(files, place)?, self.names, self.opened)
    }

    fn in_imagenets_order(&self, set: Dataset) -> Result<Dataset, DataError> {
        if self.classes == Some(IMAGENET) { set.with_imagenet_labels() } else { Ok(set) }
    }
}

pub(crate) fn nowhere(what: &str, advice: &str) -> DataError {
    let reason = format!("no such folder, nor below the data root {}{advice}", listed(&data_roots()));
    DataError::Nowhere { what: what.to_owned(), reason }
}

fn place(what: &str) -> Option<PathBuf> {
    places(what).into_iter().next()
}

/// All that a name may mean, the one that it is taken for first: a path, or what lies below the data roots.
fn places(what: &str) -> Vec<PathBuf> {
    let here = Some(PathBuf::from(what)).filter(|path| path.exists());
    let mut places: Vec<PathBuf> = Vec::new();
    for path in here.into_iter().chain(below(&data_roots(), what)) {
        let is_known = places.iter().any(|known| known.canonicalize().ok() == path.canonicalize().ok());
        if !is_known {
            places.push(path);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_lists_the_roots_and_they_alone_count() {
        let repository = tempfile::tempdir().unwrap();
        let here = repository.path().join("workspace/data");
        std::fs::create_dir_all(&here).unwrap();
        std::fs::write(repository.path().join("Cargo.lock"), "").unwrap();
        let unset = [repository.path().join("data"), repository.path().join("../shared/data")];
        for nothing in [None, Some("".into()), Some(":".into())] {
            assert_eq!(roots(nothing, &here), unset);
        }
        let two = std::env::join_paths(["/one", "/two words"]).unwrap();
        assert_eq!(roots(Some(two), &here), [PathBuf::from("/one"), PathBuf::from("/two words")]);
        assert_eq!(roots(Some("own".into()), &here), [PathBuf::from("own")]);
    }

    #[test]
    fn each_set_is_looked_for_in_each_root() {
        let folder = tempfile::tempdir().unwrap();
        let roots = ["absent", "first", "second"].map(|root| folder.path().join(root));
        for below in ["first/a", "second/a", "second/b", "second/weights"] {
            std::fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        std::fs::write(folder.path().join("second/weights/x"), "").unwrap();
        let found =
            |name: &str| below(&roots, name).next().map(|path| path.strip_prefix(&folder).unwrap().to_path_buf());
        assert_eq!(found("a"), Some("first/a".into()), "the first wins");
        assert_eq!(found("b"), Some("second/b".into()), "one root hides no other");
        assert_eq!(found("weights/x"), Some("second/weights/x".into()));
        assert_eq!((found("c"), found("")), (None, None));
        let all = listed(&roots);
        assert!(roots.iter().all(|root| all.contains(root.to_str().unwrap())), "{all}");
    }
}
