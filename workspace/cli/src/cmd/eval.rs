//! `sandglass eval`: a checkpoint's accuracy on images.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use sandglass_data::{DataError, Dataset, Loader, Part, Transform};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{NetworkConfig, Weights};
use sandglass_ops::Runtime;
use sandglass_train::{Engine, cross_entropy, rank};
use serde_json::{Value, json};

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
    /// Height and width of the network's input; unset: 224 for 1000 classes, else the images' own
    #[arg(long)]
    input: Option<usize>,
    /// Checkpoint: .safetensors or .pth
    #[arg(long)]
    weights: PathBuf,
    /// Folder of <class>/*.JPEG, val/<class>/*.JPEG or parquet; a name below the data root; or embedded
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

    let mut checkpoint = Checkpoint::open(&args.weights)?;
    config.classes = checkpoint.classes(config.name)?;
    let network = config.build()?;
    let weights = checkpoint.weights(network.tensors())?;

    let set = sandglass_data::open(&args.data, Part::Validation, Some(config.classes))?;
    let transform = Transform::evaluation(&set, config.classes, args.input)?;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get()));
    let (height, width) = transform.size();
    let mut engine = Engine::new(Arc::new(Runtime::new(threads)?), &network, height, width, BATCH)?;
    let loader = Loader::evaluation(&set, transform, BATCH, threads);
    let score = score(&mut engine, &weights, &set, &loader).with_context(|| args.weights.display().to_string())?;

    if args.json {
        println!("{}", score.json(&config, &set));
    } else {
        print!("{}", score.text(&config, &set));
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Score {
    n: usize,
    top1: usize,
    top5: usize,
    /// Sum of the cross-entropies.
    loss: f64,
}

/// Ties go to the lower class; logits that are no numbers are an error, and so are broken images, all of them named.
fn score(engine: &mut Engine, weights: &Weights, set: &Dataset, loader: &Loader) -> anyhow::Result<Score> {
    let classes = weights.values.last().map_or(0, Vec::len);
    let mut score = Score::default();
    let mut broken: Vec<DataError> = Vec::new();
    for batch in loader.epoch(0, 0) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error @ DataError::Broken { .. }) => {
                broken.push(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !broken.is_empty() {
            continue;
        }
        let logits = engine.evaluate(weights, &batch.images)?;
        for ((logits, &label), &index) in logits.chunks_exact(classes).zip(&batch.labels).zip(&batch.indices) {
            let finite = logits.iter().all(|logit| logit.is_finite());
            anyhow::ensure!(finite, "gives logits that are no numbers on image {index} of {}", set.name());
            let rank = rank(logits, label as usize);
            score.top1 += usize::from(rank < 1);
            score.top5 += usize::from(rank < 5);
        }
        score.loss += cross_entropy(&logits, &batch.labels, classes, 0.0)?.mean * batch.labels.len() as f64;
        score.n += batch.labels.len();
    }
    if let Some(error) = DataError::merge(broken) {
        return Err(error.into());
    }
    Ok(score)
}

impl Score {
    fn percent(&self, count: usize) -> f64 {
        100.0 * count as f64 / self.n.max(1) as f64
    }

    fn json(&self, config: &NetworkConfig, set: &Dataset) -> Value {
        json!({
            "top1": self.percent(self.top1),
            "top5": self.percent(self.top5),
            "top1_count": self.top1,
            "top5_count": self.top5,
            "n": self.n,
            "cross_entropy": self.loss / self.n.max(1) as f64,
            "network": config.to_string(),
            "width": config.width,
            "classes": config.classes,
            "data": set.name(),
            "data_hash": set.hash(),
            "synthetic": set.synthetic(),
        })
    }

    fn text(&self, config: &NetworkConfig, set: &Dataset) -> String {
        let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
        let line = |name: &str, count: usize| format!("{name}  {:6.2} %  {count} of {}\n", self.percent(count), self.n);
        let head = format!("{config} {} on {}{synthetic}\n", config.width, set.name());
        head + &line("top-1", self.top1) + &line("top-5", self.top5)
    }
}
