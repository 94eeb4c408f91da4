//! Graphs that are more than a chain: taps, several heads, maps with many readers, against the plain candle network.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use sandglass_models::blocks::{InvertedResidual, Sandglass};
use sandglass_models::{
    Activation, After, BatchNorm, Conv, Graph, GraphBuilder, MapId, ModelError, Padding, Pool, Role, Unit, Weights,
    Window,
};
use sandglass_ops::Runtime;
use sandglass_reference::Network;
use sandglass_train::{Drop, Engine, EngineError, cross_entropy, initialise};

/// Values in -1..1 that follow no pattern.
fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + 1) * (2 * seed + 1) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn engine(graph: &Graph, side: usize, batch: usize) -> Engine {
    Engine::new(Arc::new(Runtime::new(2).unwrap()), graph, side, side, batch).unwrap()
}

/// Convolution and batch norm of these names.
fn unit(g: &mut GraphBuilder, name: &str, conv: Conv, activation: Activation, x: MapId) -> MapId {
    g.conv_norm(conv, [format!("{name}.conv"), format!("{name}.norm")], activation, x).unwrap()
}

/// Convolution with bias.
fn biased(g: &mut GraphBuilder, name: &str, conv: Conv, activation: Activation, x: MapId) -> MapId {
    g.unit(Unit { conv, name: name.to_owned(), after: After::Bias, activation }, x).unwrap()
}

fn head(g: &mut GraphBuilder, name: &str, x: MapId, classes: usize) -> MapId {
    let pooled = g.global_average(&format!("{name}.pool"), x).unwrap();
    g.linear(name, pooled, classes).unwrap()
}

/// Every way in which a map can be read: by convolutions, pools and sums, whole and in part, twice by one sum, as an
/// output, and by nothing.
fn tangle() -> Graph {
    let g = &mut GraphBuilder::new(3).unwrap();
    let images = g.images();
    let stem = unit(g, "stem", Conv::dense(3, 8, 3, 2), Activation::Relu6, images);
    let tap = InvertedResidual { input: 8, output: 8, stride: 1, expand_ratio: 2.0 }.build(g, "block", stem).unwrap();
    let plain = unit(g, "plain", Conv::pointwise(8, 12), Activation::None, tap);
    let active = unit(g, "active", Conv::pointwise(8, 12), Activation::Relu6, tap);
    // The skip's part, and a main operand that is activated; both have other readers.
    let part = g.add("part", (active, plain), 7, Activation::None).unwrap();
    let twice = g.add("twice", (part, part), 12, Activation::None).unwrap();
    let early = g.add("early", (plain, part), 5, Activation::None).unwrap();
    let pooled_max = g.pool("max", Pool::Max(Window::centred(3, 2)), active).unwrap();
    let only_pooled = unit(g, "only_pooled", Conv::pointwise(12, 6), Activation::Relu, twice);
    let only_pooled = g.pool("max2", Pool::Max(Window::centred(3, 1)), only_pooled).unwrap();
    // A projection.
    let main = unit(g, "main", Conv::depthwise(12, 3, 2), Activation::None, twice);
    let side = unit(g, "side", Conv::dense(12, 12, 1, 2), Activation::None, twice);
    let last = g.add("last", (main, side), 12, Activation::Relu).unwrap();
    // Operands that nothing else reads: one that is an output too, one activated, and a skip of which a part is added.
    let given = unit(g, "given", Conv::pointwise(8, 8), Activation::None, tap);
    let sum = g.add("sum", (given, stem), 8, Activation::None).unwrap();
    let clamped = unit(g, "clamped", Conv::pointwise(8, 8), Activation::Relu, sum);
    let sum = g.add("sum2", (clamped, sum), 8, Activation::None).unwrap();
    let partly = unit(g, "partly", Conv::pointwise(8, 8), Activation::None, stem);
    let sum = g.add("sum3", (sum, partly), 3, Activation::None).unwrap();
    // Activations that are more than clamping: read by a convolution, by a pool and by a sum, and after a sum.
    let smooth = unit(g, "smooth", Conv::pointwise(8, 8), Activation::Silu, stem);
    let pooled_smooth = g.pool("max3", Pool::Max(Window::centred(3, 2)), smooth).unwrap();
    let lone_smooth = unit(g, "lone", Conv::depthwise(8, 3, 1), Activation::Silu, smooth);
    let lone_smooth = g.pool("max4", Pool::Max(Window::centred(3, 2)), lone_smooth).unwrap();
    let squashed = unit(g, "squashed", Conv::pointwise(8, 8), Activation::None, lone_smooth);
    let squashed = g.add("squash", (squashed, pooled_smooth), 6, Activation::Sigmoid).unwrap();
    // Gates: of a map with other readers, of the one that they are made from, and by one that is an output too.
    let pooled = g.global_average("squeeze", smooth).unwrap();
    let thin = biased(g, "thin", Conv::pointwise(8, 3), Activation::Silu, pooled);
    let by = biased(g, "by", Conv::pointwise(3, 8), Activation::Sigmoid, thin);
    let gated = g.gate("gated", smooth, by).unwrap();
    let grouped = unit(g, "grouped", Conv { groups: 2, ..Conv::pointwise(8, 6) }, Activation::Silu, gated);
    let gate = biased(g, "gate", Conv::pointwise(8, 6), Activation::None, pooled);
    let gated = g.gate("gated2", grouped, gate).unwrap();
    // Bias on a whole map, and padding that differs from side to side.
    let wide = biased(g, "wide", Conv { groups: 3, ..Conv::dense(6, 9, 3, 1) }, Activation::Relu6, gated);
    let uneven = Window { kernel: 5, stride: 2, padding: Padding::Unequal(1, 2) };
    let uneven = unit(g, "uneven", Conv { window: uneven, ..Conv::depthwise(9, 5, 2) }, Activation::Silu, wide);
    let same = Window { kernel: 3, stride: 2, padding: Padding::Same };
    let uneven = biased(g, "same", Conv { window: same, ..Conv::dense(9, 4, 3, 2) }, Activation::None, uneven);
    // As in official SSDLite heads.
    let after = After::BiasNorm(BatchNorm { name: "both.norm".to_owned(), eps: 1e-3, momentum: 0.1 });
    let both = Unit { conv: Conv::pointwise(4, 6), name: "both".to_owned(), after, activation: Activation::Relu6 };
    let uneven = g.unit(both, uneven).unwrap();
    let _unused = unit(g, "unused", Conv::pointwise(12, 4), Activation::Relu, last);
    let heads = [("a", tap, 3), ("b", last, 4), ("c", pooled_max, 2), ("d", only_pooled, 5), ("e", squashed, 2)]
        .map(|(name, x, k)| head(g, name, x, k));
    g.clone().finish([&heads[..], &[plain, last, early, plain, given, sum, uneven, gate]].concat()).unwrap()
}

