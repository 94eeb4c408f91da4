//! Quantised checkpoints: safetensors with weights in I8, biases in I32, scales in F32, and what network they are of.
//!
//! Of each layer `NAME.weight` (OIHW), `NAME.bias`, `NAME.scale` (one a channel) and `NAME.clamp` (lowest and highest step
//! of each channel of the output); of the maps, in the graph's order, `maps.scale` and `maps.zero_point`.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sandglass_models::checkpoint::twice;
use sandglass_models::{Conv, Graph, ModelError, NetworkConfig, Node, PaddingRule};
use serde::{Deserialize, Serialize};

use crate::integer::IntLayer;
use crate::{Affine, QuantError, Quantised, Scheme};

/// The key of the file's one entry of metadata.
const KEY: &str = "sandglass_quantised";
/// Larger files are no network of ours.
const MAX_FILE: u64 = 1 << 30;
const MAX_HEADER: u64 = 1 << 20;

/// What a quantised checkpoint is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub network: String,
    pub width: f64,
    pub classes: usize,
    pub stem_stride: usize,
    /// Convolutions pad as TensorFlow's SAME.
    pub same_padding: bool,
    pub scheme: Scheme,
    /// Images that it was calibrated on.
    pub calibrated_on: usize,
}

impl Facts {
    /// The network before its batch norms are folded.
    ///
    /// # Errors
    /// A network that there is not.
    pub fn graph(&self) -> Result<Graph, ModelError> {
        let config: NetworkConfig = self.network.parse()?;
        let (width, classes, stem_stride) = (self.width, self.classes, self.stem_stride);
        let graph = NetworkConfig { width, classes, stem_stride, ..config }.build()?;
        Ok(if self.same_padding { graph.with_padding(PaddingRule::Same) } else { graph })
    }
}

/// Why a quantised checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}

/// True for a file that [`save`] wrote, judged by its header alone.
pub fn is_quantised(path: &Path) -> bool {
    let header = || -> Option<Vec<u8>> {
        let mut file = sandglass_files::open(path).ok()?;
        let mut size = [0; 8];
        file.read_exact(&mut size).ok()?;
        let size = Some(u64::from_le_bytes(size)).filter(|size| *size <= MAX_HEADER)?;
        let mut header = Vec::new();
        file.take(size).read_to_end(&mut header).ok()?;
        Some(header)
    };
    let parsed = header().and_then(|header| serde_json::from_slice::<serde_json::Value>(&header).ok());
    parsed.is_some_and(|header| header["__metadata__"][KEY].is_string())
}

/// The bytes of a quantised checkpoint: the same network gives the same.
///
/// # Errors
/// Never for what [`crate::quantise`] gave.
pub fn bytes(quantised: &Quantised, facts: &Facts) -> Result<Vec<u8>, QuantError> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut push =
        |name: String, dtype, shape: &[usize], data: Vec<u8>| tensors.push((name, dtype, shape.to_vec(), data));
    for at in 0..quantised.graph().nodes().len() {
        let Some(layer) = quantised.layer(at) else { continue };
        let IntLayer { name, conv, weight, scales, bias, low, high } = layer;
        let clamp = high.iter().flat_map(|high| [*low as i8, *high as i8]);
        push(format!("{name}.weight"), Dtype::I8, &shape(conv), weight.iter().map(|w| w.cast_unsigned()).collect());
        push(format!("{name}.bias"), Dtype::I32, &[bias.len()], bias.iter().flat_map(|b| b.to_le_bytes()).collect());
        push(format!("{name}.scale"), Dtype::F32, &[bias.len()], floats(scales));
        push(format!("{name}.clamp"), Dtype::I8, &[bias.len(), 2], clamp.map(i8::cast_unsigned).collect());
    }
    let affines = quantised.affines();
    let scales: Vec<f32> = affines.iter().map(|affine| affine.scale).collect();
    let zero_points = affines.iter().map(|affine| (affine.zero_point as i8).cast_unsigned()).collect();
    push("maps.scale".to_owned(), Dtype::F32, &[affines.len()], floats(&scales));
    push("maps.zero_point".to_owned(), Dtype::I8, &[affines.len()], zero_points);

    let wrong = |what: String| QuantError::Scheme(what);
    let facts = serde_json::to_string(facts).map_err(|error| wrong(error.to_string()))?;
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data).map_err(|error| wrong(error.to_string()))?))
    });
    let views = views.collect::<Result<Vec<_>, QuantError>>()?;
    safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), facts)])))
        .map_err(|error| wrong(error.to_string()))
}

