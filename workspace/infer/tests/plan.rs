//! Plans against the engine that trains, to the bit, and against their own taps.

mod common;

use std::sync::Arc;

use common::{bits, values, weights};
use sandglass_infer::{InferError, Options, Plan};
use sandglass_models::blocks::InvertedResidual;
use sandglass_models::{
    Activation, After, Conv, Graph, GraphBuilder, NetworkConfig, NetworkName, Padding, Unit, Window,
};
use sandglass_ops::{Isa, Runtime};
use sandglass_train::Engine;

/// They come in one width, and are slow on the portable path.
const DEEP: [NetworkName; 5] = [
    NetworkName::ResNet50,
    NetworkName::EfficientNetB0,
    NetworkName::EfficientNetLite0,
    NetworkName::MobileNeXtSeS,
    NetworkName::MobileNeXtSeL,
];

fn network(name: NetworkName, identity_div: usize) -> Graph {
    let width = if DEEP.contains(&name) { 1.0 } else { 0.5 };
    let config = NetworkConfig { width, classes: 70, stem_stride: 1, identity_div, ..NetworkConfig::new(name) };
    config.build().unwrap()
}

#[test]
fn every_network_has_the_logits_of_the_training_engine_on_every_path_and_thread_count() {
    let divs = |name: NetworkName| if name.has_identity_div() { vec![1, 6] } else { vec![1] };
    for (name, div) in NetworkName::all().flat_map(|name| divs(name).into_iter().map(move |div| (name, div))) {
        let graph = network(name, div);
        let (weights, images) = (weights(&graph), values(2 * 33 * 37 * 3, 1));
        let runtime = Arc::new(Runtime::with_isa(2, Isa::from_env().unwrap()).unwrap());
        let want = Engine::new(runtime, &graph, 33, 37, 2).unwrap().evaluate(&weights, &images).unwrap().one().unwrap();
        assert!(want.iter().all(|x| x.is_finite()), "{name}");
        // The two images differ, and so do their logits.
        let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
        let apart = want[..70].iter().zip(&want[70..]).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(apart > 0.01 * largest, "{name}: {apart} of {largest}");
        for isa in Isa::ALL {
            if !isa.is_available() || (isa == Isa::Portable && DEEP.contains(&name)) {
                eprintln!("skipped: {name} on {}", isa.name());
                continue;
            }
            for (threads, batch) in [(1, 2), (2, 1), (3, 2)] {
                let runtime = Arc::new(Runtime::with_isa(threads, isa).unwrap());
                let options = Options { batch, ..Options::default() };
                let mut plan = Plan::new(runtime, &graph, &weights, (33, 37), options).unwrap();
                for (images, want) in images.chunks(batch * 33 * 37 * 3).zip(want.chunks(batch * 70)) {
                    let got = plan.run(images).unwrap().get(0).unwrap();
                    assert_eq!(bits(got), bits(want), "{name} {div} on {isa:?}, {threads} threads, {batch} images");
                }
            }
        }
    }
}

