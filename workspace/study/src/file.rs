//! `study.toml`: the question, what is compared, and at which scales.

use std::path::Path;

use sandglass_files::from_toml;
use sandglass_ledger::is_plain_name;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::StudyError;
use crate::paper::PaperTable;

/// The file as an experiment with design `D` and setups `S` reads it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile<D, S> {
    pub name: String,
    /// The experiment whose method this is; unset: the one that is called as the study.
    #[serde(default)]
    pub method: Option<String>,
    pub title: String,
    pub question: String,
    /// What to keep in mind when reading the table.
    pub analysis: String,
    /// What is done otherwise than in the paper, in two sentences.
    #[serde(default)]
    pub differs: String,
    /// Id in `paper_tables.toml`, where a paper has a table of this.
    #[serde(default)]
    pub paper_table: Option<String>,
    pub design: D,
    pub profile: Vec<Profile<S>>,
}

/// One scale at which the design is run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile<S> {
    pub name: String,
    /// Heads a column.
    pub title: String,
    /// What a reader of its numbers has to know.
    #[serde(default)]
    pub note: String,
    /// Expected wall time of all cells together on two cores.
    pub minutes: f64,
    /// True where the data are drawn by code.
    #[serde(default)]
    pub synthetic: bool,
    /// `study/profile` whose cells are this profile's own where both define them alike: their rows and files are read
    /// there, and never made here.
    #[serde(default)]
    pub borrow: Option<String>,
    pub setup: S,
}

/// The part of a study's file that every study has.
#[derive(Clone, Debug)]
pub struct Head {
    pub name: String,
    pub title: String,
    pub question: String,
    pub analysis: String,
    pub differs: String,
    pub paper_table: Option<String>,
}

impl Head {
    /// The paper's table of this.
    ///
    /// # Errors
    /// The study names none, or one that there is not.
    pub fn paper(&self) -> Result<PaperTable, StudyError> {
        let id = self.paper_table.as_deref().ok_or_else(|| StudyError::refused("this method needs a paper_table"))?;
        PaperTable::find(id)
    }
}

impl<D, S> StudyFile<D, S> {
    pub fn head(&self) -> Head {
        Head {
            name: self.name.clone(),
            title: self.title.clone(),
            question: self.question.clone(),
            analysis: self.analysis.trim().to_owned(),
            differs: self.differs.trim().to_owned(),
            paper_table: self.paper_table.clone(),
        }
    }

    /// A profile by name; the first one if none is named.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn profile(&self, name: Option<&str>) -> Result<&Profile<S>, StudyError> {
        let found = match name {
            Some(name) => self.profile.iter().find(|profile| profile.name == name),
            None => self.profile.first(),
        };
        found.ok_or_else(|| StudyError::Profile {
            study: self.name.clone(),
            name: name.unwrap_or_default().to_owned(),
            known: self.profile.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl<D: DeserializeOwned, S: DeserializeOwned> StudyFile<D, S> {
    /// Reads a file and refuses what every study must not hold.
    ///
    /// # Errors
    /// The mistake, with its line where the text has one.
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let file: Self = read_toml(path)?;
        file.check().map_err(|message| StudyError::Invalid { path: path.into(), message })?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        const PLAIN: &str = "use letters, digits, '-', '_' and '.', for it names files";
        if !is_plain_name(&self.name) {
            return Err(format!("name {:?}: {PLAIN}", self.name));
        }
        if self.profile.is_empty() {
            return Err("a study needs a profile".into());
        }
        for (at, profile) in self.profile.iter().enumerate() {
            let name = &profile.name;
            if !is_plain_name(name) {
                return Err(format!("profile {name:?}: {PLAIN}"));
            }
            if self.profile.iter().take(at).any(|other| other.name == *name) {
                return Err(format!("profile {name} occurs twice"));
            }
            if !profile.minutes.is_finite() || profile.minutes < 0.0 {
                return Err(format!("profile {name}: minutes must be a number from 0"));
            }
        }
        Ok(())
    }
}

/// Reads and parses a file. Types must carry `deny_unknown_fields`.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, StudyError> {
    let text = sandglass_files::read_text(path).map_err(StudyError::io(path))?;
    let parsed = from_toml(&text);
    parsed.map_err(|error| StudyError::Toml { path: path.into(), line: error.line, message: error.message })
}
