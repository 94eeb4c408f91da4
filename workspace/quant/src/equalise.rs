//! Cross-layer equalisation (Nagel et al., Data-Free Quantization, ICCV 2019, section 4.1).
//!
//! A clamp between 0 and a limit commutes with a positive factor a channel, if the limit moves with it: so does no clamp
//! at all, as in the sandglass's linear reduction. Each channel between two layers is divided by
//! `s = sqrt(largest weight that writes it / largest weight that reads it)`, which makes both ranges equal.

use sandglass_models::Node;

use crate::Net;
use crate::net::Layer;

/// Sweeps over all pairs; each sweep undoes part of what neighbours did.
const SWEEPS: usize = 40;
/// A sweep whose factors are all this close to 1 is the last.
const CLOSE: f32 = 1e-3;

impl Net {
    /// The same function of its images, but for rounding, with the ranges of weights brought together.
    #[must_use]
    pub fn equalised(mut self) -> Self {
        let pairs = self.pairs();
        for _ in 0..SWEEPS {
            let mut farthest = 1.0f32;
            for &(first, second) in &pairs {
                // A node reads what nodes before it wrote.
                let (before, after) = self.layers.split_at_mut(second);
                let (Some(Some(first)), Some(Some(second))) = (before.get_mut(first), after.first_mut()) else {
                    continue;
                };
                let factors = factors(first, second);
                farthest = factors.iter().fold(farthest, |most, s| most.max(*s).max(1.0 / s));
                divide_outputs(first, &factors);
                multiply_inputs(second, &factors);
            }
            if farthest < 1.0 + CLOSE {
                break;
            }
        }
        self
    }

    /// The largest weight of each output channel of a layer.
    pub fn channel_ranges(&self, layer: &str) -> Option<Vec<f32>> {
        let layer = self.layers.iter().flatten().find(|other| other.name == layer)?;
        Some(layer.weight.chunks_exact(layer.terms()).map(|weights| largest(weights.iter())).collect())
    }

    /// Nodes one of which alone reads what the other writes; none that reads in groups.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = self.graph.nodes();
        let reader = |at: usize| {
            let map = nodes[at].writes();
            let mut readers = (0..nodes.len()).filter(|&other| nodes[other].reads().contains(&map));
            let only = readers.next().filter(|_| readers.next().is_none())?;
            let is_seen = self.graph.outputs().contains(&map);
            let is_dense = matches!(&nodes[only], Node::Conv { unit, .. } if unit.conv == unit.conv.ungrouped());
            (!is_seen && is_dense).then_some((at, only))
        };
        (0..nodes.len()).filter(|&at| matches!(nodes[at], Node::Conv { .. })).filter_map(reader).collect()
    }
}

/// One for each channel between the two; 1 where either side has no weight.
fn factors(first: &Layer, second: &Layer) -> Vec<f32> {
    let written = |channel: usize| largest(first.weight[channel * first.terms()..][..first.terms()].iter());
    let read = |channel: usize| largest(inputs(second, channel).map(|at| &second.weight[at]));
    let factor = |channel: usize| match (written(channel), read(channel)) {
        (0.0, _) | (_, 0.0) => 1.0,
        (written, read) => (written / read).sqrt(),
    };
    (0..first.conv.output).map(factor).map(|s| if s.is_normal() { s } else { 1.0 }).collect()
}

fn largest<'a>(weights: impl Iterator<Item = &'a f32>) -> f32 {
    weights.fold(0.0, |largest, weight| largest.max(weight.abs()))
}

/// Places of the weights that read a channel.
fn inputs(layer: &Layer, channel: usize) -> Box<dyn Iterator<Item = usize>> {
    let area = layer.conv.window.kernel.pow(2);
    match layer.conv.is_depthwise() {
        true => Box::new(channel * area..(channel + 1) * area),
        false => {
            let terms = layer.terms();
            Box::new(
                (0..layer.conv.output).flat_map(move |o| (0..area).map(move |tap| o * terms + channel * area + tap)),
            )
        }
    }
}

fn divide_outputs(layer: &mut Layer, factors: &[f32]) {
    let terms = layer.terms();
    for (channel, &s) in factors.iter().enumerate() {
        layer.weight[channel * terms..][..terms].iter_mut().for_each(|weight| *weight /= s);
        layer.bias[channel] /= s;
        layer.high[channel] /= s;
    }
}

fn multiply_inputs(layer: &mut Layer, factors: &[f32]) {
    for (channel, &s) in factors.iter().enumerate() {
        for at in inputs(layer, channel) {
            layer.weight[at] *= s;
        }
    }
}
