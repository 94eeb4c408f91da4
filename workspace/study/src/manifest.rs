//! `results/checkpoints/manifest.toml`: the checkpoints behind rows, and where their files are.

use std::path::{Path, PathBuf};

use sandglass_ledger::{Ledger, Status, write_atomically};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file::read_toml;
use crate::{Home, Study, StudyError};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    pub checkpoint: Vec<Entry>,
}

/// One checkpoint: a file of the repository, or one on the hub.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
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
    pub fn read(home: &Home) -> Result<Self, StudyError> {
        let path = path(home);
        if path.exists() { read_toml(&path) } else { Ok(Self::default()) }
    }

    pub fn find(&self, study: &str, profile: &str, cell: &str) -> Option<&Entry> {
        self.checkpoint.iter().find(|entry| entry.is_of(study, profile, cell))
    }

    /// Lists every kept checkpoint of a study that is at hand and whose row has its hash; what was listed before and is
    /// not at hand stays. It depends on rows and files alone, so that cells may run on several machines: whoever runs the
    /// study last, after merging, lists them all.
    pub fn refresh(home: &Home, study: &Study, ledger: &Ledger) -> Result<(), StudyError> {
        let old = Self::read(home)?;
        let mut new = old.checkpoint.clone();
        let scored = ledger.rows.iter().filter(|row| row.study == study.name && row.status == Status::Ok);
        for row in scored.filter(|row| row.metric == "top1") {
            let file = kept_file(&row.study, &row.profile, &row.cell);
            let Ok(bytes) = std::fs::read(home.checkpoints().join(&file)) else { continue };
            let sha256 = sha256(&bytes);
            if row.checkpoint_hash.as_ref() == Some(&sha256) {
                new.retain(|entry| !entry.is_of(&row.study, &row.profile, &row.cell));
                let (study, profile, cell) = (row.study.clone(), row.profile.clone(), row.cell.clone());
                let bytes = bytes.len() as u64;
                new.push(Entry { study, profile, cell, sha256, bytes, file: Some(file), hub: None });
            }
        }
        new.sort_by(|a, b| (&a.study, &a.profile, &a.cell).cmp(&(&b.study, &b.profile, &b.cell)));
        if new == old.checkpoint {
            return Ok(());
        }
        let path = path(home);
        let text = toml::to_string(&Manifest { checkpoint: new })
            .map_err(|error| StudyError::Invalid { path: path.clone(), message: error.to_string() })?;
        write_atomically(&path, format!("{HEADER}{text}").as_bytes()).map_err(|source| StudyError::Io { path, source })
    }
}

impl Entry {
    fn is_of(&self, study: &str, profile: &str, cell: &str) -> bool {
        self.study == study && self.profile == profile && self.cell == cell
    }
}

fn path(home: &Home) -> PathBuf {
    home.checkpoints().join("manifest.toml")
}

/// Where a cell's checkpoint is kept, below `results/checkpoints`.
pub fn kept_file(study: &str, profile: &str, cell: &str) -> String {
    format!("{study}/{profile}/{cell}.safetensors")
}

/// In hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of a file, in hex.
pub fn sha256_file(path: &Path) -> Result<String, StudyError> {
    let bytes = std::fs::read(path).map_err(|source| StudyError::Io { path: path.into(), source })?;
    Ok(sha256(&bytes))
}
