//! `sandglass eval`: a classifier's accuracy on images, or a detector's average precision.

mod detector;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{bail, ensure};
use sandglass_data::{Dataset, Filter, IMAGENET, Loader, Part, Protocol, Split, Transform, imagenet_label};
use sandglass_lab::{BATCH, Card, EngineName, default_threads, score_model};
use sandglass_models::{DetectorName, NetworkConfig};
use sandglass_ops::Runtime;
use sandglass_quant::Model;
use sandglass_train::{Score, TrainError, evaluate};
use serde_json::{Value, json};

use super::detect::network::{DetectorArgs, DetectorEngine};
use super::protocol::{self, Chosen, ProtocolArgs};
use super::weights::{Loaded, WeightsArgs};
use detector::DetectorEval;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2; or detector, such as ssdlite_mobilenext
    #[arg(long)]
    model: String,
    /// Width multiplier; unset: that of the card beside the checkpoint, or 1.0
    #[arg(long)]
    width: Option<f64>,
    /// Stride of the first convolution; unset: that of the card beside the checkpoint, or 2
    #[arg(long)]
    stem_stride: Option<usize>,
    /// Inverse of the identity tensor multiplier
    #[arg(long)]
    identity_div: Option<usize>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Folder of CLASS/*.JPEG, val/CLASS/*.JPEG or parquet; a name below a data root; or embedded. Images are found at any
    /// depth below a class, and are not turned as their EXIF asks; classes that have names must be the classifier's where it
    /// names them (1000 outputs are ImageNet's), else as many. For a detector: a year of a
    /// VOCdevkit as a folder or in a .tar, such as VOCdevkit/VOC2007, or embedded
    #[arg(long)]
    data: String,
    /// Of a detector's data: train, val, trainval or test; unset: test
    #[arg(long)]
    split: Option<Split>,
    /// What computes the logits: train (the engine that trains), infer (a compiled plan) or int8 (a compiled plan of a
    /// quantised checkpoint's integers); unset: train, for a detector infer, and for a quantised checkpoint int8
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineName>,
    /// Threads; unset: all
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What is scored.
enum Subject {
    Float(Loaded),
    /// With its padding.
    Quantised(NetworkConfig, Model, &'static str),
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.model.parse::<DetectorName>().is_ok() {
        return detector(args)?.run();
    }
    ensure!(args.split.is_none(), "--split is of a detector's data");
    let card = Card::read(&args.weights.weights)?;
    let config = network(&args, card.as_ref())?;
    let Chosen { input, protocol, padding, mut assumed } = args.protocol.chosen(card.clone())?;
    let subject = match sandglass_quant::is_quantised(&args.weights.weights) {
        true => {
            let (network, config, padding) = args.weights.quantised(config, padding)?;
            Subject::Quantised(config, Model::Integer(network), padding)
        }
        false => Subject::Float(args.weights.load(config, padding)?),
    };
    if card.is_none() && matches!(subject, Subject::Float(_)) {
        let stem_stride = args.stem_stride.is_none().then_some("stem_stride");
        let is_open = config.name.has_identity_div() && config.identity_div == 1 && args.identity_div.is_none();
        let identity_div = is_open.then_some("identity_div");
        assumed.splice(0..0, stem_stride.into_iter().chain(identity_div));
    }
    let engine = subject.engine(args.engine)?;
    let classes = subject.config().classes;
    if let Some(card) = &card {
        card.check_outputs(&args.weights.weights, classes)?;
    }
    let set = match &card {
        Some(card) => sandglass_data::open_named(&args.data, Part::Scored, &card.classes),
        None => sandglass_data::open(&args.data, Part::Scored, Some(classes)),
    };
    let set = args.weights.with_hint(classes, set.and_then(|set| set.check_classes(classes).map(|()| set)))?;
    args.weights.check_background(classes, set.names_classes())?;
    sandglass_data::check_parts_differ(&args.data)?;
    if let Some(card) = &card {
        card.check(&args.weights.weights, &set)?;
    }
    let labels = Labels::of(&set, card.as_ref(), classes);
    let transform = Transform::evaluation(&set, classes, input, &protocol)?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let runtime = Arc::new(Runtime::new(threads)?);
    let loader = Loader::evaluation(&set, transform.clone(), BATCH, threads);
    let score = match &subject {
        Subject::Float(loaded) => {
            let (graph, weights) = (&loaded.graph, loaded.weights.clone());
            let mut engine = engine.compile(runtime, graph, weights, transform.size(), BATCH)?;
            evaluate(&mut engine, &loader).map_err(|error| match error {
                TrainError::Logits => anyhow::Error::from(error).context(args.weights.place()),
                error => error.into(),
            })
        }
        Subject::Quantised(_, model, _) => {
            score_model(model, &runtime, loader.size(), loader.epoch(0, 0)).map_err(anyhow::Error::from)
        }
    };
    // A set that is streamed stops at its first broken image: name them all.
    let score = score.or_else(|error| set.verify().map_err(anyhow::Error::from).and(Err(error)))?;

    let card = Card::find(&args.weights.weights);
    let report = Report { score, subject, set, labels, protocol, transform, engine, card, assumed };
    if args.json {
        writeln!(io::stdout(), "{}", report.as_json())?;
    } else {
        write!(io::stdout(), "{}", report.as_text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a classifier is asked and a detector is not is refused, not passed over.
fn detector(args: Args) -> anyhow::Result<DetectorEval> {
    ensure!(
        args.stem_stride.is_none() && args.identity_div.is_none(),
        "{} has the stem and the blocks it has",
        args.model
    );
    let engine = match args.engine {
        None => None,
        Some(EngineName::Infer) => Some(DetectorEngine::Infer),
        Some(other) => bail!("--engine {other}: a detector is scored by infer"),
    };
    let (weights, state) = args.weights.of_detector()?;
    let detector = DetectorArgs {
        model: Some(args.model),
        width: args.width,
        weights,
        state,
        input: args.protocol.of_detector()?,
        engine,
        threads: args.threads,
    };
    Ok(DetectorEval { detector, data: args.data, split: args.split.unwrap_or(Split::Test), json: args.json })
}

/// The network to build. Stride and identity divisor change no tensor's shape, so a wrong one would give a wrong score and
/// no error: where a card knows them, they are its.
fn network(args: &Args, card: Option<&Card>) -> anyhow::Result<NetworkConfig> {
    let mut config: NetworkConfig = args.model.parse()?;
    config.identity_div = args.identity_div.unwrap_or(config.identity_div);
    config.width = args.width.or(card.map(|card| card.width)).unwrap_or(config.width);
    config.stem_stride = args.stem_stride.or(card.map(|card| card.stem_stride)).unwrap_or(config.stem_stride);
    if let Some(card) = card {
        card.check_network(&args.weights.weights, &config)?;
    }
    Ok(config)
}

impl Subject {
    /// What scores it: what was asked for, if it can.
    fn engine(&self, asked: Option<EngineName>) -> anyhow::Result<EngineName> {
        match (self, asked) {
            (Self::Float(_), Some(EngineName::Int8)) => {
                bail!("--engine int8: these weights are not quantised; `sandglass quantise` makes a checkpoint that is")
            }
            (Self::Float(_), asked) => Ok(asked.unwrap_or_default()),
            (Self::Quantised(..), None | Some(EngineName::Int8)) => Ok(EngineName::Int8),
            (Self::Quantised(..), Some(other)) => bail!("--engine {other}: a quantised checkpoint is scored by int8"),
        }
    }

    fn config(&self) -> &NetworkConfig {
        match self {
            Self::Float(loaded) => &loaded.config,
            Self::Quantised(config, ..) => config,
        }
    }

    /// What the checkpoint holds beside what is scored.
    fn incomplete(&self) -> Vec<String> {
        match self {
            Self::Float(loaded) => loaded.incomplete(),
            Self::Quantised(..) => Vec::new(),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Self::Float(loaded) => loaded.as_json(),
            Self::Quantised(.., padding) => json!({ "quantised": true, "padding": padding }),
        }
    }

    fn as_text(&self) -> String {
        match self {
            Self::Float(loaded) => loaded.as_text(),
            Self::Quantised(_, Model::Integer(network), padding) if network.scheme().saturate => {
                format!(
                    "weights: quantised, integers throughout, which saturate as its scheme has it, {padding} padding"
                )
            }
            Self::Quantised(.., padding) => format!("weights: quantised, integers throughout, {padding} padding"),
        }
    }
}

/// What the set's labels were compared with: a classifier without names has outputs, and no classes.
#[derive(Clone, Copy)]
enum Labels {
    /// The names in the card beside the checkpoint.
    Card,
    /// ImageNet's, which 1000 outputs are taken for.
    ImageNet,
    /// The number of the outputs.
    Count,
}

impl Labels {
    fn of(set: &Dataset, card: Option<&Card>, outputs: usize) -> Self {
        match set.names_classes() {
            true if card.is_some_and(|card| card.classes == set.classes()) => Self::Card,
            true if outputs == IMAGENET && set.classes().iter().all(|class| imagenet_label(class).is_some()) => {
                Self::ImageNet
            }
            _ => Self::Count,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::ImageNet => "imagenet",
            Self::Count => "count",
        }
    }

    fn as_text(self, set: &Dataset) -> String {
        let by = set.labels_by();
        match self {
            Self::Card => format!("by {by}, as the card beside the checkpoint has them"),
            Self::ImageNet => format!("by {by}, as ImageNet's classes, for the classifier has {IMAGENET} outputs"),
            Self::Count if !set.names_classes() => format!("by {by}: the set names no classes"),
            Self::Count => format!(
                "by {by}, in the set's own order: the classifier names no classes, so their number alone was compared"
            ),
        }
    }
}

/// What was scored, on what, and how.
struct Report {
    score: Score,
    subject: Subject,
    set: Dataset,
    labels: Labels,
    protocol: Protocol,
    transform: Transform,
    engine: EngineName,
    /// Where the checkpoint's card lies.
    card: Option<PathBuf>,
    /// What is at its default, for neither arguments, card nor weights say it.
    assumed: Vec<&'static str>,
}

impl Report {
    fn as_json(&self) -> Value {
        let Self { score, subject, set, labels, protocol, transform, engine, card, assumed } = self;
        let config = subject.config();
        json!({
            "top1": score.top1(),
            "top5": score.top5(),
            "top1_count": score.top1_count,
            "top5_count": score.top5_count,
            "n": score.n,
            "cross_entropy": score.loss,
            "network": config.to_string(),
            "width": config.width,
            "classes": config.classes,
            "stem_stride": config.stem_stride,
            "identity_div": config.identity_div,
            "data": set.name(),
            "data_hash": set.hash(),
            "data_classes": set.class_count(),
            "labels": format!("by {}", set.labels_by()),
            "labels_compared_with": labels.word(),
            "passed_over": set.passed_over(),
            "part": set.part(),
            "beside": set.beside(),
            "orientation_tags": set.turned(),
            "synthetic": set.synthetic(),
            "weights": subject.as_json(),
            "incomplete": subject.incomplete(),
            "card": card.as_ref().map(|card| card.display().to_string()),
            "assumed": assumed,
            "engine": engine.to_string(),
            "protocol": protocol::as_json(protocol, transform.size(), transform.short()),
        })
    }

    fn as_text(&self) -> String {
        let Self { score, subject, set, labels, protocol, transform, engine, .. } = self;
        let config = subject.config();
        let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
        let head = format!("{config} {} on {}{synthetic}, engine {engine}\n", config.width, set.name());
        let line = |name: &str, percent: f64, count: u64| format!("{name}  {percent:6.2} %  {count} of {}\n", score.n);
        let (height, width) = transform.size();
        let resize = transform.short().map_or("images as they are".to_owned(), |short| {
            format!(
                "resize {short} {}",
                if protocol.interpolation == Filter::Bilinear { "bilinear" } else { "bicubic" }
            )
        });
        head + &line("top-1", score.top1(), score.top1_count)
            + &line("top-5", score.top5(), score.top5_count)
            + &format!("data: {}\npart: {}\n", set.listing(), set.part_listing())
            + &format!("labels: {}\n{}\n", labels.as_text(set), subject.as_text())
            + &format!(
                "protocol: {resize}, input {height} x {width}, mean {:?}, std {:?}\n",
                protocol.mean, protocol.std
            )
            + &self.taken()
    }

    /// What was taken that no tensor tells, and from where.
    fn taken(&self) -> String {
        let config = self.subject.config();
        let mut network = format!("network: stem stride {}", config.stem_stride);
        if config.name.has_identity_div() {
            network += &format!(", identity divisor {}", config.identity_div);
        }
        let card = match &self.card {
            Some(card) => format!("card: {}", card.display()),
            None if self.assumed.is_empty() => "no card beside the weights".to_owned(),
            None => format!("no card beside the weights: at their defaults are {}", self.assumed.join(", ")),
        };
        match self.subject.incomplete().as_slice() {
            [] => format!("{network}\n{card}\n"),
            beside => {
                format!("beside these weights, not whole and not taken: {}\n{network}\n{card}\n", beside.join(", "))
            }
        }
    }
}