fn tensors(values: &[f32], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(DType::F64)
}

struct Wanted {
    tensors: Vec<Vec<f64>>,
    images: Vec<f64>,
    outputs: Vec<Vec<f64>>,
}

/// The gradients of all tensors and of the images, and the outputs, as candle computes them in f64.
fn by_candle(
    graph: &Graph,
    weights: &Weights,
    (images, shape): (&[f32], (usize, usize, usize, usize)),
    cotangents: &[Vec<f32>],
    train: bool,
) -> Result<Wanted> {
    let all = weights.specs.iter().zip(&weights.values);
    let vars: Vec<Var> = all.map(|(spec, v)| Var::from_tensor(&tensors(v, &spec.shape)?)).collect::<Result<_>>()?;
    let named = weights.specs.iter().zip(&vars).map(|(spec, var)| (spec.name.clone(), var.as_tensor().clone()));
    let vb = VarBuilder::from_tensors(named.collect::<HashMap<_, _>>(), DType::F64, &Device::Cpu);
    let (n, height, width, channels) = shape;
    let images = Var::from_tensor(&tensors(images, &[n, height, width, channels])?)?;
    let outputs = Network::new(graph, &vb)?.outputs(&images.permute((0, 3, 1, 2))?.contiguous()?, train)?;
    let (mut loss, mut flat) = (Tensor::zeros((), DType::F64, &Device::Cpu)?, Vec::new());
    for (output, cotangent) in outputs.iter().zip(cotangents) {
        let output = if output.rank() == 4 { output.permute((0, 2, 3, 1))?.contiguous()? } else { output.clone() };
        loss = (loss + output.mul(&tensors(cotangent, output.dims())?)?.sum_all()?)?;
        flat.push(output.flatten_all()?.to_vec1()?);
    }
    let gradients = loss.backward()?;
    let gradient = |var: &Var| match gradients.get(var) {
        Some(gradient) => gradient.flatten_all()?.to_vec1(),
        None => Ok(vec![0.0; var.elem_count()]),
    };
    Ok(Wanted { tensors: vars.iter().map(gradient).collect::<Result<_>>()?, images: gradient(&images)?, outputs: flat })
}

