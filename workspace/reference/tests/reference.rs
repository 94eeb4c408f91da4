//! The plain candle networks: where stock candle errs, against finite differences and PyTorch's rules.
//! Whole blocks and networks are checked by `sandglass golden --path candle`.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Module, ModuleT, VarBuilder, VarMap};
use sandglass_models::{NetworkConfig, NetworkName, Window};
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
