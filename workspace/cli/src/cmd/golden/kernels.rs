//! The path of our kernels: graphs through the engine that trains, layers as candle ops.

use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::{Device, Result, Tensor};
use sandglass_models::{Graph, Role, Weights};
use sandglass_ops::Runtime;
use sandglass_ops::candle::{BatchNorm, Ops};
use sandglass_train::Engine;

use super::kinds::{Backend, Outputs, Pass};
use super::layers::{Layers, Norm};

pub struct Kernels {
    runtime: Arc<Runtime>,
    ops: Ops,
}

impl Kernels {
    pub fn new() -> anyhow::Result<Self> {
        let runtime = Arc::new(Runtime::new(sandglass_lab::default_threads())?);
        Ok(Self { ops: Ops::new(runtime.clone()), runtime })
    }
}

impl Backend for Kernels {
    fn graph(&self, graph: &Graph, mut pass: Pass) -> anyhow::Result<Outputs> {
        let [images, _, height, width] = pass.x.nchw()?;
        let mut engine = Engine::new(self.runtime.clone(), graph, height, width, images)?;
        let x = nhwc(&pass.x.values, &pass.x.shape)?;
        let output = match (pass.train, pass.cotangent) {
            (true, _) => engine.forward(&mut pass.weights, &x, None)?,
            (false, Some(_)) => engine.forward_eval(&pass.weights, &x)?,
            (false, None) => engine.evaluate(&pass.weights, &x)?,
        };
        let &[(height, width, channels)] = engine.outputs().as_slice() else { bail!("a graph of several outputs") };
        let shape = [images, channels, height, width];
        let mut outputs = running(&pass.weights);
        outputs.insert("output".to_owned(), nchw(&output.one()?, &shape)?);
        if let Some(cotangent) = pass.cotangent {
            let cotangent = nhwc(cotangent, &shape).context("cotangent")?;
            let (gradients, dx) = engine.backward_to_images(&pass.weights, &[&cotangent])?;
            insert_gradients(&mut outputs, &pass, gradients, dx)?;
        }
        Ok(outputs)
    }

    fn maps(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Vec<Vec<f32>>> {
        let [images, _, height, width] = pass.x.nchw()?;
        let mut engine = Engine::new(self.runtime.clone(), graph, height, width, images)?;
        Ok(engine.evaluate(&pass.weights, &nhwc(&pass.x.values, &pass.x.shape)?)?.0)
    }

    fn layers(&self) -> anyhow::Result<&dyn Layers> {
        Ok(self)
    }
}

impl Layers for Kernels {
    fn conv2d(&self, x: &Tensor, weight: &Tensor, stride: usize, padding: usize, groups: usize) -> Result<Tensor> {
        self.ops.conv2d(x, weight, stride, padding, groups)
    }

    fn batch_norm(&self, x: &Tensor, norm: &Norm, train: bool) -> Result<Tensor> {
        let Norm { weight, bias, running_mean: mean, running_var: var, eps, momentum } = *norm;
        let (eps, momentum) = (eps as f32, momentum as f32);
        if !train {
            return self.ops.batch_norm_eval(x, weight, bias, (mean, var), eps);
        }
        let BatchNorm { output, running_mean, running_var } =
            self.ops.batch_norm(x, weight, bias, (mean, var), momentum, eps)?;
        mean.set(&running_mean)?;
        var.set(&running_var)?;
        Ok(output)
    }

    fn relu6(&self, x: &Tensor) -> Result<Tensor> {
        self.ops.relu6(x)
    }

    fn silu(&self, x: &Tensor) -> Result<Tensor> {
        self.ops.silu(x)
    }

    fn residual_add(&self, branch: &Tensor, x: &Tensor, channels: usize) -> Result<Tensor> {
        self.ops.residual_add(branch, x, channels)
    }

    fn global_avg_pool(&self, x: &Tensor) -> Result<Tensor> {
        self.ops.global_avg_pool(x)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        self.ops.linear(x, weight, bias)
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
        self.ops.cross_entropy(logits, labels, smoothing)
    }
}

/// Of an NCHW map.
pub(super) fn nhwc(map: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
    Tensor::from_slice(map, shape, &Device::Cpu)?.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1()
}

/// To an NCHW map of this shape.
pub(super) fn nchw(map: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
    let (images, channels, height, width) = candle_core::Shape::from(shape).dims4()?;
    let map = Tensor::from_slice(map, (images, height, width, channels), &Device::Cpu)?;
    map.permute((0, 3, 1, 2))?.flatten_all()?.to_vec1()
}

fn running(weights: &Weights) -> Outputs {
    let statistics = |role| matches!(role, Role::RunningMean | Role::RunningVar);
    let all = weights.specs.iter().zip(&weights.values).filter(|(spec, _)| statistics(spec.role));
    all.map(|(spec, values)| (format!("running.{}", spec.name), values.clone())).collect()
}

fn insert_gradients(outputs: &mut Outputs, pass: &Pass, gradients: &[Vec<f32>], dx: &[f32]) -> Result<()> {
    for (spec, gradient) in pass.weights.specs.iter().zip(gradients).filter(|(spec, _)| spec.role.is_trained()) {
        outputs.insert(format!("grad.{}", spec.name), gradient.clone());
    }
    outputs.insert("grad.x".to_owned(), nchw(dx, &pass.x.shape)?);
    Ok(())
}
