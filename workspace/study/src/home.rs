//! Where a project keeps what studies read and write.

use std::path::{Path, PathBuf};

use crate::{Cell, StudyError};

/// The folder that holds `results`, above a study's file.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    pub fn above(path: &Path) -> Result<Self, StudyError> {
        let absolute = std::path::absolute(path).map_err(|source| StudyError::Io { path: path.into(), source })?;
        let found = absolute.ancestors().find(|folder| folder.join("results").is_dir());
        found.map(|folder| Self(folder.into())).ok_or_else(|| StudyError::NoHome { path: path.into() })
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn rows(&self) -> PathBuf {
        self.0.join("results/rows")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("results/checkpoints")
    }

    /// Where a cell trains and resumes; not committed. A cell that is defined anew starts in a folder of its own.
    pub fn run_of(&self, study: &str, profile: &str, cell: &Cell) -> PathBuf {
        let hash = cell.hash();
        self.0.join("runs").join(study).join(profile).join(format!("{}-{}", cell.id, hash.get(..8).unwrap_or(&hash)))
    }
}
