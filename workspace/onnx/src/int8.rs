//! Quantised networks as QDQ files: each map is quantised and dequantised again, weights are dequantised from 8 bits, and
//! runtimes make of that what they compute in integers.

use prost::Message;
use sandglass_models::{Activation, Node};
use sandglass_quant::{Affine, IntLayer, Quantised};

use crate::proto::{AttributeProto, INT8, INT32, TensorProto, UINT8};
use crate::{ExportError, Names, Writer, floats, model, raw};

/// The bytes of an ONNX file that takes images in f32 and gives scores in f32, with activations of 8 bits without a sign
/// (`q + 128`) and weights of 8 bits with one, as [`crate::encode`] names them.
///
/// What rounding a runtime chooses is its own: scores are near those of [`Quantised::scores`], and not the same.
///
/// # Errors
/// Images that the network does not take, or a network that reads a linear layer as a map.
pub fn encode_int8(name: &str, network: &Quantised, (height, width): (usize, usize)) -> Result<Vec<u8>, ExportError> {
    let graph = network.graph();
    let sizes = graph.sizes(height, width)?;
    let mut names = Names::default();
    // The values that layers read get the names of f32 tensors first.
    let layers = (0..graph.nodes().len()).filter_map(|at| network.layer(at));
    let tensors: Vec<[String; 2]> =
        layers.map(|layer| ["weight", "bias"].map(|leaf| names.fresh(&format!("{}.{leaf}", layer.name)))).collect();
    let maps = graph.maps().iter().map(|map| names.fresh(&map.name)).collect();
    let flat = vec![false; graph.maps().len()];
    let mut writer = Writer { graph, maps, flat, names, nodes: Vec::new(), initializer: Vec::new() };
    let output = graph.outputs().first().map(|map| map.index());

    let image = writer.maps[0].clone();
    let input = writer.names.fresh("image");
    writer.round(network.affines()[0], &input, &image);
    let mut tensors = tensors.iter();
    for (at, node) in graph.nodes().iter().enumerate() {
        let to = node.writes().index();
        let layer = network.layer(at);
        if let (Some(layer), [from]) = (layer, &node.reads()[..])
            && let Some(tensors) = tensors.next()
        {
            let is_linear = matches!(node, Node::Linear { .. });
            writer.weights(layer, is_linear, tensors, network.affines()[from.index()]);
        }
        // Scores stay in f32, but where the scheme rounds them too; what only hands on is rounded already.
        let is_score = Some(to) == output && layer.is_some() && !network.scheme().int8_logits;
        if is_score || node.hands_on() {
            writer.node(&without_clamp(node), &sizes)?;
            continue;
        }
        let name = writer.maps[to].clone();
        let real = writer.names.fresh(&format!("{name}/real"));
        writer.maps[to].clone_from(&real);
        let unclipped =
            layer.filter(|layer| clips(layer)).map(|layer| (layer, writer.names.fresh(&format!("{name}/all"))));
        match &unclipped {
            None => {
                // What rounding to 8 bits clamps anyway is not said twice: runtimes fuse what is left.
                let implied =
                    layer.is_some_and(|layer| layer.low == -128 && layer.high.iter().all(|&high| high == 127));
                writer.node(&if implied { without_clamp(node) } else { node.clone() }, &sizes)?;
            }
            Some((layer, all)) => {
                writer.maps[to].clone_from(all);
                writer.node(&without_clamp(node), &sizes)?;
                writer.clip(layer, network.affines()[to], all, &real);
            }
        }
        writer.maps[to].clone_from(&name);
        writer.round(network.affines()[to], &real, &name);
    }
    writer.maps[0] = input;
    Ok(model(name, writer, &sizes).encode_to_vec())
}

/// Whether channels are clamped at different steps, as equalisation leaves them.
fn clips(layer: &IntLayer) -> bool {
    layer.high.iter().any(|high| *high != layer.high[0])
}

fn without_clamp(node: &Node) -> Node {
    let mut node = node.clone();
    if let Node::Conv { unit, .. } = &mut node {
        unit.activation = Activation::None;
    }
    node
}

/// `q + 128`.
fn byte(q: i32) -> u8 {
    (q + 128).clamp(0, 255) as u8
}

impl Writer<'_> {
    /// Quantises and dequantises a value.
    fn round(&mut self, affine: Affine, from: &str, to: &str) {
        let scale = self.constant(floats(&format!("{to}/scale"), &[], &[affine.scale]));
        let zero = self.constant(raw(&format!("{to}/zero"), &[], UINT8, vec![byte(affine.zero_point)]));
        let steps = self.names.fresh(&format!("{to}/steps"));
        self.push("QuantizeLinear", &[from.to_owned(), scale.clone(), zero.clone()], &steps, Vec::new());
        self.push("DequantizeLinear", &[steps, scale, zero], to, Vec::new());
    }

    /// A layer's weights and biases, dequantised to the names that the layer reads.
    fn weights(&mut self, layer: &IntLayer, is_linear: bool, [weight, bias]: &[String; 2], input: Affine) {
        let outputs = layer.conv.output;
        let [o, i, kh, kw] = layer.conv.weight_shape();
        let shape = if is_linear { vec![o, i] } else { vec![o, i, kh, kw] };
        let scale = self.constant(floats(&format!("{weight}/scale"), &[outputs], &layer.scales));
        let bytes = layer.weight.iter().map(|w| w.cast_unsigned()).collect();
        let steps = self.constant(raw(&format!("{weight}/steps"), &shape, INT8, bytes));
        let zero = self.constant(raw(&format!("{weight}/zero"), &[outputs], INT8, vec![0; outputs]));
        let axis = || vec![AttributeProto::int("axis", 0)];
        self.push("DequantizeLinear", &[steps, scale, zero], weight, axis());
        let scales: Vec<f32> = layer.scales.iter().map(|&of| (f64::from(input.scale) * f64::from(of)) as f32).collect();
        let scale = self.constant(floats(&format!("{bias}/scale"), &[outputs], &scales));
        let bytes = layer.bias.iter().flat_map(|bias| bias.to_le_bytes()).collect();
        let steps = self.constant(raw(&format!("{bias}/steps"), &[outputs], INT32, bytes));
        let zero = self.constant(raw(&format!("{bias}/zero"), &[outputs], INT32, vec![0; 4 * outputs]));
        self.push("DequantizeLinear", &[steps, scale, zero], bias, axis());
    }

    /// Clamps each channel at its own step.
    fn clip(&mut self, layer: &IntLayer, affine: Affine, from: &str, to: &str) {
        let real = |q: i32| affine.dequantise(q.clamp(-128, 127) as i8);
        let highs: Vec<f32> = layer.high.iter().map(|&high| real(high)).collect();
        let high = self.constant(floats(&format!("{to}/high"), &[highs.len(), 1, 1], &highs));
        let low = self.constant(floats(&format!("{to}/low"), &[], &[real(layer.low)]));
        let below = self.names.fresh(&format!("{to}/below"));
        self.push("Min", &[from.to_owned(), high], &below, Vec::new());
        self.push("Max", &[below, low], to, Vec::new());
    }

    /// Adds a tensor under a name that is free; gives that.
    fn constant(&mut self, tensor: TensorProto) -> String {
        let name = self.names.fresh(&tensor.name);
        self.initializer.push(TensorProto { name: name.clone(), ..tensor });
        name
    }
}
