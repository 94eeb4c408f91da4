//! What is written, read back as the format's rules have it. Other engines run these files in `bench/`.

use std::collections::BTreeSet;

use prost::Message;
use sandglass_models::{
    Activation, After, Conv, Graph, GraphBuilder, NetworkConfig, NetworkName, Padding, Pool, Role, Unit, Weights,
    Window,
};
use sandglass_onnx::proto::{GraphProto, ModelProto, NodeProto};
use sandglass_onnx::{ExportError, OPSET, encode};

fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph.tensors());
    for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let least = if spec.role == Role::RunningVar { 0.5 } else { -0.5 };
        values
            .iter_mut()
            .enumerate()
            .for_each(|(i, value)| *value = least + ((i + seed) * 7919 % 1021) as f32 / 1021.0);
    }
    weights
}

fn decoded(graph: &Graph, size: (usize, usize)) -> GraphProto {
    let weights = weights(graph);
    let bytes = encode("test", graph, &weights, size).unwrap();
    assert_eq!(bytes, encode("test", graph, &weights, size).unwrap());
    let model = ModelProto::decode(bytes.as_slice()).unwrap();
    assert_eq!((model.producer_name.as_str(), model.opset_import[0].version), ("sandglass", OPSET));
    model.graph.unwrap()
}

/// Every value is written once, and before it is read; every name is one node's.
fn check(graph: &GraphProto) {
    let tensors = graph.initializer.iter().map(|tensor| &tensor.name);
    let mut known = BTreeSet::new();
    for name in tensors.chain(graph.input.iter().map(|input| &input.name)) {
        assert!(known.insert(name), "{name} twice");
    }
    for node in &graph.node {
        assert!(node.input.iter().all(|name| known.contains(name)), "{}", node.name);
        assert!(node.output.iter().all(|name| known.insert(name)), "{}", node.name);
    }
    assert!(graph.output.iter().all(|output| known.contains(&output.name)));
    for tensor in &graph.initializer {
        let len: i64 = tensor.dims.iter().product();
        let size = [0, 4, 1, 1, 0, 0, 4, 8][tensor.data_type as usize];
        assert_eq!(tensor.raw_data.len() as i64, size * len, "{}", tensor.name);
    }
}

fn ops(graph: &GraphProto, op_type: &str) -> Vec<NodeProto> {
    graph.node.iter().filter(|node| node.op_type == op_type).cloned().collect()
}

fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).unwrap().ints.clone()
}

#[test]
fn every_network_is_written_under_its_own_names() {
    for name in NetworkName::all() {
        for identity_div in if name.has_identity_div() { vec![1, 2, 6] } else { vec![1] } {
            let config = NetworkConfig { classes: 7, identity_div, ..NetworkConfig::new(name) };
            let graph = config.build().unwrap();
            let written = decoded(&graph, (64, 96));
            check(&written);
            // Nothing is left of batch norms, and nothing else changes the number of weights.
            let count = |role: &[Role]| graph.tensors().iter().filter(|spec| role.contains(&spec.role)).count();
            let convs = count(&[Role::ConvWeight, Role::DepthwiseWeight]);
            assert_eq!(ops(&written, "Conv").len(), convs);
            assert!(ops(&written, "Conv").iter().all(|node| node.input.len() == 3));
            let sums = graph.nodes().iter().filter(|node| matches!(node, sandglass_models::Node::Add { .. })).count();
            assert_eq!(ops(&written, "Add").len(), sums);
            assert_eq!(ops(&written, "Slice").len(), if identity_div == 1 { 0 } else { 3 * sums });
            assert_eq!(written.output[0].name, name.classifier());
            let shape = |value: &sandglass_onnx::proto::ValueInfoProto| -> Vec<Option<i64>> {
                let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
                tensor.shape.unwrap().dim.iter().map(|dim| dim.dim_value).collect()
            };
            assert_eq!(shape(&written.input[0]), [None, Some(3), Some(64), Some(96)]);
            assert_eq!(shape(&written.output[0]), [None, Some(7)]);
        }
    }
}

#[test]
fn gates_concatenations_activations_and_same_padding() {
    let mut g = GraphBuilder::new(4).unwrap();
    let x = g.images();
    let unit = |name: &str, conv, activation| Unit { conv, name: name.into(), after: After::Bias, activation };
    let same = Window { kernel: 3, stride: 2, padding: Padding::Same };
    let a = g.unit(unit("a", Conv { window: same, ..Conv::dense(4, 6, 3, 2) }, Activation::Silu), x).unwrap();
    let pooled = g.global_average("pooled", a).unwrap();
    let by = g.unit(unit("by", Conv::pointwise(6, 6), Activation::Sigmoid), pooled).unwrap();
    let gated = g.gate("gated", a, by).unwrap();
    // A name that is taken twice: both are written.
    let joined = g.concat("gated", vec![gated, a]).unwrap();
    let sum = g.add("sum", (joined, a), 2, Activation::Relu).unwrap();
    let small = g.pool("small", Pool::Max(same), sum).unwrap();
    let graph = g.finish(vec![small, joined]).unwrap();
    let written = decoded(&graph, (7, 8));
    check(&written);
    let conv = &ops(&written, "Conv")[0];
    // 7 rows: one of padding on both sides; 8 columns: one, at the end.
    assert_eq!((ints(conv, "pads"), ints(conv, "strides")), (vec![1, 0, 1, 1], vec![2, 2]));
    assert_eq!(ops(&written, "Mul").len(), 2);
    assert_eq!(ops(&written, "Sigmoid").len(), 2);
    assert_eq!(ops(&written, "Concat").len(), 2);
    assert_eq!(ops(&written, "Slice").len(), 3);
    assert_eq!(ops(&written, "Relu")[0].output, ["sum"]);
    assert_eq!(written.output.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["small", "gated#2"]);
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let graph = NetworkConfig::new(NetworkName::MobileNetV1).build().unwrap();
    let mut broken = weights(&graph);
    assert!(matches!(encode("test", &graph, &broken, (0, 9)), Err(ExportError::Model(_))));
    broken.values[0][3] = f32::NAN;
    assert!(matches!(encode("test", &graph, &broken, (64, 64)), Err(ExportError::Fold(_))));
    broken.values[0].clear();
    assert!(matches!(encode("test", &graph, &broken, (64, 64)), Err(ExportError::Fold(_))));

    let mut g = GraphBuilder::new(4).unwrap();
    let pooled = g.global_average("pooled", g.images()).unwrap();
    let flat = g.linear("flat", pooled, 4).unwrap();
    let sum = g.add("sum", (flat, pooled), 4, Activation::None).unwrap();
    let graph = g.finish(vec![sum]).unwrap();
    assert!(matches!(encode("test", &graph, &weights(&graph), (3, 3)), Err(ExportError::Flat(node)) if node == "sum"));
}
