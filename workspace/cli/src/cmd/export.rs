//! `sandglass export`: a network and its checkpoint as an ONNX file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use sandglass_models::PaddingRule;
use sandglass_models::checkpoint::Checkpoint;

use super::cost::NetworkArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Checkpoint: .safetensors or .pth; its classifier says how many classes there are
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Convolutions pad as TensorFlow's SAME, where the names of the checkpoint's tensors do not say so
    #[arg(long)]
    same_padding: bool,
    /// The ONNX file to write: f32, batch norms folded, images [batch, 3, height, width]
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

pub fn run(Args { network, weights, same_padding, onnx }: Args) -> anyhow::Result<ExitCode> {
    let mut checkpoint = Checkpoint::open(&weights)?;
    let fit = checkpoint.fit(network.config()?, None)?;
    let padding = same_padding.then_some(PaddingRule::Same);
    let (config, graph, values) = (fit.config, fit.graph(padding)?, checkpoint.fitted(&fit)?);
    let name = format!("{config}_w{}", config.width);
    let bytes = sandglass_onnx::encode(&name, &graph, &values, (network.input, network.input))
        .with_context(|| weights.display().to_string())?;
    sandglass_files::write(&onnx, &bytes).with_context(|| onnx.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
