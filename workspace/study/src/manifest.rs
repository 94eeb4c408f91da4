//! `results/checkpoints/manifest.toml`: the checkpoints behind rows, and where their files are.

use std::path::PathBuf;

use sandglass_files::sha256_file;
use sandglass_ledger::{Ledger, Status};
use serde::{Deserialize, Serialize};

use crate::borrow::Place;
use crate::file::read_toml;
use crate::opened::ProfileCells;
use crate::run::Lock;
use crate::{Experiment, Opened, Project, StudyError};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    pub checkpoint: Vec<Listed>,
}

/// One checkpoint: a file of the repository, or one on the hub.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub study: String,
    pub profile: String,
    pub cell: String,
    pub sha256: String,
    pub bytes: u64,
    /// Below `results/checkpoints`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubFile>,
}

/// A file on the hub, pinned.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// `owner/name` of a model repository.
    pub repo: String,
    /// A whole commit hash.
    pub revision: String,
    pub file: String,
}

const HEADER: &str = "# Checkpoints behind rows; `sandglass run` writes this file from the rows and the files at hand.\n\
                      # An entry with `hub` in place of `file` lies on the hub and is fetched when it is re-evaluated.\n\n";

impl Manifest {
    /// Empty where there is no file.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub fn read(project: &Project) -> Result<Self, StudyError> {
        let path = path(project);
        if path.exists() { read_toml(&path) } else { Ok(Self::default()) }
    }

    pub(crate) fn find(&self, place: &Place) -> Option<&Listed> {
        self.checkpoint.iter().find(|entry| entry.is_of(place))
    }

    /// Brings a study's entries up to date: what `keep` asks for and is at hand with its row's hash is listed; what was
    /// listed and is not at hand stays, for it is missed; what `keep` no longer asks for goes, its row stays.
    ///
    /// It depends on rows and files alone, so that cells may run on several machines: whoever runs the study last, after
    /// merging, lists them all. Processes on one machine wait for each other.
    pub(crate) fn refresh<E: Experiment>(study: &Opened<E>) -> Result<(), StudyError> {
        let project = &study.project;
        let _lock = Lock::wait(&project.locks().join("manifest.lock"))?;
        let ledger = Ledger::read(&project.rows());
        let old = Self::read(project)?;
        // A process that has run for long may not know a profile that was added since.
        let is_known = |entry: &Listed| {
            entry.study == study.head.name && study.file.profile.iter().any(|profile| profile.name == entry.profile)
        };
        let mut new: Vec<Listed> = old.checkpoint.iter().filter(|entry| !is_known(entry)).cloned().collect();
        for ProfileCells { profile, cells } in study.profiles(None)? {
            let asked = cells.iter().filter(|cell| !cell.is_borrowed);
            for cell in asked.filter(|cell| study.experiment.keeps(&profile.setup, &cell.keyed.cell)) {
                let [name, profile, id] = cell.place.names();
                let row = ledger.cell(name, profile, id).find(|row| row.status == Status::Ok);
                let hash = row.and_then(|row| row.checkpoint_hash.clone());
                let file = kept_file(&cell.place);
                let path = project.checkpoints().join(&file);
                let fresh = path.is_file().then(|| sha256_file(&path).ok()).flatten();
                let listed = old.find(&cell.place);
                match (hash, fresh) {
                    (Some(hash), Some(fresh)) if hash == fresh => {
                        let bytes = path.metadata().map_err(StudyError::io(&path))?.len();
                        let (study, profile, cell) = (name.to_owned(), profile.to_owned(), id.to_owned());
                        new.push(Listed { study, profile, cell, sha256: hash, bytes, file: Some(file), hub: None });
                    }
                    _ => new.extend(listed.cloned()),
                }
            }
        }
        new.sort_by(|a, b| (&a.study, &a.profile, &a.cell).cmp(&(&b.study, &b.profile, &b.cell)));
        if new == old.checkpoint {
            return Ok(());
        }
        let path = path(project);
        let text = toml::to_string(&Manifest { checkpoint: new })
            .map_err(|error| StudyError::Invalid { path: path.clone(), message: error.to_string() })?;
        sandglass_files::write(&path, format!("{HEADER}{text}").as_bytes()).map_err(StudyError::io(&path))
    }
}

impl Listed {
    fn is_of(&self, place: &Place) -> bool {
        [&self.study, &self.profile, &self.cell].map(String::as_str) == place.names()
    }
}

fn path(project: &Project) -> PathBuf {
    project.checkpoints().join("manifest.toml")
}

/// Where a cell's checkpoint is kept, below `results/checkpoints`.
pub(crate) fn kept_file(place: &Place) -> String {
    format!("{}/{}/{}.safetensors", place.study, place.profile, place.cell)
}
