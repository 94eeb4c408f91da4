//! Optimisers: how gradients become a step.

use serde::{Deserialize, Serialize};

/// The rule and its constants. State has the shape of the weights it serves and starts as `initial` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// PyTorch's SGD: d = g + wd p; buf = momentum buf + d; p -= lr (d + momentum buf if `nesterov`, else buf).
    Sgd { momentum: f64, nesterov: bool },
    /// TensorFlow's RMSProp as timm has it: `eps` inside the root, the learning rate inside the momentum, and the mean
    /// square starts at 1: sq += (1 - alpha)(d d - sq); buf = momentum buf + lr d / sqrt(sq + eps); p -= buf.
    RmspropTf { alpha: f64, momentum: f64, eps: f64 },
}

/// A rule with its state for a list of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// SGD's buffer, or RMSProp's step with momentum; no values where a tensor is not trained.
    pub(crate) momentum: Vec<Vec<f32>>,
    /// RMSProp's mean squares; empty for SGD.
    pub(crate) square: Vec<Vec<f32>>,
}

impl Optimizer {
    /// For tensors of `sizes` elements, 0 for one that is not trained.
    pub fn new(config: OptimizerConfig, sizes: &[usize]) -> Self {
        let filled = |value: f32| sizes.iter().map(|&size| vec![value; size]).collect();
        let square = match config {
            OptimizerConfig::Sgd { .. } => Vec::new(),
            OptimizerConfig::RmspropTf { .. } => filled(1.0),
        };
        Self { config, momentum: filled(0.0), square }
    }

    /// One step at learning rate `lr` on `values`, with a weight decay for each tensor. Gradients are first multiplied
    /// by `scale` (of clipping; 1 otherwise). Tensors without state are left as they are.
    ///
    /// Every operation is rounded to f32 on its own and no two elements meet, so that the bits are those of any machine.
    pub fn step(&mut self, values: &mut [Vec<f32>], gradients: &[Vec<f32>], decay: &[f32], scale: f32, lr: f64) {
        let lr = lr as f32;
        let mut square = self.square.iter_mut();
        for (((values, gradients), &decay), buffer) in
            values.iter_mut().zip(gradients).zip(decay).zip(&mut self.momentum)
        {
            let steps = values.iter_mut().zip(gradients).map(|(p, g)| (g * scale + decay * *p, p)).zip(buffer);
            match self.config {
                OptimizerConfig::Sgd { momentum, nesterov } => {
                    let momentum = momentum as f32;
                    for ((d, p), buf) in steps {
                        *buf = momentum * *buf + d;
                        *p -= lr * if nesterov { d + momentum * *buf } else { *buf };
                    }
                }
                OptimizerConfig::RmspropTf { alpha, momentum, eps } => {
                    let (fresh, momentum, eps) = ((1.0 - alpha) as f32, momentum as f32, eps as f32);
                    for (((d, p), buf), sq) in steps.zip(square.next().into_iter().flatten()) {
                        *sq += fresh * (d * d - *sq);
                        *buf = momentum * *buf + lr * (d / (*sq + eps).sqrt());
                        *p -= *buf;
                    }
                }
            }
        }
    }
}
