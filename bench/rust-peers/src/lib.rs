//! The field's Rust engines, each ready to run one exported network on one image.

use std::io::Cursor;
use std::sync::Arc;

use anyhow::{Result, bail};
use core_affinity::CoreId;

pub const ENGINES: [&str; 2] = ["tract", "rten"];

/// One more inference of the image, and its logits.
pub type Inference = Box<dyn FnMut() -> Result<Vec<f32>>>;

/// `image` is NCHW. One thread for each of `cores`, of which the caller's is the first.
pub fn load(engine: &str, file: Vec<u8>, image: Vec<f32>, size: usize, cores: Vec<CoreId>) -> Result<Inference> {
    match engine {
        "tract" => tract(file, image, size, cores),
        "rten" => rten(file, image, size, cores),
        _ => bail!("no engine {engine}: {}", ENGINES.join(", ")),
    }
}

/// The exact one, from Cargo.lock.
pub fn version(engine: &str) -> Option<&'static str> {
    let package = if engine == "tract" { "tract-onnx" } else { engine };
    let (_, rest) = include_str!("../Cargo.lock").split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0)
}

fn tract(file: Vec<u8>, image: Vec<f32>, size: usize, cores: Vec<CoreId>) -> Result<Inference> {
    use tract_linalg::multithread::{Executor, set_default_executor};
    use tract_onnx::prelude::*;

    let shape = [1, 3, size, size];
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(file))?;
    let model = model.with_input_fact(0, f32::fact(shape).into())?.into_optimized()?.into_runnable()?;
    let image = Tensor::from_shape(&shape, &image)?.into_arc_tensor();
    if cores.len() > 1 {
        // The caller is one of the pool's threads, or else every layer would be handed from one thread to another.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cores.len()).use_current_thread().build()?;
        pool.install(|| pin(&cores));
        set_default_executor(Executor::MultiThread(Arc::new(pool)));
    }
    Ok(Box::new(move || {
        let outputs = model.run(tvec!(image.clone().into_tvalue()))?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }))
}

fn rten(file: Vec<u8>, image: Vec<f32>, size: usize, cores: Vec<CoreId>) -> Result<Inference> {
    use rten::{ModelOptions, RunOptions, ThreadPool};
    use rten_tensor::NdTensor;
    use rten_tensor::prelude::*;

    // Not rten's default, but its faster way: weights laid out for the kernels once.
    let model = ModelOptions::with_all_ops().prepack_weights(true).load(file)?;
    let image = NdTensor::from_data([1, 3, size, size], image);
    let pool = Arc::new(ThreadPool::with_num_threads(cores.len()));
    pool.run(|| pin(&cores));
    Ok(Box::new(move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let logits: NdTensor<f32, 2> = model.run_one(image.view().into(), Some(options))?.try_into()?;
        Ok(logits.to_vec())
    }))
}

/// The threads of the pool that calls, one to a core.
fn pin(cores: &[CoreId]) {
    rayon::broadcast(|thread| core_affinity::set_for_current(cores[thread.index()]));
}
