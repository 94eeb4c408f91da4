//! One block a file, named as the papers name it: each writes the nodes that everything else walks.

mod box_head;
mod depthwise_bottleneck;
mod extra_layer;
mod inverted_residual;
mod inverted_residual_extra_dw;
mod mbconv;
mod resnet_bottleneck;
mod sandglass;
mod sandglass_paper;
mod sandglass_se;
mod squeeze_excite;

pub use box_head::BoxHead;
pub use depthwise_bottleneck::DepthwiseBottleneck;
pub use extra_layer::{ConvExtra, SandglassExtra};
pub use inverted_residual::InvertedResidual;
pub use inverted_residual_extra_dw::{InvertedResidualExtraDw, Placement};
pub use mbconv::{MbConv, MbConvLite, MbConvSe};
pub use resnet_bottleneck::ResNetBottleneck;
pub use sandglass::{Layout, Sandglass};
pub use sandglass_paper::SandglassPaper;
pub use sandglass_se::SandglassSe;
pub(crate) use sandglass_se::for_even_sizes;

use crate::error::MAX_CHANNELS;
use crate::{Activation, Conv, GraphBuilder, MapId, ModelError};

/// A chain of units named as `torch.nn.Sequential` names them: by place, activations counted.
pub(crate) struct Sequential<'a> {
    g: &'a mut GraphBuilder,
    name: String,
    next: usize,
    map: MapId,
}

impl<'a> Sequential<'a> {
    pub(crate) fn new(g: &'a mut GraphBuilder, name: String, x: MapId) -> Self {
        Self { g, name, next: 0, map: x }
    }

    /// Convolution, batch norm and activation as places of their own: `k`, `k+1`, and `k+2` if there is one.
    pub(crate) fn flat(&mut self, conv: Conv, activation: Activation) -> Result<(), ModelError> {
        let (name, k) = (&self.name, self.next);
        let names = [format!("{name}.{k}"), format!("{name}.{}", k + 1)];
        self.next += if activation == Activation::None { 2 } else { 3 };
        self.map = self.g.conv_norm(conv, names, activation, self.map)?;
        Ok(())
    }

    /// All three in one place: `k.0`, `k.1`, and `k.2`, which holds nothing.
    pub(crate) fn nested(&mut self, conv: Conv, activation: Activation) -> Result<(), ModelError> {
        let (name, k) = (&self.name, self.next);
        let names = [format!("{name}.{k}.0"), format!("{name}.{k}.1")];
        self.next += 1;
        self.map = self.g.conv_norm(conv, names, activation, self.map)?;
        Ok(())
    }

    /// Whatever stands in one place: it is given the place's name and the map so far.
    pub(crate) fn place(
        &mut self,
        write: impl FnOnce(&mut GraphBuilder, &str, MapId) -> Result<MapId, ModelError>,
    ) -> Result<(), ModelError> {
        let name = format!("{}.{}", self.name, self.next);
        self.next += 1;
        self.map = write(self.g, &name, self.map)?;
        Ok(())
    }

    /// What the last unit writes.
    pub(crate) fn map(self) -> MapId {
        self.map
    }
}

/// The first `channels` of a block's input `x` added to its `y`; `y` itself where there are none.
fn shortcut(g: &mut GraphBuilder, name: &str, (y, x): (MapId, MapId), channels: usize) -> Result<MapId, ModelError> {
    if channels == 0 {
        return Ok(y);
    }
    let y = g.drop_connect(&join(name, "drop"), y)?;
    g.add(&join(name, "add"), (y, x), channels, Activation::None)
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
