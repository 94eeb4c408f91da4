//! `sandglass train`: from a seed to a checkpoint; the same command again resumes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sandglass_data::{DataError, Dataset, Part, Protocol};
use sandglass_lab::{Card, Signal, default_threads};
use sandglass_models::{ModelError, NetworkConfig};
use sandglass_train::{Classification, LogRow, Observer, Outcome, Progress, Recipe, TrainConfig};
use serde_json::json;

#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
    network: String,
    /// embedded (synthetic), a folder, or a name below a data root
    #[arg(long, default_value = "embedded")]
    data: String,
    /// Folder for the state, log.jsonl, recipe.toml and, in the end, model.safetensors
    #[arg(long)]
    out: PathBuf,
    /// File, or the name of one that comes with the program; unset: by the size of the images, which is said
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Instead of the recipe's
    #[arg(long)]
    epochs: Option<u64>,
    /// Images per step, instead of the recipe's; the learning rate is not scaled
    #[arg(long)]
    batch: Option<usize>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Unset: all; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Width multiplier
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Stride of the first convolution
    #[arg(long, default_value_t = 2)]
    stem_stride: usize,
    /// Inverse of the identity tensor multiplier
    #[arg(long)]
    identity_div: Option<usize>,
    /// Outputs of the classifier; unset: the data set's classes
    #[arg(long)]
    classes: Option<usize>,
    /// Height and width of the network's input; unset: the images' own
    #[arg(long)]
    input: Option<usize>,
    /// Hold this many training images back, chosen by seed, and report on them instead of the validation images: for
    /// every decision about a recipe
    #[arg(long, value_name = "IMAGES")]
    dev: Option<usize>,
    /// Seconds between savings within an epoch
    #[arg(long, default_value_t = 60.0)]
    save_every: f64,
    /// In the end, one JSON object on stdout: the checkpoint, and which images were read
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut network = match args.network.parse::<NetworkConfig>() {
        Err(error @ ModelError::IsDetector(_)) => bail!("{error}; sandglass run voc trains detectors"),
        network => network?,
    };
    keep_data(&args.data, &args.out)?;
    let mut training = sandglass_data::open(&args.data, Part::Train, args.classes)?;
    network.width = args.width;
    network.stem_stride = args.stem_stride;
    network.identity_div = args.identity_div.unwrap_or(network.identity_div);
    network.classes = args.classes.unwrap_or(training.classes().len());
    // Before any list has as many entries as it is said to have outputs.
    super::ensure_held(&network)?;

    check_largest_label(&training, args.classes)?;

    let mut evaluation = match args.dev {
        None => match sandglass_data::open_validation(&args.data, args.classes, &training) {
            Ok(set) => Some(set),
            Err(error @ DataError::NoPart { .. }) => {
                note(&format!("{error}; nothing is evaluated"));
                None
            }
            Err(error) => return Err(error.into()),
        },
        Some(count) => {
            let (rest, development) = training.split(count, args.seed)?;
            training = rest;
            Some(development)
        }
    };
    if evaluation.as_ref().is_some_and(|set| set.hash() == training.hash()) {
        note(&format!("{}: its validation images are its training images; nothing is evaluated", training.name()));
        evaluation = None;
    }
    let read = |what: &str, set: &Dataset| {
        note(&format!("{what}: {}", set.listing_for(network.classes)));
        if let Some(place) = set.path() {
            note(&format!("{what} from: {}", place.display()));
        }
        note(&format!("{what} part: {}", set.part_listing()));
        if let Some(column) = set.label_column() {
            note(&format!("{what} labels: by {} in column {column}", set.labels_by()));
        }
    };
    read("training", &training);
    // Large sets are not read for this.
    if let Some(set) = evaluation.as_ref().filter(|set| set.knows_bytes() && training.knows_bytes()) {
        match set.shared_with(&training)? {
            0 => {}
            count => note(&format!("{count} of the images that are evaluated are training images too")),
        }
    }
    if let Some(set) = &evaluation {
        read(if args.dev.is_some() { "development" } else { "validation" }, set);
    }

    let mut recipe = match &args.recipe {
        Some(path) => read_recipe(path)?,
        None => {
            let name = default_recipe(&training);
            note(&format!("recipe {name}, by the size of the images; --recipe chooses another"));
            read_recipe(Path::new(name))?
        }
    };
    recipe.epochs = args.epochs.unwrap_or(recipe.epochs);
    recipe.batch = args.batch.unwrap_or(recipe.batch);

    let task = Classification { network, input: args.input, protocol: Protocol::default() };
    let config = TrainConfig {
        recipe,
        seed: args.seed,
        threads: args.threads.unwrap_or_else(default_threads),
        out: args.out,
        save_every: Duration::try_from_secs_f64(args.save_every).context("--save-every")?,
        evaluate_every: 1,
        commit: super::build().named(),
    };
    // Until here there is nothing to save, and a signal ends the program as usual.
    let signal = Signal::listen()?;
    let mut bar = Bar::new();
    let trained = sandglass_train::train(&task, &config, &training, evaluation.as_ref(), &mut bar, signal.stop());
    bar.0.finish_and_clear();
    let trained = trained?;
    if trained.outcome != Outcome::Stopped {
        card(&task, &training).write(&trained.model)?;
    }
    let elsewhere = evaluated_elsewhere(&trained.log, evaluation.as_ref());
    if let (Some(first), Some(last)) = (elsewhere.first(), elsewhere.last()) {
        note(&format!(
            "epochs {first} to {last} were evaluated on other images than these: log.jsonl has their hashes"
        ));
    }
    let sets = json!({
        "model": trained.model.display().to_string(),
        "training": super::data_json(&training, network.classes),
        "evaluated": evaluation.as_ref().map(|set| super::data_json(set, network.classes)),
        "epochs_evaluated_on_others": elsewhere,
    });
    match trained.outcome {
        Outcome::Finished | Outcome::AlreadyFinished if args.json => writeln!(io::stdout(), "{sets}")?,
        Outcome::Finished => writeln!(io::stdout(), "{}", trained.model.display())?,
        Outcome::AlreadyFinished => writeln!(io::stdout(), "{}: finished before", trained.model.display())?,
        Outcome::Stopped => {
            note(&format!("{}: saved; the same command resumes", config.out.display()));
            // As shells say it.
            return Ok(ExitCode::from(128 + signal.number() as u8));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Epochs whose row of the log is not of `evaluation`: a run may go on, or be asked for again, when that part has changed.
fn evaluated_elsewhere(log: &[LogRow], evaluation: Option<&Dataset>) -> Vec<u64> {
    let is_other =
        |row: &&LogRow| row.evaluated_hash.as_deref().is_some_and(|hash| Some(hash) != evaluation.map(Dataset::hash));
    log.iter().filter(is_other).map(|row| row.epoch).collect()
}

/// One damaged label would make the classifier: numbers that nobody names are classes up to the largest.
fn check_largest_label(training: &Dataset, classes: Option<usize>) -> anyhow::Result<()> {
    let outputs = training.classes().len();
    let empty = training.without_image(outputs).len();
    let largest = (0..training.len()).max_by_key(|&index| training.label(index)).unwrap_or(0);
    ensure!(
        classes.is_some() || training.names_classes() || 2 * empty <= outputs,
        "{}: the label {} of {} makes {outputs} classes, and {empty} of them have no image: where that is meant, say \
         --classes {outputs}",
        training.name(),
        training.label(largest),
        training.image_name(largest)
    );
    Ok(())
}

/// Files of a run among the images would be files of the set.
fn keep_data(data: &str, out: &Path) -> anyhow::Result<()> {
    let place = |path: &Path| path.canonicalize().ok();
    let is_data = place(Path::new(data)).is_some_and(|data| place(out) == Some(data));
    anyhow::ensure!(!is_data, "--out {}: is the folder of the images: name one of its own", out.display());
    Ok(())
}

/// What `eval` needs to know of the checkpoint.
fn card(task: &Classification, training: &Dataset) -> Card {
    let network = &task.network;
    Card {
        sha256: None,
        network: network.to_string(),
        width: network.width,
        stem_stride: network.stem_stride,
        input: task.input.or(training.size().filter(|(height, width)| height == width).map(|(side, _)| side)),
        classes: Some(training.output_names(network.classes)),
        assumed: Vec::new(),
        evaluation: task.protocol.clone(),
    }
}

/// A line on stderr; a run does not end because nobody reads it any more.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A file; where there is none of that name, a recipe that comes with the program.
fn read_recipe(path: &Path) -> anyhow::Result<Recipe> {
    let text = match path.to_str().and_then(Recipe::built_in) {
        Some(text) if !path.exists() => text.to_string(),
        _ => sandglass_files::read_text(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let names: Vec<_> = Recipe::built_in_names().collect();
                let place = path.display();
                anyhow::Error::from(error).context(format!("{place}: neither a file nor one of {}", names.join(", ")))
            }
            _ => anyhow::Error::from(error).context(path.display().to_string()),
        })?,
    };
    Recipe::from_toml(&text).with_context(|| path.display().to_string())
}

