//! What each kind of case asks for, and what a code path must offer.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use sandglass_models::blocks::{
    DepthwiseBottleneck, InvertedResidual, InvertedResidualExtraDw, Placement, ResNetBottleneck, Sandglass,
};
use sandglass_models::{Block, ModelError, Network, NetworkConfig, TensorSpec, Weights};
use serde::Deserialize;

use super::case::{Array, Case, Mode, Params};
use super::training;

/// Results by the names that cases expect: `output`, `grad.x`, `running.bn1.running_mean` and so on.
pub type Outputs = BTreeMap<String, Vec<f32>>;

/// A block or network with what flows through it. Maps are NCHW.
pub struct Pass<'a> {
    pub weights: Weights,
    pub x: &'a Array,
    pub train: bool,
    /// Of the output; gradients are asked for where it is there.
    pub cotangent: Option<&'a [f32]>,
}

#[derive(Deserialize)]
pub struct ConvConfig {
    #[serde(rename = "in")]
    pub input: usize,
    #[serde(rename = "out")]
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
}

#[derive(Deserialize)]
pub struct NormConfig {
    pub eps: f64,
    pub momentum: f64,
}

/// One of the two ways to compute. Layers find their tensors in the case.
pub trait Backend {
    fn block(&self, block: &Block, pass: Pass) -> anyhow::Result<Outputs>;
    fn network(&self, network: &Network, pass: Pass) -> anyhow::Result<Outputs>;
    fn conv(&self, config: &ConvConfig, case: &Case) -> anyhow::Result<Outputs>;
    fn batch_norm(&self, config: &NormConfig, case: &Case) -> anyhow::Result<Outputs>;
    fn relu6(&self, case: &Case) -> anyhow::Result<Outputs>;
    fn silu(&self, case: &Case) -> anyhow::Result<Outputs>;
    /// The first `channels` of `x` are added to `branch`.
    fn residual_add(&self, channels: usize, case: &Case) -> anyhow::Result<Outputs>;
    fn global_avg_pool(&self, case: &Case) -> anyhow::Result<Outputs>;
    fn linear(&self, case: &Case) -> anyhow::Result<Outputs>;
    fn cross_entropy(&self, smoothing: f64, case: &Case) -> anyhow::Result<Outputs>;
}

/// Runs a case of one kind.
pub type Run = fn(&Case, &dyn Backend) -> anyhow::Result<Outputs>;

#[rustfmt::skip]
const KINDS: [(&str, Run); 19] = [
    ("inverted_residual", |case, on| block(case, case.config::<InvertedResidual>()?.block(""), on)),
    ("inverted_residual_extra_dw", |case, on| block(case, case.config::<InvertedResidualExtraDw>()?.block(""), on)),
    ("sandglass", |case, on| block(case, case.config::<Sandglass>()?.block(""), on)),
    ("depthwise_bottleneck", |case, on| block(case, case.config::<DepthwiseBottleneck>()?.block(""), on)),
    ("resnet_bottleneck", |case, on| block(case, case.config::<ResNetBottleneck>()?.block(""), on)),
    ("network", network),
    ("conv", conv),
    ("batch_norm", |case, on| on.batch_norm(&case.config()?, case)),
    ("relu6", |case, on| on.relu6(case)),
    ("silu", |case, on| on.silu(case)),
    ("residual_add", residual_add),
    ("global_avg_pool", |case, on| on.global_avg_pool(case)),
    ("linear", |case, on| on.linear(case)),
    ("cross_entropy", cross_entropy),
    ("sgd", |case, _| training::sgd(case)),
    ("rmsprop_tf", |case, _| training::rmsprop_tf(case)),
    ("lr_schedule", |case, _| training::lr_schedule(case)),
    ("ema", |case, _| training::ema(case)),
    ("clip_grad_norm", |case, _| training::clip_grad_norm(case)),
];

/// Nothing for kinds of a later version.
pub fn find(kind: &str) -> Option<Run> {
    KINDS.into_iter().find_map(|(name, run)| (name == kind).then_some(run))
}

fn block(case: &Case, block: Result<Block, ModelError>, backend: &dyn Backend) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Norm {
        bn_eps: Option<f32>,
        bn_momentum: Option<f32>,
    }
    let Norm { bn_eps, bn_momentum } = case.config()?;
    let mut block = block?;
    for unit in &mut block.units {
        unit.norm_eps = bn_eps.unwrap_or(unit.norm_eps);
        unit.norm_momentum = bn_momentum.unwrap_or(unit.norm_momentum);
    }
    let pass = pass(case, block.tensors(), block.input())?;
    backend.block(&block, pass)
}