fn close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 3e-5 * scale, "{what}[{at}]: {got} for {want}");
    }
}

#[test]
fn gradients_of_every_wiring_are_those_of_plain_candle() {
    let (graph, n, side) = (tangle(), 3, 14);
    let mut weights = initialise(graph.tensors(), 7);
    for (seed, (spec, tensor)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let noise = values(tensor.len(), seed + 50);
        match spec.role {
            Role::RunningVar => tensor.iter_mut().zip(noise).for_each(|(x, e)| *x += 0.5 * e),
            _ => tensor.iter_mut().zip(noise).for_each(|(x, e)| *x += 0.2 * e),
        }
    }
    let images = values(n * side * side * 3, 1);
    let mut engine = engine(&graph, side, n);
    for train in [true, false] {
        let before = weights.clone();
        let outputs = match train {
            true => engine.forward(&mut weights, &images, None).unwrap(),
            false => engine.forward_eval(&weights, &images).unwrap(),
        };
        if !train {
            let want = outputs.clone();
            assert_eq!(engine.evaluate(&weights, &images).unwrap(), want);
            assert_eq!(engine.forward_eval(&weights, &images).unwrap(), want);
        }
        let cotangents: Vec<Vec<f32>> = outputs.0.iter().enumerate().map(|(i, y)| values(y.len(), i + 3)).collect();
        let given: Vec<&[f32]> = cotangents.iter().map(Vec::as_slice).collect();
        let (tensors, image) = engine.backward_to_images(&weights, &given).unwrap();
        let want = by_candle(&graph, &before, (&images, (n, side, side, 3)), &cotangents, train).unwrap();
        for (index, (got, want)) in outputs.0.iter().zip(&want.outputs).enumerate() {
            close(&format!("output {index}, train {train}"), got, want);
        }
        close(&format!("images, train {train}"), image, &want.images);
        for ((spec, got), want) in
            before.specs.iter().zip(tensors).zip(&want.tensors).filter(|((s, _), _)| s.role.is_trained())
        {
            close(&format!("{}, train {train}", spec.name), got, want);
        }
        // Without the images the same bits.
        let alone = tensors.to_vec();
        match train {
            true => engine.forward(&mut weights, &images, None).unwrap(),
            false => engine.forward_eval(&weights, &images).unwrap(),
        };
        let again = engine.backward(&weights, &given).unwrap();
        assert_eq!(again, alone);
    }
}

/// A small body with a head on an inner map and one at its end.
fn two_heads() -> Graph {
    let g = &mut GraphBuilder::new(3).unwrap();
    let images = g.images();
    let stem = unit(g, "stem", Conv::dense(3, 16, 3, 2), Activation::Relu6, images);
    let block =
        |input, output, stride| Sandglass { input, output, stride, reduction: 6, keep_3x3: false, identity_div: 1 };
    let tap = block(16, 16, 1).build(g, "early", stem).unwrap();
    let last = block(16, 32, 2).build(g, "late", tap).unwrap();
    let outputs = vec![head(g, "coarse", tap, 2), head(g, "fine", last, 4)];
    g.clone().finish(outputs).unwrap()
}

#[test]
fn two_heads_train_together() {
    let (graph, n, side) = (two_heads(), 16, 12);
    // A class is where in the image a bright square lies; the coarse one is its row.
    let fine: Vec<u32> = (0..n as u32).map(|image| image % 4).collect();
    let coarse: Vec<u32> = fine.iter().map(|class| class / 2).collect();
    let mut images = values(n * side * side * 3, 2);
    for (image, class) in images.chunks_exact_mut(side * side * 3).zip(&fine) {
        let (top, left) = ((class / 2) as usize * side / 2, (class % 2) as usize * side / 2);
        for y in top..top + side / 2 {
            image[(y * side + left) * 3..][..side / 2 * 3]
                .iter_mut()
                .for_each(|x| *x = 0.2 * *x + 1.0 + y as f32 / 9.0);
        }
    }
    let mut engine = engine(&graph, side, n);
    assert_eq!(engine.outputs(), [(1, 1, 2), (1, 1, 4)]);
    let mut weights = initialise(graph.tensors(), 3);
    let mut losses = Vec::new();
    for _ in 0..60 {
        let outputs = engine.forward(&mut weights, &images, None).unwrap();
        let [of_coarse, of_fine] = &outputs.0[..] else { panic!("{} outputs", outputs.0.len()) };
        let (of_coarse, of_fine) =
            (cross_entropy(of_coarse, &coarse, 2, 0.0).unwrap(), cross_entropy(of_fine, &fine, 4, 0.0).unwrap());
        losses.push([of_coarse.mean, of_fine.mean]);
        let gradients = engine.backward(&weights, &[&of_coarse.gradient, &of_fine.gradient]).unwrap();
        for (values, gradients) in weights.values.iter_mut().zip(gradients) {
            values.iter_mut().zip(gradients).for_each(|(value, g)| *value -= 0.2 * g);
        }
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last[0] < 0.5 * first[0] && last[1] < 0.5 * first[1], "{first:?} to {last:?}");
}