/// Images so large that wide maps are made line by line.
#[test]
fn chains_have_the_logits_of_the_training_engine() {
    for (name, size) in [(NetworkName::MobileNetV2, (150, 166)), (NetworkName::MobileNeXt, (166, 150))] {
        let graph = NetworkConfig { classes: 30, ..NetworkConfig::new(name) }.build().unwrap();
        let (weights, images) = (weights(&graph), values(2 * size.0 * size.1 * 3, 4));
        let runtime = Arc::new(Runtime::new(2).unwrap());
        let engine = Engine::new(runtime, &graph, size.0, size.1, 2);
        let want = engine.unwrap().evaluate(&weights, &images).unwrap().one().unwrap();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 3] {
                let runtime = Arc::new(Runtime::with_isa(threads, isa).unwrap());
                let options = Options { batch: 2, ..Options::default() };
                let mut plan = Plan::new(runtime, &graph, &weights, size, options).unwrap();
                let chains = plan.lines().iter().filter(|line| line.operation.contains("; 3x3 depthwise")).count();
                assert!(chains > 0, "{name}");
                let got = plan.run(&images).unwrap().get(0).unwrap();
                assert_eq!(bits(got), bits(&want), "{name} on {isa:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn channel_groups_take_less_memory_and_have_the_same_bits() {
    let graph = network(NetworkName::MobileNetV2, 1);
    let (weights, images) = (weights(&graph), values(40 * 40 * 3, 3));
    let plan = |memory_groups| {
        let runtime = Arc::new(Runtime::new(2).unwrap());
        Plan::new(runtime, &graph, &weights, (40, 40), Options { batch: 1, memory_groups }).unwrap()
    };
    let mut whole = plan(1);
    let want = bits(whole.run(&images).unwrap().get(0).unwrap());
    let mut least = whole.arena_bytes();
    for groups in [2, 3, 5] {
        let mut plan = plan(groups);
        assert_eq!(bits(plan.run(&images).unwrap().get(0).unwrap()), want, "{groups} groups");
        assert!(plan.arena_bytes() <= least, "{groups} groups: {} bytes", plan.arena_bytes());
        assert_eq!(plan.weight_bytes(), whole.weight_bytes());
        least = plan.arena_bytes();
        let madds = |plan: &Plan| plan.lines().iter().map(|line| line.madds).sum::<u64>();
        assert_eq!(madds(&plan), madds(&whole));
        assert_eq!(madds(&plan), graph.cost(40, 40).unwrap().madds_total);
    }
    assert!(least < whole.arena_bytes(), "{least} bytes of {}", whole.arena_bytes());
}

#[test]
fn taps_gates_concatenations_and_sums_of_all_kinds() {
    let mut g = GraphBuilder::new(4).unwrap();
    let x = g.images();
    let block = InvertedResidual { input: 4, output: 4, stride: 1, expand_ratio: 6.0 };
    let a = block.build(&mut g, "a", x).unwrap();
    let unit = |name: &str, conv, activation| Unit { conv, name: name.into(), after: After::Bias, activation };
    let b = g.unit(unit("b", Conv::pointwise(4, 7), Activation::Silu), a).unwrap();
    let pooled = g.global_average("pooled", b).unwrap();
    let by = g.unit(unit("by", Conv::pointwise(7, 7), Activation::Sigmoid), pooled).unwrap();
    let gated = g.gate("gated", b, by).unwrap();
    let joined = g.concat("joined", vec![a, gated, x]).unwrap();
    let sum = g.add("sum", (gated, b), 3, Activation::Relu).unwrap();
    let twice = g.add("twice", (a, a), 4, Activation::None).unwrap();
    let graph = g.finish(vec![x, a, b, pooled, by, gated, joined, sum, twice]).unwrap();
    let (weights, images) = (weights(&graph), values(3 * 5 * 6 * 4, 2));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let runtime = Arc::new(Runtime::with_isa(2, isa).unwrap());
        let options = Options { batch: 4, ..Options::default() };
        let mut plan = Plan::new(runtime, &graph, &weights, (5, 6), options).unwrap();
        let outputs = plan.run(&images).unwrap();
        let [x, a, b, pooled, by, gated, joined, sum, twice] = std::array::from_fn(|i| outputs.get(i).unwrap());
        assert_eq!(outputs.get(9), None);
        assert_eq!(x, images);
        for pixel in 0..3 * 30 {
            let at = |map: &'static str, from: &[f32], channels: usize, c: usize| {
                assert_eq!(from.len(), 90 * channels, "{map}");
                from[pixel * channels + c]
            };
            for c in 0..7 {
                let value = b[pixel * 7 + c] * by[pixel / 30 * 7 + c];
                assert_eq!(at("gated", gated, 7, c), value);
                assert_eq!(at("joined", joined, 15, 4 + c), value);
                let skip = if c < 3 { b[pixel * 7 + c] } else { 0.0 };
                assert_eq!(at("sum", sum, 7, c), (value + skip).max(0.0));
            }
            for c in 0..4 {
                assert_eq!(at("joined", joined, 15, c), a[pixel * 4 + c]);
                assert_eq!(at("joined", joined, 15, 11 + c), x[pixel * 4 + c]);
                assert_eq!(at("twice", twice, 4, c), 2.0 * a[pixel * 4 + c]);
            }
        }
        let mean = |image: usize, c: usize| (0..30).map(|p| f64::from(b[(image * 30 + p) * 7 + c])).sum::<f64>() / 30.0;
        (0..21).for_each(|i| assert!((f64::from(pooled[i]) - mean(i / 7, i % 7)).abs() < 1e-6));
    }
}

