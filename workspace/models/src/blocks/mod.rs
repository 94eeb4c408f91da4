//! One block a file, named as the papers name it; each gives the chain of units that everything else walks.

mod depthwise_bottleneck;
mod inverted_residual;
mod inverted_residual_extra_dw;
mod resnet_bottleneck;
mod sandglass;
mod sandglass_paper;

pub use depthwise_bottleneck::DepthwiseBottleneck;
pub use inverted_residual::InvertedResidual;
pub use inverted_residual_extra_dw::{InvertedResidualExtraDw, Placement};
pub use resnet_bottleneck::ResNetBottleneck;
pub use sandglass::{Layout, Sandglass};
pub use sandglass_paper::SandglassPaper;

use crate::error::MAX_CHANNELS;
use crate::{Activation, Conv, ModelError, Unit};

/// Units named as `torch.nn.Sequential` names them: by place, activations counted.
pub(crate) struct Sequential {
    name: String,
    next: usize,
    units: Vec<Unit>,
}

impl Sequential {
    pub(crate) fn new(name: String) -> Self {
        Self { name, next: 0, units: Vec::new() }
    }

    /// Convolution, batch norm and activation as places of their own: `k`, `k+1`, and `k+2` if there is one.
    pub(crate) fn flat(&mut self, conv: Conv, activation: Activation) -> &mut Self {
        let (name, k) = (&self.name, self.next);
        self.units.push(Unit::new(conv, format!("{name}.{k}"), format!("{name}.{}", k + 1), activation));
        self.next += if activation == Activation::None { 2 } else { 3 };
        self
    }

    /// All three in one place: `k.0`, `k.1`, and `k.2`, which holds nothing.
    pub(crate) fn nested(&mut self, conv: Conv, activation: Activation) -> &mut Self {
        let (name, k) = (&self.name, self.next);
        self.units.push(Unit::new(conv, format!("{name}.{k}.0"), format!("{name}.{k}.1"), activation));
        self.next += 1;
        self
    }

    pub(crate) fn units(self) -> Vec<Unit> {
        self.units
    }
}

/// `name.leaf`, or the leaf alone for a block that stands alone.
pub(crate) fn join(name: &str, leaf: &str) -> String {
    if name.is_empty() { leaf.to_owned() } else { format!("{name}.{leaf}") }
}

/// Python's `int(round(channels * ratio))`, the hidden width of torchvision: halves go to the even neighbour.
fn expanded(channels: usize, ratio: f64) -> usize {
    (channels as f64 * ratio).round_ties_even() as usize
}

fn check(block: &'static str, channels: &[usize], stride: usize) -> Result<(), ModelError> {
    if let Some(&channels) = channels.iter().find(|&&c| c == 0 || c > MAX_CHANNELS) {
        return Err(ModelError::Channels { block, channels });
    }
    if !(1..=2).contains(&stride) {
        return Err(ModelError::Stride(stride));
    }
    Ok(())
}