fn network(case: &Case, backend: &dyn Backend) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        network: String,
        width: f64,
        num_classes: usize,
        stem_stride: usize,
        identity_div: Option<usize>,
        placement: Option<Placement>,
    }
    let config: Config = case.config()?;
    let name = match config.placement {
        Some(Placement::DwDw) => format!("{}_dw_dw", config.network),
        Some(Placement::Ends) => format!("{}_ends", config.network),
        None => config.network,
    };
    let name = name.parse()?;
    let (width, classes, stem_stride) = (config.width, config.num_classes, config.stem_stride);
    let identity_div = config.identity_div.unwrap_or(1);
    let network = NetworkConfig { name, width, classes, stem_stride, identity_div }.build()?;
    let pass = pass(case, network.tensors(), 3)?;
    backend.network(&network, pass)
}

/// The case's tensors for a block or network of these specs that reads `channels`.
fn pass(case: &Case, specs: Vec<TensorSpec>, channels: usize) -> anyhow::Result<Pass<'_>> {
    let x = case.input("x")?;
    let [_, found, ..] = x.nchw()?;
    ensure!(found == channels, "an input of {found} channels; {channels} expected");
    let mut values = Vec::with_capacity(specs.len());
    for spec in &specs {
        let array = match &case.params {
            Params::Hashed(generator) => generator.array(&spec.name, spec.shape.clone())?,
            Params::Stored(params) => {
                params.get(&spec.name).with_context(|| format!("no parameter {}", spec.name))?.clone()
            }
        };
        ensure!(array.shape == spec.shape, "{}: shape {:?}; {:?} expected", spec.name, array.shape, spec.shape);
        values.push(array.values);
    }
    if let Params::Stored(params) = &case.params {
        let unknown = params.keys().find(|name| !specs.iter().any(|spec| spec.name == **name));
        ensure!(unknown.is_none(), "a parameter {} that is not the block's", unknown.map_or("", String::as_str));
    }
    let cotangent = case.cotangent.as_ref().map(|array| array.values.as_slice());
    Ok(Pass { weights: Weights { specs, values }, x, train: case.mode == Mode::Train, cotangent })
}

fn conv(case: &Case, backend: &dyn Backend) -> anyhow::Result<Outputs> {
    let config: ConvConfig = case.config()?;
    let ConvConfig { input, output, kernel, stride, padding, groups } = config;
    let sizes = [input, output, kernel, stride, groups];
    ensure!(sizes.iter().all(|size| (1..1 << 20).contains(size)) && padding < kernel, "a size in the config is off");
    ensure!(input % groups == 0 && output % groups == 0, "{groups} groups do not divide {input} and {output} channels");
    let [_, channels, height, width] = case.input("x")?.nchw()?;
    ensure!(channels == input, "an input of {channels} channels; {input} expected");
    ensure!(height.min(width) + 2 * padding >= kernel, "the kernel does not fit on {height} x {width}");
    let weight = param(case, "weight")?;
    ensure!(weight.shape == [output, input / groups, kernel, kernel], "weight: shape {:?}", weight.shape);
    backend.conv(&config, case)
}

fn residual_add(case: &Case, backend: &dyn Backend) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        identity_div: usize,
    }
    let [_, channels, ..] = case.input("x")?.nchw()?;
    ensure!(case.input("branch")?.shape == case.input("x")?.shape, "x and branch differ in shape");
    let kept = channels.checked_div(case.config::<Config>()?.identity_div).context("identity_div 0")?;
    backend.residual_add(kept, case)
}

fn cross_entropy(case: &Case, backend: &dyn Backend) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        label_smoothing: f64,
    }
    let (logits, target) = (case.input("logits")?, case.input("target")?);
    let &[images, classes] = logits.shape.as_slice() else { anyhow::bail!("logits of shape {:?}", logits.shape) };
    ensure!(images > 0 && target.values.len() == images, "{} targets for {images} images", target.values.len());
    let known = target.values.iter().all(|&label| label >= 0.0 && (label as usize) < classes);
    ensure!(known, "a target beyond {classes} classes");
    backend.cross_entropy(case.config::<Config>()?.label_smoothing, case)
}

/// A layer's parameter.
pub fn param<'a>(case: &'a Case, name: &str) -> anyhow::Result<&'a Array> {
    match &case.params {
        Params::Stored(params) => params.get(name).with_context(|| format!("no parameter {name}")),
        Params::Hashed(_) => anyhow::bail!("hashed parameters of a layer"),
    }
}
