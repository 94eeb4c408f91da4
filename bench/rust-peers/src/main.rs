//! One exported network in another Rust engine, ready to run one image: the protocol of `onnxruntime_peer.py`.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sandglass_rust_peers::{ENGINES, load, version};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, file, size, threads] = &args[..] else {
        bail!("usage: rust-peer {} FILE SIZE THREADS", ENGINES.join("|"));
    };
    let (size, threads): (usize, usize) = (size.parse()?, threads.parse()?);
    let mut cores = core_affinity::get_core_ids().context("this process may run on no core")?;
    cores.truncate(threads);
    ensure!(cores.len() == threads, "{threads} threads on {} cores", cores.len());
    core_affinity::set_for_current(cores[0]);
    let image = (0..3 * size * size).map(|i| (i * 7919 % 1021) as f32 / 510.5 - 1.0).collect();
    let mut run = load(engine, std::fs::read(file)?, image, size, cores)?;
    let (logits, peak) = (run()?, peak_mib());
    println!(r#"{{"{engine}":"{}","logits":{logits:?},"peak_mib":{peak}}}"#, version(engine).unwrap_or("?"));
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

/// Peak resident memory of this process so far; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
