//! The plain candle networks: where stock candle errs, against finite differences and PyTorch's rules; and what no golden
//! case has, against its definition.
//! Whole blocks and networks are checked by `sandglass golden --path candle`.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Module, ModuleT, VarBuilder, VarMap};
use sandglass_models::{
    Activation, After, Conv, DetectorConfig, DetectorName, FoldError, Graph, GraphBuilder, ModelError, NetworkConfig,
    NetworkName, Node, Padding, Unit, Weights, Window, fold,
};
use sandglass_reference as reference;

/// Values in -1..1 that follow no pattern.
fn values(shape: &[usize], seed: u64) -> Result<Var> {
    let count: usize = shape.iter().product();
    let value = |i: u64| ((i + 1) * (2 * seed + 1) * 7919 % 2003) as f64 / 1001.0 - 1.0;
    Var::from_tensor(&Tensor::from_vec((0..count as u64).map(value).collect::<Vec<_>>(), shape, &Device::Cpu)?)
}

/// Central differences of the sum of `f(x) * weights`, at each element.
fn check_gradient(x: &Var, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let output = f(x)?;
    let weights = values(output.dims(), 5)?;
    let loss = |x: &Tensor| f(x)?.mul(&weights)?.sum_all()?.to_scalar::<f64>();
    let gradients = output.mul(&weights)?.sum_all()?.backward()?;
    let gradient = gradients.get(x).expect("a gradient").flatten_all()?.to_vec1::<f64>()?;
    let flat = x.flatten_all()?.to_vec1::<f64>()?;
    for (i, got) in gradient.iter().enumerate() {
        let moved = |step: f64| {
            let mut flat = flat.clone();
            flat[i] += step;
            loss(&Tensor::from_vec(flat, x.dims(), &Device::Cpu)?)
        };
        let want = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
        assert!((got - want).abs() < 1e-6, "element {i}: {got} for {want}");
    }
    Ok(())
}

#[test]
fn stride_2_has_a_gradient_on_any_map() -> Result<()> {
    for (height, width) in [(7, 8), (8, 7), (7, 7), (8, 8), (5, 1)] {
        for kernel in [1, 3, 5] {
            let weight = values(&[2, 3, kernel, kernel], 1)?;
            let config = Conv2dConfig { stride: 2, ..Default::default() };
            let x = values(&[2, 3, height, width], 2)?;
            let conv = Conv2d::new(weight.as_tensor().clone(), None, config);
            check_gradient(&x, |x| reference::conv2d(&conv, x, Window::centred(kernel, 2)))?;
        }
    }
    Ok(())
}

