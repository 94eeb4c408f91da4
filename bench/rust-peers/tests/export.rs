//! Other engines run every exported network, with the logits of our plan.

use std::sync::Arc;

use sandglass_infer::{Options, Plan};
use sandglass_models::{Graph, NetworkConfig, NetworkName, Role, Weights};
use sandglass_ops::Runtime;
use sandglass_rust_peers::{ENGINES, load};

const SIZE: usize = 64;

/// From -1 to 1, without a pattern: filters that resemble each other add up, and rounding grows with them from layer to layer.
fn noise(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Batch norms that differ from channel to channel, filters that let the image through all layers.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph.tensors());
    let mut seen = 0;
    for (spec, values) in weights.specs.iter().zip(&mut weights.values) {
        let taps: usize = spec.shape[1..].iter().product();
        let (mean, spread) = match spec.role {
            Role::ConvWeight | Role::DepthwiseWeight => (0.0, (6.0 / taps as f32).sqrt()),
            Role::LinearWeight => (0.0, 0.05),
            Role::NormWeight => (1.0, 0.3),
            Role::RunningVar => (1.0, 0.3),
            _ => (0.0, 0.1),
        };
        seen += values.len();
        values.iter_mut().enumerate().for_each(|(i, value)| *value = mean + spread * noise(seen + i));
    }
    weights
}

fn check(config: &NetworkConfig) {
    let graph = config.build().unwrap();
    let weights = weights(&graph);
    let bytes = sandglass_onnx::encode("network", &graph, &weights, (SIZE, SIZE)).unwrap();
    assert_eq!(bytes, sandglass_onnx::encode("network", &graph, &weights, (SIZE, SIZE)).unwrap());
    let runtime = Arc::new(Runtime::new(1).unwrap());
    let mut plan = Plan::new(runtime, &graph, &weights, (SIZE, SIZE), Options::default()).unwrap();
    let images: Vec<f32> = (0..SIZE * SIZE * 3).map(noise).collect();
    let want = plan.run(&images).unwrap().get(0).unwrap();

    let nchw: Vec<f32> = (0..3).flat_map(|channel| images.iter().copied().skip(channel).step_by(3)).collect();
    let largest = want.iter().fold(0f32, |most, value| most.max(value.abs()));
    for engine in ENGINES {
        let cores = core_affinity::get_core_ids().unwrap()[..1].to_vec();
        let got = load(engine, bytes.clone(), nchw.clone(), SIZE, cores).unwrap()().unwrap();
        let error = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{config}: {engine}: {error:.1e} of {largest:.1e}");
        assert!(got.len() == want.len() && error <= 1e-4 * largest, "{config}: {engine}: {error} of {largest}");
    }
}

#[test]
fn every_exported_network_gives_the_plans_logits() {
    for name in NetworkName::all() {
        let full = NetworkConfig { classes: 40, ..NetworkConfig::new(name) };
        let narrow = NetworkConfig { width: 0.5, ..full };
        let config = if narrow.build().is_ok() { narrow } else { full };
        check(&config);
        if name.has_identity_div() {
            [2, 3, 6].into_iter().for_each(|identity_div| check(&NetworkConfig { identity_div, ..config }));
        }
    }
}
