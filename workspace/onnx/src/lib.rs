//! Graphs and their weights as ONNX files: batch norms folded, maps NCHW, names those of the graph; in f32, or in 8 bits.
//!
//! The bytes are a function of the graph, its weights and the input size.

#![warn(clippy::missing_errors_doc)]

mod int8;
pub mod proto;

use std::collections::BTreeSet;

use prost::Message;
use sandglass_models::{
    Activation, FoldError, Graph, MapId, ModelError, Node, Pool, TensorSpec, Unit, Weights, Window, fold,
};

pub use int8::encode_int8;

use proto::{
    AttributeProto, Dimension, FLOAT, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};

/// The operators' version; every operator written here has been the same since 13.
pub const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Why a graph cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("{0}: a linear layer's output read by other than a linear layer is not written")]
    Flat(String),
}

/// The bytes of an ONNX file that takes images [batch, channels, height, width] and gives the graph's outputs, maps
/// [batch, channels, height, width] or logits [batch, classes]; `name` is the graph's.
///
/// # Errors
/// Weights that are not the graph's or fold into no finite numbers, images that the graph does not take, or a graph that
/// reads a linear layer as a map.
pub fn encode(
    name: &str,
    graph: &Graph,
    weights: &Weights,
    (height, width): (usize, usize),
) -> Result<Vec<u8>, ExportError> {
    let sizes = graph.sizes(height, width)?;
    let (folded, weights) = fold(graph, weights)?;
    let mut names = Names::default();
    // Tensors first: each has its own name already.
    let tensors = weights.specs.iter().zip(&weights.values);
    let initializer: Vec<_> =
        tensors.map(|(spec, values)| floats(&names.fresh(&spec.name), &spec.shape, values)).collect();
    let maps = folded.maps().iter().map(|map| names.fresh(&map.name)).collect();
    let flat = vec![false; folded.maps().len()];
    let mut writer = Writer { graph: &folded, maps, flat, names, nodes: Vec::new(), initializer };
    for node in folded.nodes() {
        writer.node(node, &sizes)?;
    }
    Ok(model(name, writer, &sizes).encode_to_vec())
}

/// What was written, as a file's message.
fn model(name: &str, writer: Writer<'_>, sizes: &[(usize, usize)]) -> ModelProto {
    let Writer { graph, maps, flat, nodes, initializer, .. } = writer;
    let value = |map: MapId| {
        let ((height, width), channels) = (sizes[map.index()], graph.maps()[map.index()].channels);
        let shape = [channels, height, width];
        value_info(&maps[map.index()], &shape[..if flat[map.index()] { 1 } else { 3 }])
    };
    let graph = GraphProto {
        name: name.to_owned(),
        input: vec![value(graph.images())],
        output: graph.outputs().iter().map(|&map| value(map)).collect(),
        node: nodes,
        initializer,
    };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "sandglass".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
    }
}

