//! Optimisers, schedules, averages and clipping: the same code on both paths.

use anyhow::{Context, ensure};
use sandglass_train::{Ema, Optimizer, OptimizerConfig, Schedule, clip_scale, gradient_norm};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::case::{Array, Case};
use super::kinds::Outputs;

/// Cases have some dozen steps.
const MAX_STEPS: usize = 1 << 20;

pub fn sgd(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        momentum: f64,
        nesterov: bool,
        #[serde(default)]
        dampening: f64,
    }
    let Config { momentum, nesterov, dampening } = case.config()?;
    ensure!(dampening == 0.0, "dampening {dampening} is not built");
    steps(case, OptimizerConfig::Sgd { momentum, nesterov })
}

pub fn rmsprop_tf(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        alpha: f64,
        momentum: f64,
        eps: f64,
        initial_square_avg: Option<f64>,
        lr_in_momentum: Option<bool>,
        eps_inside_sqrt: Option<bool>,
    }
    let config: Config = case.config()?;
    let tf = config.initial_square_avg.is_none_or(|start| start == 1.0)
        && config.lr_in_momentum.unwrap_or(true)
        && config.eps_inside_sqrt.unwrap_or(true);
    ensure!(tf, "an RMSProp other than TensorFlow's is not built");
    let Config { alpha, momentum, eps, .. } = config;
    steps(case, OptimizerConfig::RmspropTf { alpha, momentum, eps })
}

/// Every tensor `pK` with its `gradsK`, at each step.
fn steps(case: &Case, config: OptimizerConfig) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        weight_decay: BTreeMap<String, f64>,
        lrs: Vec<f64>,
    }
    let Config { weight_decay, lrs } = case.config()?;
    ensure!(lrs.len() <= MAX_STEPS, "{} steps are too many", lrs.len());
    let names: Vec<&String> = case.inputs.keys().filter(|name| !name.starts_with("grads")).collect();
    let (mut values, mut gradients, mut decay) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        let value = case.input(name)?.values.clone();
        let all = &case.input(&name.replacen('p', "grads", 1))?.values;
        ensure!(all.len() == value.len() * lrs.len(), "the gradients of {name} are not one for each step");
        decay.push(weight_decay.get(*name).copied().unwrap_or(0.0) as f32);
        gradients.push(all);
        values.push(value);
    }
    let sizes: Vec<usize> = values.iter().map(Vec::len).collect();
    let mut optimizer = Optimizer::new(config, &sizes);
    let mut outputs = Outputs::new();
    for (step, &lr) in lrs.iter().enumerate() {
        let gradients: Vec<Vec<f32>> =
            gradients.iter().zip(&sizes).map(|(all, size)| all[step * size..][..*size].to_vec()).collect();
        optimizer.step(&mut values, &gradients, &decay, 1.0, lr);
        for (name, value) in names.iter().zip(&values) {
            outputs.entry((*name).clone()).or_default().extend(value);
        }
    }
    Ok(outputs)
}

pub fn lr_schedule(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        count: Option<usize>,
        steps: Option<Vec<f64>>,
    }
    let schedule: Schedule = case.config()?;
    let lr = match case.config()? {
        Config { steps: Some(steps), .. } => steps.into_iter().map(|t| schedule.at(t) as f32).collect(),
        Config { count, .. } => {
            let count = count.filter(|count| *count <= MAX_STEPS).context("no count of steps, or too many")?;
            (0..count).map(|t| schedule.at(t as f64) as f32).collect()
        }
    };
    Ok(Outputs::from([("lr".to_owned(), lr)]))
}

pub fn ema(case: &Case) -> anyhow::Result<Outputs> {
    let ema: Ema = case.config()?;
    let Array { shape, values, .. } = case.input("params")?;
    let times = shape.first().copied().filter(|times| *times > 0 && !values.is_empty()).context("no params")?;
    let mut params = values.chunks_exact(values.len() / times).map(|values| [values.to_vec()]);
    let mut average = params.next().context("no params")?;
    let mut all = average[0].clone();
    for (t, params) in (1..).zip(params) {
        ema.update(&mut average, &params, t);
        all.extend(&average[0]);
    }
    Ok(Outputs::from([("ema".to_owned(), all)]))
}

pub fn clip_grad_norm(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        max_norm: f64,
    }
    let gradients: Vec<Vec<f32>> = case.inputs.values().map(|array| array.values.clone()).collect();
    let norm = gradient_norm(&gradients);
    let scale = clip_scale(norm, case.config::<Config>()?.max_norm);
    let scaled = |(name, array): (&String, &Array)| (name.clone(), array.values.iter().map(|g| g * scale).collect());
    let mut outputs: Outputs = case.inputs.iter().map(scaled).collect();
    outputs.insert("norm".to_owned(), vec![norm as f32]);
    Ok(outputs)
}
