//! `sandglass golden`: cases computed in float64 by the reference implementations, run on our code.

mod candle;
mod case;
mod detection;
mod hashed;
mod infer;
mod kernels;
mod kinds;
mod layers;
mod quant;
mod training;
mod variables;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use sandglass_models::ModelError;
use sandglass_train::EngineError;
use serde::Serialize;
use serde_json::Value;

use case::{Case, Expected, Suite};
use kinds::Backend;

#[derive(clap::Args)]
pub struct Args {
    /// Holds cases.json and the files that it lists
    dir: PathBuf,
    #[arg(long, value_enum, default_value = "kernels")]
    path: CodePath,
    /// JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum CodePath {
    /// Our kernels
    Kernels,
    /// Plain candle
    Candle,
    /// Compiled plans: networks and blocks in evaluation mode
    Infer,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Ok,
    Fail,
    NotBuilt,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::NotBuilt => "not-built",
        }
    }
}

/// How a case went.
#[derive(Serialize)]
struct Verdict {
    name: String,
    status: Status,
    /// Absolute error of the element that comes closest to its tolerance or exceeds it most, and that tolerance.
    error: Option<f64>,
    tolerance: Option<f64>,
    /// The worst element's tensor, or why the case could not run.
    detail: String,
}

#[derive(Serialize)]
struct Report {
    cases: Vec<Verdict>,
    ok: usize,
    fail: usize,
    not_built: usize,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let suite = Suite::open(&args.dir)?;
    let backend: Box<dyn Backend> = match args.path {
        CodePath::Kernels => Box::new(kernels::Kernels::new()?),
        CodePath::Candle => Box::new(candle::Candle),
        CodePath::Infer => Box::new(infer::Infer::new()?),
    };
    let mut out = io::stdout().lock();
    let mut cases = Vec::new();
    for (number, written) in suite.cases().iter().enumerate() {
        let verdict = verdict(&suite, number, written, args.path, backend.as_ref());
        if !args.json {
            writeln!(out, "{}", verdict.line())?;
        }
        cases.push(verdict);
    }
    let count = |status| cases.iter().filter(|case| case.status == status).count();
    let (ok, fail, not_built) = (count(Status::Ok), count(Status::Fail), count(Status::NotBuilt));
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&Report { cases, ok, fail, not_built })?)?;
    } else {
        writeln!(out, "{ok} ok, {fail} fail, {not_built} not-built")?;
    }
    Ok(if fail == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(suite: &Suite, number: usize, written: &Value, path: CodePath, backend: &dyn Backend) -> Verdict {
    let text = |key| written.get(key).and_then(Value::as_str);
    let name = text("name").map_or_else(|| format!("case-{number}"), str::to_owned);
    let exact = |outputs: kinds::Outputs| -> Exact {
        outputs.into_iter().map(|(name, values)| (name, values.into_iter().map(f64::from).collect())).collect()
    };
    let floats = text("kind").and_then(kinds::find).map(|run| {
        let mut case = suite.case(written)?;
        let got = exact(run(&case, backend)?);
        if path == CodePath::Infer {
            case.as_inferred();
        }
        compare(&case, &got)
    });
    let integers = || {
        // Integers are no part of a float plan.
        let run = text("kind").filter(|_| path != CodePath::Infer).and_then(quant::find)?;
        Some(suite.case(written).and_then(|case| compare(&case, &run(&case)?)))
    };
    let judged = floats.or_else(integers);
    match judged {
        Some(Ok(Worst { error, tolerance, tensor })) => {
            let status = if error <= tolerance { Status::Ok } else { Status::Fail };
            Verdict { name, status, error: Some(error), tolerance: Some(tolerance), detail: tensor }
        }
        Some(Err(error)) => {
            let not_built = matches!(error.downcast_ref(), Some(EngineError::NotBuilt { .. }));
            let is_later = not_built || is_later_network(&error) || error.is::<infer::NotInferred>();
            let status = if is_later { Status::NotBuilt } else { Status::Fail };
            Verdict { name, status, error: None, tolerance: None, detail: format!("{error:#}") }
        }
        None => {
            let detail = "a kind that is not built".to_owned();
            Verdict { name, status: Status::NotBuilt, error: None, tolerance: None, detail }
        }
    }
}

fn is_later_network(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ModelError::IsDetector(_) | ModelError::UnknownNetwork { .. }))
}

impl Verdict {
    fn line(&self) -> String {
        let (status, name) = (self.status.name(), &self.name);
        match (self.status, self.error.zip(self.tolerance)) {
            (Status::Fail, Some((error, tolerance))) => {
                format!("{status} {name} {error:.1e}/{tolerance:.1e} {}", self.detail)
            }
            (_, Some((error, tolerance))) => format!("{status} {name} {error:.1e}/{tolerance:.1e}"),
            (_, None) => {
                // candle's errors end in a backtrace where one is asked for.
                let reason = self.detail.lines().next().unwrap_or_default();
                if reason == infer::NotInferred::Training.to_string() {
                    return format!("{status} {name} {reason}");
                }
                format!("{status} {name} -/- {reason}").trim_end().to_owned()
            }
        }
    }
}

struct Worst {
    error: f64,
    tolerance: f64,
    tensor: String,
}

/// Results by name, integers exact.
type Exact = BTreeMap<String, Vec<f64>>;

/// The element with the largest error for its tolerance, over all expected tensors.
fn compare(case: &Case, got: &Exact) -> anyhow::Result<Worst> {
    let mut worst = Worst { error: 0.0, tolerance: 0.0, tensor: String::new() };
    let mut worst_share = -1.0;
    for (name, Expected { array: want, rtol, atol, floor }) in &case.expected {
        let Some(got) = got.get(name) else { anyhow::bail!("{name} is not computed") };
        anyhow::ensure!(got.len() == want.values.len(), "{name}: {} values for {}", got.len(), want.values.len());
        for (&got, want) in got.iter().zip(want.exact()) {
            let tolerance = (atol + rtol * want.abs()).max(*floor);
            let error = if got.is_finite() { (got - want).abs() } else { f64::INFINITY };
            let share = if error == 0.0 { 0.0 } else { error / tolerance };
            if share > worst_share {
                worst_share = share;
                worst = Worst { error, tolerance, tensor: name.clone() };
            }
        }
    }
    anyhow::ensure!(worst_share >= 0.0, "nothing is expected");
    Ok(worst)
}
