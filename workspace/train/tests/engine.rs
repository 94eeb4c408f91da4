//! The compiled networks: the same bits on every path and thread count, and memory that is used again.

use std::sync::Arc;

use sandglass_models::blocks::{MbConv, MbConvSe, SandglassSe};
use sandglass_models::{Activation, Conv, Graph, GraphBuilder, NetworkConfig, NetworkName, Role, Weights, fold};
use sandglass_ops::{Isa, Runtime};
use sandglass_train::{Engine, EngineError, TrainError, initialise, unfold};

fn images(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1021) as f32 / 510.0 - 1.0).collect()
}

fn network(name: &str, identity_div: usize) -> Graph {
    let name: NetworkName = name.parse().unwrap();
    NetworkConfig { width: 0.35, classes: 10, stem_stride: 1, identity_div, ..NetworkConfig::new(name) }
        .build()
        .unwrap()
}

/// A gated block of each kind, with what else EfficientNet's frame has: biases, groups, uneven padding.
fn gated() -> Graph {
    let mut g = GraphBuilder::new(3).unwrap();
    let images = g.images();
    let names = ["conv".to_owned(), "norm".to_owned()];
    let x = g.conv_norm(Conv::dense(3, 16, 3, 1), names, Activation::Silu, images).unwrap();
    let block = MbConv { input: 16, output: 16, kernel: 5, stride: 1, expand_ratio: 4 };
    let x = MbConvSe(block).build(&mut g, "inverted", x).unwrap();
    let block = SandglassSe {
        input: 16,
        output: 24,
        kernel: 3,
        stride: 2,
        reduction: 2,
        pointwise_groups: 2,
        first_of_stage: true,
    };
    let x = block.build(&mut g, "sandglass", x).unwrap();
    let pooled = g.global_average("pool", x).unwrap();
    let logits = g.linear("classifier", pooled, 10).unwrap();
    g.finish(vec![logits]).unwrap()
}

/// Three steps of plain gradient descent.
fn train(runtime: Runtime, network: &Graph, size: (usize, usize)) -> (Weights, Vec<f32>) {
    let mut engine = Engine::new(Arc::new(runtime), network, size.0, size.1, 5).unwrap();
    let mut weights = initialise(network.tensors(), 3);
    let x = images(5 * size.0 * size.1 * 3);
    for _ in 0..3 {
        let logits = engine.forward(&mut weights, &x, None).unwrap().one().unwrap();
        let gradient: Vec<f32> = logits.iter().enumerate().map(|(i, y)| y - (i % 3) as f32).collect();
        let gradients = engine.backward(&weights, &[&gradient]).unwrap();
        for (values, gradients) in weights.values.iter_mut().zip(gradients) {
            values.iter_mut().zip(gradients).for_each(|(value, g)| *value -= 1e-4 * g);
        }
    }
    let logits = engine.evaluate(&weights, &x).unwrap().one().unwrap();
    (weights, logits)
}

#[test]
fn training_has_the_same_bits_on_every_path_and_thread_count() {
    let networks = [
        ("mobilenetv2", network("mobilenetv2", 1), (9, 12)),
        ("mobilenext", network("mobilenext", 2), (7, 8)),
        ("mobilenetv1", network("mobilenetv1", 1), (8, 8)),
        ("gated", gated(), (8, 9)),
    ];
    for (name, network, size) in networks {
        let want = train(Runtime::with_isa(1, Isa::Portable).unwrap(), &network, size);
        assert!(want.1.iter().all(|x| x.is_finite()), "{name}");
        for isa in Isa::ALL {
            if !isa.is_available() {
                eprintln!("skipped: this CPU lacks {}", isa.name());
                continue;
            }
            for threads in [1, 2, 3] {
                let got = train(Runtime::with_isa(threads, isa).unwrap(), &network, size);
                assert_eq!(bits(&got.1), bits(&want.1), "{name}: logits on {isa:?}, {threads} threads");
                for ((spec, got), want) in got.0.specs.iter().zip(&got.0.values).zip(&want.0.values) {
                    assert_eq!(bits(got), bits(want), "{name}: {} on {isa:?}, {threads} threads", spec.name);
                }
            }
        }
    }
}

