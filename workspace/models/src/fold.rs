//! Batch norms folded into the convolutions before them, as inference and quantisation want them.

use crate::{After, BatchNorm, Graph, Node, TensorSpec, Unit, Weights};

impl Graph {
    /// With a bias in place of every batch norm: what [`fold`] gives weights for.
    #[must_use]
    pub fn folded(&self) -> Self {
        self.map_units(|unit| Unit { after: After::Bias, ..unit.clone() })
    }

    /// With this share of a step's statistics in the running ones: of 1, a step leaves its own.
    #[must_use]
    pub fn with_norm_momentum(&self, momentum: f32) -> Self {
        let norm = |norm: &BatchNorm| BatchNorm { momentum, ..norm.clone() };
        let after = |after: &After| match after {
            After::Norm(of) => After::Norm(norm(of)),
            After::BiasNorm(of) => After::BiasNorm(norm(of)),
            After::Bias => After::Bias,
        };
        self.map_units(|unit| Unit { after: after(&unit.after), ..unit.clone() })
    }
}

/// Why weights cannot be folded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FoldError {
    #[error("no tensor {0} among the weights")]
    NoTensor(String),
    #[error("{tensor}: {found} values where {expected} are expected")]
    Length { tensor: String, expected: usize, found: usize },
    #[error("{norm}: channel {channel} folds into no finite number")]
    NotFinite { norm: String, channel: usize },
}

/// The graph whose units end in a bias in place of a batch norm, and its weights: in evaluation mode it computes what
/// `graph` does, but for rounding.
///
/// Each weight and each bias is computed in f64 and rounded once:
/// `w * gamma / sqrt(var + eps)`, and `beta + (bias - mean) * gamma / sqrt(var + eps)`, where there mostly is no bias.
///
/// # Errors
/// A tensor that is missing or of another length, and a channel whose statistics or weights are no numbers.
pub fn fold(graph: &Graph, weights: &Weights) -> Result<(Graph, Weights), FoldError> {
    let folded = graph.folded();
    let specs = folded.tensors();
    let mut values = Vec::with_capacity(specs.len());
    for node in graph.nodes() {
        match node {
            Node::Conv { unit: Unit { after: After::Norm(norm) | After::BiasNorm(norm), .. }, .. } => {
                let tensors: Vec<&[f32]> =
                    node.tensors().iter().map(|spec| tensor(weights, spec)).collect::<Result<_, _>>()?;
                let (weight, bias, of_norm) = match tensors[..] {
                    [weight, gamma, beta, mean, var] => (weight, None, [gamma, beta, mean, var]),
                    [weight, bias, gamma, beta, mean, var] => (weight, Some(bias), [gamma, beta, mean, var]),
                    _ => continue,
                };
                values.extend(channels(norm, (weight, bias), of_norm)?);
            }
            _ => {
                for spec in node.tensors() {
                    values.push(tensor(weights, &spec)?.to_vec());
                }
            }
        }
    }
    Ok((folded, Weights { specs, values }))
}

/// Weight and bias, channel by channel.
fn channels(
    norm: &BatchNorm,
    (weight, own_bias): (&[f32], Option<&[f32]>),
    [gamma, beta, mean, var]: [&[f32]; 4],
) -> Result<[Vec<f32>; 2], FoldError> {
    let per_channel = weight.len() / gamma.len().max(1);
    let (mut folded, mut bias) = (Vec::with_capacity(weight.len()), Vec::with_capacity(gamma.len()));
    for (channel, weight) in weight.chunks_exact(per_channel.max(1)).enumerate() {
        let [gamma, beta, mean, var] = [gamma, beta, mean, var].map(|of| f64::from(of[channel]));
        let scale = gamma / (var + f64::from(norm.eps)).sqrt();
        folded.extend(weight.iter().map(|&weight| (f64::from(weight) * scale) as f32));
        let own_bias = own_bias.map_or(0.0, |of| f64::from(of[channel]));
        bias.push((beta + (own_bias - mean) * scale) as f32);
        let own = &folded[channel * per_channel..];
        if !own.iter().chain(&bias[channel..]).all(|value| value.is_finite()) {
            return Err(FoldError::NotFinite { norm: norm.name.clone(), channel });
        }
    }
    Ok([folded, bias])
}

fn tensor<'a>(weights: &'a Weights, spec: &TensorSpec) -> Result<&'a [f32], FoldError> {
    let values = weights.get(&spec.name).ok_or_else(|| FoldError::NoTensor(spec.name.clone()))?;
    match (spec.len(), values.len()) {
        (expected, found) if expected != found => Err(FoldError::Length { tensor: spec.name.clone(), expected, found }),
        _ => Ok(values),
    }
}
