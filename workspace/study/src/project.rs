//! Where a project keeps what studies read and write.

use std::path::{Path, PathBuf};

use crate::StudyError;

/// The folder that holds `experiments` and `results`.
#[derive(Clone, Debug)]
pub struct Project(PathBuf);

impl Project {
    /// The project around a path: the nearest folder at or above it that holds `results` or `experiments`.
    ///
    /// # Errors
    /// There is none.
    pub fn around(path: &Path) -> Result<Self, StudyError> {
        let absolute = std::path::absolute(path).map_err(StudyError::io(path))?;
        let holds = |folder: &&Path| ["results", "experiments"].iter().any(|name| folder.join(name).is_dir());
        let found = absolute.ancestors().find(holds);
        found.map(|folder| Self(folder.into())).ok_or_else(|| StudyError::NoProject { path: path.into() })
    }

    /// The project around the current folder.
    ///
    /// # Errors
    /// There is none.
    pub fn here() -> Result<Self, StudyError> {
        Self::around(Path::new("."))
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn rows(&self) -> PathBuf {
        self.0.join("results/rows")
    }

    pub fn predictions(&self) -> PathBuf {
        self.0.join("results/predictions")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("results/checkpoints")
    }

    /// `SANDGLASS_RUNS`, else `runs`, in the project unless it is absolute: where cells are made and resume. Not committed.
    pub fn runs(&self) -> PathBuf {
        let named = std::env::var_os("SANDGLASS_RUNS").filter(|folder| !folder.is_empty());
        self.0.join(named.unwrap_or_else(|| "runs".into()))
    }

    /// Locks on what lies in `results`, and beside it: whoever writes there must meet the same ones, wherever it makes its
    /// cells. Not committed.
    pub(crate) fn locks(&self) -> PathBuf {
        self.0.join("results/.locks")
    }

    /// Where a cell is made. One that is defined anew starts in a folder of its own.
    pub fn run_of(&self, study: &str, profile: &str, id: &str, hash: &str) -> PathBuf {
        self.runs().join(study).join(profile).join(format!("{id}-{}", hash.get(..8).unwrap_or(hash)))
    }

    /// The files of all studies below `experiments`, by name.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn studies(&self) -> Result<Vec<PathBuf>, StudyError> {
        let folder = self.0.join("experiments");
        let mut files = Vec::new();
        if !folder.is_dir() {
            return Ok(files);
        }
        for entry in std::fs::read_dir(&folder).map_err(StudyError::io(&folder))? {
            let path = entry.map_err(StudyError::io(&folder))?.path().join("study.toml");
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}
