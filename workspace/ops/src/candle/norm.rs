//! Batch norm in training and evaluation mode.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{BatchNorm, Dims, Ops, tensor, to_vec, values};
use crate::norm::{self, Norm, Running};
use crate::{Moments, Runtime};

impl Ops {
    /// Batch norm by the statistics of `x` [n, c, h, w] itself; `running` are mean and variance so far, and `momentum` is
    /// the share of the new value in them.
    ///
    /// # Errors
    /// One value per channel, which has no variance; lengths that do not fit, or tensors that are not f32 on the CPU.
    pub fn batch_norm(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        running: (&Tensor, &Tensor),
        momentum: f32,
        eps: f32,
    ) -> Result<BatchNorm> {
        let dims = Dims::of(x.shape())?;
        let map = dims.to_nhwc(&self.runtime, &to_vec(x)?);
        let moments = norm::moments(&self.runtime, &map, dims.map())?;
        let (mut mean, mut var) = (to_vec(running.0)?, to_vec(running.1)?);
        let count = dims.images * dims.area();
        let (w, b) = (to_vec(weight)?, to_vec(bias)?);
        Norm::train(&moments, count, eps, &w, &b, Running { mean: &mut mean, var: &mut var, momentum })?;
        let op = Norms { runtime: self.runtime.clone(), statistics: Statistics::Batch(moments), eps };
        Ok(BatchNorm {
            output: x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?,
            running_mean: tensor(mean, dims.channels)?,
            running_var: tensor(var, dims.channels)?,
        })
    }

    /// Batch norm by running mean and variance, which are constants.
    ///
    /// # Errors
    /// Lengths that do not fit, or tensors that are not f32 on the CPU.
    pub fn batch_norm_eval(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        running: (&Tensor, &Tensor),
        eps: f32,
    ) -> Result<Tensor> {
        let (mean, var) = (to_vec(running.0)?, to_vec(running.1)?);
        check(x.dim(1)?, &[&mean, &var, &to_vec(weight)?, &to_vec(bias)?])?;
        let op = Norms { runtime: self.runtime.clone(), statistics: Statistics::Running(mean, var), eps };
        x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
    }
}

fn check(channels: usize, tensors: &[&Vec<f32>]) -> Result<()> {
    match tensors.iter().find(|values| values.len() != channels) {
        Some(values) => candle_core::bail!("batch norm of {channels} channels was given {} values", values.len()),
        None => Ok(()),
    }
}

enum Statistics {
    Batch(Moments),
    Running(Vec<f32>, Vec<f32>),
}

struct Norms {
    runtime: Arc<Runtime>,
    statistics: Statistics,
    eps: f32,
}

impl Norms {
    fn norm(&self, count: usize, weight: &[f32], bias: &[f32]) -> Result<Norm> {
        Ok(match &self.statistics {
            Statistics::Running(mean, var) => Norm::eval(mean, var, self.eps, weight, bias),
            Statistics::Batch(moments) => {
                // The running statistics were moved when the op was made.
                let (mut mean, mut var) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
                let running = Running { mean: &mut mean, var: &mut var, momentum: 0.0 };
                Norm::train(moments, count, self.eps, weight, bias, running)?
            }
        })
    }
}

impl CustomOp3 for Norms {
    fn name(&self) -> &'static str {
        "sandglass-batch-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dims = Dims::of(l1.shape())?;
        let x = dims.to_nhwc(&self.runtime, values(s1, l1)?);
        let norm = self.norm(dims.images * dims.area(), values(s2, l2)?, values(s3, l3)?)?;
        let mut y = vec![0.0; x.len()];
        norm::forward(&self.runtime, &norm, &x, &mut y)?;
        Ok((CpuStorage::F32(dims.to_nchw(&self.runtime, &y)), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let runtime = &*self.runtime;
        let dims = Dims::of(x.shape())?;
        let norm = self.norm(dims.images * dims.area(), &to_vec(weight)?, &to_vec(bias)?)?;
        let (map, dy) = (dims.to_nhwc(runtime, &to_vec(x)?), dims.to_nhwc(runtime, &to_vec(dy)?));
        let training = matches!(self.statistics, Statistics::Batch(_));
        let gradient = norm::backward(runtime, &norm, &map, &dy, dims.map(), training)?;
        let narrow = |sums: Vec<f64>| tensor(sums.into_iter().map(|sum| sum as f32).collect(), dims.channels);
        Ok((
            Some(tensor(dims.to_nchw(runtime, &gradient.input), x.shape().clone())?),
            Some(narrow(gradient.weight)?),
            Some(narrow(gradient.bias)?),
        ))
    }
}
