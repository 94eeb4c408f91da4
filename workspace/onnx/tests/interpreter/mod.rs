//! A slow interpreter of the operators that are written, and weights to run it on.

use std::collections::BTreeMap;

use sandglass_models::{Graph, Weights};
use sandglass_onnx::proto::{GraphProto, NodeProto, TensorProto};

pub fn random(at: usize) -> f32 {
    let z = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((z >> 40) as f32 / (1u32 << 23) as f32) - 1.0
}

/// [side, side, 3].
pub fn image(side: usize) -> Vec<f32> {
    (0..3 * side * side).map(|at| 2.0 * random(at)).collect()
}

/// Batch norms that differ from channel to channel, and filters that let the image through all layers.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph.tensors());
    for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let fan_in: usize = spec.shape.iter().skip(1).product();
        let gain = if spec.shape.len() > 1 { (5.0 / fan_in as f32).sqrt() } else { 0.6 };
        let is_norm = spec.shape.len() == 1 && spec.name.ends_with(".weight");
        let start = if is_norm || spec.name.ends_with("running_var") { 1.0 } else { 0.0 };
        values.iter_mut().enumerate().for_each(|(at, x)| *x = start + gain * random(at + 7919 * seed));
    }
    weights
}

/// A value and its shape, without the batch.
pub type Value = (Vec<usize>, Vec<f64>);

fn constant(tensor: &TensorProto) -> Value {
    let bytes = &tensor.raw_data;
    let values = match tensor.data_type {
        1 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x).into()).collect(),
        2 => bytes.iter().map(|&x| x.into()).collect(),
        3 => bytes.iter().map(|&x| x.cast_signed().into()).collect(),
        6 => bytes.as_chunks().0.iter().map(|&x| i32::from_le_bytes(x).into()).collect(),
        7 => bytes.as_chunks().0.iter().map(|&x| i64::from_le_bytes(x) as f64).collect(),
        other => panic!("a tensor of type {other}"),
    };
    (tensor.dims.iter().map(|&dim| dim as usize).collect(), values)
}

fn ints(node: &NodeProto, name: &str) -> Vec<usize> {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == name).unwrap();
    attribute.ints.iter().chain((attribute.ints.is_empty()).then_some(&attribute.i)).map(|&i| i as usize).collect()
}

/// `f` of two values, the second one number, one a channel or as many as the first has.
fn zip(a: &Value, b: &Value, f: impl Fn(f64, f64) -> f64) -> Value {
    let channels = a.1.len() / b.1.len();
    (a.0.clone(), a.1.iter().enumerate().map(|(at, &x)| f(x, b.1[at / channels])).collect())
}

fn conv(node: &NodeProto, x: &Value, w: &Value, bias: &Value) -> Value {
    let ([_, height, width], [o, per_group, kernel, _]) = (x.0[..].try_into().unwrap(), w.0[..].try_into().unwrap());
    let (pads, strides, group) = (ints(node, "pads"), ints(node, "strides"), ints(node, "group")[0]);
    let out = |size: usize, axis: usize| (size + pads[axis] + pads[axis + 2] - kernel) / strides[axis] + 1;
    let (oh, ow) = (out(height, 0), out(width, 1));
    let mut y = Vec::new();
    for (at, oy, ox) in (0..o).flat_map(|at| (0..oh).flat_map(move |oy| (0..ow).map(move |ox| (at, oy, ox)))) {
        let mut sum = bias.1[at];
        for (i, ky, kx) in
            (0..per_group).flat_map(|i| (0..kernel).flat_map(move |ky| (0..kernel).map(move |kx| (i, ky, kx))))
        {
            let row = (oy * strides[0] + ky).checked_sub(pads[0]).filter(|y| *y < height);
            let column = (ox * strides[1] + kx).checked_sub(pads[1]).filter(|x| *x < width);
            let Some((row, column)) = row.zip(column) else { continue };
            let channel = at / (o / group) * per_group + i;
            sum += x.1[(channel * height + row) * width + column]
                * w.1[((at * per_group + i) * kernel + ky) * kernel + kx];
        }
        y.push(sum);
    }
    (vec![o, oh, ow], y)
}

/// All outputs of an image, [side, side, 3].
pub fn run(graph: &GraphProto, pixels: &[f32], side: usize) -> Vec<Value> {
    let mut values: BTreeMap<String, Value> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), constant(tensor))).collect();
    let nchw = (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).map(|&x| f64::from(x))).collect();
    values.insert(graph.input[0].name.clone(), (vec![3, side, side], nchw));
    for node in &graph.node {
        let reads: Vec<&Value> = node.input.iter().map(|name| &values[name]).collect();
        let x = reads[0];
        let value = match node.op_type.as_str() {
            "QuantizeLinear" => {
                let (scale, zero) = (reads[1].1[0], reads[2].1[0]);
                (x.0.clone(), x.1.iter().map(|x| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0)).collect())
            }
            "DequantizeLinear" => zip(&zip(x, reads[2], |x, zero| x - zero), reads[1], |x, scale| x * scale),
            "Conv" => conv(node, x, reads[1], reads[2]),
            "Gemm" => {
                let rows = reads[1].1.chunks_exact(x.1.len());
                let dot = |row: &[f64]| row.iter().zip(&x.1).map(|(w, x)| w * x).sum::<f64>();
                (vec![reads[2].1.len()], rows.zip(&reads[2].1).map(|(row, bias)| dot(row) + bias).collect())
            }
            "Flatten" => (vec![x.1.len()], x.1.clone()),
            "Identity" => x.clone(),
            "GlobalAveragePool" => {
                let area = x.0[1] * x.0[2];
                (vec![x.0[0], 1, 1], x.1.chunks_exact(area).map(|map| map.iter().sum::<f64>() / area as f64).collect())
            }
            "Add" => zip(x, reads[1], |a, b| a + b),
            "Mul" => zip(x, reads[1], |a, b| a * b),
            "Min" => zip(x, reads[1], f64::min),
            "Max" => zip(x, reads[1], f64::max),
            "Relu" => (x.0.clone(), x.1.iter().map(|x| x.max(0.0)).collect()),
            "Sigmoid" => (x.0.clone(), x.1.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()),
            "Clip" => (x.0.clone(), x.1.iter().map(|x| x.clamp(reads[1].1[0], reads[2].1[0])).collect()),
            "Slice" => {
                let (start, end) = (reads[1].1[0] as usize, reads[2].1[0] as usize);
                let area = x.0[1] * x.0[2];
                (vec![end - start, x.0[1], x.0[2]], x.1[start * area..end * area].to_vec())
            }
            "Concat" => {
                let channels = reads.iter().map(|value| value.0[0]).sum();
                (vec![channels, x.0[1], x.0[2]], reads.iter().flat_map(|value| value.1.clone()).collect())
            }
            other => panic!("{other} is not interpreted"),
        };
        values.insert(node.output[0].clone(), value);
    }
    graph.output.iter().map(|output| values[&output.name].clone()).collect()
}
