//! Quantised networks against slow definitions, against f32, and on every path.

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder};
use common::{graph, images, net, of, photos, random, runtime, runtimes, trained, weights};
use sandglass_models::{Activation, Conv, GraphBuilder, NetworkConfig, NetworkName, Padding, PaddingRule, Window};
use sandglass_ops::Isa;
use sandglass_quant::layers::IntConv;
use sandglass_quant::{
    Fake, Granularity, Net, Observer, QuantError, Scheme, Scores, Seen, Warning, calibrate, leave_one_out, noise,
    quantise,
};

/// Height and width of the images.
const SIDE: usize = 37;

fn per_tensor() -> Scheme {
    Scheme { dense: Granularity::PerTensor, depthwise: Granularity::PerTensor, ..Scheme::default() }
}

fn largest(scores: &[Scores]) -> f64 {
    scores.iter().flatten().fold(0.0, |largest, score| largest.max(score.abs()))
}

fn farthest(a: &[Scores], b: &[Scores]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// Signal to noise in decibels.
fn sqnr(exact: &[Scores], rounded: &[Scores]) -> f64 {
    let energy = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>();
    let noise = energy(&mut exact.iter().flatten().zip(rounded.iter().flatten()).map(|(a, b)| a - b));
    10.0 * (energy(&mut exact.iter().flatten().copied()) / noise).log10()
}

/// The net in f32 is what the plain candle network is: also with TensorFlow's padding, a max-pool, an activation after a
/// sum and part of a shortcut.
#[test]
fn the_folded_net_computes_what_the_network_does() {
    let half = NetworkConfig { width: 0.5, identity_div: 2, classes: 7, ..NetworkConfig::new(NetworkName::MobileNeXt) };
    let graphs = [
        graph(NetworkName::MobileNetV2, 0.35),
        graph(NetworkName::MobileNetV2, 0.35).with_padding(PaddingRule::Same),
        half.build().unwrap(),
        graph(NetworkName::ResNet50, 1.0),
    ];
    let values = images(2, SIDE);
    for graph in graphs {
        let weights = weights(&graph);
        let got = Net::new(&graph, &weights).unwrap().scores(&runtime(), &of(&values, SIDE)).unwrap();
        let tensors = weights.specs.iter().zip(&weights.values).map(|(spec, values)| {
            let values = Tensor::from_slice(values, spec.shape.as_slice(), &Device::Cpu).unwrap();
            (spec.name.clone(), values.to_dtype(DType::F64).unwrap())
        });
        let vb = VarBuilder::from_tensors(tensors.collect(), DType::F64, &Device::Cpu);
        let network = sandglass_reference::Network::new(&graph, &vb).unwrap().into_module();
        let x = Tensor::from_slice(&values, (2, SIDE, SIDE, 3), &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
        let want = network.forward(&x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()).unwrap();
        let want = want.to_vec2::<f64>().unwrap();
        assert!(farthest(&got, &want) < 1e-4 * largest(&want), "{got:?} for {want:?}");
    }
}

/// Also beyond the calibrated range, where everything is clamped.
#[test]
fn integers_are_the_same_on_every_path() {
    let net = net(NetworkName::MobileNeXt, 0.35);
    let values = images(3, SIDE);
    let far: Vec<f32> = values.iter().map(|x| x * 40.0).collect();
    let calibration = calibrate(&runtime(), &net, &of(&values, SIDE), Observer::MinMax).unwrap();
    for scheme in [Scheme::default(), Scheme { saturate: true, ..per_tensor() }] {
        let (quantised, _) = quantise(&net, &calibration, &scheme).unwrap();
        for images in [&values, &far] {
            let all = runtimes().into_iter().map(|runtime| quantised.scores(&runtime, &of(images, SIDE)).unwrap());
            let all: Vec<Vec<Scores>> = all.collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
            assert_eq!(all[0].len(), 3);
            let float = runtimes().into_iter().map(|runtime| net.scores(&runtime, &of(images, SIDE)).unwrap());
            let float: Vec<Vec<Scores>> = float.collect();
            assert!(float.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}

#[test]
fn eight_bits_per_channel_follow_f32_closely() {
    for name in [NetworkName::MobileNetV2, NetworkName::MobileNeXt] {
        let net = trained(name);
        let values = photos(64);
        let images = of(&values, 32);
        let exact = net.scores(&runtime(), &images).unwrap();
        let calibration = calibrate(&runtime(), &net, &images, Observer::MinMax).unwrap();
        let of_scheme = |scheme: &Scheme| {
            let (quantised, warnings) = quantise(&net, &calibration, scheme).unwrap();
            assert_eq!(warnings, []);
            sqnr(&exact, &quantised.scores(&runtime(), &images).unwrap())
        };
        let (channel, tensor) = (of_scheme(&Scheme::default()), of_scheme(&per_tensor()));
        let logits = of_scheme(&Scheme { int8_logits: true, ..Scheme::default() });
        let float = Scheme { float_weights: true, ..Scheme::default() };
        let fake = Fake::new(&net, &calibration, &float).unwrap().scores(&runtime(), &images).unwrap();
        let fake = sqnr(&exact, &fake);
        let all =
            format!("{name}: {channel} dB, {tensor} per tensor, {logits} of 8-bit logits, {fake} with f32 weights");
        assert!(channel > 15.0 && channel > tensor && logits < channel + 1.0 && fake > tensor, "{all}");
    }
}

/// Terms in the order kh, kw, c, in pairs from the first on; the definition, slowly.
fn slow_saturating(conv: Conv, x: &[i8], size: (usize, usize), weight: &[i8], zero_point: i32) -> (Vec<i32>, u64) {
    let (kernel, stride) = (conv.window.kernel, conv.window.stride);
    let (before, _) = conv.window.padding(size.0).unwrap();
    let output = conv.window.output_size(size.0).unwrap();
    let (mut sums, mut saturated) = (Vec::new(), 0);
    for (y, at, o) in (0..output * output * conv.output)
        .map(|i| (i / conv.output / output, i / conv.output % output, i % conv.output))
    {
        let mut terms = Vec::new();
        let mut weight_sum = 0;
        for (dy, dx, c) in (0..kernel * kernel * conv.input)
            .map(|t| (t / conv.input / kernel, t / conv.input % kernel, t % conv.input))
        {
            let (row, column) = ((y * stride + dy).wrapping_sub(before), (at * stride + dx).wrapping_sub(before));
            let inside = row < size.0 && column < size.1;
            let q = if inside { x[(row * size.1 + column) * conv.input + c].into() } else { zero_point };
            let w = i32::from(weight[((o * conv.input + c) * kernel + dy) * kernel + dx]);
            terms.push((q + 128) * w);
            weight_sum += w;
        }
        let pairs = terms.chunks(2).map(|pair| pair.iter().sum::<i32>());
        saturated += pairs.clone().filter(|pair| i16::try_from(*pair).is_err()).count() as u64;
        sums.push(pairs.map(|pair| pair.clamp(-32768, 32767)).sum::<i32>() - (zero_point + 128) * weight_sum);
    }
    (sums, saturated)
}

#[test]
fn saturation_is_that_of_pairs_in_16_bits() {
    let same = Window { kernel: 3, stride: 2, padding: Padding::Same };
    let convs = [
        (Conv::pointwise(5, 19), 3),
        (Conv::pointwise(32, 16), 2),
        (Conv::dense(3, 17, 3, 2), 7),
        (Conv { window: same, ..Conv::dense(3, 8, 3, 2) }, 8),
    ];
    for (conv, side) in convs {
        let q = |seed, count: usize| (0..count as u64).map(|at| (127.9 * random(seed, at)) as i8).collect::<Vec<i8>>();
        let (x, weight) = (q(1, side * side * conv.input), q(2, conv.weight_shape().iter().product()));
        let layer = IntConv::new("layer", conv, &weight, &vec![0; conv.output]).unwrap();
        let (want, saturated) = slow_saturating(conv, &x, (side, side), &weight, -3);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            assert_eq!(layer.accumulate(isa, &x, (side, side), -3, true).unwrap(), want);
            assert_ne!(layer.accumulate(isa, &x, (side, side), -3, false).unwrap(), want);
        }
        let (found, pairs) = layer.saturated(&x, (side, side), -3);
        let per_output = (weight.len() / conv.output).div_ceil(2);
        assert_eq!((found, pairs), (saturated, (want.len() * per_output) as u64));
        assert!(saturated > 0);
    }
    // Depthwise layers are exact.
    let conv = Conv::depthwise(4, 3, 1);
    let layer = IntConv::new("layer", conv, &[127; 36], &[0; 4]).unwrap();
    let of = |saturate| layer.accumulate(Isa::Portable, &[127; 100], (5, 5), -128, saturate);
    assert_eq!(of(true), of(false));
}

#[test]
fn equalisation_keeps_the_function() {
    for name in [NetworkName::MobileNetV2, NetworkName::MobileNeXt] {
        let net = trained(name);
        let values = photos(64);
        let images = of(&values, 32);
        let equalised = Scheme { equalise: true, ..per_tensor() }.shape(net.clone());
        assert_ne!(net, equalised);
        let [before, after] = [&net, &equalised].map(|net| net.scores(&runtime(), &images).unwrap());
        assert!(farthest(&before, &after) < 1e-4 * largest(&before), "{name}");
        let noise_of = |net: &Net| {
            let calibration = calibrate(&runtime(), net, &images, Observer::MinMax).unwrap();
            let (quantised, _) = quantise(net, &calibration, &per_tensor()).unwrap();
            sqnr(&before, &quantised.scores(&runtime(), &images).unwrap())
        };
        let (plain, even) = (noise_of(&net), noise_of(&equalised));
        // Activations have one scale a map, and their channels drift apart where weights are brought together.
        let least = if name == NetworkName::MobileNetV2 { plain } else { plain - 2.0 };
        assert!(even > least, "{name}: {plain} dB, {even} dB equalised");
        let relu = Scheme { relu: true, ..Scheme::default() }.shape(net.clone()).scores(&runtime(), &images).unwrap();
        assert_ne!(relu, before);
    }
}

/// Between two layers the largest weights of each channel become equal.
#[test]
fn ranges_of_a_pair_meet() {
    let mut g = GraphBuilder::new(3).unwrap();
    let x = g.images();
    let y = g.conv_norm(Conv::pointwise(3, 8), ["a".into(), "an".into()], Activation::Relu6, x).unwrap();
    let z = g.conv_norm(Conv::depthwise(8, 3, 1), ["b".into(), "bn".into()], Activation::None, y).unwrap();
    let pooled = g.global_average("pool", z).unwrap();
    let graph = g.finish(vec![pooled]).unwrap();
    let net = Net::new(&graph, &weights(&graph)).unwrap().equalised();
    let [a, b] = ["a", "b"].map(|name| net.channel_ranges(name).unwrap());
    for (a, b) in a.iter().zip(&b) {
        assert!((a / b - 1.0).abs() < 1e-2, "{a} {b}");
    }
}

#[test]
fn a_corrected_bias_takes_back_the_mean_error() {
    // A single layer whose input has a mean, with weights of one row far larger than those of the others.
    let mut g = GraphBuilder::new(3).unwrap();
    let x = g.images();
    let y = g.conv_norm(Conv::pointwise(3, 8), ["a".into(), "an".into()], Activation::None, x).unwrap();
    let pooled = g.global_average("pool", y).unwrap();
    let graph = g.finish(vec![pooled]).unwrap();
    let mut weights = weights(&graph);
    weights.values[0][..3].iter_mut().for_each(|weight| *weight *= 60.0);
    let net = Net::new(&graph, &weights).unwrap();
    let values: Vec<f32> = images(4, SIDE).iter().map(|x| x + 3.0).collect();
    let images = of(&values, SIDE);
    let exact = net.scores(&runtime(), &images).unwrap();
    let calibration = calibrate(&runtime(), &net, &images, Observer::MinMax).unwrap();
    let error = |correct_bias| {
        let fake = Fake::new(&net, &calibration, &Scheme { correct_bias, ..per_tensor() }).unwrap();
        let scores = fake.scores(&runtime(), &images).unwrap();
        // Of the seven small rows.
        let small = |scores: &[Scores]| scores.iter().map(|scores| scores[1..].to_vec()).collect::<Vec<_>>();
        farthest(&small(&exact), &small(&scores))
    };
    assert!(error(true) < 0.5 * error(false), "{} {}", error(true), error(false));
}

#[test]
fn what_costs_what_is_told_layer_by_layer() {
    let net = net(NetworkName::MobileNetV2, 0.35);
    let values = images(2, SIDE);
    let images = of(&values, SIDE);
    let calibration = calibrate(&runtime(), &net, &images, Observer::MinMax).unwrap();
    let (quantised, _) = quantise(&net, &calibration, &per_tensor()).unwrap();
    let all = noise(&runtime(), &net, &quantised, &images).unwrap();
    assert_eq!(all.len(), net.graph().maps().len());
    // 255 steps over a flat range: 10 log10(255^2) dB, nearly.
    assert!((all[0].sqnr - 48.1).abs() < 0.5, "{}", all[0].sqnr);
    assert!(all.iter().all(|map| map.sqnr.is_finite()));
    assert!(all[1].saturated.is_some_and(|(count, of)| count < of));
    let costs = leave_one_out(&runtime(), &net, &calibration, &per_tensor(), &images).unwrap();
    assert_eq!(costs.len(), 1 + 53);
    let best = costs[1..].iter().map(|(_, sqnr)| *sqnr).fold(f64::MIN, f64::max);
    assert!(best > costs[0].1);
}

#[test]
fn poor_calibration_is_told_and_wrong_calibration_refused() {
    let net = net(NetworkName::MobileNetV2, 0.35);
    let on = |values: &[f32]| calibrate(&runtime(), &net, &of(values, 32), Observer::Mse);
    assert_eq!(on(&[]).unwrap_err(), QuantError::NoImages);
    assert_eq!(on(&images(1, 32)).unwrap().warnings, [Warning::OneImage]);
    let same = [images(1, 32), images(1, 32)].concat();
    assert_eq!(on(&same).unwrap().warnings, [Warning::SameImages]);
    for value in [f32::NAN, f32::INFINITY] {
        let mut broken = images(2, 32);
        broken[777] = value;
        assert_eq!(on(&broken).unwrap_err(), QuantError::NotFinite("images".into()));
    }
    let grey = vec![0.0; 2 * 32 * 32 * 3];
    let calibration = on(&grey).unwrap();
    assert!(calibration.warnings.contains(&Warning::Constant { map: "images".into() }), "{:?}", calibration.warnings);
    let (quantised, _) = quantise(&net, &calibration, &per_tensor()).unwrap();
    let scores = quantised.scores(&runtime(), &of(&images(2, 32), 32)).unwrap();
    assert!(scores.iter().flatten().all(|score| score.is_finite()));
}

/// A channel that is dead but for its bias has no scale that its bias could be counted in.
#[test]
fn a_dead_channel_keeps_its_bias() {
    let graph = graph(NetworkName::MobileNetV2, 0.35);
    let mut weights = weights(&graph);
    weights.values[0][..27].fill(1e-30);
    weights.values[2][0] = 3.0;
    let net = Net::new(&graph, &weights).unwrap();
    let values = images(2, SIDE);
    let calibration = calibrate(&runtime(), &net, &of(&values, SIDE), Observer::MinMax).unwrap();
    let (quantised, warnings) = quantise(&net, &calibration, &Scheme::default()).unwrap();
    assert_eq!(warnings, [Warning::SmallWeights { layer: "features.0.0".into(), channels: 1 }]);
    let exact = net.scores(&runtime(), &of(&values, SIDE)).unwrap();
    assert!(sqnr(&exact, &quantised.scores(&runtime(), &of(&values, SIDE)).unwrap()) > 15.0);
}

/// Histograms of maps against sorted values.
#[test]
fn observers_of_maps_are_those_of_values() {
    let net = net(NetworkName::MobileNetV2, 0.35);
    let values = images(4, SIDE);
    let exact = Seen::of(&values).unwrap();
    for observer in [Observer::MinMax, Observer::Percentile(99.0), Observer::Mse] {
        let range = calibrate(&runtime(), &net, &of(&values, SIDE), observer).unwrap().ranges[0];
        let want = exact.range(observer);
        assert!((range.low - want.low).abs() < 2e-3 && (range.high - want.high).abs() < 2e-3, "{range:?} {want:?}");
    }
}

#[test]
fn what_is_not_built_is_named() {
    let mut g = GraphBuilder::new(3).unwrap();
    let x = g.images();
    let y = g.conv_norm(Conv::pointwise(3, 3), ["a".into(), "an".into()], Activation::Silu, x).unwrap();
    let sum = g.add("sum", (y, x), 3, Activation::Silu).unwrap();
    let graph = g.finish(vec![sum]).unwrap();
    let error = Net::new(&graph, &weights(&graph)).unwrap_err();
    assert_eq!(error, QuantError::NotBuilt { node: "sum".into(), what: "this activation" });
    assert!(Scheme::built_in("per-chanel").unwrap_err().to_string().contains("per-channel, "));
    for name in ["per-channel", "per-tensor-equalised-corrected", "per-channel-percentile", "activations-only"] {
        Scheme::built_in(name).unwrap().check().unwrap();
    }
}
