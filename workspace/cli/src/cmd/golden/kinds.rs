//! What each kind of case asks for, and what a code path must offer.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use sandglass_models::blocks::{
    DepthwiseBottleneck, InvertedResidual, InvertedResidualExtraDw, MbConvSe, Placement, ResNetBottleneck, Sandglass,
    SandglassSe,
};
use sandglass_models::{Graph, GraphBuilder, MapId, ModelError, NetworkConfig, TensorSpec, Weights};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::case::{Array, Case, Mode, Params};
use super::detection;
use super::layers::{self, Layers};
use super::training;

/// Results by the names that cases expect: `output`, `grad.x`, `running.bn1.running_mean` and so on.
pub type Outputs = BTreeMap<String, Vec<f32>>;

/// What flows through a graph of one output. Maps are NCHW.
pub struct Pass<'a> {
    pub weights: Weights,
    pub x: &'a Array,
    pub train: bool,
    /// Of the output; gradients are asked for where it is there.
    pub cotangent: Option<&'a [f32]>,
}

/// One of the ways to compute.
pub trait Backend {
    fn graph(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Outputs>;
    /// All of a graph's outputs in evaluation mode, as NHWC.
    fn maps(&self, graph: &Graph, pass: Pass) -> anyhow::Result<Vec<Vec<f32>>>;
    fn layers(&self) -> anyhow::Result<&dyn Layers>;
    /// An error where optimisers and the like are no business of this way.
    fn trains(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Runs a case of one kind.
pub type Run = fn(&Case, &dyn Backend) -> anyhow::Result<Outputs>;

#[rustfmt::skip]
const KINDS: [(&str, Run); 31] = [
    ("inverted_residual", |case, on| block(case, on, |block: InvertedResidual, g, x| block.build(g, "", x))),
    ("inverted_residual_extra_dw", |case, on| block(case, on, |block: InvertedResidualExtraDw, g, x| block.build(g, "", x))),
    ("sandglass", |case, on| block(case, on, |block: Sandglass, g, x| block.build(g, "", x))),
    ("depthwise_bottleneck", |case, on| block(case, on, |block: DepthwiseBottleneck, g, x| block.build(g, "", x))),
    ("resnet_bottleneck", |case, on| block(case, on, |block: ResNetBottleneck, g, x| block.build(g, "", x))),
    ("mbconv_se", |case, on| block(case, on, |block: MbConvSe, g, x| block.build(g, "", x))),
    ("sandglass_se", |case, on| block(case, on, |block: SandglassSe, g, x| block.build(g, "", x))),
    ("network", network),
    ("conv", |case, on| layers::conv(case, on.layers()?)),
    ("batch_norm", |case, on| layers::batch_norm(case, on.layers()?)),
    ("relu6", |case, on| layers::relu6(case, on.layers()?)),
    ("silu", |case, on| layers::silu(case, on.layers()?)),
    ("residual_add", |case, on| layers::residual_add(case, on.layers()?)),
    ("global_avg_pool", |case, on| layers::global_avg_pool(case, on.layers()?)),
    ("linear", |case, on| layers::linear(case, on.layers()?)),
    ("cross_entropy", |case, on| layers::cross_entropy(case, on.layers()?)),
    ("sgd", |case, on| on.trains().and_then(|()| training::sgd(case))),
    ("rmsprop_tf", |case, on| on.trains().and_then(|()| training::rmsprop_tf(case))),
    ("lr_schedule", |case, on| on.trains().and_then(|()| training::lr_schedule(case))),
    ("ema", |case, on| on.trains().and_then(|()| training::ema(case))),
    ("clip_grad_norm", |case, on| on.trains().and_then(|()| training::clip_grad_norm(case))),
    ("ssd_priors", |case, on| on.trains().and_then(|()| detection::ssd_priors(case))),
    ("ssd_encode", |case, on| on.trains().and_then(|()| detection::ssd_encode(case))),
    ("ssd_decode", |case, on| on.trains().and_then(|()| detection::ssd_decode(case))),
    ("ssd_match", |case, on| on.trains().and_then(|()| detection::ssd_match(case))),
    ("multibox_loss", |case, on| on.trains().and_then(|()| detection::multibox_loss(case))),
    ("nms", |case, on| on.trains().and_then(|()| detection::nms(case))),
    ("detect_postprocess", |case, on| on.trains().and_then(|()| detection::detect_postprocess(case))),
    ("voc_ap", |case, on| on.trains().and_then(|()| detection::voc_ap(case))),
    ("box_predictor", detection::box_predictor),
    ("detector", detection::detector),
];

/// Nothing for kinds of a later version.
pub fn find(kind: &str) -> Option<Run> {
    KINDS.into_iter().find_map(|(name, run)| (name == kind).then_some(run))
}

/// A block that stands alone.
fn block<B: DeserializeOwned>(
    case: &Case,
    backend: &dyn Backend,
    build: impl FnOnce(B, &mut GraphBuilder, MapId) -> Result<MapId, ModelError>,
) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "in")]
        input: usize,
        bn_eps: Option<f32>,
        bn_momentum: Option<f32>,
    }
    let Config { input, bn_eps, bn_momentum } = case.config()?;
    let mut g = GraphBuilder::new(input)?.with_norm(bn_eps.unwrap_or(1e-5), bn_momentum.unwrap_or(0.1));
    let x = g.images();
    let y = build(case.config()?, &mut g, x)?;
    let graph = g.finish(vec![y])?;
    backend.graph(&graph, pass(case, &graph)?)
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
    let graph = NetworkConfig { name, width, classes, stem_stride, identity_div }.build()?;
    backend.graph(&graph, pass(case, &graph)?)
}

/// The case's tensors for a graph.
fn pass<'a>(case: &'a Case, graph: &Graph) -> anyhow::Result<Pass<'a>> {
    let channels = graph.maps()[graph.images().index()].channels;
    let x = case.input("x")?;
    let [_, found, ..] = x.nchw()?;
    ensure!(found == channels, "an input of {found} channels; {channels} expected");
    let weights = weights(case, graph)?;
    unknown_parameter(case, &weights.specs)?;
    let cotangent = case.cotangent.as_ref().map(|array| array.values.as_slice());
    Ok(Pass { weights, x, train: case.mode == Mode::Train, cotangent })
}

/// The case's parameters of a graph, which may be some of them.
pub fn weights(case: &Case, graph: &Graph) -> anyhow::Result<Weights> {
    let specs = graph.tensors();
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
    Ok(Weights { specs, values })
}

/// An error where the case has a parameter that is none of these.
pub fn unknown_parameter(case: &Case, specs: &[TensorSpec]) -> anyhow::Result<()> {
    if let Params::Stored(params) = &case.params {
        let unknown = params.keys().find(|name| !specs.iter().any(|spec| spec.name == **name));
        ensure!(unknown.is_none(), "a parameter {} that is not the block's", unknown.map_or("", String::as_str));
    }
    Ok(())
}
