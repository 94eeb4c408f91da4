//! What the committed report shows: `report/out/index.tsv`, a line for every claim and every cell behind it. Without it nobody
//! could tell a cell that is gone from one that was never run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use sandglass_ledger::Row;

use crate::claim::Judged;
use crate::{Project, StudyError};

/// Claims with their verdicts, and cells with the hash of their row files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub claims: BTreeMap<String, String>,
    /// By `study/profile/cell`.
    pub cells: BTreeMap<String, String>,
}

const HEADER: &str = "# kind\tname\tverdict, or BLAKE3 of the row file";

impl Shown {
    /// Of the committed report; nothing where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn read(project: &Project) -> Result<Self, StudyError> {
        let path = Self::path(project);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = sandglass_files::read_text(&path).map_err(StudyError::io(&path))?;
        let mut shown = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split('\t').collect();
            let (of, name, value) = match fields[..] {
                ["claim", name, value] => (&mut shown.claims, name, value),
                ["cell", name, value] => (&mut shown.cells, name, value),
                _ => return Err(StudyError::Invalid { path, message: format!("{line:?} is neither claim nor cell") }),
            };
            of.insert(name.to_owned(), value.to_owned());
        }
        Ok(shown)
    }

    /// What a report of today shows.
    ///
    /// # Errors
    /// A row file that cannot be read any more.
    pub fn now(project: &Project, rows: &[Row], judged: &[Judged<'_>]) -> Result<Self, StudyError> {
        let mut shown = Self::default();
        for of in judged {
            shown.claims.insert(of.claim.id.clone(), of.verdict.words().to_owned());
        }
        for row in rows {
            let name = format!("{}/{}/{}", row.study, row.profile, row.cell);
            let path = project.rows().join(format!("{name}.parquet"));
            if let Entry::Vacant(cell) = shown.cells.entry(name) {
                let bytes = sandglass_files::read(&path).map_err(StudyError::io(&path))?;
                cell.insert(blake3::hash(&bytes).to_hex().chars().take(16).collect());
            }
        }
        Ok(shown)
    }

    pub fn text(&self) -> String {
        let claims = self.claims.iter().map(|(name, verdict)| format!("claim\t{name}\t{verdict}\n"));
        let cells = self.cells.iter().map(|(name, hash)| format!("cell\t{name}\t{hash}\n"));
        format!("{HEADER}\n{}", claims.chain(cells).collect::<String>())
    }

    pub fn path(project: &Project) -> PathBuf {
        project.root().join("report/out/index.tsv")
    }

    /// What this one shows and `now` does not have, in words: cells that are gone or changed, claims whose rows are gone.
    pub fn missed(&self, now: &Self) -> Vec<String> {
        let mut missed = Vec::new();
        for (name, hash) in &self.cells {
            match now.cells.get(name) {
                None => missed.push(format!("{name}: the committed report shows it, and its rows are gone")),
                Some(found) if found != hash => {
                    missed.push(format!("{name}: its rows are not those that the committed report shows"));
                }
                Some(_) => {}
            }
        }
        for (id, verdict) in &self.claims {
            let untested = crate::claim::Verdict::NotTested.words();
            match now.claims.get(id).map(String::as_str) {
                Some(found) if found == untested && verdict != untested => {
                    missed.push(format!("claim {id}: was {verdict}, and its rows are gone"));
                }
                None => missed.push(format!("claim {id}: was {verdict}, and is no longer in experiments/claims.toml")),
                Some(_) => {}
            }
        }
        missed
    }
}

/// Why a cell that had rows has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its file is there and cannot be used.
    Damaged(String),
    /// The committed report shows it, or its checkpoint is listed.
    Gone,
}

/// The name under which problems tell of a cell's file.
pub(crate) fn file_of([study, profile, cell]: [&str; 3]) -> PathBuf {
    Path::new(study).join(profile).join(format!("{cell}.parquet"))
}
