//! `sandglass show NETWORK --plan`: what an inference does, one line for each fused operation.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandglass_infer::{InferError, Line, Options, Plan};
use sandglass_lab::default_threads;
use sandglass_models::NetworkConfig;
use sandglass_models::checkpoint::Checkpoint;
use sandglass_ops::Runtime;
use sandglass_train::initialise;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

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
    /// Checkpoint; unset: weights as drawn for training, which take the same time
    #[arg(long, requires = "plan", value_name = "FILE")]
    weights: Option<PathBuf>,
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
        let graph = config.build()?;
        let weights = match &self.weights {
            Some(path) => Checkpoint::open(path)?.weights(graph.tensors())?,
            None => initialise(graph.tensors(), 0),
        };
        let runtime = Arc::new(Runtime::new(self.threads.unwrap_or_else(default_threads))?);
        let options = Options { memory_groups: self.memory_groups, ..Options::default() };
        let mut plan = Plan::new(runtime, &graph, &weights, (input, input), options)?;
        let times = if self.time { Some(times(&mut plan)?) } else { None };

        let mut out = io::stdout().lock();
        writeln!(out, "{config}, width {}, {} classes, {input} x {input}", config.width, config.classes)?;
        writeln!(out, "{}", table(&plan.lines(), times.as_deref()))?;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let (maps, weights) = (mib(plan.arena_bytes()), mib(plan.weight_bytes()));
        let (threads, isa) = (plan.runtime().threads(), plan.runtime().isa().name());
        writeln!(out, "maps {maps:.2} MiB, packed weights {weights:.2} MiB; {threads} threads on {isa}")?;
        Ok(())
    }
}

/// The median seconds of each step.
fn times(plan: &mut Plan) -> Result<Vec<f64>, InferError> {
    let (height, width, channels) = plan.input();
    // Any numbers do: the time does not depend on them.
    let images: Vec<f32> = (0..height * width * channels).map(|i| (i * 7919 % 509) as f32 / 254.0 - 1.0).collect();
    let mut samples = vec![Vec::new(); plan.lines().len()];
    let began = Instant::now();
    while began.elapsed() < ENOUGH || samples[0].len() < RUNS {
        let mut last = Instant::now();
        plan.run_and_tell(&images, |step| {
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
