//! Networks with weights that follow no pattern, and images for them.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;

use sandglass_data::{Loader, Part, Protocol, Transform};
use sandglass_models::{Graph, NetworkConfig, NetworkName, Weights, checkpoint};
use sandglass_ops::{Isa, Runtime};
use sandglass_quant::{Images, Net};

/// In -1..1.
pub fn random(seed: u64, at: u64) -> f32 {
    let mut z = (seed * 0x1_0000_0001 + at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32) - 1.0
}

pub fn graph(name: NetworkName, width: f64) -> Graph {
    NetworkConfig { width, classes: 7, ..NetworkConfig::new(name) }.build().unwrap()
}

/// Norms that differ from channel to channel, and biases large enough that noise dies away from layer to layer, as it does
/// in trained networks.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph.tensors());
    for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let fan_in: usize = spec.shape.iter().skip(1).product();
        for (at, value) in values.iter_mut().enumerate() {
            let random = random(seed as u64, at as u64);
            *value = match spec.name.as_str() {
                name if name.ends_with("running_var") => 1.0 + 0.9 * random,
                _ if spec.shape.len() > 1 => random * (3.0 / fan_in as f32).sqrt(),
                name if name.ends_with("weight") => 1.0 + 0.5 * random,
                _ => 0.3 + 0.7 * random,
            };
        }
    }
    weights
}

pub fn net(name: NetworkName, width: f64) -> Net {
    let graph = graph(name, width);
    Net::new(&graph, &weights(&graph)).unwrap()
}

/// A network that the repository keeps, trained on embedded images of 32 x 32.
pub fn trained(name: NetworkName) -> Net {
    let config = NetworkConfig { width: 0.35, classes: 10, stem_stride: 1, ..NetworkConfig::new(name) };
    let graph = config.build().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/checkpoints/width/smoke");
    let weights = checkpoint::load(&folder.join(format!("{name}-w0.35-s0.safetensors")), graph.tensors()).unwrap();
    Net::new(&graph, &weights).unwrap()
}

/// Embedded images, 32 x 32.
pub fn photos(count: usize) -> Vec<f32> {
    let set = sandglass_data::open("embedded", Part::Train, Some(10)).unwrap();
    let transform = Transform::evaluation(&set, 10, Some(32), &Protocol::default()).unwrap();
    Loader::evaluation(&set, transform, count, 1).epoch(0, 0).next().unwrap().unwrap().images
}

pub fn images(count: usize, side: usize) -> Vec<f32> {
    (0..(count * side * side * 3) as u64).map(|at| 2.0 * random(99, at)).collect()
}

pub fn of(values: &[f32], side: usize) -> Images<'_> {
    Images { values, height: side, width: side }
}

pub fn runtime() -> Runtime {
    Runtime::new(2).unwrap()
}

/// One thread and three, on every instruction set of this machine.
pub fn runtimes() -> Vec<Runtime> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    isas.flat_map(|isa| [1, 3].map(|threads| Runtime::with_isa(threads, isa).unwrap())).collect()
}
