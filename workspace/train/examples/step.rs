//! Training steps of one network on images in memory, timed: `step NETWORK WIDTH SIZE CLASSES BATCH THREADS`.
//!
//! For each line on stdin, a number of steps, a line of JSON: seconds, the last loss, and the peak of memory above
//! start-up. `bench/train.py` runs it beside PyTorch.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use sandglass_models::{NetworkConfig, Role};
use sandglass_ops::Runtime;
use sandglass_train::{Engine, Optimizer, OptimizerConfig, cross_entropy, initialise};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [network, width, size, classes, batch, threads] = &args[..] else {
        return Err("usage: step NETWORK WIDTH SIZE CLASSES BATCH THREADS".into());
    };
    let start = peak_mib();
    let (size, classes, batch): (usize, usize, usize) = (size.parse()?, classes.parse()?, batch.parse()?);
    let config = NetworkConfig { width: width.parse()?, classes, ..NetworkConfig::new(network.parse()?) };
    let network = config.build()?;
    let runtime = Arc::new(Runtime::new(threads.parse()?)?);
    let isa = runtime.isa().name();
    let mut engine = Engine::new(runtime, &network, size, size, batch)?;
    let mut weights = initialise(network.tensors(), 0);
    let sizes: Vec<usize> = weights.values.iter().map(Vec::len).collect();
    let decay: Vec<f32> = weights
        .specs
        .iter()
        .map(|spec| if matches!(spec.role, Role::ConvWeight | Role::LinearWeight) { 4e-5 } else { 0.0 })
        .collect();
    let mut optimizer = Optimizer::new(OptimizerConfig::Sgd { momentum: 0.9, nesterov: false }, &sizes);
    // Any fixed numbers do: the time does not depend on them.
    let images: Vec<f32> = (0..batch * size * size * 3).map(|i| ((i * 7919) % 509) as f32 / 254.0 - 1.0).collect();
    let labels: Vec<u32> = (0..batch).map(|i| (i * 31 % classes) as u32).collect();
    let trained = weights.specs.iter().zip(&sizes).filter(|(spec, _)| spec.role.is_trained());
    let parameters: usize = trained.map(|(_, size)| size).sum();
    println!("{{\"isa\":\"{isa}\",\"parameters\":{parameters}}}");
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let began = Instant::now();
        let mut loss = 0.0;
        for _ in 0..steps {
            let logits = engine.forward(&mut weights, &images, None)?.one()?;
            let result = cross_entropy(&logits, &labels, classes, 0.0)?;
            loss = result.mean;
            let gradients = engine.backward(&weights, &[&result.gradient])?;
            optimizer.step(&mut weights.values, gradients, &decay, 1.0, 0.01);
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{{\"seconds\":{seconds},\"loss\":{loss},\"peak_mib\":{}}}", peak_mib() - start);
    }
    Ok(())
}

/// Peak resident memory of this process so far; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
