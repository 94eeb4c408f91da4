//! All that a run needs to go on: a safetensors file whose one metadata entry is a hash and a record.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensorError, SafeTensors, serialize};
use serde::{Deserialize, Serialize};

/// What makes a run this run: named facts, compared one by one at resume.
pub type Identity = Vec<(String, String)>;

/// Everything but the tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub identity: Identity,
    /// Whole epochs done.
    pub epoch: u64,
    /// Steps done of the epoch that is running.
    pub step: u64,
    /// Sum of the losses of those steps, as the bits of an f64.
    pub loss_bits: u64,
    /// Of the images of those steps, how many were named right; none before the first step, or where naming is not the task.
    pub correct: Option<u64>,
    /// Seconds that those steps took.
    pub seconds: f64,
    /// Steps of the whole run.
    pub updates: u64,
    /// Lines of the log, one per whole epoch.
    pub log: Vec<String>,
    /// Seconds of all processes so far, evaluation included; 0 in states from before this was counted.
    #[serde(default)]
    pub wall: f64,
    /// Commits of the programs that trained, oldest first.
    #[serde(default)]
    pub made_by: Vec<String>,
}

/// What was read back. Tensors are named by group, such as `weights/...` and `momentum/...`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub record: Record,
    pub tensors: BTreeMap<String, Vec<f32>>,
}

/// Name, shape, values.
pub(crate) type Entry<'a> = (String, &'a [usize], &'a [f32]);

const KEY: &str = "sandglass";
const HASH: usize = 64;

/// The bytes of a state file.
pub(crate) fn encode(record: &Record, tensors: &[Entry<'_>]) -> Result<Vec<u8>, SafeTensorError> {
    let record = serde_json::to_string(record)?;
    let hash = hash(&record, tensors.iter().map(|(name, shape, values)| (name.as_str(), *shape, little(values))));
    let views = tensors.iter().map(|(name, shape, values)| (name, Floats { shape, values }));
    serialize(views, Some(HashMap::from([(KEY.to_string(), hash + &record)])))
}

impl State {
    /// None where a single bit differs from what was written.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
        let (wanted, record) = header.metadata().as_ref()?.get(KEY)?.split_at_checked(HASH)?;
        let file = SafeTensors::deserialize(bytes).ok()?;
        let tensors = file.tensors();
        if tensors.iter().any(|(_, view)| view.dtype() != Dtype::F32) {
            return None;
        }
        let views = tensors.iter().map(|(name, view)| (name.as_str(), view.shape(), Cow::Borrowed(view.data())));
        if hash(record, views) != wanted {
            return None;
        }
        let floats = |data: &[u8]| data.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        let tensors = tensors.iter().map(|(name, view)| (name.clone(), floats(view.data())));
        Some(Self { record: serde_json::from_str(record).ok()?, tensors: tensors.collect() })
    }
}

fn little(values: &[f32]) -> Cow<'_, [u8]> {
    Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Hex BLAKE3 of the record and of every tensor's name, shape and bytes, by name.
fn hash<'a>(record: &str, tensors: impl Iterator<Item = (&'a str, &'a [usize], Cow<'a, [u8]>)>) -> String {
    let mut parts: Vec<_> = tensors.map(|(name, shape, data)| (name, shape, blake3::hash(&data))).collect();
    parts.sort_by_key(|(name, ..)| *name);
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{record}\n").as_bytes());
    for (name, shape, data) in parts {
        hasher.update(format!("{name}{shape:?}{data}\n").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

struct Floats<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        little(self.values)
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}