#[test]
fn a_head_without_a_gradient_of_its_own_moves_nothing_of_its_own() {
    let graph = two_heads();
    let mut engine = engine(&graph, 12, 2);
    let mut weights = initialise(graph.tensors(), 3);
    engine.forward(&mut weights, &values(2 * 12 * 12 * 3, 1), None).unwrap();
    let gradients = engine.backward(&weights, &[&[1.0, -1.0, 0.5, 0.0], &[0.0; 8]]).unwrap();
    for (spec, gradient) in weights.specs.iter().zip(gradients).filter(|(spec, _)| spec.role.is_trained()) {
        let moves = gradient.iter().any(|g| *g != 0.0);
        let own = spec.name.starts_with("late") || spec.name == "fine.weight" || spec.name == "fine.bias";
        // A batch norm hides the bias of nothing here, so all that leads to the coarse head moves.
        assert_eq!(moves, !own, "{}", spec.name);
    }
    let mut give = |outputs: &[&[f32]]| {
        engine.forward(&mut weights, &values(2 * 12 * 12 * 3, 1), None).unwrap();
        engine.backward(&weights, outputs).map(<[_]>::len)
    };
    assert!(matches!(give(&[&[0.0; 4]]), Err(EngineError::Outputs { expected: 2, found: 1 })));
    assert!(matches!(give(&[&[0.0; 4], &[0.0; 4]]), Err(EngineError::Length { .. })));
}

#[test]
fn what_is_not_built_is_an_error_that_names_the_node() {
    type Build = fn(&mut GraphBuilder, MapId) -> std::result::Result<MapId, ModelError>;
    let cases: [(&str, Build); 4] = [
        ("concatenation", |g, x| g.concat("node", vec![x, x])),
        ("padded", |g, x| {
            let window = Window { kernel: 3, stride: 1, padding: Padding::Unequal(2, 1) };
            let conv = Conv { window, ..Conv::dense(8, 8, 3, 1) };
            g.conv_norm(conv, ["node".to_owned(), "norm".to_owned()], Activation::None, x)
        }),
        ("an activation after a sum", |g, x| g.add("node", (x, x), 8, Activation::Silu)),
        ("activated sum", |g, x| g.add("node", (x, x), 8, Activation::Relu)),
    ];
    for (want, build) in cases {
        let mut g = GraphBuilder::new(3).unwrap();
        let images = g.images();
        let x = unit(&mut g, "stem", Conv::dense(3, 8, 3, 1), Activation::Relu6, images);
        let y = build(&mut g, x).unwrap();
        let graph = g.finish(vec![y]).unwrap();
        let runtime = Arc::new(Runtime::new(1).unwrap());
        match Engine::new(runtime, &graph, 8, 8, 1).map(|_| ()) {
            Err(EngineError::NotBuilt { node, what }) => {
                assert!(node == "node" && what.contains(want), "{node}: {what}")
            }
            other => panic!("{want}: {other:?}"),
        }
    }
}

