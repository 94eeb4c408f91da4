//! What is wrong with a checkpoint, and how it differs from a network.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Stored;
use crate::{ModelError, TensorSpec};

/// Why a checkpoint cannot be read as a network's weights, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: Problem },
    #[error("{} is not this network's: {names}{differences}{}{}", path.display(), and(instead), shard(path))]
    Different {
        path: PathBuf,
        /// Which state was compared, and in whose names, where that is not plain.
        names: String,
        differences: Box<Differences>,
        /// In words: what is there in the place of a tensor that is missing.
        instead: Option<String>,
    },
    #[error(transparent)]
    Network(ModelError),
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{tensor} holds {value}, which f16 cannot: save as f32")]
    F16Range { tensor: String, value: f32 },
    #[error("{tensor}: {values} values for a shape of {elements}")]
    Length { tensor: String, values: usize, elements: usize },
}

/// What is wrong with a file itself.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("neither a safetensors file nor one of torch.save")]
    UnknownFormat,
    #[error("it is {0}, neither a safetensors file nor one of torch.save")]
    Other(&'static str),
    #[error("the file is cut: it has {length} bytes of {whole}")]
    Cut { length: u64, whole: u64 },
    #[error("the file is cut: it has {length} bytes, and one of its storages ends at {end}")]
    CutStorage { length: u64, end: u64 },
    #[error("a pickle that torch.save did not write")]
    OtherPickle,
    #[error("damaged safetensors header: {0}")]
    Header(String),
    #[error("damaged zip file: {0}")]
    Zip(&'static str),
    #[error("{0} is compressed or encrypted; torch.save does neither")]
    Packed(String),
    #[error("a program of torch.jit.save: load it there and save its state_dict()")]
    TorchScript,
    #[error("{0} does not match its checksum: the file is damaged")]
    Checksum(String),
    #[error("damaged pickle at byte {at}: {what}")]
    Pickle { at: usize, what: &'static str },
    #[error("no tensors by name in it, but {0}")]
    NoStateDict(String),
    #[error("it holds several states that fit, {}: --state chooses one", .0.join(", "))]
    Several(Vec<String>),
    #[error("no state {state} in it, but {found}")]
    NoState { state: String, found: String },
    #[error("no {network} in it, but {found}")]
    NoNetwork { network: String, found: String },
    #[error("{what} of {size} bytes, more than the {limit} that any network here needs")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
    #[error("written on a big-endian machine: save it again on a little-endian one")]
    BigEndian,
    #[error("{0} lies outside the file, or does not fit its storage")]
    OutsideFile(String),
    #[error("{0} shares its memory with other tensors, which in all are larger than the file: save contiguous copies")]
    Shared(String),
    #[error("more than {0} tensors or dicts of them: save the state dict alone")]
    TooMany(usize),
    #[error("{0} is in it twice")]
    Twice(String),
    #[error("{0} is no tensor of f32, f16, bf16 or f64")]
    Type(String),
    #[error(
        "a tensor that says to negate or conjugate its numbers: save a resolved copy (.resolve_neg(), .resolve_conj())"
    )]
    Negated,
    #[error("{0} is a view with wide gaps: save a contiguous copy")]
    Strides(String),
    #[error("{tensor} holds {value}: its training diverged, or the file is damaged")]
    NotFinite { tensor: String, value: f32 },
    #[error("no tensor {0}")]
    NoTensor(String),
}

impl Problem {
    /// Whether the file itself is whole, and only holds nothing of what was looked for.
    pub fn is_misfit(&self) -> bool {
        matches!(self, Self::NoStateDict(_) | Self::NoNetwork { .. })
    }
}

fn and(more: &Option<String>) -> String {
    more.as_ref().map_or_else(String::new, |more| format!("; {more}"))
}

/// What to do about a file that is one of several by its name; nothing for any other.
fn shard(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("-of-") { "; by its name it is one file of several: read them into one" } else { "" }
}

/// Names that a file has too few or too many of, or in another shape; all sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    /// Each with both shapes.
    pub misshaped: Vec<String>,
}

impl Differences {
    /// `stored`: all tensors below one prefix of so many bytes.
    pub(super) fn between<'a>(
        mut wanted: BTreeMap<&str, &TensorSpec>,
        stored: impl Iterator<Item = &'a Stored>,
        prefix: usize,
    ) -> Self {
        let short = |name: &str| name.get(prefix..).unwrap_or(name).to_owned();
        let mut differences = Self::default();
        for tensor in stored.filter(|tensor| !is_counter(&tensor.name)) {
            match wanted.remove(tensor.name.as_str()) {
                None => differences.extra.push(short(&tensor.name)),
                Some(spec) if spec.shape != tensor.shape => {
                    let (name, found) = (short(&tensor.name), &tensor.shape);
                    differences.misshaped.push(format!("{name} {found:?} for {:?}", spec.shape));
                }
                Some(_) => {}
            }
        }
        differences.missing = wanted.into_keys().map(short).collect();
        differences
    }

    /// Each kind with its number and one name.
    pub fn in_short(&self) -> String {
        let kinds = [("missing", &self.missing), ("extra", &self.extra), ("misshaped", &self.misshaped)];
        let kinds = kinds.into_iter().filter_map(|(kind, names)| match names.as_slice() {
            [] => None,
            [only] => Some(format!("1 {kind}: {only}")),
            [first, ..] => Some(format!("{} {kind}, such as {first}", names.len())),
        });
        kinds.collect::<Vec<_>>().join("; ")
    }

    /// The names are sorted.
    pub(super) fn is_missing(&self, name: &str) -> bool {
        self.missing.binary_search_by(|missing| missing.as_str().cmp(name)).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.missing.len() + self.extra.len() + self.misshaped.len()
    }

    /// True if the file holds the network's tensors and no other.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshaped.is_empty()
    }
}

/// How many batches a norm or an average has seen: no weight.
fn is_counter(name: &str) -> bool {
    ["num_batches_tracked", "n_averaged"].contains(&name.rsplit('.').next().unwrap_or(name))
}

/// Names shown of each kind; the rest is counted.
const SHOWN: usize = 64;

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("missing", &self.missing), ("extra", &self.extra), ("misshaped", &self.misshaped)];
        let mut first = true;
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let separator = if first { "" } else { "; " };
            write!(f, "{separator}{} {kind}: {}", names.len(), names[..names.len().min(SHOWN)].join(", "))?;
            if names.len() > SHOWN {
                write!(f, " and {} more", names.len() - SHOWN)?;
            }
            first = false;
        }
        Ok(())
    }
}