#[test]
fn relu6_has_no_gradient_at_its_borders() -> Result<()> {
    let x = Var::new(&[-1.0f32, -0.0, 0.0, 1e-40, 5.9999995, 6.0, 6.0000005, f32::INFINITY], &Device::Cpu)?;
    let y = reference::relu6(&x)?;
    assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.0, 0.0, 1e-40, 5.9999995, 6.0, 6.0, 6.0]);
    let gradient = y.sum_all()?.backward()?;
    assert_eq!(gradient.get(&x).expect("a gradient").to_vec1::<f32>()?, [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn training_on_one_value_per_channel_is_refused() -> Result<()> {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let network = NetworkConfig { width: 0.25, classes: 4, ..NetworkConfig::new(NetworkName::MobileNetV1) };
    let network = reference::Network::new(&network.build().expect("a network"), &vb)?;
    // Fresh variables are candle's own draws.
    let drawn = variables.data().lock().expect("variables")["features.0.0.weight"].clone();
    assert!(drawn.abs()?.min_all()?.to_scalar::<f32>()? > 0.0);
    let image = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
    assert!(network.forward_t(&image, true).is_err());
    assert_eq!(network.forward_t(&image, false)?.dims(), [1, 4]);
    assert_eq!(network.into_module().forward(&image)?.dims(), [1, 4]);
    Ok(())
}

#[test]
fn resnet_trains_in_f64_with_a_gradient_for_every_tensor() -> Result<()> {
    let network = NetworkConfig { classes: 4, ..NetworkConfig::new(NetworkName::ResNet50) }.build().expect("a network");
    let variables: HashMap<String, Var> = network
        .tensors()
        .iter()
        .map(|spec| {
            let fan_in: usize = spec.shape.iter().skip(1).product();
            let value = if spec.name.ends_with("running_var") {
                Tensor::ones(spec.shape.as_slice(), DType::F64, &Device::Cpu)
            } else {
                values(&spec.shape, 3)?.affine(2.0 / (fan_in as f64).sqrt(), 0.1)
            };
            Ok((spec.name.clone(), Var::from_tensor(&value?)?))
        })
        .collect::<Result<_>>()?;
    let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let reference = reference::Network::new(&network, &VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu))?;

    let before = variables["bn1.running_mean"].copy()?;
    let gradients = reference.forward_t(values(&[2, 3, 33, 40], 4)?.as_tensor(), true)?.sqr()?.sum_all()?.backward()?;
    for spec in network.tensors() {
        let gradient = gradients.get(&variables[&spec.name]);
        assert_eq!(gradient.is_some(), spec.role.is_trained(), "{}", spec.name);
        if let Some(gradient) = gradient {
            let norm = gradient.sqr()?.sum_all()?.to_scalar::<f64>()?;
            assert!(norm.is_finite() && norm > 0.0, "{}: {norm}", spec.name);
        }
    }
    assert_ne!(before.to_vec1::<f64>()?, variables["bn1.running_mean"].to_vec1::<f64>()?);
    Ok(())
}

/// A grouped convolution with bias by its definition; `before`: zeros above and left.
fn slow_conv(x: &Tensor, weight: &Tensor, bias: &Tensor, (stride, before): (usize, usize)) -> Result<Vec<f64>> {
    let (n, _, height, width) = x.dims4()?;
    let (output, per_group, kernel, _) = weight.dims4()?;
    let groups = x.dim(1)? / per_group;
    let (x, weight) = (x.flatten_all()?.to_vec1::<f64>()?, weight.flatten_all()?.to_vec1::<f64>()?);
    let bias = bias.to_vec1::<f64>()?;
    let at = |image: usize, c: usize, y: usize, x_at: usize| match (y.checked_sub(before), x_at.checked_sub(before)) {
        (Some(y), Some(x_at)) if y < height && x_at < width => {
            x[((image * per_group * groups + c) * height + y) * width + x_at]
        }
        _ => 0.0,
    };
    let mut out = Vec::new();
    for image in 0..n {
        for o in 0..output {
            let first = o / (output / groups) * per_group;
            for (y, x_at) in (0..height.div_ceil(stride)).flat_map(|y| (0..width.div_ceil(stride)).map(move |x| (y, x)))
            {
                let mut sum = bias[o];
                for (c, dy, dx) in
                    (0..per_group * kernel * kernel).map(|i| (i / kernel / kernel, i / kernel % kernel, i % kernel))
                {
                    let w = weight[((o * per_group + c) * kernel + dy) * kernel + dx];
                    sum += w * at(image, first + c, y * stride + dy, x_at * stride + dx);
                }
                out.push(sum);
            }
        }
    }
    Ok(out)
}

/// What later networks are made of, and the engine has not yet: groups, SAME padding, biases, SiLU, gates, concatenation.
#[test]
fn a_squeezed_and_excited_grouped_convolution_is_what_it_says() -> Result<()> {
    let window = Window { kernel: 3, stride: 2, padding: Padding::Same };
    let biased = |name: &str, conv, activation| Unit { conv, name: name.to_owned(), after: After::Bias, activation };
    let build = || -> std::result::Result<Graph, ModelError> {
        let mut g = GraphBuilder::new(4)?;
        let x = g.images();
        let y = g.unit(biased("conv", Conv { input: 4, output: 6, groups: 2, window }, Activation::None), x)?;
        let squeezed = g.global_average("pool", y)?;
        let squeezed = g.unit(biased("squeeze", Conv::pointwise(6, 2), Activation::Silu), squeezed)?;
        let excited = g.unit(biased("excite", Conv::pointwise(2, 6), Activation::Sigmoid), squeezed)?;
        let gated = g.gate("gate", y, excited)?;
        let both = g.concat("both", vec![gated, y])?;
        g.finish(vec![both])
    };
    let graph = build().expect("a graph");
    let names: Vec<String> = graph.tensors().into_iter().map(|spec| spec.name).collect();
    let [conv, conv_bias, squeeze, squeeze_bias, excite, excite_bias] = &names[..] else { panic!("{names:?}") };
    assert_eq!([conv, conv_bias, excite_bias], ["conv.weight", "conv.bias", "excite.bias"]);

    let tensors: HashMap<String, Tensor> = (graph.tensors().iter().enumerate())
        .map(|(seed, spec)| Ok((spec.name.clone(), values(&spec.shape, seed as u64)?.as_tensor().clone())))
        .collect::<Result<_>>()?;
    let network =
        reference::Network::new(&graph, &VarBuilder::from_tensors(tensors.clone(), DType::F64, &Device::Cpu))?;
    // 7 pixels need one more on both sides, 8 one more behind.
    for (side, before) in [(7, 1), (8, 0)] {
        let x = values(&[2, 4, side, side], 9)?;
        let got = network.forward_t(&x, false)?;
        assert_eq!(got.dims(), [2, 12, 4, 4]);

        let y = slow_conv(&x, &tensors[conv], &tensors[conv_bias], (2, before))?;
        let matrix = |w: &String, b: &String, x: &[f64]| -> Result<Vec<f64>> {
            let (rows, bias) = (tensors[w].flatten_from(1)?.to_vec2::<f64>()?, tensors[b].to_vec1::<f64>()?);
            Ok(rows.iter().zip(bias).map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect())
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut want = Vec::new();
        for image in y.chunks(6 * 16) {
            let means: Vec<f64> = image.chunks(16).map(|map| map.iter().sum::<f64>() / 16.0).collect();
            let squeezed: Vec<f64> =
                matrix(squeeze, squeeze_bias, &means)?.into_iter().map(|x| x * sigmoid(x)).collect();
            let gates = matrix(excite, excite_bias, &squeezed)?;
            want.extend(image.iter().enumerate().map(|(i, y)| y * sigmoid(gates[i / 16])));
            want.extend(image);
        }
        for (got, want) in got.flatten_all()?.to_vec1::<f64>()?.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        }
    }
    // 2 x 3 of 2 x 9 weights on 4 x 4 pixels, and two matrices of 12.
    let cost = graph.cost(8, 8).expect("a cost");
    assert_eq!((cost.params, cost.madds_total), (6 * 18 + 6 + 12 + 2 + 12 + 6, 6 * 18 * 16 + 24));
    Ok(())
}

/// Values that follow no pattern: kernels and biases of both signs, variances from 0.05 to 1.95.
fn weights_of(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph.tensors());
    for (seed, (spec, of)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let fan_in: usize = spec.shape.iter().skip(1).product();
        for (value, random) in of
            .iter_mut()
            .zip(values(&spec.shape, seed as u64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap())
        {
            *value = match spec.name.ends_with("running_var") {
                true => 1.0 + 0.95 * random,
                false if spec.shape.len() > 1 => random * (3.0 / fan_in as f64).sqrt(),
                false => random + 0.3,
            } as f32;
        }
    }
    weights
}

fn network_of(graph: &Graph, weights: &Weights) -> Result<reference::Network> {
    let tensors = weights.specs.iter().zip(&weights.values);
    let tensors = tensors
        .map(|(spec, values)| {
            let values = Tensor::from_slice(values, spec.shape.as_slice(), &Device::Cpu)?.to_dtype(DType::F64)?;
            Ok((spec.name.clone(), values))
        })
        .collect::<Result<_>>()?;
    reference::Network::new(graph, &VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu))
}

