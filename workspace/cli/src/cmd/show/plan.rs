//! `sandglass show NETWORK --plan`: what an inference does, one line for each fused operation.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sandglass_infer::{InferError, IntPlan, Line, Options, Plan};
use sandglass_lab::{default_threads, lively_int8};
use sandglass_models::NetworkConfig;
use sandglass_models::checkpoint::Checkpoint;
use sandglass_ops::Runtime;
use sandglass_quant::Scheme;
use sandglass_train::initialise;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

use crate::cmd::ensure_held;
use crate::cmd::weights::quantised;

#[derive(clap::Args)]
pub struct PlanArgs {
    /// The compiled plan of an inference of one image instead: a line for each fused operation
    #[arg(long)]
    plan: bool,
    /// Run the plan and time each operation: medians of many runs
    #[arg(long, requires = "plan")]
    time: bool,
    /// Make the wide map inside an inverted residual in at most so many groups of channels
    #[arg(long, requires = "plan", default_value_t = 1, value_name = "T")]
    memory_groups: usize,
    /// The plan of the network in 8 bits, quantised by the default scheme on an image of a pattern
    #[arg(long, requires = "plan", conflicts_with_all = ["weights", "memory_groups"])]
    int8: bool,
    /// Checkpoint, also a quantised one; unset: weights as drawn for training, which take the same time
    #[arg(long, requires = "plan", value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Which state of a checkpoint that holds several: the keys that lead to it
    #[arg(long, requires = "weights", value_name = "KEY")]
    state: Option<String>,
    /// Threads; unset: all
    #[arg(long, requires = "plan")]
    threads: Option<usize>,
}

/// Runs until so much time has passed, but so often at least.
const ENOUGH: Duration = Duration::from_secs(1);
const RUNS: usize = 25;

impl PlanArgs {
    pub fn wanted(&self) -> bool {
        self.plan
    }

    pub fn run(&self, config: &NetworkConfig, input: usize) -> anyhow::Result<()> {
        ensure_held(config)?;
        let runtime = Arc::new(Runtime::new(self.threads.unwrap_or_else(default_threads))?);
        let quantised = match &self.weights {
            Some(path) if sandglass_quant::is_quantised(path) => Some(quantised(path, *config)?.0),
            _ if self.int8 => Some(lively_int8(&config.build()?, input, &Scheme::default())?),
            _ => None,
        };
        if let Some(network) = quantised {
            ensure!(self.memory_groups == 1, "--memory-groups: not of plans in 8 bits");
            let mut plan = IntPlan::new(runtime, &network, (input, input))?;
            let image = image(input * input * network.graph().maps()[0].channels);
            let lines = plan.lines();
            let times = if self.time {
                Some(times(lines.len(), |done| plan.run_and_tell(&image, done).map(drop))?)
            } else {
                None
            };
            return told(config, input, &lines, times, plan.runtime(), [plan.arena_bytes(), plan.weight_bytes()]);
        }
        let (config, graph, weights) = match &self.weights {
            Some(path) => {
                let mut file = Checkpoint::open(path)?;
                let fit = file.fit(*config, self.state.as_deref())?;
                (fit.config, fit.graph(None)?, file.fitted(&fit)?)
            }
            None => {
                let graph = config.build()?;
                let weights = initialise(graph.tensors(), 0);
                (*config, graph, weights)
            }
        };
        let options = Options { memory_groups: self.memory_groups, ..Options::default() };
        let mut plan = Plan::new(runtime, &graph, &weights, (input, input), options)?;
        let (height, width, channels) = plan.input();
        let image = image(height * width * channels);
        let lines = plan.lines();
        let times =
            if self.time { Some(times(lines.len(), |done| plan.run_and_tell(&image, done).map(drop))?) } else { None };
        told(&config, input, &lines, times, plan.runtime(), [plan.arena_bytes(), plan.weight_bytes()])
    }
}

fn told(
    config: &NetworkConfig,
    input: usize,
    lines: &[Line],
    times: Option<Vec<f64>>,
    runtime: &Runtime,
    bytes: [usize; 2],
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{config}, width {}, {} classes, {input} x {input}", config.width, config.classes)?;
    writeln!(out, "{}", table(lines, times.as_deref()))?;
    let [maps, weights] = bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
    let (threads, isa) = (runtime.threads(), runtime.isa().name());
    writeln!(out, "maps {maps:.2} MiB, packed weights {weights:.2} MiB; {threads} threads on {isa}")?;
    Ok(())
}

/// Any numbers do: the time does not depend on them.
fn image(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 509) as f32 / 254.0 - 1.0).collect()
}

/// The median seconds of each of so many steps; `run` runs them all, and tells when each is done.
fn times(
    steps: usize,
    mut run: impl FnMut(&mut dyn FnMut(usize)) -> Result<(), InferError>,
) -> Result<Vec<f64>, InferError> {
    let mut samples = vec![Vec::new(); steps];
    let began = Instant::now();
    while began.elapsed() < ENOUGH || samples[0].len() < RUNS {
        let mut last = Instant::now();
        run(&mut |step| {
            let now = Instant::now();
            samples[step].push((now - last).as_secs_f64());
            last = now;
        })?;
    }
    let median = |samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    };
    Ok(samples.iter_mut().map(median).collect())
}

fn table(lines: &[Line], times: Option<&[f64]>) -> String {
    let mut table = Builder::default();
    let head = ["step", "name", "operation", "output", "multiply-adds", "KiB"];
    let timed: &[&str] = if times.is_some() { &["ms", "GFLOP/s", "share (%)"] } else { &[] };
    table.push_record(head.iter().chain(timed).copied());
    let all = times.map_or(0.0, |times| times.iter().sum());
    let figures = |madds: u64, bytes: u64, seconds: Option<f64>| {
        let timed = seconds.map(|seconds| {
            let rate = 2e-9 * madds as f64 / seconds;
            [format!("{:.4}", 1e3 * seconds), format!("{rate:.1}"), format!("{:.1}", 100.0 * seconds / all)]
        });
        [madds.to_string(), (bytes / 1024).to_string()].into_iter().chain(timed.into_iter().flatten())
    };
    for (step, line) in lines.iter().enumerate() {
        let (height, width, channels) = line.output;
        let size = format!("{height} x {width} x {channels}");
        let cells = [step.to_string(), line.name.clone(), line.operation.clone(), size].into_iter();
        table.push_record(cells.chain(figures(line.madds, line.bytes, times.map(|times| times[step]))));
    }
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum();
    let cells = ["", "", "total", ""].map(str::to_owned).into_iter();
    table.push_record(cells.chain(figures(sum(|line| line.madds), sum(|line| line.bytes), times.map(|_| all))));
    let mut table = table.build();
    table.with(Style::psql()).with(Alignment::right()).modify(Columns::new(1..3), Alignment::left());
    table.to_string()
}
