//! The rule of MobileNetV2, Table 3: per resolution the most channels of a map that must exist between operators. A block is
//! one operator, for what is inside it can be made and used channel by channel.

use std::collections::BTreeMap;

use sandglass_models::{Graph, MapId, ModelError, Node};

/// The paper counts activations of 16 bits.
const BYTES: usize = 2;

/// By height, the largest first.
pub(crate) fn by_resolution(graph: &Graph, input: usize) -> Result<Vec<(usize, usize)>, ModelError> {
    let sizes = graph.sizes(input, input)?;
    let mut most = BTreeMap::new();
    let nodes = graph.nodes();
    for (at, node) in nodes.iter().enumerate() {
        let map = node.writes();
        let block = |node: &Node| graph.maps()[node.writes().index()].block();
        // The last node of a block writes what the next one reads.
        if nodes.get(at + 1).map(block) == Some(block(node)) {
            continue;
        }
        let (height, channels) = (sizes[map.index()].0, graph.maps()[map.index()].channels);
        let of_height = most.entry(height).or_insert(0);
        *of_height = channels.max(*of_height);
    }
    Ok(most.into_iter().rev().collect())
}

/// Bytes that each convolution and linear layer reads and writes, in their order.
pub(crate) fn read_and_written(graph: &Graph, input: usize) -> Result<Vec<usize>, ModelError> {
    let sizes = graph.sizes(input, input)?;
    let bytes = |map: MapId| {
        let (height, width) = sizes[map.index()];
        graph.maps()[map.index()].channels * height * width * BYTES
    };
    let computes = |node: &&Node| matches!(node, Node::Conv { .. } | Node::Linear { .. });
    let of_node = |node: &Node| node.reads().into_iter().map(bytes).sum::<usize>() + bytes(node.writes());
    Ok(graph.nodes().iter().filter(computes).map(of_node).collect())
}

/// In the paper's Kb of 1000 bytes.
pub(crate) fn kilobytes(height: usize, channels: usize) -> f64 {
    (channels * height * height * BYTES) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandglass_models::NetworkConfig;

    fn of(network: &str) -> Vec<(usize, usize)> {
        by_resolution(&network.parse::<NetworkConfig>().unwrap().build().unwrap(), 224).unwrap()
    }

    /// MobileNetV1 is counted as the paper prints it; the others are between blocks what their plans say, the stem among them.
    #[test]
    fn maps_between_blocks_are_those_of_the_plans() {
        assert_eq!(of("mobilenetv1"), [(112, 64), (56, 128), (28, 256), (14, 512), (7, 1024), (1, 1024)]);
        assert_eq!(of("mobilenetv2"), [(112, 32), (56, 24), (28, 32), (14, 96), (7, 1280), (1, 1280)]);
        assert_eq!(of("mobilenext"), [(112, 32), (56, 144), (28, 192), (14, 384), (7, 1280), (1, 1280)]);
    }

    #[test]
    fn kilobytes_are_the_papers() {
        assert_eq!(kilobytes(112, 64), 1605.632);
        assert_eq!(kilobytes(14, 160), 62.72);
    }
}
