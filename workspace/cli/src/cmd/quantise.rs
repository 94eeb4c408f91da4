//! `sandglass quantise`: a checkpoint in 8 bits, calibrated on training images.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use sandglass_data::{Part, Transform};
use sandglass_lab::{Card, calibration_images, default_threads};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{DetectorConfig, NetworkConfig, PaddingRule};
use sandglass_ops::Runtime;
use sandglass_quant::{Facts, Images, Model, Net, Scheme};
use sandglass_study::tell;

use super::protocol::{Chosen, ProtocolArgs};

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
    network: String,
    /// Width multiplier
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Stride of the first convolution
    #[arg(long, default_value_t = 2)]
    stem_stride: usize,
    /// Inverse of the identity tensor multiplier
    #[arg(long)]
    identity_div: Option<usize>,
    /// The same as --padding same
    #[arg(long, conflicts_with = "padding")]
    same_padding: bool,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Checkpoint: .safetensors or .pth
    #[arg(long)]
    weights: PathBuf,
    /// Which state of a checkpoint that holds several: the keys that lead to it
    #[arg(long, value_name = "KEY")]
    state: Option<String>,
    /// Training images: as eval takes them
    #[arg(long)]
    calibration: String,
    /// How many of them, drawn by the seed
    #[arg(long, default_value_t = 512)]
    images: usize,
    /// Which of them
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A scheme that comes with the program; another name lists them
    #[arg(long, default_value = "per-channel")]
    scheme: String,
    /// Where to write the quantised checkpoint
    #[arg(long)]
    out: PathBuf,
    /// Threads; unset: all
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let scheme = Scheme::built_in(&args.scheme)?;
    super::keep_input("--out", &args.out, &args.weights)?;
    ensure!(!sandglass_quant::is_quantised(&args.weights), "{}: is quantised already", args.weights.display());
    if let Ok(detector) = args.network.parse::<DetectorConfig>() {
        bail!("{detector}: detectors are not quantised here: networks in 8 bits give one map, a classifier's scores");
    }
    let mut config: NetworkConfig = args.network.parse()?;
    config.width = args.width;
    config.stem_stride = args.stem_stride;
    config.identity_div = args.identity_div.unwrap_or(config.identity_div);
    let mut checkpoint = Checkpoint::open(&args.weights)?;
    let fit = checkpoint.fit(config, args.state.as_deref())?;
    for state in &fit.incomplete {
        tell(format_args!("warning: {}: not whole and not taken: {state}", args.weights.display()));
    }
    config.classes = fit.config.classes;
    let card = Card::read(&args.weights)?;
    if let Some(card) = &card {
        card.check_network(&args.weights, &config)?;
        card.check_outputs(&args.weights, config.classes)?;
    }
    let Chosen { input, protocol, padding, .. } = args.protocol.chosen(card.clone())?;
    // What it is calibrated by it must be scored with.
    let card = card.map(|card| Card { input, evaluation: protocol.clone(), ..card });
    check_card_place(&args.out, card.as_ref())?;
    let padding = if args.same_padding { Some(PaddingRule::Same) } else { padding };
    let mut facts = Facts {
        network: config.to_string(),
        width: config.width,
        classes: config.classes,
        stem_stride: config.stem_stride,
        same_padding: fit.padding(padding) == Some(PaddingRule::Same),
        scheme: scheme.clone(),
        calibrated_on: 0,
    };
    let graph = fit.graph(padding)?;
    let weights = checkpoint.fitted(&fit)?;
    let of_weights = || args.weights.display().to_string();
    let net = scheme.shape(Net::new(&graph, &weights).with_context(of_weights)?);

    let set = sandglass_data::open(&args.calibration, Part::Train, Some(config.classes))?;
    let transform = Transform::evaluation(&set, config.classes, input, &protocol)?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let (height, width) = transform.size();
    let (values, count) = calibration_images(&set, transform, args.images, args.seed, threads)?;
    facts.calibrated_on = count;
    if count < args.images {
        tell(format_args!("warning: {} holds {count} images, fewer than {}", args.calibration, args.images));
    }
    let runtime = Runtime::new(threads)?;
    let calibration = scheme.calibrate(&runtime, &net, &Images { values: &values, height, width })?;
    let (model, warnings) = Model::of(&net, &calibration, &scheme)?;
    for warning in calibration.warnings.iter().chain(&warnings) {
        tell(format_args!("warning: {warning}"));
    }
    let Model::Integer(quantised) = model else {
        anyhow::bail!("scheme {} leaves weights in f32: there is no file of it", args.scheme)
    };
    let bytes = sandglass_quant::save(&args.out, &quantised, &facts)?;
    if let Some(card) = card {
        card.write(&args.out)?;
    }
    let was = std::fs::metadata(&args.weights).map(|file| file.len()).with_context(of_weights)?;
    let out = args.out.display();
    writeln!(io::stdout(), "{out}: {bytes} bytes, by {} on {count} images; it was {was}", args.scheme)?;
    Ok(ExitCode::SUCCESS)
}

/// A card belongs to every checkpoint beside it that has its name, whatever the ending: none of another's is written or taken.
fn check_card_place(out: &Path, card: Option<&Card>) -> anyhow::Result<()> {
    let place = Card::beside(out);
    if Card::read(out)?.as_ref() == card {
        return Ok(());
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let other = entry?.path();
        let has_its_card =
            Card::beside(&other).file_name() == place.file_name() && other.file_name() != out.file_name();
        ensure!(
            !has_its_card || Checkpoint::open(&other).is_err(),
            "--out {}: its card would be {}, which is that of {}: choose another name",
            out.display(),
            place.display(),
            other.display()
        );
    }
    ensure!(
        card.is_some() || !place.exists(),
        "--out {}: {} lies there, and is not its card",
        out.display(),
        place.display()
    );
    Ok(())
}
