//! Inferences of one image, timed. `bench/infer.py` runs it beside other engines.
//!
//! - `latency export NETWORK WIDTH SIZE OUT [int8]`: an ONNX file of the weights that are timed.
//! - `latency run NETWORK WIDTH SIZE THREADS [int8]`: a line of JSON with the logits of the image; then for each line on stdin, a
//!   number of inferences, a line with the seconds of each.
//! - `latency peak`: GFLOP/s of multiply-adds in registers on one thread, the best of many moments.

use std::hint::black_box;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use sandglass_infer::{InferError, IntPlan, Options, Plan};
use sandglass_lab::{lively_int8, lively_weights, pixel};
use sandglass_models::{Graph, NetworkConfig};
use sandglass_ops::{Isa, Runtime};
use sandglass_quant::Scheme;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["export", network, width, size, out] => {
            let (graph, size) = (graph(network, width)?, size.parse()?);
            std::fs::write(out, sandglass_onnx::encode(network, &graph, &lively_weights(&graph), (size, size))?)?;
        }
        ["export", network, width, size, out, "int8"] => {
            let (graph, size) = (graph(network, width)?, size.parse()?);
            let quantised = lively_int8(&graph, size, &Scheme::default())?;
            std::fs::write(out, sandglass_onnx::encode_int8(network, &quantised, (size, size))?)?;
        }
        ["run", network, width, size, threads, "int8"] => {
            let (graph, size): (_, usize) = (graph(network, width)?, size.parse()?);
            let runtime = Arc::new(Runtime::new(threads.parse()?)?);
            let isa = runtime.isa().name();
            let mut plan = IntPlan::new(runtime, &lively_int8(&graph, size, &Scheme::default())?, (size, size))?;
            let image: Vec<f32> = (0..size * size * 3).map(|i| pixel(i, size)).collect();
            let logits = plan.run(&image)?;
            let (arena, peak) = (plan.arena_bytes(), peak_mib());
            let madds: u64 = plan.lines().iter().map(|line| line.madds).sum();
            println!(
                r#"{{"isa":"{isa}","madds":{madds},"arena_bytes":{arena},"peak_mib":{peak},"logits":{logits:?}}}"#
            );
            answer(|| plan.run(&image).map(drop))?;
        }
        ["run", network, width, size, threads] => {
            let (graph, size): (_, usize) = (graph(network, width)?, size.parse()?);
            let runtime = Arc::new(Runtime::new(threads.parse()?)?);
            let isa = runtime.isa().name();
            let mut plan = Plan::new(runtime, &graph, &lively_weights(&graph), (size, size), Options::default())?;
            // NHWC of what the peers get as NCHW.
            let images: Vec<f32> = (0..size * size * 3).map(|i| pixel(i, size)).collect();
            let logits = plan.run(&images)?.get(0).unwrap_or_default().to_vec();
            let (arena, peak) = (plan.arena_bytes(), peak_mib());
            let madds: u64 = plan.lines().iter().map(|line| line.madds).sum();
            println!(
                r#"{{"isa":"{isa}","madds":{madds},"arena_bytes":{arena},"peak_mib":{peak},"logits":{logits:?}}}"#
            );
            answer(|| plan.run(&images).map(drop))?;
        }
        ["peak"] => println!("{}", peak_gflops(Isa::from_env()?)),
        _ => {
            return Err(
                "usage: latency export NETWORK WIDTH SIZE OUT [int8] | run NETWORK WIDTH SIZE THREADS [int8] | peak"
                    .into(),
            );
        }
    }
    Ok(())
}

/// For each line on stdin, a number of inferences, a line with the seconds of each.
fn answer(mut run: impl FnMut() -> Result<(), InferError>) -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        let runs: usize = line?.trim().parse()?;
        let mut seconds = Vec::with_capacity(runs);
        for _ in 0..runs {
            let began = Instant::now();
            run()?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        println!("{seconds:?}");
    }
    Ok(())
}

fn graph(network: &str, width: &str) -> Result<Graph, Box<dyn std::error::Error>> {
    Ok(NetworkConfig { width: width.parse()?, ..network.parse()? }.build()?)
}

/// Peak resident memory of this process so far; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// 0 where there is no such measurement.
fn peak_gflops(isa: Isa) -> f64 {
    const STEPS: usize = 20_000;
    let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
    let once = || {
        let began = Instant::now();
        // SAFETY: `Isa::from_env` gives what this CPU has.
        let sum = unsafe { multiply_add(isa, STEPS) };
        assert!(sum.is_finite());
        2e-9 * (STEPS * 12 * lanes) as f64 / began.elapsed().as_secs_f64()
    };
    if isa == Isa::Portable { 0.0 } else { (0..2_000).map(|_| once()).fold(0.0, f64::max) }
}

/// Twelve chains in registers.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_add(isa: Isa, steps: usize) -> f32 {
    use std::arch::x86_64::{
        _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32, _mm512_fmadd_ps, _mm512_set1_ps,
    };
    #[target_feature(enable = "avx512f")]
    fn wide(steps: usize) -> f32 {
        let (mut sums, factor) = ([_mm512_set1_ps(1.0); 12], _mm512_set1_ps(black_box(0.25)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.iter().fold(0.0, |all, sum| all + _mm512_cvtss_f32(*sum))
    }
    #[target_feature(enable = "avx2,fma")]
    fn narrow(steps: usize) -> f32 {
        let (mut sums, factor) = ([_mm256_set1_ps(1.0); 12], _mm256_set1_ps(black_box(0.25)));
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        sums.iter().fold(0.0, |all, sum| all + _mm256_cvtss_f32(*sum))
    }
    // SAFETY: the caller's.
    unsafe { if isa == Isa::Avx512 { wide(steps) } else { narrow(steps) } }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn multiply_add(_: Isa, _: usize) -> f32 {
    0.0
}
