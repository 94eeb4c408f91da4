//! `sandglass eval`: a checkpoint's accuracy on images.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use sandglass_data::{Dataset, Loader, Part, Protocol, Transform};
use sandglass_lab::{Card, EngineName, default_threads, score_model};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{Graph, NetworkConfig, Weights};
use sandglass_ops::Runtime;
use sandglass_quant::Model;
use sandglass_train::{Score, TrainError, evaluate};
use serde_json::{Value, json};

const BATCH: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
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
    /// Height and width of the network's input; unset: 224 for 1000 classes, else the images' own
    #[arg(long)]
    input: Option<usize>,
    /// Checkpoint: .safetensors, quantised or not, or .pth
    #[arg(long)]
    weights: PathBuf,
    /// Folder of CLASS/*.JPEG, val/CLASS/*.JPEG or parquet; a name below a data root; or embedded
    #[arg(long)]
    data: String,
    /// What computes the logits: train (the engine that trains) or infer (a compiled plan)
    #[arg(long, default_value_t, value_name = "ENGINE")]
    engine: EngineName,
    /// Threads; unset: all
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What is scored.
enum Subject {
    Float(Graph, Weights),
    Quantised(Model),
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // What was trained here is scored as its study scores it, unless asked otherwise.
    let card = Card::read(&args.weights)?;
    let mut config = network(&args, card.as_ref())?;

    let subject = if sandglass_quant::is_quantised(&args.weights) {
        let (quantised, facts) = sandglass_quant::load(&args.weights)?;
        config.classes = facts.classes;
        let same = config.to_string() == facts.network
            && (config.width, config.stem_stride) == (facts.width, facts.stem_stride);
        let of = format!("{} {} with stem stride {}", facts.network, facts.width, facts.stem_stride);
        anyhow::ensure!(same, "{}: a quantised {of}, not {config} {}", args.weights.display(), config.width);
        Subject::Quantised(Model::Integer(quantised))
    } else {
        let mut checkpoint = Checkpoint::open(&args.weights)?;
        config.classes = checkpoint.classes(config.name)?;
        let network = config.build()?;
        let weights = checkpoint.weights(network.tensors())?;
        Subject::Float(network, weights)
    };

    let set = sandglass_data::open(&args.data, Part::Validation, Some(config.classes))?;
    if let Some(card) = &card {
        card.check(&args.weights, &set)?;
    }
    let (input, protocol) = protocol(&args, card);
    let transform = Transform::evaluation(&set, config.classes, input, &protocol)?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let size = transform.size();
    let runtime = Arc::new(Runtime::new(threads)?);
    let loader = Loader::evaluation(&set, transform, BATCH, threads);
    let score = match subject {
        Subject::Float(network, weights) => {
            let mut engine = args.engine.compile(runtime, &network, weights, size, BATCH)?;
            evaluate(&mut engine, &loader).map_err(|error| match error {
                TrainError::Logits => anyhow::Error::from(error).context(args.weights.display().to_string()),
                error => error.into(),
            })
        }
        Subject::Quantised(model) => score_model(&model, &runtime, &loader).map_err(anyhow::Error::from),
    };
    // A set that is streamed stops at its first broken image: name them all.
    let score = score.or_else(|error| set.verify().map_err(anyhow::Error::from).and(Err(error)))?;

    if args.json {
        writeln!(io::stdout(), "{}", as_json(&score, &config, &set, args.engine))?;
    } else {
        write!(io::stdout(), "{}", as_text(&score, &config, &set, args.engine))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The network to build. Stride and identity divisor change no tensor's shape, so a wrong one would give a wrong score and
/// no error: where a card knows them, they are its.
fn network(args: &Args, card: Option<&Card>) -> anyhow::Result<NetworkConfig> {
    let mut config: NetworkConfig = args.model.parse()?;
    config.identity_div = args.identity_div.unwrap_or(config.identity_div);
    config.width = args.width.or(card.map(|card| card.width)).unwrap_or(config.width);
    config.stem_stride = args.stem_stride.or(card.map(|card| card.stem_stride)).unwrap_or(config.stem_stride);
    if let Some(card) = card {
        let same =
            config.to_string() == card.network && (config.width, config.stem_stride) == (card.width, card.stem_stride);
        let asked = format!("{config} {:?} with stem stride {}", config.width, config.stem_stride);
        let of = format!("{} {:?} with stem stride {}", card.network, card.width, card.stem_stride);
        anyhow::ensure!(same, "{}: is of {of}, not {asked}", Card::beside(&args.weights).display());
    }
    Ok(config)
}

/// Mean, standard deviation and filter belong to the weights; the resize to the input that it was stated for.
fn protocol(args: &Args, card: Option<Card>) -> (Option<usize>, Protocol) {
    let Some(card) = card else { return (args.input, Protocol::default()) };
    let input = args.input.or(card.input);
    if input == card.input {
        return (input, card.evaluation);
    }
    let _ = writeln!(io::stderr(), "scored at another input than the checkpoint's card states: its resize is left out");
    (input, Protocol { resize: None, ..card.evaluation })
}

fn as_json(score: &Score, config: &NetworkConfig, set: &Dataset, engine: EngineName) -> Value {
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
        "data": set.name(),
        "data_hash": set.hash(),
        "synthetic": set.synthetic(),
        "engine": engine.to_string(),
    })
}

fn as_text(score: &Score, config: &NetworkConfig, set: &Dataset, engine: EngineName) -> String {
    let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
    let head = format!("{config} {} on {}{synthetic}, engine {engine}\n", config.width, set.name());
    let line = |name: &str, percent: f64, count: u64| format!("{name}  {percent:6.2} %  {count} of {}\n", score.n);
    head + &line("top-1", score.top1(), score.top1_count) + &line("top-5", score.top5(), score.top5_count)
}
