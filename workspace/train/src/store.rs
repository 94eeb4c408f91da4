//! Where a run's state lies: the newest, and the one before it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::state::State;

const NEWEST: &str = "state.safetensors";
const PREVIOUS: &str = "state.previous.safetensors";
const UNFINISHED: &str = "state.unfinished";

/// Why a state cannot be kept or found again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}; what was saved before is intact", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the state cannot be written: {0}")]
    Encode(#[from] safetensors::SafeTensorError),
    #[error("{}: damaged, and no good {PREVIOUS} beside it; delete both to start again", path.display())]
    Damaged { path: PathBuf },
}

/// A folder with the state of one run. At every moment at least one whole state lies in it, once there was one.
pub(crate) struct Store<'a> {
    disk: &'a dyn Disk,
    folder: PathBuf,
}

impl<'a> Store<'a> {
    pub fn new(disk: &'a dyn Disk, folder: &Path) -> Self {
        Self { disk, folder: folder.to_path_buf() }
    }

    /// The newest state that is whole; None where nothing was ever saved.
    pub fn load(&self) -> Result<Option<State>, StoreError> {
        match (self.read(NEWEST)?, self.read(PREVIOUS)?) {
            (Found::Whole(state), _) => Ok(Some(*state)),
            (Found::Nothing, Found::Whole(state)) => Ok(Some(*state)),
            (Found::Damaged, Found::Whole(state)) => {
                // The next save would otherwise put the damaged file in the place of the good one.
                let path = self.folder.join(NEWEST);
                self.disk.remove(&path).map_err(|source| StoreError::Write { path, source })?;
                Ok(Some(*state))
            }
            (Found::Nothing, Found::Nothing) => Ok(None),
            _ => Err(StoreError::Damaged { path: self.folder.join(NEWEST) }),
        }
    }

    /// After an error the states from before are as they were.
    pub fn save(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.put(UNFINISHED, bytes)?;
        let [newest, previous] = [NEWEST, PREVIOUS].map(|name| self.folder.join(name));
        match self.disk.rename(&newest, &previous) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::Write { path: previous, source: error })
            }
            _ => self.publish(UNFINISHED, NEWEST),
        }
    }

    /// Replaces a file of the folder as a whole.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let unfinished = format!("{name}.unfinished");
        self.put(&unfinished, bytes)?;
        self.publish(&unfinished, name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        self.disk.write(&path, bytes).and_then(|()| self.disk.sync(&path)).map_err(|source| {
            // A full disk gets its room back; if even this fails the first error is the one to tell.
            let _ = self.disk.remove(&path);
            StoreError::Write { path, source }
        })
    }

    fn publish(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let path = self.folder.join(to);
        let renamed = self.disk.rename(&self.folder.join(from), &path).and_then(|()| self.disk.sync(&self.folder));
        renamed.map_err(|source| StoreError::Write { path, source })
    }

    fn read(&self, name: &str) -> Result<Found, StoreError> {
        let path = self.folder.join(name);
        match self.disk.read(&path) {
            Ok(bytes) => Ok(State::from_bytes(&bytes).map_or(Found::Damaged, |state| Found::Whole(Box::new(state)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }
}

enum Found {
    Nothing,
    Damaged,
    Whole(Box<State>),
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
