//! `sandglass export`: a network and its checkpoint as an ONNX file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use sandglass_lab::Card;
use sandglass_models::PaddingRule;
use sandglass_models::checkpoint::{Checkpoint, FittedDetector};
use sandglass_study::tell;

use super::cost::NetworkArgs;
use super::detect::network::DetectorArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Checkpoint: .safetensors or .pth, or a quantised one; its classifier, or its class heads, say how many classes there are
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Which state of a checkpoint that holds several: the keys that lead to it
    #[arg(long, value_name = "KEY")]
    state: Option<String>,
    /// Convolutions pad as TensorFlow's SAME, where the names of the checkpoint's tensors do not say so
    #[arg(long)]
    same_padding: bool,
    /// The ONNX file to write: batch norms folded, images [batch, 3, height, width] in f32; a quantised checkpoint becomes a
    /// QDQ file. A detector gives its heads' raw maps: class scores [batch, boxes x classes, rows, columns] of six levels, then
    /// offsets [batch, boxes x 4, rows, columns], which are read against priors: those of SSD, of which ARCHITECTURE.md tells
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

pub fn run(Args { network, weights, state, same_padding, onnx }: Args) -> anyhow::Result<ExitCode> {
    super::keep_input("--onnx", &onnx, &weights)?;
    if let Some(config) = network.detector()? {
        ensure!(!same_padding, "--same-padding: a detector knows its padding");
        let args = DetectorArgs::of(config, weights, state);
        return detector(&args, network.input, &onnx);
    }
    if let Some(card) = Card::read(&weights)? {
        card.check_network(&weights, &network.config()?)?;
    }
    if sandglass_quant::is_quantised(&weights) {
        ensure!(state.is_none(), "--state: a quantised checkpoint holds one");
        ensure!(!same_padding, "--same-padding: a quantised checkpoint knows its padding");
        let (quantised, config, _) = super::weights::quantised(&weights, network.config()?)?;
        let name = format!("{config}_w{}_int8", config.width);
        let bytes = sandglass_onnx::encode_int8(&name, &quantised, (network.input(), network.input()))
            .with_context(|| weights.display().to_string())?;
        sandglass_files::write(&onnx, &bytes).with_context(|| onnx.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut checkpoint = Checkpoint::open(&weights)?;
    let fit = checkpoint.fit(network.config()?, state.as_deref())?;
    for state in &fit.incomplete {
        tell(format_args!("warning: {}: not whole and not taken: {state}", weights.display()));
    }
    let padding = same_padding.then_some(PaddingRule::Same);
    let (config, graph, values) = (fit.config, fit.graph(padding)?, checkpoint.fitted(&fit)?);
    let name = format!("{config}_w{}", config.width);
    let bytes = sandglass_onnx::encode(&name, &graph, &values, (network.input(), network.input()))
        .with_context(|| weights.display().to_string())?;
    sandglass_files::write(&onnx, &bytes).with_context(|| onnx.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Its heads' maps, before scores and boxes are read off them.
fn detector(args: &DetectorArgs, input: Option<usize>, onnx: &Path) -> anyhow::Result<ExitCode> {
    let of_weights = || args.weights.display().to_string();
    if sandglass_quant::is_quantised(&args.weights) {
        bail!("{}: is a quantised classifier", of_weights());
    }
    let card = Card::read(&args.weights)?;
    let FittedDetector { config, weights, incomplete, .. } = args.fitted(card.as_ref())?;
    for state in &incomplete {
        tell(format_args!("warning: {}: not whole and not taken: {state}", of_weights()));
    }
    let side = input.or(card.and_then(|card| card.input)).unwrap_or(config.name.input());
    let name = format!("{config}_w{}", config.width);
    let bytes =
        sandglass_onnx::encode(&name, &config.build()?.graph, &weights, (side, side)).with_context(of_weights)?;
    sandglass_files::write(onnx, &bytes).with_context(|| onnx.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