/// Checkpoints in the repository can be trained again to their hashes only while this holds: who changes it on purpose
/// trains them anew.
#[test]
fn the_arithmetic_is_pinned() {
    let (weights, _) = train(Runtime::with_isa(1, Isa::Portable).unwrap(), &network("mobilenext", 1), (7, 8));
    let fnv = |hash: u64, bits: &u32| (hash ^ u64::from(*bits)).wrapping_mul(0x100_0000_01b3);
    let hash = weights.values.iter().flat_map(|values| bits(values)).collect::<Vec<_>>();
    assert_eq!(hash.iter().fold(0xcbf2_9ce4_8422_2325, fnv), 9_053_604_581_861_657_952);
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn an_image_scores_the_same_in_any_batch() {
    let network = network("mobilenext", 1);
    let mut engine = Engine::new(Arc::new(Runtime::new(2).unwrap()), &network, 16, 16, 4).unwrap();
    let weights = initialise(network.tensors(), 1);
    let x = images(4 * 16 * 16 * 3);
    let together = engine.evaluate(&weights, &x).unwrap().one().unwrap();
    for (one, want) in x.chunks(16 * 16 * 3).zip(together.chunks(10)) {
        assert_eq!(bits(&engine.evaluate(&weights, one).unwrap().one().unwrap()), bits(want));
    }
}

#[test]
fn misuse_is_an_error() {
    let network = network("mobilenetv2", 1);
    let mut engine = Engine::new(Arc::new(Runtime::new(1).unwrap()), &network, 16, 16, 2).unwrap();
    let mut weights = initialise(network.tensors(), 1);
    assert!(matches!(engine.backward(&weights, &[&[0.0; 10]]), Err(EngineError::NoForward)));
    assert!(matches!(engine.evaluate(&weights, &[]), Err(EngineError::Images { .. })));
    assert!(matches!(engine.evaluate(&weights, &images(3 * 16 * 16 * 3)), Err(EngineError::Images { .. })));
    assert!(matches!(engine.evaluate(&weights, &images(16 * 16 * 3 + 1)), Err(EngineError::Length { .. })));
    // One image: the last maps have 1x1 pixels.
    let before = weights.clone();
    assert!(matches!(engine.forward(&mut weights, &images(16 * 16 * 3), None), Err(EngineError::Op(_))));
    assert_eq!(before, weights);
    weights.values.pop();
    assert!(matches!(engine.evaluate(&weights, &images(16 * 16 * 3)), Err(EngineError::Length { .. })));
}

/// Folded by hand: each norm's scale moves into its convolution, what it adds stays.
fn folded(graph: &Graph, weights: &Weights) -> Weights {
    let (_, biased) = fold(graph, weights).unwrap();
    let find = |of: &Weights, name: &str| of.specs.iter().position(|spec| spec.name == name);
    let mut folded = weights.clone();
    for (at, spec) in weights.specs.iter().enumerate() {
        folded.values[at] = match spec.role {
            Role::ConvWeight | Role::DepthwiseWeight => biased.values[find(&biased, &spec.name).unwrap()].clone(),
            Role::NormWeight => vec![(1.0f32 + 1e-5).sqrt(); spec.len()],
            Role::RunningMean => vec![0.0; spec.len()],
            Role::RunningVar => vec![1.0; spec.len()],
            _ => continue,
        };
    }
    // A norm's bias follows its convolution's weight, as the folded bias does.
    for (at, spec) in weights.specs.iter().enumerate().filter(|(_, spec)| spec.role == Role::NormBias) {
        let before =
            weights.specs[..at].iter().rposition(|spec| spec.name.ends_with(".weight") && spec.shape.len() == 4);
        let conv = find(&biased, &weights.specs[before.unwrap()].name).unwrap();
        folded.values[at] = biased.values[conv + 1].clone();
        assert_eq!(folded.values[at].len(), spec.len());
    }
    folded
}

/// Evaluation is what it was; with batch statistics folded weights give something else, unfolded ones nearly the same.
#[test]
fn what_was_folded_trains_on_where_it_was() {
    let graph = network("mobilenetv2", 1);
    let runtime = Arc::new(Runtime::new(2).unwrap());
    let images = images(8 * 32 * 32 * 3);
    let mut weights = initialise(graph.tensors(), 3);
    let mut engine = Engine::new(runtime.clone(), &graph, 32, 32, 8).unwrap();
    // Statistics as after some steps.
    for _ in 0..80 {
        engine.forward(&mut weights, &images, None).unwrap();
    }
    let folded = folded(&graph, &weights);
    let unfolded = unfold(runtime.clone(), &graph, &folded, &images, (32, 32)).unwrap();
    let logits = |engine: &mut Engine, weights: &Weights| engine.evaluate(weights, &images).unwrap().one().unwrap();
    let trained = |weights: &Weights| {
        let mut engine = Engine::new(runtime.clone(), &graph, 32, 32, 8).unwrap();
        engine.forward(&mut weights.clone(), &images, None).unwrap().one().unwrap()
    };
    let before = logits(&mut engine, &folded);
    let largest = before.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
    let off = |other: &[f32]| before.iter().zip(other).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
    assert!(off(&logits(&mut engine, &unfolded)) < 1e-4, "{}", off(&logits(&mut engine, &unfolded)));
    assert!(off(&trained(&unfolded)) < 1e-3, "{}", off(&trained(&unfolded)));
    assert!(off(&trained(&folded)) > 0.5, "{}", off(&trained(&folded)));
    assert!(matches!(unfold(runtime.clone(), &graph, &weights, &images, (32, 32)), Err(TrainError::NotFolded(_))));
}