fn shape(conv: &Conv) -> [usize; 4] {
    conv.weight_shape()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes a quantised checkpoint, whole or not at all; gives its size in bytes.
///
/// # Errors
/// A place that cannot be written.
pub fn save(path: &Path, quantised: &Quantised, facts: &Facts) -> Result<usize, StoreError> {
    let bytes =
        bytes(quantised, facts).map_err(|error| StoreError::Damaged { path: path.into(), what: error.to_string() })?;
    sandglass_files::write(path, &bytes).map_err(|source| StoreError::Io { path: path.into(), source })?;
    Ok(bytes.len())
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// A file that cannot be read, is no quantised checkpoint, or does not hold its network.
pub fn load(path: &Path) -> Result<(Quantised, Facts), StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    let damaged = |what: String| StoreError::Damaged { path: path.into(), what };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_FILE {
        return Err(damaged(format!("{size} bytes, more than any network here needs")));
    }
    read(&sandglass_files::read(path).map_err(io)?).map_err(damaged)
}

fn read(bytes: &[u8]) -> Result<(Quantised, Facts), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (size, header) = SafeTensors::read_metadata(bytes).map_err(|error| text(&error))?;
    if let Some(name) = bytes.get(8..8 + size).and_then(twice) {
        return Err(format!("{name} is in it twice"));
    }
    let facts = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let facts = facts.ok_or("no quantised checkpoint: `sandglass quantise` makes one")?;
    let facts: Facts = serde_json::from_str(facts).map_err(|error| text(&error))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| text(&error))?;
    let graph = facts.graph().map_err(|error| text(&error))?.folded().activations_apart();
    let tensor = |name: &str, dtype: Dtype, shape: &[usize]| -> Result<&[u8], String> {
        let view = tensors.tensor(name).map_err(|error| format!("{name}: {error}"))?;
        match (view.dtype() == dtype, view.shape() == shape) {
            (true, true) => Ok(view.data()),
            _ => Err(format!(
                "{name}: {:?} of {:?} where {shape:?} of {dtype:?} is expected",
                view.shape(),
                view.dtype()
            )),
        }
    };
    let scales = |name: &str, count: usize| -> Result<Vec<f32>, String> {
        let scales: Vec<f32> =
            tensor(name, Dtype::F32, &[count])?.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        match scales.iter().find(|scale| !(**scale > 0.0 && scale.is_finite())) {
            Some(scale) => Err(format!("{name}: {scale} is no scale")),
            None => Ok(scales),
        }
    };
    let signed = |bytes: &[u8]| bytes.iter().map(|byte| byte.cast_signed()).collect::<Vec<i8>>();
    let mut layers = Vec::new();
    for node in graph.nodes() {
        let (name, conv) = match node {
            Node::Conv { unit, .. } => (&unit.name, unit.conv),
            Node::Linear { linear, .. } => (&linear.name, Conv::pointwise(linear.input, linear.output)),
            _ => {
                layers.push(None);
                continue;
            }
        };
        let clamp = signed(tensor(&format!("{name}.clamp"), Dtype::I8, &[conv.output, 2])?);
        let bias = tensor(&format!("{name}.bias"), Dtype::I32, &[conv.output])?;
        layers.push(Some(IntLayer {
            name: name.clone(),
            conv,
            weight: signed(tensor(&format!("{name}.weight"), Dtype::I8, &shape(&conv))?),
            scales: scales(&format!("{name}.scale"), conv.output)?,
            bias: bias.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect(),
            low: clamp.first().copied().unwrap_or(i8::MIN).into(),
            high: clamp.iter().skip(1).step_by(2).map(|&high| high.into()).collect(),
        }));
    }
    let maps = graph.maps().len();
    let zero_points = signed(tensor("maps.zero_point", Dtype::I8, &[maps])?);
    let affines = scales("maps.scale", maps)?.into_iter().zip(zero_points);
    let affines = affines.map(|(scale, zero_point)| Affine { scale, zero_point: zero_point.into() }).collect();
    facts.scheme.check().map_err(|error| text(&error))?;
    let quantised = Quantised::new(graph, affines, layers, facts.scheme.clone()).map_err(|error| text(&error))?;
    Ok((quantised, facts))
}
