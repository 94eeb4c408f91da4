//! Files below a folder, or in a tar archive that is indexed once and never unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::DataError;

/// Paths have slashes on every system.
pub(super) enum Files {
    Folder(PathBuf),
    Tar {
        path: PathBuf,
        /// Where the bytes of each file start, and how many they are.
        index: BTreeMap<String, (u64, u64)>,
    },
}

impl Files {
    /// Of an uncompressed tar file, whose headers alone are read.
    ///
    /// # Errors
    /// [`DataError::Archive`] of headers that are damaged, claim bytes that are not there, or name a file twice.
    pub fn tar(path: &Path) -> Result<Self, DataError> {
        let damaged = |error: std::io::Error| DataError::archive(path, error.to_string().replace('\n', "; "));
        let mut file = sandglass_files::open(path).map_err(DataError::io(path))?;
        let length = file.metadata().map_err(DataError::io(path))?.len();
        let mut head = Vec::new();
        file.by_ref().take(sandglass_files::HEAD as u64).read_to_end(&mut head).map_err(DataError::io(path))?;
        file.rewind().map_err(DataError::io(path))?;
        match sandglass_files::kind(&head) {
            None | Some("a tar archive") => {}
            Some(kind) => return Err(DataError::archive(path, format!("no plain tar archive: it is {kind}"))),
        }
        let mut archive = tar::Archive::new(file);
        let mut index = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            let (start, size) = (entry.raw_file_position(), entry.size());
            let name = entry.path_bytes();
            if start.checked_add(size).is_none_or(|end| end > length) {
                let name = String::from_utf8_lossy(&name);
                let reason = format!("{name:?} claims {size} bytes, but the archive ends before: is it whole?");
                return Err(DataError::archive(path, reason));
            }
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            if !kind.is_file() {
                continue;
            }
            let name = name.trim_start_matches("./").to_string();
            if index.contains_key(&name) {
                return Err(DataError::archive(path, format!("{name:?} is in it twice")));
            }
            index.insert(name, (start, size));
        }
        Ok(Files::Tar { path: path.to_path_buf(), index })
    }

    /// For errors.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Files::Folder(folder) => folder.join(name),
            Files::Tar { path, .. } => path.join(name),
        }
    }

    /// Bytes of a regular file; none where there is none.
    pub fn size(&self, name: &str) -> Result<Option<u64>, DataError> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::metadata(&path) {
                    Ok(of) => Ok(of.is_file().then_some(of.len())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(DataError::io(&path)(error)),
                }
            }
            Files::Tar { index, .. } => Ok(index.get(name).map(|(_, size)| *size)),
        }
    }

    /// All bytes of a file of at most `most`.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, DataError> {
        let path = self.path(name);
        let size = self.size(name)?.ok_or_else(|| DataError::layout(&path, "is not there"))?;
        if size > most {
            return Err(DataError::layout(&path, format!("takes {size} bytes; more than {most} are not read")));
        }
        let bytes = match self {
            Files::Folder(_) => sandglass_files::open(&path).and_then(|file| read(file, size)),
            Files::Tar { path, index } => {
                let start = index.get(name).map_or(0, |(start, _)| *start);
                File::open(path).and_then(|mut file| {
                    file.seek(SeekFrom::Start(start))?;
                    read(file, size)
                })
            }
        };
        bytes.map_err(DataError::io(&path))
    }

    /// The folders that hold `inside`, this one first, each empty or with a slash at its end: any in an archive; of a folder
    /// itself, or those that lie in it.
    pub fn holders(&self, inside: &str) -> Result<Vec<String>, DataError> {
        let mut found: Vec<String> = match self {
            Files::Folder(folder) if folder.join(inside).is_dir() => vec![String::new()],
            Files::Folder(folder) => {
                let entries = std::fs::read_dir(folder).map_err(DataError::io(folder))?;
                let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
                let names = names.collect::<Result<Vec<_>, _>>().map_err(DataError::io(folder))?;
                names
                    .into_iter()
                    .filter(|name| folder.join(name).join(inside).is_dir())
                    .map(|name| name + "/")
                    .collect()
            }
            Files::Tar { index, .. } => {
                let part = format!("{inside}/");
                let before = |name: &String| {
                    let at = name.find(&part)?;
                    let folder = name.get(..at)?;
                    (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_string())
                };
                index.keys().filter_map(before).collect()
            }
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// `size` bytes, which must be there.
fn read(file: File, size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
