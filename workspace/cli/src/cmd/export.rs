//! `sandglass export`: a network and its checkpoint as an ONNX file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use sandglass_models::checkpoint::FittedDetector;
use sandglass_models::{DetectorConfig, NetworkConfig, PaddingRule};
use sandglass_study::tell;

use super::PlacedCard;
use super::detect::network::DetectorArgs;
use super::protocol;
use super::shape::{self, ShapeArgs};
use super::weights::WeightsArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2; or detector, such as ssdlite_mobilenext
    network: String,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Side of the input in pixels; unset: that of the card beside the checkpoint, or 224, or the one that a detector was made
    /// for
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
    /// QDQ file. A detector gives its heads' raw maps: class scores [batch, boxes x classes, rows, columns] of six levels, then
    /// offsets [batch, boxes x 4, rows, columns], which are read against priors: those of SSD, of which ARCHITECTURE.md tells
    #[arg(long, value_name = "OUT")]
    onnx: PathBuf,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { network, shape, input, classes, weights, same_padding, onnx } = args;
    super::keep_input("--onnx", &onnx, &weights.weights)?;
    if let Ok(published) = network.parse::<DetectorConfig>() {
        let Some(width) = shape.of_detector() else { bail!("{network} has the stem and the blocks it has") };
        ensure!(!same_padding, "--same-padding: a detector knows its padding");
        let (weights, state) = weights.of_detector()?;
        let args = DetectorArgs { width, ..DetectorArgs::of(published, weights, state) };
        return detector(&args, input, classes, &onnx);
    }
    let file = &weights.weights;
    let placed = PlacedCard::of(file)?;
    let card = placed.as_ref().map(|of| &of.card);
    let config = shape.network(&network, file, card)?;
    let side = input.or(card.and_then(|card| card.input)).unwrap_or(224);
    let padding = same_padding.then_some(PaddingRule::Same);
    let check = |config: &NetworkConfig| -> anyhow::Result<()> {
        let outputs = config.classes;
        ensure!(
            classes.is_none_or(|classes| classes == outputs),
            "--classes {}: the classifier of {} has {outputs} outputs",
            classes.unwrap_or_default(),
            file.display()
        );
        weights.check_outputs(card, outputs)
    };
    let is_quantised = sandglass_quant::is_quantised(file);
    let mut overruled = Vec::new();
    let (config, bytes, of) = if is_quantised {
        let (quantised, config, padding) = weights.quantised(config, padding)?;
        check(&config)?;
        let name = format!("{config}_w{}_int8", config.width);
        let bytes = sandglass_onnx::encode_int8(&name, &quantised, (side, side));
        (config, bytes.with_context(|| file.display().to_string())?, format!("weights: quantised, {padding} padding"))
    } else {
        let loaded = PlacedCard::shaped(placed.as_ref(), weights.load(config, padding))?;
        check(&loaded.config)?;
        loaded.warn(file);
        overruled.extend(loaded.overruled());
        let name = format!("{}_w{}", loaded.config, loaded.config.width);
        let bytes = sandglass_onnx::encode(&name, &loaded.graph, &loaded.weights, (side, side));
        (loaded.config, bytes.with_context(|| file.display().to_string())?, loaded.as_text())
    };
    sandglass_files::write(&onnx, &bytes).with_context(|| onnx.display().to_string())?;

    let (kind, width, outputs) = (if is_quantised { "QDQ, " } else { "" }, config.width, config.classes);
    let mut assumed = if card.is_none() && !is_quantised { shape.assumed(&config) } else { Vec::new() };
    assumed.extend((card.is_none() && input.is_none()).then_some("input"));
    let is_its_input = card.is_none_or(|card| input.is_none() || card.input == input);
    overruled.extend((!is_its_input).then_some("input"));
    let told = [
        format!("{}: {kind}{} bytes, {config} {width:?}, {outputs} outputs", onnx.display(), bytes.len()),
        of,
        shape::as_text(&config),
        match card {
            Some(card) => {
                format!("to be fed by its card's {}", protocol::as_text(&card.evaluation, (side, side), None))
            }
            None => format!("input {side} x {side}, to be fed as the weights were trained, which nothing here says"),
        },
        super::card_text(placed.as_ref(), file, &assumed, &overruled),
    ];
    writeln!(io::stdout(), "{}", told.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Its heads' maps, before scores and boxes are read off them.
fn detector(
    args: &DetectorArgs,
    input: Option<usize>,
    classes: Option<usize>,
    onnx: &Path,
) -> anyhow::Result<ExitCode> {
    let place = args.weights.display();
    ensure!(!sandglass_quant::is_quantised(&args.weights), "{place}: is a quantised classifier");
    let placed = PlacedCard::of(&args.weights)?;
    let card = placed.as_ref().map(|of| &of.card);
    let FittedDetector { config, weights, incomplete, .. } = args.fitted(card)?;
    let outputs = config.classes;
    if let Some(classes) = classes.filter(|classes| *classes != outputs) {
        bail!("--classes {classes}: the detector of {place} has {outputs}, with the background");
    }
    for state in &incomplete {
        tell(format_args!("warning: {place}: not whole and not taken: {state}"));
    }
    let side = input.or(card.and_then(|card| card.input)).unwrap_or(config.name.input());
    let name = format!("{config}_w{}", config.width);
    let bytes = sandglass_onnx::encode(&name, &config.build()?.graph, &weights, (side, side));
    let bytes = bytes.with_context(|| place.to_string())?;
    sandglass_files::write(onnx, &bytes).with_context(|| onnx.display().to_string())?;
    let assumed = if card.is_none() && input.is_none() { vec!["input"] } else { Vec::new() };
    let told = [
        format!(
            "{}: {} bytes, {config} {:?}, {outputs} classes with the background",
            onnx.display(),
            bytes.len(),
            config.width
        ),
        format!("input {side} x {side}"),
        super::card_text(placed.as_ref(), &args.weights, &assumed, &[]),
    ];
    writeln!(io::stdout(), "{}", told.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
