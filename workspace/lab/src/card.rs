//! What a checkpoint trained here must be scored with; lies beside it, for the checkpoint's own bytes are pinned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sandglass_data::{DataError, Dataset, Protocol, is_numbered, misnumbered};
use sandglass_files::{TomlError, from_toml, sha256_file};
use sandglass_models::NetworkConfig;
use serde::{Deserialize, Serialize};

/// `model.toml` beside `model.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// SHA-256 of the checkpoint's file, set by [`Card::write`]: many a folder has a `model.toml`. None in cards of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    pub network: String,
    pub width: f64,
    pub stem_stride: usize,
    /// Height and width of the input, where they are equal.
    pub input: Option<usize>,
    /// Names of the classes, in the order of the classifier's outputs; none where nobody says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// What of all this nobody said either, and was taken at its default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    pub evaluation: Protocol,
}

#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Toml { path: PathBuf, source: TomlError },
    #[error(
        "{}: is of a checkpoint of SHA-256 {of}, and {} has {is}: where that is the same network in another form, take \
         the line sha256 out of the card",
        path.display(), checkpoint.display()
    )]
    Checkpoint { path: PathBuf, of: String, checkpoint: PathBuf, is: String },
    #[error("{}: cannot be written: {source}", path.display())]
    Unwritable { path: PathBuf, source: toml::ser::Error },
    #[error("{}: {source}", path.display())]
    Protocol { path: PathBuf, source: DataError },
    #[error("{}: an input of no pixel", path.display())]
    NoInput { path: PathBuf },
    #[error("{}: two outputs are called {class:?}", path.display())]
    Twice { path: PathBuf, class: String },
    #[error("{}: is of {of}, not {asked}", path.display())]
    Network { path: PathBuf, of: String, asked: String },
    #[error("{}: lists {listed} classes, and the classifier beside it has {outputs} outputs", path.display())]
    Outputs { path: PathBuf, listed: usize, outputs: usize },
    #[error("{}: output {at} is {theirs}, but class {at} of {set} is {ours}", path.display())]
    Classes { path: PathBuf, at: usize, theirs: String, set: String, ours: String },
}

impl Card {
    /// Where the card of a checkpoint is written.
    pub fn beside(checkpoint: &Path) -> PathBuf {
        checkpoint.with_extension("toml")
    }

    /// Where the card of a checkpoint lies: beside it or, of a link, beside what it leads to.
    pub fn find(checkpoint: &Path) -> Option<PathBuf> {
        let target = checkpoint.canonicalize().ok();
        let places = [Some(Self::beside(checkpoint)), target.as_deref().map(Self::beside)];
        // A card that is a link to nothing is there, and cannot be read.
        places.into_iter().flatten().find(|place| place.symlink_metadata().is_ok())
    }

    /// The card of a checkpoint; None where there is none.
    ///
    /// # Errors
    /// One that cannot be read or parsed, gives two outputs one name, has a protocol that cannot be, or says to be of another
    /// file.
    pub fn read(checkpoint: &Path) -> Result<Option<Self>, CardError> {
        let Some(path) = Self::find(checkpoint) else { return Ok(None) };
        let card = Self::read_at(&path)?;
        let Some(of) = &card.sha256 else { return Ok(Some(card)) };
        let is = sha256_file(checkpoint).map_err(|source| CardError::Io { path: checkpoint.into(), source })?;
        match of.eq_ignore_ascii_case(&is) {
            true => Ok(Some(card)),
            false => Err(CardError::Checkpoint { path, of: of.clone(), checkpoint: checkpoint.into(), is }),
        }
    }