fn default_recipe(set: &Dataset) -> &'static str {
    match set.size() {
        _ if set.synthetic() => "smoke",
        Some((height, _)) if height <= 32 => "cifar10",
        Some((height, _)) if height <= 64 => "tiny-imagenet",
        _ => "imagenet",
    }
}

/// Steps of the whole run, with rate and remaining time; drawn on a terminal only. Epochs are lines on stderr.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Observer for Bar {
    fn started(&mut self, at: &Progress) {
        let steps = at.steps as u64;
        self.0.set_length(at.epochs * steps);
        self.0.set_position(at.epoch * steps + at.step as u64);
        self.0.reset_eta();
        if at.epoch > 0 || at.step > 0 {
            self.0.suspend(|| note(&format!("resumes at epoch {}, step {}", at.epoch + 1, at.step + 1)));
        }
    }

    fn step(&mut self, at: &Progress) {
        self.0.set_position(at.epoch * at.steps as u64 + at.step as u64);
        let rate = self.0.per_sec() * at.batch as f64;
        let (epoch, epochs, loss) = (at.epoch + 1, at.epochs, at.loss);
        self.0.set_message(format!("epoch {epoch}/{epochs}, loss {loss:.3}, {rate:.0} images/s"));
    }

    fn epoch(&mut self, row: &LogRow) {
        let LogRow { epoch, train_loss, train_top1, images_per_s, .. } = row;
        let mut line = format!("epoch {epoch}: loss {train_loss:.4}");
        if let Some(top1) = train_top1 {
            line += &format!(", train {top1:.2} %");
        }
        if let (Some(set), Some(top1)) = (&row.evaluated, row.eval_top1) {
            line += &format!(", evaluated {top1:.2} % ({set})");
        }
        self.0.suspend(|| note(&format!("{line}, {images_per_s:.0} images/s")));
    }
}