#[test]
fn what_is_fused_shows_in_the_lines() {
    let graph = network(NetworkName::MobileNeXt, 2);
    let weights = weights(&graph);
    let plan = Plan::new(Arc::new(Runtime::new(1).unwrap()), &graph, &weights, (64, 64), Options::default()).unwrap();
    let lines = plan.lines();
    let with = |text: &str| lines.iter().filter(|line| line.operation.contains(text)).count();
    // No sum is a pass of its own, and no other pass is left but the average.
    let sums = graph.nodes().iter().filter(|node| matches!(node, sandglass_models::Node::Add { .. })).count();
    assert_eq!(with("3x3 depthwise + "), sums);
    assert!(!lines.iter().any(|line| line.operation.starts_with('+')));
    assert_eq!(lines.last().unwrap().output, (1, 1, 70));
    assert_eq!(lines.iter().map(|line| line.madds).sum::<u64>(), graph.cost(64, 64).unwrap().madds_total);
    let stem = &lines[0];
    assert_eq!(
        (stem.name.as_str(), stem.operation.as_str(), stem.output),
        ("features.0.0", "3x3, relu6", (64, 64, 16))
    );
    assert_eq!(stem.bytes, 4 * (64 * 64 * (3 + 16) + 27 * 16));
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let graph = network(NetworkName::MobileNetV2, 1);
    let weights = weights(&graph);
    let runtime = Arc::new(Runtime::new(1).unwrap());
    let plan = |options| Plan::new(runtime.clone(), &graph, &weights, (32, 32), options);
    let zero = |batch, memory_groups| plan(Options { batch, memory_groups }).err().unwrap();
    assert!(matches!(zero(0, 1), InferError::Zero { what: "a batch" }));
    assert!(matches!(zero(1, 0), InferError::Zero { what: "memory groups" }));
    assert!(matches!(zero(usize::MAX, 1), InferError::Memory));
    assert!(matches!(zero(usize::MAX >> 20, 1), InferError::Memory));
    let mut two = plan(Options { batch: 2, ..Options::default() }).unwrap();
    let image = 32 * 32 * 3;
    for (len, fits) in
        [(0, false), (1, false), (image, true), (image + 1, false), (2 * image, true), (3 * image, false)]
    {
        assert_eq!(two.run(&vec![0.0; len]).is_ok(), fits, "{len}");
    }
    let mut short = weights.clone();
    short.values[0].pop();
    let short = Plan::new(runtime.clone(), &graph, &short, (32, 32), Options::default());
    assert!(matches!(short, Err(InferError::Weights { tensor, .. }) if tensor == "features.0.0.weight"));
    assert!(matches!(
        Plan::new(runtime.clone(), &graph, &weights, (0, 32), Options::default()),
        Err(InferError::Model(_))
    ));

    let mut g = GraphBuilder::new(4).unwrap();
    let x = g.images();
    let wide = g.concat("wide", vec![x, x]).unwrap();
    let sum = g.add("sum", (wide, x), 4, Activation::None).unwrap();
    let graph = g.finish(vec![sum]).unwrap();
    let refused = Plan::new(runtime.clone(), &graph, &common::weights(&graph), (8, 8), Options::default());
    assert!(matches!(refused, Err(InferError::NotBuilt { node, .. }) if node == "sum"));

    let more_before = Window { kernel: 3, stride: 2, padding: Padding::Unequal(2, 1) };
    let conv = Conv { window: more_before, ..Conv::dense(4, 4, 3, 2) };
    let mut g = GraphBuilder::new(4).unwrap();
    let unit = Unit { conv, name: "odd".into(), after: After::Bias, activation: Activation::None };
    let x = g.images();
    let y = g.unit(unit, x).unwrap();
    let graph = g.finish(vec![y]).unwrap();
    let weights = common::weights(&graph);
    let refused = Plan::new(runtime.clone(), &graph, &weights, (8, 8), Options::default()).err().unwrap();
    assert!(refused.to_string().starts_with("odd: "), "{refused}");
}