    /// What a file holds, of whatever checkpoint.
    ///
    /// # Errors
    /// As [`Card::read`].
    pub fn read_at(path: &Path) -> Result<Self, CardError> {
        let text = sandglass_files::read_text(path).map_err(|source| CardError::Io { path: path.into(), source })?;
        let card: Self = from_toml(&text).map_err(|source| CardError::Toml { path: path.into(), source })?;
        card.evaluation.check().map_err(|source| CardError::Protocol { path: path.into(), source })?;
        if card.input == Some(0) {
            return Err(CardError::NoInput { path: path.into() });
        }
        let mut once = BTreeSet::new();
        match card.classes.iter().flatten().find(|class| !once.insert(*class)) {
            Some(class) => Err(CardError::Twice { path: path.into(), class: class.clone() }),
            None => Ok(card),
        }
    }

    /// Whether it says the same as another, of whatever file.
    pub fn agrees(&self, other: &Self) -> bool {
        Self { sha256: None, ..self.clone() } == Self { sha256: None, ..other.clone() }
    }

    /// Writes it beside a checkpoint, whose SHA-256 it takes, and returns its path.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or a failed write.
    pub fn write(&self, checkpoint: &Path) -> Result<PathBuf, CardError> {
        let path = Self::beside(checkpoint);
        let sha256 = sha256_file(checkpoint).map_err(|source| CardError::Io { path: checkpoint.into(), source })?;
        let card = Self { sha256: Some(sha256), ..self.clone() };
        let text = toml::to_string(&card).map_err(|source| CardError::Unwritable { path: path.clone(), source })?;
        let text = format!("# What {} must be scored with.\n{text}", name(checkpoint));
        sandglass_files::write(&path, text.as_bytes())
            .map_err(|source| CardError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// Stem stride and identity divisor change no tensor's shape: of another network than the card's, weights would give a
    /// wrong score and no error.
    ///
    /// # Errors
    /// Another network, width or stem stride than the card's.
    pub fn check_network(&self, checkpoint: &Path, config: &NetworkConfig) -> Result<(), CardError> {
        let asked = (config.to_string(), config.width, config.stem_stride);
        let of = (self.network.clone(), self.width, self.stem_stride);
        let told =
            |(network, width, stride): (String, f64, usize)| format!("{network} {width:?} with stem stride {stride}");
        match asked == of {
            true => Ok(()),
            false => Err(CardError::Network { path: Self::place(checkpoint), of: told(of), asked: told(asked) }),
        }
    }

    /// A card of another number of classes is another checkpoint's.
    ///
    /// # Errors
    /// Another number than the checkpoint's classifier has outputs.
    pub fn check_outputs(&self, checkpoint: &Path, outputs: usize) -> Result<(), CardError> {
        match self.classes.as_ref().map(Vec::len) {
            None => Ok(()),
            Some(listed) if listed == outputs => Ok(()),
            Some(listed) => Err(CardError::Outputs { path: Self::place(checkpoint), listed, outputs }),
        }
    }

    /// For errors.
    fn place(checkpoint: &Path) -> PathBuf {
        Self::find(checkpoint).unwrap_or_else(|| Self::beside(checkpoint))
    }

    /// The set's classes must be the classifier's, in its order: positions alone would decide silently. Where either has no
    /// names, as many as there are outputs: a classifier that was trained on such a set has its classes' numbers for names, and
    /// then only other numbers contradict them.
    ///
    /// # Errors
    /// The first class that differs.
    pub fn check(&self, checkpoint: &Path, set: &Dataset) -> Result<(), CardError> {
        let Some(names) = self.classes.as_deref().filter(|_| set.names_classes()) else { return Ok(()) };
        if is_numbered(names) && misnumbered(set.classes()).is_none() {
            return Ok(());
        }
        let count = names.len().max(set.classes().len());
        let name = |classes: &[String], at: usize| classes.get(at).map_or("nothing".into(), |name| format!("{name:?}"));
        match (0..count).find(|&at| names.get(at) != set.classes().get(at)) {
            None => Ok(()),
            Some(at) => Err(CardError::Classes {
                path: Self::place(checkpoint),
                at,
                theirs: name(names, at),
                set: set.name().to_owned(),
                ours: name(set.classes(), at),
            }),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
