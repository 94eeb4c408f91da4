//! `sandglass eval`: a classifier's accuracy on images, or a detector's average precision.

mod detector;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use sandglass_data::{Dataset, IMAGENET, Loader, Part, Protocol, Shared, Split, Transform, imagenet_label};
use sandglass_lab::{BATCH, Card, EngineName, default_threads, score_model};
use sandglass_models::{DetectorConfig, DetectorName, NetworkConfig};
use sandglass_ops::Runtime;
use sandglass_quant::Model;
use sandglass_train::{Score, TrainError, evaluate};
use serde_json::{Value, json};

use super::PlacedCard;
use super::detect::network::{DetectorArgs, DetectorEngine};
use super::protocol::{self, Chosen, ProtocolArgs};
use super::shape::{self, ShapeArgs};
use super::weights::{Loaded, WeightsArgs};
use detector::DetectorEval;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2; or detector, such as ssdlite_mobilenext
    #[arg(long)]
    model: String,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Folder of CLASS/*.JPEG, val/CLASS/*.JPEG or parquet; a name below a data root; or embedded. Images are found at any
    /// depth below a class, and are not turned as their EXIF asks; classes that have names must be the classifier's where it
    /// names them (1000 outputs are ImageNet's), else as many. The validation part is scored; of parquet that has none, the test
    /// part. For a detector: a year of a
    /// VOCdevkit as a folder or in a .tar, such as VOCdevkit/VOC2007, or embedded
    #[arg(long)]
    data: String,
    /// Of classes that are called by numbers and no card lists: as text, as torchvision sorts folders (0, 1, 10, 2), or by number
    /// (0, 1, 2, 10)
    #[arg(long, value_enum)]
    class_order: Option<ClassOrder>,
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

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ClassOrder {
    Text,
    Number,
}

/// What is scored.
enum Subject {
    Float(Loaded),
    /// With its padding.
    Quantised(NetworkConfig, Model, &'static str),
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Of names that start so, the message lists detectors.
    if args.model.starts_with("ssd") {
        args.model.parse::<DetectorConfig>()?;
    }
    if args.model.parse::<DetectorName>().is_ok() {
        return detector(args)?.run();
    }
    ensure!(args.split.is_none(), "--split is of a detector's data");
    let placed = PlacedCard::of(&args.weights.weights)?;
    let card = placed.as_ref().map(|of| &of.card);
    let config = args.shape.network(&args.model, &args.weights.weights, card)?;
    let Chosen { input, protocol, padding, mut assumed, mut overruled } = args.protocol.chosen(card)?;
    let subject = match sandglass_quant::is_quantised(&args.weights.weights) {
        true => {
            let (network, config, padding) = args.weights.quantised(config, padding)?;
            Subject::Quantised(config, Model::Integer(network), padding)
        }
        false => Subject::Float(PlacedCard::shaped(placed.as_ref(), args.weights.load(config, padding))?),
    };
    if let (Some(_), Subject::Float(loaded)) = (card, &subject) {
        overruled.extend(loaded.overruled());
    }
    if card.is_none() && matches!(subject, Subject::Float(_)) {
        assumed.splice(0..0, args.shape.assumed(subject.config()));
    }
    let engine = subject.engine(args.engine)?;
    let classes = subject.config().classes;
    args.weights.check_outputs(card, classes)?;
    let set = args.weights.open(&args.data, Part::Scored, card, classes)?;
    let shared = sandglass_data::shared_with_training(&args.data, &set)?;
    let set = in_order(set, args.class_order, card.is_some_and(|card| card.classes.is_some()), classes)?;
    let labels = Labels::of(&set, card, classes);
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

    let hint = match &subject {
        Subject::Float(loaded) => loaded.hint(&assumed),
        Subject::Quantised(..) => None,
    };
    let report = Report {
        score,
        hint,
        weights: args.weights.weights.clone(),
        subject,
        background: args.weights.background,
        set,
        shared,
        labels,
        protocol,
        transform,
        engine,
        card: placed,
        assumed,
        overruled,
    };
    if args.json {
        writeln!(io::stdout(), "{}", report.as_json())?;
    } else {
        write!(io::stdout(), "{}", report.as_text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a classifier is asked and a detector is not is refused, not passed over.
fn detector(args: Args) -> anyhow::Result<DetectorEval> {
    let Some(width) = args.shape.of_detector() else { bail!("{} has the stem and the blocks it has", args.model) };
    ensure!(args.class_order.is_none(), "--class-order is of a classifier's data");
    let engine = match args.engine {
        None => None,
        Some(EngineName::Infer) => Some(DetectorEngine::Infer),
        Some(other) => bail!("--engine {other}: a detector is scored by infer"),
    };
    let (weights, state) = args.weights.of_detector()?;
    let detector = DetectorArgs {
        model: Some(args.model),
        width,
        weights,
        state,
        input: args.protocol.of_detector()?,
        engine,
        threads: args.threads,
    };
    Ok(DetectorEval { detector, data: args.data, split: args.split.unwrap_or(Split::Test), json: args.json })
}

/// Numbers for names: where no card lists them, nobody but the user knows how they were sorted when the network was trained.
fn in_order(set: Dataset, order: Option<ClassOrder>, has_card: bool, outputs: usize) -> anyhow::Result<Dataset> {
    match (set.is_out_of_number_order(), order) {
        (false, None) => Ok(set),
        (true, None) if has_card => Ok(set),
        (true, None) => bail!(
            "{}: its classes are called by numbers, and as text 10 comes before 2: nothing says which of the two orders \
             the classifier's outputs have; --class-order text (as torchvision sorts folders) or number does",
            set.name()
        ),
        (_, Some(_)) if has_card => bail!("--class-order: the card beside the checkpoint lists its classes"),
        (_, Some(_)) if !set.is_called_by_numbers() => bail!(
            "--class-order: the classes of {} are not called by numbers, and its labels are taken by {}",
            set.name(),
            set.labels_by()
        ),
        (_, Some(ClassOrder::Text)) => Ok(set.by_text(outputs)?),
        (_, Some(ClassOrder::Number)) => Ok(set.by_number()),
    }
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
            Self::Quantised(_, model, padding) => {
                let saturate = matches!(model, Model::Integer(network) if network.scheme().saturate);
                json!({ "quantised": true, "padding": padding, "saturate": saturate })
            }
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

/// A line that says so where the true class is always among the first five.
fn few_outputs(outputs: usize) -> String {
    match outputs {
        0..=5 => format!("top-5 says nothing of a classifier whose outputs are {outputs}\n"),
        _ => String::new(),
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
            true if card.is_some_and(|card| card.classes.as_deref() == Some(set.classes())) => Self::Card,
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
        let column = set.label_column().map_or_else(String::new, |column| format!(" in column {column}"));
        let by = format!("{}{column}", set.labels_by());
        match self {
            Self::Card => format!("by {by}, as the card beside the checkpoint has them"),
            Self::ImageNet => format!("by {by}, as ImageNet's classes, for the classifier has {IMAGENET} outputs"),
            Self::Count if !set.names_classes() => format!("by {by}: the set names no classes"),
            Self::Count => {
                let order = if set.is_sorted_by_bytes_alone() { " (by bytes: capitals first, marks last)" } else { "" };
                format!(
                    "by place in the set's own order, which is by {by}{order}: the classifier names no classes, so their \
                     number alone was compared"
                )
            }
        }
    }
}

/// What was scored, on what, and how.
struct Report {
    score: Score,
    subject: Subject,
    /// The output that was left out.
    background: Option<usize>,
    set: Dataset,
    /// Images of the set that are training images too.
    shared: Shared,
    labels: Labels,
    protocol: Protocol,
    transform: Transform,
    engine: EngineName,
    /// The checkpoint's.
    card: Option<PlacedCard>,
    /// What is at its default, for neither arguments, card nor weights say it.
    assumed: Vec<&'static str>,
    /// What the arguments say otherwise than the card.
    overruled: Vec<&'static str>,
    /// What others do with such weights, where that is left to the defaults.
    hint: Option<&'static str>,
    /// The checkpoint's file.
    weights: PathBuf,
}

impl Report {
    fn as_json(&self) -> Value {
        let Self { score, subject, set, labels, protocol, transform, engine, card, assumed, overruled, .. } = self;
        let config = subject.config();
        let mut json = json!({
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
            "sorted_by_bytes_alone": set.is_sorted_by_bytes_alone(),
            "part": set.part(),
            "place": super::place_json(set),
            "hint": self.hint,
            "beside_not_read": if card.is_some() { Vec::new() } else { super::beside(&self.weights) },
            "also_in_training": match &self.shared {
                Shared::NoTraining | Shared::Unknown(_) => None,
                Shared::Images(count) => Some(count),
            },
            "not_compared_with_training": match &self.shared {
                Shared::NoTraining | Shared::Images(_) => None,
                Shared::Unknown(reason) => Some(reason),
            },
            "synthetic": set.synthetic(),
            "weights": subject.as_json(),
            "incomplete": subject.incomplete(),
            "background": self.background,
            "assumed": assumed,
            "overruled": overruled,
            "engine": engine.to_string(),
            "protocol": protocol::as_json(protocol, transform.size(), transform.short()),
        });
        super::extend(&mut json, PlacedCard::as_json(card.as_ref()));
        super::extend(&mut json, super::remarks_json(set, config.classes));
        json
    }

    fn as_text(&self) -> String {
        let Self { score, subject, set, labels, protocol, transform, engine, .. } = self;
        let config = subject.config();
        let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
        let head = format!("{config} {} on {}{synthetic}, engine {engine}\n", config.width, set.name());
        let line = |name: &str, percent: f64, count: u64| format!("{name}  {percent:6.2} %  {count} of {}\n", score.n);
        head + &line("top-1", score.top1(), score.top1_count)
            + &line("top-5", score.top5(), score.top5_count)
            + &few_outputs(config.classes)
            + &format!(
                "{}data: {}\npart: {}{}\n",
                super::place_text(set),
                set.listing_for(config.classes),
                set.part_listing(),
                self.shared_text()
            )
            + &format!("labels: {}\n{}\n", labels.as_text(set), subject.as_text())
            + &format!("{}\n", protocol::as_text(protocol, transform.size(), transform.short()))
            + &self.taken()
    }

    fn shared_text(&self) -> String {
        match &self.shared {
            Shared::NoTraining | Shared::Images(0) => String::new(),
            Shared::Images(count) => format!("; {count} of its images are training images too"),
            Shared::Unknown(reason) => format!("; not compared with the training images: {reason}"),
        }
    }

    /// What was taken that no tensor tells, and from where.
    fn taken(&self) -> String {
        let network = shape::as_text(self.subject.config());
        let card = super::card_text(self.card.as_ref(), &self.weights, &self.assumed, &self.overruled);
        let card = card + &self.hint.map_or_else(String::new, |hint| format!("; {hint}"));
        match self.subject.incomplete().as_slice() {
            [] => format!("{network}\n{card}\n"),
            beside => {
                format!("beside these weights, not whole and not taken: {}\n{network}\n{card}\n", beside.join(", "))
            }
        }
    }
}
