//! What lies in a folder: images, folders, and what is passed over, by kind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::DataError;

/// Torchvision's list, and GIF and the other names of PNM.
const EXTENSIONS: [&str; 13] =
    ["jpeg", "jpg", "png", "bmp", "gif", "webp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "pam"];

/// What macOS puts into archives beside the files themselves: their resource forks, named as they are.
pub(super) const MACOS_FOLDER: &str = "__MACOSX";
const MACOS_FILE: &str = "._";

/// Where files lie that have no class.
pub(super) const BESIDE_CLASSES: &str = " beside the class folders";

/// A class folder is walked down so far: links may lead in circles.
const MAX_DEPTH: usize = 16;

pub(super) fn is_image(name: &OsString) -> bool {
    EXTENSIONS.contains(&extension(name).as_str()) && !is_resource_fork(name)
}

pub(crate) fn is_resource_fork(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(MACOS_FILE.as_bytes())
}

/// What lies in a folder whose folders are classes.
pub(super) struct Entries {
    /// Names, sorted; hidden ones are none.
    pub folders: Vec<String>,
    /// Files, which have no class, by kind.
    pub passed_over: BTreeMap<String, u64>,
}

pub(super) fn entries(folder: &Path) -> Result<Entries, DataError> {
    let (mut folders, mut passed_over) = (Vec::new(), BTreeMap::new());
    for (name, kind) in list(folder)? {
        match kind {
            Kind::Folder if is_hidden(&name) => *passed_over.entry(hidden_folder()).or_default() += 1,
            Kind::Folder if name == MACOS_FOLDER => *passed_over.entry(macos_folder()).or_default() += 1,
            Kind::Folder => folders.push(name.into_string().map_err(|name| {
                DataError::layout(folder, format!("holds a folder whose name is not UTF-8: {name:?}; rename it"))
            })?),
            Kind::File(_) | Kind::Other => *passed_over.entry(beside_classes(&name)).or_default() += 1,
        }
    }
    folders.sort_unstable();
    Ok(Entries { folders, passed_over })
}

/// What kind a file is of that has no class.
pub(super) fn beside_classes(name: &OsStr) -> String {
    match is_resource_fork(name) {
        true => resource_fork(),
        false => format!("{}{BESIDE_CLASSES}", extension(name)),
    }
}

pub(super) fn resource_fork() -> String {
    format!("{MACOS_FILE}* of macOS")
}

pub(super) fn hidden_folder() -> String {
    "hidden folder".to_owned()
}

pub(super) fn macos_folder() -> String {
    format!("{MACOS_FOLDER} folder")
}

pub(super) enum Kind {
    Folder,
    /// With its bytes.
    File(u64),
    /// Pipes, sockets, links to nothing: reading one could wait for ever.
    Other,
}

pub(super) fn list(folder: &Path) -> Result<Vec<(OsString, Kind)>, DataError> {
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

pub(super) fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// In small letters.
pub(super) fn extension(name: &OsStr) -> String {
    let extension = Path::new(name).extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.unwrap_or_else(|| "without extension".to_string())
}

/// Paths below `root` and bytes of the images of a class, in torchvision's order: folder by folder, by name.
pub(super) fn images(
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
            match kind {
                Kind::Folder if name == MACOS_FOLDER => pass(macos_folder()),
                Kind::Folder if is_hidden(&name) => pass(hidden_folder()),
                Kind::Folder => folders.push((folder.join(name), depth + 1)),
                Kind::File(size) if is_image(&name) => images.push((folder.clone(), name, size)),
                Kind::File(_) if is_resource_fork(&name) => pass(resource_fork()),
                Kind::File(_) => pass(extension(&name)),
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

/// Whether there is an image anywhere below. Links may lead to one folder in very many ways: each is looked at once.
pub(super) fn holds_image(folder: &Path) -> Result<bool, DataError> {
    let (mut seen, mut folders) = (BTreeSet::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        if !seen.insert(folder.canonicalize().map_err(DataError::io(&folder))?) {
            continue;
        }
        for (name, kind) in list(&folder)? {
            match kind {
                Kind::File(_) if is_image(&name) => return Ok(true),
                Kind::Folder if !is_hidden(&name) && name != MACOS_FOLDER => folders.push(folder.join(name)),
                Kind::File(_) | Kind::Folder | Kind::Other => {}
            }
        }
    }
    Ok(false)
}

/// Counts the files anywhere below a part that is not read, by kind. What cannot be looked at there is no reason to refuse
/// another part.
pub(super) fn count_files(root: &Path, part: &str, passed_over: &mut BTreeMap<String, u64>) {
    let mut pass = |kind: &str| *passed_over.entry(format!("{kind} in {part}/")).or_default() += 1;
    let (mut seen, mut folders) = (BTreeSet::new(), vec![root.join(part)]);
    while let Some(folder) = folders.pop() {
        let (Ok(place), Ok(entries)) = (folder.canonicalize(), list(&folder)) else {
            pass("unreadable folder");
            continue;
        };
        if !seen.insert(place) {
            continue;
        }
        for (name, kind) in entries {
            match kind {
                Kind::Folder if is_hidden(&name) || name == MACOS_FOLDER => {}
                Kind::Folder => folders.push(folder.join(name)),
                Kind::File(_) if is_resource_fork(&name) => {}
                Kind::File(_) | Kind::Other => pass(&extension(&name)),
            }
        }
    }
}
