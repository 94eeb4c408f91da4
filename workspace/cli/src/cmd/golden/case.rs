//! Reading `cases.json` and the tensors of its cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::hashed;

/// A tensor.
#[derive(Clone, Debug, Default)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    /// Beside `values`, which round them, where the file holds integers; else empty.
    pub integers: Vec<i64>,
}

impl Array {
    /// As exact as they are stored.
    pub fn exact(&self) -> Vec<f64> {
        match self.integers.is_empty() {
            true => self.values.iter().map(|&value| value.into()).collect(),
            false => self.integers.iter().map(|&integer| integer as f64).collect(),
        }
    }

    /// Batch, channels, height, width.
    pub fn nchw(&self) -> anyhow::Result<[usize; 4]> {
        match self.shape.as_slice().try_into() {
            Ok(shape) if self.values.is_empty() => bail!("an empty map of shape {shape:?}"),
            Ok(shape) => Ok(shape),
            Err(_) => bail!("a map of shape {:?}; four dimensions expected", self.shape),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Train,
    Eval,
    Exact,
}

pub struct Expected {
    pub array: Array,
    pub rtol: f64,
    pub atol: f64,
    /// An error up to this is none, whatever the element.
    pub floor: f64,
}

/// Where a case's parameters come from.
pub enum Params {
    Stored(BTreeMap<String, Array>),
    Hashed(hashed::Generator),
}

/// A case with its tensors.
pub struct Case {
    pub mode: Mode,
    config: Value,
    pub inputs: BTreeMap<String, Array>,
    pub params: Params,
    pub cotangent: Option<Array>,
    pub expected: BTreeMap<String, Expected>,
}

impl Case {
    /// What a plan is held to: what the network gives, within what the case says or 1e-4 of its largest element.
    pub fn as_inferred(&mut self) {
        self.expected.retain(|name, _| !name.starts_with("grad.") && !name.starts_with("running."));
        for Expected { array, floor, .. } in self.expected.values_mut() {
            let largest = array.values.iter().fold(0f32, |most, value| most.max(value.abs()));
            *floor = 1e-4 * f64::from(largest);
        }
    }

    pub fn config<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(&self.config).context("config")
    }

    pub fn input(&self, name: &str) -> anyhow::Result<&Array> {
        self.inputs.get(name).with_context(|| format!("no input {name}"))
    }
}

#[derive(Deserialize)]
struct CaseFile {
    format: u32,
    files: Vec<String>,
    cases: Vec<Value>,
}

/// A case as written.
#[derive(Deserialize)]
struct Written {
    mode: Mode,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    config: Value,
    file: String,
    #[serde(default)]
    inputs: BTreeMap<String, Source>,
    params: Option<WrittenParams>,
    cotangent: Option<String>,
    expected: BTreeMap<String, WrittenExpected>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Key(String),
    Hashed { hashed: String, shape: Vec<usize> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenParams {
    Hashed { hashed: u64, gain: f64 },
    Stored(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct WrittenExpected {
    tensor: String,
    rtol: f64,
    atol: f64,
}

/// The cases of a folder, and all tensors of its files.
pub struct Suite {
    cases: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
}

/// Larger files are none of golden cases.
const MAX_FILE: u64 = 1 << 30;

impl Suite {
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("cases.json");
        let CaseFile { format, files: names, cases } =
            serde_json::from_slice(&read(&path)?).with_context(|| path.display().to_string())?;
        ensure!(format == 1, "{}: format {format}; only 1 is known", path.display());
        let mut files = BTreeMap::new();
        for name in names {
            ensure!(!name.contains(['/', '\\']), "{}: {name:?} is no file of this folder", path.display());
            let path = dir.join(&name);
            let bytes = read(&path)?;
            SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
            files.insert(name, bytes);
        }
        Ok(Self { cases, files })
    }

    /// As written: to be read one by one, so that a broken one is an error of its own.
    pub fn cases(&self) -> &[Value] {
        &self.cases
    }

    pub fn case(&self, written: &Value) -> anyhow::Result<Case> {
        let Written { mode, seed, config, file, inputs: sources, params, cotangent, expected: wanted } =
            Written::deserialize(written).context("the case")?;
        let bytes = self.files.get(&file).with_context(|| format!("cases.json lists no {file}"))?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let stored = |key: &str| array(&tensors, key);

        let mut inputs = BTreeMap::new();
        for (name, source) in sources {
            let array = match source {
                Source::Key(key) => stored(&key)?,
                Source::Hashed { hashed, shape } => hashed::Generator { seed, gain: 1.0 }.array(&hashed, shape)?,
            };
            inputs.insert(name, array);
        }
        let params = match params {
            None => Params::Stored(BTreeMap::new()),
            Some(WrittenParams::Hashed { hashed: seed, gain }) => Params::Hashed(hashed::Generator { seed, gain }),
            Some(WrittenParams::Stored(keys)) => {
                let params = keys.into_iter().map(|(name, key)| Ok((name, stored(&key)?)));
                Params::Stored(params.collect::<anyhow::Result<_>>()?)
            }
        };
        let mut expected = BTreeMap::new();
        for (name, WrittenExpected { tensor, rtol, atol }) in wanted {
            expected.insert(name, Expected { array: stored(&tensor)?, rtol, atol, floor: 0.0 });
        }
        let cotangent = cotangent.map(|key| stored(&key)).transpose()?;
        Ok(Case { mode, config, inputs, params, cotangent, expected })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || path.display().to_string();
    let size = fs::metadata(path).with_context(context)?.len();
    ensure!(size <= MAX_FILE, "{}: {size} bytes, more than golden cases have", path.display());
    sandglass_files::read(path).with_context(context)
}

fn array(tensors: &SafeTensors, key: &str) -> anyhow::Result<Array> {
    let view = tensors.tensor(key).with_context(|| format!("tensor {key}"))?;
    let data = view.data();
    let shape = view.shape().to_vec();
    match view.dtype() {
        Dtype::F32 => {
            let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok(Array { shape, values, integers: Vec::new() })
        }
        Dtype::I64 => {
            let integers: Vec<i64> = data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
            Ok(Array { shape, values: integers.iter().map(|&integer| integer as f32).collect(), integers })
        }
        dtype => bail!("tensor {key} of type {dtype:?}; F32 or I64 expected"),
    }
}
