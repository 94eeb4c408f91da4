//! `sandglass eval`: a checkpoint's accuracy on images.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use sandglass_data::{Dataset, Filter, Loader, Part, Protocol, Transform};
use sandglass_lab::{Card, default_threads};
use sandglass_models::NetworkConfig;
use sandglass_ops::Runtime;
use sandglass_train::{Engine, Score, TrainError, evaluate};
use serde_json::{Value, json};

use super::protocol::{self, Chosen, ProtocolArgs};
use super::weights::{Loaded, WeightsArgs};

const BATCH: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// Network, such as mobilenetv2 or mobilenext_div2
    #[arg(long)]
    model: String,
    /// Width multiplier
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Stride of the first convolution
    #[arg(long, default_value_t = 2)]
    stem_stride: usize,
    /// Inverse of the identity tensor multiplier
    #[arg(long)]
    identity_div: Option<usize>,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Folder of CLASS/*.JPEG, val/CLASS/*.JPEG or parquet; a name below a data root; or embedded. Images are found at any
    /// depth below a class; classes that have names must be the classifier's, or as many
    #[arg(long)]
    data: String,
    /// Threads; unset: all
    #[arg(long)]
    threads: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut config: NetworkConfig = args.model.parse()?;
    config.width = args.width;
    config.stem_stride = args.stem_stride;
    config.identity_div = args.identity_div.unwrap_or(config.identity_div);

    let card = Card::read(&args.weights.weights)?;
    let Chosen { input, protocol, padding } = args.protocol.chosen(card.clone())?;
    let loaded = args.weights.load(config, padding)?;
    let classes = loaded.config.classes;
    let set = sandglass_data::open(&args.data, Part::Scored, Some(classes));
    let set = args.weights.with_hint(classes, set)?;
    args.weights.check_background(classes, set.names_classes())?;
    if let Some(card) = &card {
        card.check(&args.weights.weights, &set)?;
    }
    let transform = Transform::evaluation(&set, classes, input, &protocol)?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let (height, width) = transform.size();
    let mut engine = Engine::new(Arc::new(Runtime::new(threads)?), &loaded.graph, height, width, BATCH)?;
    let loader = Loader::evaluation(&set, transform.clone(), BATCH, threads);
    let score = match evaluate(&mut engine, &loaded.weights, &loader) {
        Err(error @ TrainError::Logits) => return Err(error).context(args.weights.place()),
        // A set that is streamed stops at its first broken image: name them all.
        Err(error) => return Err(set.verify().map_or_else(anyhow::Error::from, |()| error.into())),
        Ok(score) => score,
    };

    let report = Report { score, loaded, set, protocol, transform };
    if args.json {
        writeln!(io::stdout(), "{}", report.as_json())?;
    } else {
        write!(io::stdout(), "{}", report.as_text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was scored, on what, and how.
struct Report {
    score: Score,
    loaded: Loaded,
    set: Dataset,
    protocol: Protocol,
    transform: Transform,
}

impl Report {
    fn as_json(&self) -> Value {
        let Self { score, loaded, set, protocol, transform } = self;
        json!({
            "top1": score.top1(),
            "top5": score.top5(),
            "top1_count": score.top1_count,
            "top5_count": score.top5_count,
            "n": score.n,
            "cross_entropy": score.loss,
            "network": loaded.config.to_string(),
            "width": loaded.config.width,
            "classes": loaded.config.classes,
            "data": set.name(),
            "data_hash": set.hash(),
            "data_classes": set.class_count(),
            "labels": if set.names_classes() { "by name" } else { "by number" },
            "passed_over": set.passed_over(),
            "synthetic": set.synthetic(),
            "weights": loaded.as_json(),
            "protocol": protocol::as_json(protocol, transform.size(), transform.short()),
        })
    }

    fn as_text(&self) -> String {
        let Self { score, loaded, set, protocol, transform } = self;
        let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
        let head = format!("{} {} on {}{synthetic}\n", loaded.config, loaded.config.width, set.name());
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
            + &format!("data: {}\n{}\n", set.listing(), loaded.as_text())
            + &format!(
                "protocol: {resize}, input {height} x {width}, mean {:?}, std {:?}\n",
                protocol.mean, protocol.std
            )
    }
}
