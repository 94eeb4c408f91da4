//! Single layers: one way to run a case, on candle tensors, whichever way the layer itself is computed.

use anyhow::{Context, ensure};
use candle_core::{Result, Tensor, Var};
use serde::Deserialize;

use super::case::{Array, Case, Mode, Params};
use super::kinds::Outputs;
use super::variables::Variables;

/// A layer each, with gradients by candle's autograd. Maps are NCHW.
pub trait Layers {
    fn conv2d(&self, x: &Tensor, weight: &Tensor, stride: usize, padding: usize, groups: usize) -> Result<Tensor>;
    /// Moves the running statistics where `train`.
    fn batch_norm(&self, x: &Tensor, norm: &Norm, train: bool) -> Result<Tensor>;
    fn relu6(&self, x: &Tensor) -> Result<Tensor>;
    fn silu(&self, x: &Tensor) -> Result<Tensor>;
    /// The first `channels` of `x` are added to `branch`.
    fn residual_add(&self, branch: &Tensor, x: &Tensor, channels: usize) -> Result<Tensor>;
    fn global_avg_pool(&self, x: &Tensor) -> Result<Tensor>;
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor>;
    fn cross_entropy(&self, logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor>;
}

pub struct Norm<'a> {
    pub weight: &'a Var,
    pub bias: &'a Var,
    pub running_mean: &'a Var,
    pub running_var: &'a Var,
    pub eps: f64,
    pub momentum: f64,
}

/// A layer of a case's variables, with their gradients.
fn layer(case: &Case, f: impl FnOnce(&Variables) -> anyhow::Result<Tensor>) -> anyhow::Result<Outputs> {
    let params = match &case.params {
        Params::Stored(params) => params,
        Params::Hashed(_) => anyhow::bail!("hashed parameters of a layer"),
    };
    let all = case.inputs.iter().chain(params);
    let variables =
        Variables::new(all.map(|(name, Array { shape, values, .. })| (name.as_str(), &shape[..], &values[..])))?;
    let output = f(&variables)?;
    variables.outputs(&output, case.cotangent.as_ref().map(|array| array.values.as_slice()))
}

/// Cases have some millions; what a few small tensors can ask for has no bound.
fn check_work(factors: &[usize]) -> anyhow::Result<()> {
    let multiplications: f64 = factors.iter().map(|factor| *factor as f64).product();
    ensure!(multiplications < f64::from(1 << 29), "{multiplications:.0} multiplications are too many");
    Ok(())
}

pub fn conv(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "in")]
        input: usize,
        #[serde(rename = "out")]
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        groups: usize,
    }
    let Config { input, output, kernel, stride, padding, groups } = case.config()?;
    let sizes = [input, output, kernel, stride, groups];
    ensure!(sizes.iter().all(|size| (1..1 << 20).contains(size)) && padding < kernel, "a size in the config is off");
    ensure!(input % groups == 0 && output % groups == 0, "{groups} groups do not divide {input} and {output} channels");
    let [images, channels, height, width] = case.input("x")?.nchw()?;
    ensure!(channels == input, "an input of {channels} channels; {input} expected");
    ensure!(height.min(width) + 2 * padding >= kernel, "the kernel does not fit on {height} x {width}");
    let [rows, columns] = [height, width].map(|side| (side + 2 * padding - kernel) / stride + 1);
    check_work(&[images, rows, columns, output, input / groups, kernel, kernel])?;
    layer(case, |variables| {
        let weight = variables.get("weight")?;
        ensure!(weight.dims() == [output, input / groups, kernel, kernel], "weight: shape {:?}", weight.dims());
        let y = on.conv2d(variables.get("x")?, weight, stride, padding, groups)?;
        match variables.get("bias") {
            Ok(bias) => Ok(y.broadcast_add(&bias.reshape((1, output, 1, 1))?)?),
            Err(_) => Ok(y),
        }
    })
}

pub fn batch_norm(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        eps: f64,
        momentum: f64,
    }
    let Config { eps, momentum } = case.config()?;
    let [_, channels, ..] = case.input("x")?.nchw()?;
    layer(case, |variables| {
        let get = |name| {
            let variable = variables.get(name)?;
            ensure!(variable.dims() == [channels], "{name}: shape {:?}", variable.dims());
            Ok(variable)
        };
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (running_mean, running_var) = (get("running_mean")?, get("running_var")?);
        let norm = Norm { weight, bias, running_mean, running_var, eps, momentum };
        Ok(on.batch_norm(variables.get("x")?, &norm, case.mode == Mode::Train)?)
    })
}

pub fn relu6(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    layer(case, |variables| Ok(on.relu6(variables.get("x")?)?))
}

pub fn silu(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    layer(case, |variables| Ok(on.silu(variables.get("x")?)?))
}

pub fn residual_add(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        identity_div: usize,
    }
    let [_, channels, ..] = case.input("x")?.nchw()?;
    ensure!(case.input("branch")?.shape == case.input("x")?.shape, "x and branch differ in shape");
    let added = channels.checked_div(case.config::<Config>()?.identity_div).context("identity_div 0")?;
    layer(case, |variables| Ok(on.residual_add(variables.get("branch")?, variables.get("x")?, added)?))
}

pub fn global_avg_pool(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    case.input("x")?.nchw()?;
    layer(case, |variables| Ok(on.global_avg_pool(variables.get("x")?)?))
}

pub fn linear(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    layer(case, |variables| {
        let (x, weight, bias) = (variables.get("x")?, variables.get("weight")?, variables.get("bias")?);
        let ((images, input), (output, inputs)) = (x.dims2()?, weight.dims2()?);
        ensure!(input == inputs && bias.dims() == [output], "bias of shape {:?}, {input} inputs", bias.dims());
        check_work(&[images, input, output])?;
        Ok(on.linear(x, weight, bias)?)
    })
}

pub fn cross_entropy(case: &Case, on: &dyn Layers) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        label_smoothing: f64,
    }
    let (shape, target) = (&case.input("logits")?.shape, &case.input("target")?.values);
    let &[images, classes] = shape.as_slice() else { anyhow::bail!("logits of shape {shape:?}") };
    ensure!(target.len() == images, "{} targets for {images} images", target.len());
    let known = target.iter().all(|&label| label >= 0.0 && (label as usize) < classes);
    ensure!(known, "a target beyond {classes} classes");
    let labels: Vec<u32> = target.iter().map(|label| *label as u32).collect();
    let smoothing = case.config::<Config>()?.label_smoothing;
    layer(case, |variables| Ok(on.cross_entropy(variables.get("logits")?, &labels, smoothing)?))
}
