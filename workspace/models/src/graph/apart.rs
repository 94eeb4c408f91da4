//! Smooth activations as nodes of their own, as networks in 8 bits need them.

use super::{Graph, Map, MapId, Node};
use crate::{Activation, Unit};

impl Graph {
    /// With every SiLU and sigmoid of a unit as a node of its own, which reads the unit's sums: in 8 bits, sums and their
    /// activation each have a scale. What clamps stays with its unit.
    #[must_use]
    pub fn activations_apart(&self) -> Self {
        let (mut maps, mut nodes) = (vec![self.maps[0].clone()], Vec::with_capacity(self.nodes.len()));
        // Where each map of this graph is in the other.
        let mut places = vec![MapId(0)];
        for (node, map) in self.nodes.iter().zip(&self.maps[1..]) {
            let mut node = node.moved(|map| places[map.0], MapId(maps.len()));
            if let Node::Conv { unit: Unit { activation, .. }, to: sums, .. } = &mut node
                && matches!(activation, Activation::Silu | Activation::Sigmoid)
            {
                let (of, from) = (std::mem::replace(activation, Activation::None), *sums);
                maps.push(Map { name: format!("{}/sum", map.name), ..map.clone() });
                nodes.push(node);
                node = Node::Activate { activation: of, from, to: MapId(maps.len()) };
            }
            places.push(MapId(maps.len()));
            maps.push(map.clone());
            nodes.push(node);
        }
        Self { maps, nodes, outputs: self.outputs.iter().map(|map| places[map.0]).collect() }
    }
}

impl Node {
    /// The same node, whose maps are elsewhere.
    fn moved(&self, at: impl Fn(MapId) -> MapId, to: MapId) -> Self {
        match self.clone() {
            Self::Conv { unit, from, .. } => Self::Conv { unit, from: at(from), to },
            Self::Add { main, skip, channels, activation, .. } => {
                Self::Add { main: at(main), skip: at(skip), channels, activation, to }
            }
            Self::Gate { from, by, .. } => Self::Gate { from: at(from), by: at(by), to },
            Self::Concat { from, .. } => Self::Concat { from: from.into_iter().map(at).collect(), to },
            Self::Pool { pool, from, .. } => Self::Pool { pool, from: at(from), to },
            Self::Dropout { from, .. } => Self::Dropout { from: at(from), to },
            Self::DropConnect { rate, from, .. } => Self::DropConnect { rate, from: at(from), to },
            Self::Linear { linear, from, .. } => Self::Linear { linear, from: at(from), to },
            Self::Activate { activation, from, .. } => Self::Activate { activation, from: at(from), to },
            Self::Idle { norm, channels, from, .. } => Self::Idle { norm, channels, from: at(from), to },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkConfig, NetworkName};

    #[test]
    fn a_gated_network_has_the_same_tensors_and_its_activations_apart() {
        let graph = NetworkConfig::new(NetworkName::EfficientNetB0).build().unwrap();
        let apart = graph.activations_apart();
        assert_eq!(apart.tensors(), graph.tensors());
        let smooth = |graph: &Graph| {
            let of = |node: &&Node| matches!(node, Node::Conv { unit, .. } if unit.activation != Activation::None);
            graph.nodes().iter().filter(of).count()
        };
        let activate = apart.nodes().iter().filter(|node| matches!(node, Node::Activate { .. })).count();
        assert_eq!((smooth(&apart), activate), (0, smooth(&graph)));
        assert_eq!(apart.sizes(224, 224).unwrap().last(), graph.sizes(224, 224).unwrap().last());
        let clamped = NetworkConfig::new(NetworkName::MobileNeXt).build().unwrap();
        assert_eq!(clamped.activations_apart(), clamped);
    }
}
