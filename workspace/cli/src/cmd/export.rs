//! `sandglass export`: a network and its checkpoint as an ONNX file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use sandglass_lab::Card;
use sandglass_models::{NetworkConfig, PaddingRule};

use super::protocol;
use super::shape::{self, ShapeArgs};
use super::weights::WeightsArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
    network: String,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Side of the input in pixels; unset: that of the card beside the checkpoint, or 224
    #[arg(long, value_name = "PX")]
    input: Option<usize>,
    /// Outputs of the classifier, which must be the checkpoint's; unset: as it has them
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Convolutions pad as TensorFlow's SAME, where the names of the checkpoint's tensors do not say so
    #[arg(long)]
    same_padding: bool,
    /// The ONNX file to write: batch norms folded, images [batch, 3, height, width] in f32; a quantised checkpoint becomes a
    /// QDQ file
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { network, shape, input, classes, weights, same_padding, onnx } = args;
    let file = &weights.weights;
    super::keep_input("--onnx", &onnx, file)?;
    let card = Card::read(file)?;
    let config = shape.network(&network, file, card.as_ref())?;
    let side = input.or(card.as_ref().and_then(|card| card.input)).unwrap_or(224);
    let padding = same_padding.then_some(PaddingRule::Same);
    let check = |config: &NetworkConfig| -> anyhow::Result<()> {
        let outputs = config.classes;
        ensure!(
            classes.is_none_or(|classes| classes == outputs),
            "--classes {}: the classifier of {} has {outputs} outputs",
            classes.unwrap_or_default(),
            file.display()
        );
        Ok(card.as_ref().map_or(Ok(()), |card| card.check_outputs(file, outputs))?)
    };
    let is_quantised = sandglass_quant::is_quantised(file);
    let (config, bytes, of) = if is_quantised {
        let (quantised, config, padding) = weights.quantised(config, padding)?;
        check(&config)?;
        let name = format!("{config}_w{}_int8", config.width);
        let bytes = sandglass_onnx::encode_int8(&name, &quantised, (side, side));
        (config, bytes.with_context(|| file.display().to_string())?, format!("weights: quantised, {padding} padding"))
    } else {
        let loaded = weights.load(config, padding)?;
        check(&loaded.config)?;
        loaded.warn(file);
        let name = format!("{}_w{}", loaded.config, loaded.config.width);
        let bytes = sandglass_onnx::encode(&name, &loaded.graph, &loaded.weights, (side, side));
        (loaded.config, bytes.with_context(|| file.display().to_string())?, loaded.as_text())
    };
    sandglass_files::write(&onnx, &bytes).with_context(|| onnx.display().to_string())?;

    let (kind, width, outputs) = (if is_quantised { "QDQ, " } else { "" }, config.width, config.classes);
    let mut assumed = if card.is_none() && !is_quantised { shape.assumed(&config) } else { Vec::new() };
    assumed.extend((card.is_none() && input.is_none()).then_some("input"));
    let at = Card::find(file);
    let told = [
        format!("{}: {kind}{} bytes, {config} {width:?}, {outputs} outputs", onnx.display(), bytes.len()),
        of,
        shape::as_text(&config),
        match &card {
            Some(card) => {
                format!("to be fed by its card's {}", protocol::as_text(&card.evaluation, (side, side), None))
            }
            None => format!("input {side} x {side}, to be fed as the weights were trained, which nothing here says"),
        },
        super::card_text(at.as_deref(), &assumed, &[]),
    ];
    writeln!(io::stdout(), "{}", told.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
