//! Compiled 8-bit networks against the integer reference: the same scores, to the bit.

use std::sync::Arc;

use sandglass_infer::{InferError, IntPlan, Line, Options, Plan};
use sandglass_models::{NetworkConfig, NetworkName, PaddingRule, Weights};
use sandglass_ops::{Isa, Runtime};
use sandglass_quant::{Images, Net, Quantised, Scheme, calibrate, quantise};

fn random(at: usize) -> f32 {
    let z = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((z >> 40) as f32 / (1u32 << 23) as f32) - 1.0
}

fn images(count: usize, side: usize) -> Vec<f32> {
    (0..count * 3 * side * side).map(|at| 2.0 * random(at)).collect()
}

/// Of weights that keep maps of ordinary size.
fn quantised(config: &NetworkConfig, same: bool, scheme: &Scheme, side: usize) -> Quantised {
    let graph = config.build().unwrap();
    let graph = if same { graph.with_padding(PaddingRule::Same) } else { graph };
    let mut weights = Weights::zeros(graph.tensors());
    for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let fan_in: usize = spec.shape.iter().skip(1).product();
        let gain = if spec.shape.len() > 1 { (5.0 / fan_in as f32).sqrt() } else { 0.6 };
        let start = if spec.name.ends_with("running_var") || spec.name.ends_with(".1.weight") { 1.0 } else { 0.0 };
        values.iter_mut().enumerate().for_each(|(at, x)| *x = start + gain * random(at + 7919 * seed));
    }
    let values = images(2, side);
    let images = Images { values: &values, height: side, width: side };
    let net = scheme.shape(Net::new(&graph, &weights).unwrap());
    let calibration = calibrate(&Runtime::new(1).unwrap(), &net, &images, scheme.observer).unwrap();
    quantise(&net, &calibration, scheme).unwrap().0
}

#[test]
fn scores_are_the_references_on_every_path_and_thread_count() {
    let plain = Scheme::default();
    let int8_logits = Scheme { int8_logits: true, ..plain.clone() };
    let equalised = Scheme { equalise: true, ..Scheme::built_in("per-tensor").unwrap() };
    let cases = [
        ("mobilenetv2", 0.35, false, &plain),
        ("mobilenetv2", 0.5, true, &int8_logits),
        ("mobilenext", 0.35, false, &equalised),
        ("mobilenext_div3", 0.5, false, &plain),
        // Gates, tables and groups.
        ("efficientnet_b0", 1.0, false, &plain),
        ("mobilenext_se_l", 1.0, false, &plain),
        ("efficientnet_lite0", 1.0, false, &plain),
        ("mobilenetv1", 0.5, false, &plain),
        ("mobilenetv2_extra_dw_ends", 0.5, false, &plain),
        // A max-pool, and sums that are activated.
        ("resnet50", 1.0, false, &plain),
    ];
    for (name, width, same, scheme) in cases {
        let config = NetworkConfig { width, classes: 7, ..name.parse().unwrap() };
        let side = 37;
        let network = quantised(&config, same, scheme, side);
        let values = images(3, side);
        let images = Images { values: &values, height: side, width: side };
        let expected = network.scores(&Runtime::with_isa(1, Isa::Portable).unwrap(), &images).unwrap();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 2, 3] {
                let runtime = Arc::new(Runtime::with_isa(threads, isa).unwrap());
                let mut plan = IntPlan::new(runtime, &network, (side, side)).unwrap();
                assert_eq!(plan.scores(&values).unwrap(), expected, "{name} {isa:?} {threads}");
            }
        }
    }
}

#[test]
fn a_plan_says_what_it_does_and_refuses_what_it_cannot() {
    let config = NetworkConfig { width: 0.35, classes: 7, ..NetworkConfig::new(NetworkName::MobileNeXt) };
    let runtime = Arc::new(Runtime::new(1).unwrap());
    let network = quantised(&config, false, &Scheme::default(), 32);
    let mut plan = IntPlan::new(runtime.clone(), &network, (32, 32)).unwrap();
    let lines = plan.lines();
    let cost = config.build().unwrap().cost(32, 32).unwrap();
    assert_eq!(lines.iter().map(|line| line.madds).sum::<u64>(), cost.madds_total);
    assert!(lines.iter().any(|line| line.operation.contains("3x3 depthwise + ")), "sums are taken in");
    assert!(!lines.iter().any(|line| line.operation.starts_with('+')), "and none is left");
    let mut told = Vec::new();
    plan.run_and_tell(&images(1, 32), |step| told.push(step)).unwrap();
    assert_eq!(told, (0..lines.len()).collect::<Vec<_>>());
    assert!(matches!(plan.run(&[0.0; 5]), Err(InferError::Images { found: 5, .. })));
    assert!(IntPlan::new(runtime.clone(), &network, (0, 32)).is_err());
    let saturating = quantised(&config, false, &Scheme { saturate: true, ..Scheme::default() }, 32);
    assert!(matches!(IntPlan::new(runtime, &saturating, (32, 32)), Err(InferError::NotBuilt { .. })));
}

/// They run as convolutions over all channels, whose zeros are no work of the network's.
#[test]
fn convolutions_over_groups_count_as_what_they_are() {
    let config = NetworkConfig { classes: 7, ..NetworkConfig::new(NetworkName::MobileNeXtSeL) };
    let (graph, runtime) = (config.build().unwrap(), Arc::new(Runtime::new(1).unwrap()));
    let madds = |lines: Vec<Line>| lines.iter().map(|line| line.madds).sum::<u64>();
    let cost = graph.cost(32, 32).unwrap().madds_total;
    let weights = Weights::zeros(graph.tensors());
    let float = Plan::new(runtime.clone(), &graph, &weights, (32, 32), Options::default()).unwrap();
    assert_eq!(madds(float.lines()), cost);
    let int8 = IntPlan::new(runtime, &quantised(&config, false, &Scheme::default(), 32), (32, 32)).unwrap();
    assert_eq!(madds(int8.lines()), cost);
}

/// What the quantisation study's section says of its times.
#[test]
fn schemes_that_differ_in_numbers_alone_take_the_same_steps() {
    let config = NetworkConfig { width: 0.35, classes: 7, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let runtime = Arc::new(Runtime::new(1).unwrap());
    let steps = |scheme: &str| {
        let network = quantised(&config, false, &Scheme::built_in(scheme).unwrap(), 32);
        let plan = IntPlan::new(runtime.clone(), &network, (32, 32)).unwrap();
        (plan.lines(), plan.arena_bytes(), plan.weight_bytes())
    };
    let expected = steps("per-channel");
    for scheme in ["per-tensor", "pointwise-per-tensor", "per-tensor-equalised", "per-tensor-clip"] {
        assert_eq!(steps(scheme), expected, "{scheme}");
    }
    assert_ne!(steps("per-channel-int8-logits"), expected);
}
