//! The plain candle path.

use candle_core::{Device, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT};
use sandglass_models::{Graph, Padding, Window};
use sandglass_reference as reference;

use super::kinds::{Backend, Outputs, Pass};
use super::layers::{Layers, Norm};
use super::variables::Variables;

pub struct Candle;

fn variables(pass: &Pass) -> anyhow::Result<Variables> {
    let weights = pass.weights.specs.iter().zip(&pass.weights.values);
    let weights = weights.map(|(spec, values)| (spec.name.as_str(), spec.shape.as_slice(), values.as_slice()));
    Variables::new(weights.chain([("x", pass.x.shape.as_slice(), pass.x.values.as_slice())]))
}

impl Backend for Candle {
    fn graph(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Outputs> {
        let variables = variables(&pass)?;
        let network = reference::Network::new(graph, &variables.builder())?;
        variables.outputs(&network.forward_t(variables.get("x")?, pass.train)?, pass.cotangent)
    }

    fn maps(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Vec<Vec<f32>>> {
        let variables = variables(&pass)?;
        let network = reference::Network::new(graph, &variables.builder())?;
        let maps = network.outputs(variables.get("x")?, pass.train)?;
        let maps = maps.into_iter().map(|map| map.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1());
        Ok(maps.collect::<Result<_>>()?)
    }

    fn layers(&self) -> anyhow::Result<&dyn Layers> {
        Ok(self)
    }
}

impl Layers for Candle {
    fn conv2d(&self, x: &Tensor, weight: &Tensor, stride: usize, padding: usize, groups: usize) -> Result<Tensor> {
        let config = Conv2dConfig { stride, groups, ..Default::default() };
        let window = Window { kernel: weight.dim(2)?, stride, padding: Padding::Symmetric(padding) };
        reference::conv2d(&Conv2d::new(weight.clone(), None, config), x, window)
    }

    fn batch_norm(&self, x: &Tensor, norm: &Norm, train: bool) -> Result<Tensor> {
        let [mean, var, weight, bias] =
            [norm.running_mean, norm.running_var, norm.weight, norm.bias].map(|variable| variable.as_tensor().clone());
        let channels = mean.elem_count();
        let norm = BatchNorm::new_with_momentum(channels, mean, var, weight, bias, norm.eps, norm.momentum)?;
        reference::batch_norm(&norm, x, train)
    }

    fn relu6(&self, x: &Tensor) -> Result<Tensor> {
        reference::relu6(x)
    }

    fn silu(&self, x: &Tensor) -> Result<Tensor> {
        x.silu()
    }

    fn residual_add(&self, branch: &Tensor, x: &Tensor, channels: usize) -> Result<Tensor> {
        reference::residual_add(x, branch, channels)
    }

    fn global_avg_pool(&self, x: &Tensor) -> Result<Tensor> {
        reference::global_avg_pool(x)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        Linear::new(weight.clone(), Some(bias.clone())).forward(x)
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
        let (images, classes) = logits.dims2()?;
        let log_softmax = candle_nn::ops::log_softmax(logits, 1)?;
        let labels = Tensor::from_slice(labels, (images, 1), &Device::Cpu)?;
        let picked = log_softmax.gather(&labels, 1)?.sum_all()?;
        let spread = (log_softmax.sum_all()? * (smoothing / classes as f64))?;
        ((picked * (1.0 - smoothing))? + spread)? * (-1.0 / images as f64)
    }
}