/// Names of values, each given once.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn fresh(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}#{number}"));
        let all = std::iter::once(name.to_owned()).chain(numbered);
        let fresh = all.into_iter().find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(fresh.clone());
        fresh
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    /// Value of each map.
    maps: Vec<String>,
    /// Whether a map is [batch, channels].
    flat: Vec<bool>,
    names: Names,
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node, sizes: &[(usize, usize)]) -> Result<(), ExportError> {
        let (to, reads) = (node.writes(), node.reads());
        let is_linear = matches!(node, Node::Linear { .. });
        let is_flat = reads.iter().any(|map| self.flat[map.index()]);
        if is_flat && !is_linear && !node.hands_on() {
            return Err(ExportError::Flat(self.graph.maps()[to.index()].name.clone()));
        }
        self.flat[to.index()] = is_linear || is_flat;
        let out = self.maps[to.index()].clone();
        let from: Vec<String> = reads.iter().map(|map| self.maps[map.index()].clone()).collect();
        match node {
            Node::Conv { unit, from: map, .. } => self.unit(unit, &from[0], sizes[map.index()], &out),
            Node::Add { main, channels, activation, skip, .. } => {
                let [main, skip] = [main, skip].map(|map| self.graph.maps()[map.index()].channels);
                self.sum([&from[0], &from[1]], [main, skip], *channels, *activation, &out);
            }
            Node::Gate { .. } => self.push("Mul", &from, &out, Vec::new()),
            Node::Concat { .. } => self.push("Concat", &from, &out, vec![AttributeProto::int("axis", 1)]),
            Node::Pool { pool: Pool::GlobalAverage, .. } => self.push("GlobalAveragePool", &from, &out, Vec::new()),
            Node::Pool { pool: Pool::Max(window), from: map, .. } => {
                self.push("MaxPool", &from, &out, attributes(window, sizes[map.index()]));
            }
            // Nothing is done to it, but the two may be outputs both.
            Node::Dropout { .. } | Node::DropConnect { .. } | Node::Idle { .. } => {
                self.push("Identity", &from, &out, Vec::new());
            }
            Node::Activate { activation, .. } => self.activate(*activation, &from[0], &out),
            Node::Linear { linear, .. } => {
                let flat = self.names.fresh(&format!("{}/flat", linear.name));
                self.push("Flatten", &from, &flat, vec![AttributeProto::int("axis", 1)]);
                let reads = [flat, format!("{}.weight", linear.name), format!("{}.bias", linear.name)];
                self.push("Gemm", &reads, &out, vec![AttributeProto::int("transB", 1)]);
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: &Unit, from: &str, size: (usize, usize), out: &str) {
        let mut reads = vec![from.to_owned()];
        reads.extend(unit.tensors().into_iter().map(|TensorSpec { name, .. }| name));
        let mut with = attributes(&unit.conv.window, size);
        with.push(AttributeProto::int("group", unit.conv.groups));
        let raw = self.before(unit.activation, out);
        self.push("Conv", &reads, &raw, with);
        self.activate(unit.activation, &raw, out);
    }

    /// The first `channels` of the second added to those of the first.
    fn sum(&mut self, from: [&str; 2], all: [usize; 2], channels: usize, activation: Activation, out: &str) {
        let sum = self.before(activation, out);
        let first = |writer: &mut Self, from: &str, all: usize| match all == channels {
            true => from.to_owned(),
            false => writer.slice(from, out, 0..channels),
        };
        let added = [first(self, from[0], all[0]), first(self, from[1], all[1])];
        if channels == all[0] {
            self.push("Add", &added, &sum, Vec::new());
        } else {
            let part = self.names.fresh(&format!("{out}/sum"));
            self.push("Add", &added, &part, Vec::new());
            let rest = self.slice(from[0], out, channels..all[0]);
            self.push("Concat", &[part, rest], &sum, vec![AttributeProto::int("axis", 1)]);
        }
        self.activate(activation, &sum, out);
    }

    /// Some channels of a map.
    fn slice(&mut self, from: &str, node: &str, channels: std::ops::Range<usize>) -> String {
        let [starts, ends, axes] =
            [("starts", channels.start), ("ends", channels.end), ("axes", 1)].map(|(what, value)| {
                let name = self.names.fresh(&format!("{node}/{what}"));
                self.initializer.push(integers(&name, value));
                name
            });
        let out = self.names.fresh(&format!("{node}/channels"));
        self.push("Slice", &[from.to_owned(), starts, ends, axes], &out, Vec::new());
        out
    }

    /// What the value is called before its activation.
    fn before(&mut self, activation: Activation, out: &str) -> String {
        if activation == Activation::None { out.to_owned() } else { self.names.fresh(&format!("{out}/linear")) }
    }

    fn activate(&mut self, activation: Activation, from: &str, out: &str) {
        let reads = [from.to_owned()];
        match activation {
            Activation::None => (),
            Activation::Relu => self.push("Relu", &reads, out, Vec::new()),
            Activation::Sigmoid => self.push("Sigmoid", &reads, out, Vec::new()),
            Activation::Silu => {
                let gate = self.names.fresh(&format!("{out}/sigmoid"));
                self.push("Sigmoid", &reads, &gate, Vec::new());
                self.push("Mul", &[from.to_owned(), gate], out, Vec::new());
            }
            Activation::Relu6 => {
                let bounds = [("relu6/min", 0.0), ("relu6/max", 6.0)].map(|(name, value)| {
                    if self.names.0.insert(name.to_owned()) {
                        self.initializer.push(floats(name, &[], &[value]));
                    }
                    name.to_owned()
                });
                let [min, max] = bounds;
                self.push("Clip", &[from.to_owned(), min, max], out, Vec::new());
            }
        }
    }

    /// Appends a node, called by what it writes.
    fn push(&mut self, op_type: &str, input: &[String], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: input.to_vec(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
    }
}

/// Of a window over a map of this size.
fn attributes(window: &Window, (height, width): (usize, usize)) -> Vec<AttributeProto> {
    let Window { kernel, stride, .. } = *window;
    // Known to fit since `Graph::sizes`.
    let places = |size: usize| window.padding(size).unwrap_or_default();
    let ((top, bottom), (left, right)) = (places(height), places(width));
    vec![
        AttributeProto::ints("kernel_shape", &[kernel, kernel]),
        AttributeProto::ints("strides", &[stride, stride]),
        AttributeProto::ints("pads", &[top, left, bottom, right]),
    ]
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    raw(name, shape, FLOAT, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn integers(name: &str, value: usize) -> TensorProto {
    raw(name, &[1], INT64, (value as i64).to_le_bytes().to_vec())
}

/// Little-endian bytes of numbers of type `data_type`.
fn raw(name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { dims: shape.iter().map(|&side| side as i64).collect(), data_type, name: name.to_owned(), raw_data }
}

/// A value of any number of images.
fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some("batch".to_owned()) };
    let sides = shape.iter().map(|&side| Dimension { dim_value: Some(side as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(sides).collect() };
    let tensor_type = Some(TensorType { elem_type: FLOAT, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}
