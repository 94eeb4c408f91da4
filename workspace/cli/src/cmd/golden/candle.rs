//! The plain candle path: autograd on the CPU.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder};
use sandglass_models::{Block, Network, reference};

use super::case::{Array, Case, Mode, Params};
use super::kinds::{Backend, ConvConfig, NormConfig, Outputs, Pass};

pub struct Candle;

/// Inputs and parameters by name.
struct Variables(BTreeMap<String, Var>);

impl Variables {
    fn of_case(case: &Case) -> anyhow::Result<Self> {
        let mut variables = Self(BTreeMap::new());
        for (name, array) in &case.inputs {
            variables.insert(name, &array.shape, &array.values)?;
        }
        if let Params::Stored(params) = &case.params {
            for (name, array) in params {
                variables.insert(name, &array.shape, &array.values)?;
            }
        }
        Ok(variables)
    }

    fn of_pass(pass: &Pass) -> anyhow::Result<Self> {
        let mut variables = Self(BTreeMap::new());
        variables.insert("x", &pass.x.shape, &pass.x.values)?;
        for (spec, values) in pass.weights.specs.iter().zip(&pass.weights.values) {
            variables.insert(&spec.name, &spec.shape, values)?;
        }
        Ok(variables)
    }

    fn insert(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        let variable = Var::from_slice(values, shape, &Device::Cpu).with_context(|| name.to_owned())?;
        self.0.insert(name.to_owned(), variable);
        Ok(())
    }

    fn get(&self, name: &str) -> anyhow::Result<Tensor> {
        let variable = self.0.get(name).with_context(|| format!("no {name}"))?;
        Ok(variable.as_tensor().clone())
    }

    fn builder(&self) -> VarBuilder<'static> {
        let tensors: HashMap<_, _> =
            self.0.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// The output, the gradients of sum(output * cotangent), and the running statistics as they are now.
    fn outputs(&self, output: &Tensor, cotangent: Option<&[f32]>) -> anyhow::Result<Outputs> {
        let mut outputs = Outputs::from([("output".to_owned(), values(output)?)]);
        if let Some(cotangent) = cotangent {
            let cotangent = Tensor::from_slice(cotangent, output.dims(), &Device::Cpu).context("cotangent")?;
            let gradients = (output * cotangent)?.sum_all()?.backward()?;
            for (name, variable) in &self.0 {
                if let Some(gradient) = gradients.get(variable) {
                    outputs.insert(format!("grad.{name}"), values(gradient)?);
                }
            }
        }
        for (name, variable) in self.0.iter().filter(|(name, _)| name.contains("running_")) {
            outputs.insert(format!("running.{name}"), values(variable)?);
        }
        Ok(outputs)
    }
}

fn values(tensor: &Tensor) -> anyhow::Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// A layer of the case's variables.
fn layer(case: &Case, f: impl FnOnce(&Variables) -> anyhow::Result<Tensor>) -> anyhow::Result<Outputs> {
    let variables = Variables::of_case(case)?;
    let output = f(&variables)?;
    variables.outputs(&output, case.cotangent.as_ref().map(|Array { values, .. }| values.as_slice()))
}

impl Backend for Candle {
    fn block(&self, block: &Block, pass: Pass) -> anyhow::Result<Outputs> {
        let variables = Variables::of_pass(&pass)?;
        let block = reference::Block::new(block, &variables.builder())?;
        variables.outputs(&block.forward_t(&variables.get("x")?, pass.train)?, pass.cotangent)
    }

    fn network(&self, network: &Network, pass: Pass) -> anyhow::Result<Outputs> {
        let variables = Variables::of_pass(&pass)?;
        let network = reference::Network::new(network, &variables.builder())?;
        variables.outputs(&network.forward_t(&variables.get("x")?, pass.train)?, pass.cotangent)
    }

    fn conv(&self, config: &ConvConfig, case: &Case) -> anyhow::Result<Outputs> {
        let ConvConfig { padding, stride, groups, .. } = *config;
        layer(case, |variables| {
            let config = Conv2dConfig { padding, stride, groups, ..Default::default() };
            let conv = Conv2d::new(variables.get("weight")?, variables.get("bias").ok(), config);
            Ok(reference::conv2d(&conv, &variables.get("x")?)?)
        })
    }

    fn batch_norm(&self, &NormConfig { eps, momentum }: &NormConfig, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| {
            let [mean, var, weight, bias] = ["running_mean", "running_var", "weight", "bias"];
            let (mean, var) = (variables.get(mean)?, variables.get(var)?);
            let channels = mean.elem_count();
            let norm = BatchNorm::new_with_momentum(
                channels,
                mean,
                var,
                variables.get(weight)?,
                variables.get(bias)?,
                eps,
                momentum,
            )?;
            Ok(reference::batch_norm(&norm, &variables.get("x")?, case.mode == Mode::Train)?)
        })
    }

    fn relu6(&self, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| Ok(reference::relu6(&variables.get("x")?)?))
    }

    fn silu(&self, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| Ok(variables.get("x")?.silu()?))
    }

    fn residual_add(&self, channels: usize, case: &Case) -> anyhow::Result<Outputs> {
        let mut outputs = layer(case, |variables| {
            Ok(reference::residual_add(&variables.get("x")?, &variables.get("branch")?, channels)?)
        })?;
        // candle keeps no gradient of what takes no part.
        let zeros = vec![0.0; case.input("x")?.values.len()];
        outputs.entry("grad.x".to_owned()).or_insert(zeros);
        Ok(outputs)
    }

    fn global_avg_pool(&self, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| Ok(reference::global_avg_pool(&variables.get("x")?)?))
    }

    fn linear(&self, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| {
            let linear = Linear::new(variables.get("weight")?, Some(variables.get("bias")?));
            Ok(linear.forward(&variables.get("x")?)?)
        })
    }

    fn cross_entropy(&self, smoothing: f64, case: &Case) -> anyhow::Result<Outputs> {
        layer(case, |variables| {
            let logits = variables.get("logits")?;
            let (images, classes) = logits.dims2()?;
            let log_softmax = candle_nn::ops::log_softmax(&logits, 1)?;
            let target = variables.get("target")?.to_dtype(DType::U32)?.reshape((images, 1))?;
            let picked = log_softmax.gather(&target, 1)?.sum_all()?;
            let spread = (log_softmax.sum_all()? * (smoothing / classes as f64))?;
            Ok((((picked * (1.0 - smoothing))? + spread)? * (-1.0 / images as f64))?)
        })
    }
}
