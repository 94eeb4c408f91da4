//! Weights and images of which nothing cancels out.
#![allow(dead_code)]

use sandglass_models::{Graph, Role, TensorSpec, Weights};
use sandglass_train::initialise;

/// A formula's values in -1..1.
pub fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + seed) * 7919 % 1021) as f32 / 510.5 - 1.0).collect()
}

/// As drawn for training, but with batch norms that differ from channel to channel, and variances so small that the image
/// does not fade away through the layers: outputs depend on all of it.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = initialise(graph.tensors(), 5);
    for (seed, (TensorSpec { role, shape, .. }, of)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let (of_value, noise) = match role {
            // Drawn as if each filter had as many inputs as there are channels.
            Role::DepthwiseWeight => ((shape[0] as f32).sqrt(), 0.0),
            Role::NormWeight => (1.0, 0.3),
            Role::RunningVar => (0.3, 0.1),
            Role::NormBias | Role::RunningMean | Role::ConvBias | Role::LinearBias => (1.0, 0.3),
            _ => (1.0, 0.0),
        };
        let noise = values(of.len(), seed).into_iter().map(|x| x * noise);
        of.iter_mut().zip(noise).for_each(|(value, noise)| *value = of_value * *value + noise);
    }
    weights
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