/// SAME padding on even and odd sizes, forward and backward, by the definition that the reference follows.
#[test]
fn same_padding_is_as_its_definition_says() {
    for (side, kernel) in [(8, 3), (7, 3), (10, 5), (9, 5), (2, 5), (12, 7)] {
        let g = &mut GraphBuilder::new(3).unwrap();
        let same = |stride| Window { kernel, stride, padding: Padding::Same };
        let x = g.images();
        let x = unit(g, "stem", Conv { window: same(2), ..Conv::dense(3, 8, kernel, 2) }, Activation::Relu6, x);
        // The kernels' own depthwise windows are of 3 and 5.
        let x = match kernel {
            7 => x,
            _ => unit(g, "depthwise", Conv { window: same(2), ..Conv::depthwise(8, kernel, 2) }, Activation::None, x),
        };
        let x = unit(g, "last", Conv { window: same(1), ..Conv::dense(8, 5, kernel, 1) }, Activation::Relu6, x);
        let graph = g.clone().finish(vec![x]).unwrap();
        let weights = initialise(graph.tensors(), 3);
        let images = values(3 * side * side * 3, side);
        let mut engine = engine(&graph, side, 3);
        let (height, width, channels) = engine.outputs()[0];
        let cotangent = values(3 * height * width * channels, 4);
        let given = std::slice::from_ref(&cotangent);
        let wanted = by_candle(&graph, &weights, (&images, (3, side, side, 3)), given, false).unwrap();
        let found = engine.forward_eval(&weights, &images).unwrap().one().unwrap();
        close(&format!("{side} {kernel}"), &found, &wanted.outputs[0]);
        let (tensors, image) = engine.backward_to_images(&weights, &[&cotangent]).unwrap();
        close(&format!("{side} {kernel}: images"), image, &wanted.images);
        let trained = weights.specs.iter().zip(tensors).zip(&wanted.tensors);
        for ((spec, got), want) in trained.filter(|((spec, _), _)| spec.role.is_trained()) {
            close(&format!("{side} {kernel}: {}", spec.name), got, want);
        }
    }
}

/// Drop-connect: factors of 0 and 1 / (1 - rate) for a block's branch, image by image, forward and backward.
#[test]
fn a_dropped_branch_leaves_the_shortcut_and_a_kept_one_is_scaled() {
    let build = |rate: f64| {
        let g = &mut GraphBuilder::new(3).unwrap();
        let images = g.images();
        let x = unit(g, "stem", Conv::dense(3, 8, 3, 1), Activation::None, images);
        g.set_drop_rate(rate);
        let block = InvertedResidual { input: 8, output: 8, stride: 1, expand_ratio: 2.0 };
        let y = block.build(g, "block", x).unwrap();
        g.clone().finish(vec![y, x]).unwrap()
    };
    let (plain, dropping) = (build(0.0), build(0.25));
    let (side, n, len) = (6, 3, 6 * 6 * 8);
    let weights = initialise(plain.tensors(), 3);
    assert_eq!(weights.specs, dropping.tensors());
    let images = values(n * side * side * 3, 5);
    let (mut plain, mut engine) = (engine(&plain, side, n), engine(&dropping, side, n));
    assert_eq!((plain.drops().len(), engine.drops()), (0, &[Drop { factors: 1, rate: Some(0.25) }][..]));

    let factors = [0.0, 4.0 / 3.0, 4.0 / 3.0];
    let run = |engine: &mut Engine, drops: Option<&[f32]>| {
        let mut moving = weights.clone();
        let outputs = engine.forward(&mut moving, &images, drops).unwrap();
        let cotangent = values(n * len, 9);
        let gradients = engine.backward(&moving, &[&cotangent, &vec![0.0; n * len]]).unwrap().to_vec();
        (outputs, gradients)
    };
    let (whole, _) = run(&mut plain, None);
    assert_eq!(run(&mut engine, None).0, whole);
    let (dropped, gradients) = run(&mut engine, Some(&factors));
    let (stem, blocks) = (&whole.0[1], whole.0[0].chunks_exact(len).zip(dropped.0[0].chunks_exact(len)));
    for ((factor, stem), (whole, dropped)) in factors.iter().zip(stem.chunks_exact(len)).zip(blocks) {
        for ((stem, whole), dropped) in stem.iter().zip(whole).zip(dropped) {
            assert!((stem + factor * (whole - stem) - dropped).abs() < 1e-5);
        }
    }
    // The projection's batch norm: its bias moves by the sums over the images that were kept, each times its factor.
    let at = weights.specs.iter().position(|spec| spec.name == "block.conv.3.bias").unwrap();
    let cotangent = values(n * len, 9);
    for (c, gradient) in gradients[at].iter().enumerate() {
        let of = |image: usize| -> f32 { cotangent[image * len..][..len].iter().skip(c).step_by(8).sum() };
        let want: f32 = factors.iter().enumerate().map(|(image, factor)| factor * of(image)).sum();
        assert!((gradient - want).abs() < 1e-4, "{gradient} for {want}");
    }
    assert!(matches!(engine.forward(&mut weights.clone(), &images, Some(&[1.0])), Err(EngineError::Length { .. })));
}