/// Summed in f64, the two differ by the rounding of the folded weights alone.
#[test]
fn a_folded_network_computes_what_it_did() -> Result<()> {
    let classifiers = [NetworkName::MobileNetV2, NetworkName::MobileNeXt, NetworkName::ResNet50].map(|name| {
        let width = if name == NetworkName::ResNet50 { 1.0 } else { 0.35 };
        let graph = NetworkConfig { width, classes: 7, ..NetworkConfig::new(name) }.build().expect("a network");
        (name.to_string(), graph)
    });
    // Its first head has a bias before its batch norm.
    let name = DetectorName::SsdliteMobileNeXt;
    let detector = DetectorConfig { width: 0.35, classes: 7, name }.build().expect("a detector");
    for (name, graph) in classifiers.into_iter().chain([(name.to_string(), detector.graph)]) {
        let weights = weights_of(&graph);
        let (folded, folded_weights) = fold(&graph, &weights).expect("a folded network");
        assert_eq!(folded.maps(), graph.maps());
        assert!(folded.nodes().iter().all(|node| match node {
            Node::Conv { unit, .. } => unit.after == After::Bias,
            _ => true,
        }));
        let x = values(&[2, 3, 33, 40], 4)?;
        let want = network_of(&graph, &weights)?.forward_t(&x, false)?.flatten_all()?.to_vec1::<f64>()?;
        let got = network_of(&folded, &folded_weights)?.forward_t(&x, false)?.flatten_all()?.to_vec1::<f64>()?;
        let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-5 * largest, "{name}: {got} for {want}");
        }
        // Folding again changes nothing.
        assert_eq!(fold(&folded, &folded_weights).expect("folded twice"), (folded, folded_weights));
    }
    Ok(())
}

#[test]
fn what_cannot_be_folded_is_named() {
    let graph = NetworkConfig { classes: 7, ..NetworkConfig::new(NetworkName::MobileNeXt) }.build().expect("a network");
    let weights = weights_of(&graph);
    let change = |name: &str, change: fn(&mut Vec<f32>)| {
        let mut weights = weights.clone();
        let at = weights.specs.iter().position(|spec| spec.name == name).expect("the tensor");
        change(&mut weights.values[at]);
        fold(&graph, &weights).unwrap_err()
    };
    let norm = "features.0.1".to_owned();
    let variance = "features.0.1.running_var";
    assert_eq!(change(variance, |values| values[3] = -1.0), FoldError::NotFinite { norm: norm.clone(), channel: 3 });
    assert_eq!(
        change("features.0.0.weight", |values| values[27] = f32::NAN),
        FoldError::NotFinite { norm, channel: 1 }
    );
    let tensor = variance.to_owned();
    assert_eq!(change(variance, Vec::clear), FoldError::Length { tensor: tensor.clone(), expected: 32, found: 0 });
    let mut without = weights.clone();
    let at = without.specs.iter().position(|spec| spec.name == variance).expect("the tensor");
    without.specs.remove(at);
    without.values.remove(at);
    assert_eq!(fold(&graph, &without).unwrap_err(), FoldError::NoTensor(tensor));
}
