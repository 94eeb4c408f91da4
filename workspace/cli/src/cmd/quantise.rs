//! `sandglass quantise`: a checkpoint in 8 bits, calibrated on training images.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use sandglass_data::{Part, Transform};
use sandglass_lab::{Card, calibration_images, default_threads};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{DetectorConfig, PaddingRule};
use sandglass_ops::Runtime;
use sandglass_quant::{Facts, Images, Model, Net, Scheme};
use sandglass_study::tell;

use super::PlacedCard;
use super::protocol::{self, Chosen, ProtocolArgs};
use super::shape::{self, ShapeArgs};
use super::weights::WeightsArgs;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
    network: String,
    #[command(flatten)]
    shape: ShapeArgs,
    /// The same as --padding same
    #[arg(long, conflicts_with = "padding")]
    same_padding: bool,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    weights: WeightsArgs,
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
    let file = &args.weights.weights;
    super::keep_input("--out", &args.out, file)?;
    ensure!(!sandglass_quant::is_quantised(file), "{}: is quantised already", file.display());
    if let Ok(detector) = args.network.parse::<DetectorConfig>() {
        bail!("{detector}: detectors are not quantised here: networks in 8 bits give one map, a classifier's scores");
    }
    let placed = PlacedCard::of(file)?;
    let card = placed.as_ref().map(|of| &of.card);
    let config = args.shape.network(&args.network, file, card)?;
    let Chosen { input, protocol, padding, mut assumed, mut overruled } = args.protocol.chosen(card)?;
    let padding = if args.same_padding { Some(PaddingRule::Same) } else { padding };
    let loaded = PlacedCard::shaped(placed.as_ref(), args.weights.load(config, padding))?;
    loaded.warn(file);
    let config = &loaded.config;
    if card.is_some() {
        overruled.extend(loaded.overruled());
    }
    args.weights.check_outputs(card, config.classes)?;
    let set = args.weights.open(&args.calibration, Part::Train, card, config.classes)?;
    let transform = Transform::evaluation(&set, config.classes, input, &protocol)?;
    let (height, width) = transform.size();
    if card.is_none() {
        assumed.splice(0..0, args.shape.assumed(config));
    }
    // What it is calibrated by it must be scored with: where there was no card to say it, one is begun, which names no classes
    // and says what was assumed.
    let own = Card {
        sha256: None,
        network: config.to_string(),
        width: config.width,
        stem_stride: config.stem_stride,
        input: input.or((height == width).then_some(height)),
        classes: card.and_then(|card| card.classes.clone()),
        assumed: card
            .map_or_else(|| assumed.iter().map(|what| (*what).to_owned()).collect(), |card| card.assumed.clone()),
        evaluation: protocol.clone(),
    };
    check_card_place(&args.out)?;
    let mut facts = Facts {
        network: config.to_string(),
        width: config.width,
        classes: config.classes,
        stem_stride: config.stem_stride,
        same_padding: loaded.padding() == "same",
        scheme: scheme.clone(),
        calibrated_on: 0,
    };
    let of_weights = || file.display().to_string();
    let net = scheme.shape(Net::new(&loaded.graph, &loaded.weights).with_context(of_weights)?);

    let threads = args.threads.unwrap_or_else(default_threads);
    let (values, count) = calibration_images(&set, transform.clone(), args.images, args.seed, threads)?;
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
        bail!("scheme {} leaves weights in f32: there is no file of it", args.scheme)
    };
    let bytes = sandglass_quant::save(&args.out, &quantised, &facts)?;
    own.write(&args.out)?;

    let was = std::fs::metadata(file).map(|file| file.len()).with_context(of_weights)?;
    let told = [
        format!("{}: {bytes} bytes, by {} on {count} images; it was {was}", args.out.display(), args.scheme),
        format!("calibrated on: {count} of {}", set.listing()),
        format!("{}part: {}", super::place_text(&set), set.part_listing()),
        loaded.as_text(),
        protocol::as_text(&protocol, (height, width), transform.short()),
        shape::as_text(config),
        super::card_text(placed.as_ref(), file, &assumed, &overruled),
    ];
    let hint = loaded.hint(&assumed).map(|hint| format!("\n{hint}")).unwrap_or_default();
    writeln!(io::stdout(), "{}{hint}", told.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A card lies beside every checkpoint that has its name, whatever the ending: none of another's is written over, nor any other
/// file that is called so.
fn check_card_place(out: &Path) -> anyhow::Result<()> {
    let place = Card::beside(out);
    if place.symlink_metadata().is_ok() {
        Card::read_at(&place)?;
    }
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        return Ok(());
    }
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
    Ok(())
}
