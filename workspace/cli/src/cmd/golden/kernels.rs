//! The path of our kernels: blocks and networks through the engine that trains, layers through the operators.

use std::num::NonZeroUsize;
use std::slice;
use std::sync::Arc;

use anyhow::ensure;
use sandglass_models::{Block, Network, Role, Weights};
use sandglass_ops::conv::{self, ConvShape};
use sandglass_ops::map::{self, Gradient, Mask, Operand, Producer, Sink};
use sandglass_ops::norm::{self, Norm};
use sandglass_ops::{Runtime, pool};
use sandglass_train::Engine;

use super::case::{Array, Case, Mode};
use super::kinds::{Backend, ConvConfig, NormConfig, Outputs, Pass, param};
use super::layout::{channel_sums, channels, concat, nchw, nhwc};

pub struct Kernels {
    runtime: Arc<Runtime>,
}

const EVERYTHING: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

impl Kernels {
    pub fn new() -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self { runtime: Arc::new(Runtime::new(threads)?) })
    }

    /// Output and gradients, each NHWC, without bias.
    fn convolve(&self, shape: &ConvShape, x: &[f32], weight: &[f32], dy: Option<&[f32]>) -> anyhow::Result<Convolved> {
        let mut output = vec![0.0; shape.output_len()];
        conv::forward(&self.runtime, shape, Operand::plain(x), weight, &mut output, None)?;
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        if let Some(dy) = dy {
            let gradient = Gradient { data: dy, norm: None };
            conv::backward(&self.runtime, shape, Operand::plain(x), weight, gradient, &mut dw, Some(plain(&mut dx)))?;
        }
        Ok(Convolved { output, dx, dw })
    }
}

struct Convolved {
    output: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

/// A gradient that nothing is fused into.
fn plain(out: &mut [f32]) -> Sink<'_> {
    Sink { out, skip: None, producer: None, sums: (&mut [], &mut []) }
}

/// The cotangent, which must have the output's size.
fn cotangent(case: &Case, elements: usize) -> anyhow::Result<Option<&[f32]>> {
    let Some(Array { values, .. }) = &case.cotangent else { return Ok(None) };
    ensure!(values.len() == elements, "a cotangent of {} values for an output of {elements}", values.len());
    Ok(Some(values))
}

impl Backend for Kernels {
    fn block(&self, block: &Block, mut pass: Pass) -> anyhow::Result<Outputs> {
        let [images, _, height, width] = pass.x.nchw()?;
        let mut engine = Engine::for_blocks(self.runtime.clone(), slice::from_ref(block), height, width, images)?;
        let x = nhwc(pass.x)?;
        let output = match pass.train {
            true => engine.forward_map(&mut pass.weights, &x)?,
            false => engine.forward_map_eval(&pass.weights, &x)?,
        };
        let (height, width, channels) = engine.output();
        let shape = vec![images, channels, height, width];
        let mut outputs = running(&pass.weights);
        outputs.insert("output".to_owned(), nchw(&output, &shape));
        if let Some(cotangent) = pass.cotangent {
            ensure!(cotangent.len() == output.len(), "a cotangent of {} values", cotangent.len());
            let cotangent = nhwc(&Array { shape, values: cotangent.to_vec() })?;
            let (gradients, dx) = engine.backward_map(&pass.weights, &cotangent)?;
            insert_gradients(&mut outputs, &pass, gradients, dx);
        }
        Ok(outputs)
    }

    fn network(&self, network: &Network, mut pass: Pass) -> anyhow::Result<Outputs> {
        let [images, _, height, width] = pass.x.nchw()?;
        let mut engine = Engine::new(self.runtime.clone(), network, height, width, images)?;
        let x = nhwc(pass.x)?;
        let logits = match (pass.train, pass.cotangent) {
            (true, _) => engine.forward(&mut pass.weights, &x, None)?,
            (false, Some(_)) => engine.forward_eval(&pass.weights, &x)?,
            (false, None) => engine.evaluate(&pass.weights, &x)?,
        };
        let mut outputs = running(&pass.weights);
        outputs.insert("output".to_owned(), logits);
        if let Some(cotangent) = pass.cotangent {
            let (gradients, dx) = engine.backward_to_images(&pass.weights, cotangent)?;
            insert_gradients(&mut outputs, &pass, gradients, dx);
        }
        Ok(outputs)
    }

    fn conv(&self, config: &ConvConfig, case: &Case) -> anyhow::Result<Outputs> {
        let ConvConfig { input, output, kernel, stride, padding, groups } = *config;
        let x = case.input("x")?;
        let [images, _, height, width] = x.nchw()?;
        let depthwise = groups == input && input == output && matches!(kernel, 3 | 5) && stride <= 2;
        // Other grouped convolutions run group by group.
        let groups = if depthwise { 1 } else { groups };
        let (input, output) = (input / groups, output / groups);
        let shape = ConvShape { images, height, width, input, output, kernel, stride, padding, depthwise };
        let out_shape = [images, output * groups, shape.out_height(), shape.out_width()];
        let dy = cotangent(case, out_shape.iter().product())?;
        let dy = dy.map(|dy| Array { shape: out_shape.to_vec(), values: dy.to_vec() });

        let weight = &param(case, "weight")?.values;
        let (mut y, mut dx, mut dw) = (Vec::new(), Vec::new(), Vec::new());
        for (group, weight) in weight.chunks_exact(weight.len() / groups).enumerate() {
            let x = nhwc(&channels(x, group * input, input)?)?;
            let dy = dy.as_ref().map(|dy| channels(dy, group * output, output).and_then(|dy| nhwc(&dy))).transpose()?;
            let part = self.convolve(&shape, &x, weight, dy.as_deref())?;
            y.push(nchw(&part.output, &[images, output, shape.out_height(), shape.out_width()]));
            dx.push(nchw(&part.dx, &[images, input, height, width]));
            dw.extend(part.dw);
        }
        let (mut y, dx) = (concat(&y, images), concat(&dx, images));
        let area = shape.out_height() * shape.out_width();
        let mut outputs = Outputs::new();
        if let Ok(bias) = param(case, "bias") {
            ensure!(bias.values.len() == output * groups, "bias: shape {:?}", bias.shape);
            let biases = bias.values.iter().cycle();
            y.chunks_exact_mut(area).zip(biases).for_each(|(map, bias)| map.iter_mut().for_each(|y| *y += bias));
            if let Some(dy) = &dy {
                outputs.insert("grad.bias".to_owned(), channel_sums(&dy.values, area, output * groups));
            }
        }
        outputs.insert("output".to_owned(), y);
        if dy.is_some() {
            outputs.insert("grad.x".to_owned(), dx);
            outputs.insert("grad.weight".to_owned(), dw);
        }
        Ok(outputs)
    }

    fn batch_norm(&self, config: &NormConfig, case: &Case) -> anyhow::Result<Outputs> {
        let x = case.input("x")?;
        let [images, channels, height, width] = x.nchw()?;
        let (area, eps, momentum) = (height * width, config.eps as f32, config.momentum as f32);
        let names = ["weight", "bias", "running_mean", "running_var"];
        for name in names {
            let shape = &param(case, name)?.shape;
            ensure!(*shape == [channels], "{name}: shape {shape:?}");
        }
        let [weight, bias] = [param(case, "weight")?, param(case, "bias")?].map(|array| array.values.as_slice());
        let (mut mean, mut var) =
            (param(case, "running_mean")?.values.clone(), param(case, "running_var")?.values.clone());

        let map = nhwc(x)?;
        let training = case.mode == Mode::Train;
        let norm = if training {
            let moments = norm::moments(&self.runtime, &map, images, area, channels)?;
            Norm::train(&moments, images * area, eps, weight, bias, momentum, &mut mean, &mut var)?
        } else {
            Norm::eval(&mean, &var, eps, weight, bias)
        };
        let mut output = vec![0.0; map.len()];
        norm::forward(&self.runtime, &norm, &map, EVERYTHING.0, EVERYTHING.1, &mut output)?;
        let mut outputs = Outputs::from([
            ("output".to_owned(), nchw(&output, &x.shape)),
            ("running.running_mean".to_owned(), mean),
            ("running.running_var".to_owned(), var),
        ]);
        if let Some(dy) = cotangent(case, map.len())? {
            let dy = nhwc(&Array { shape: x.shape.clone(), values: dy.to_vec() })?;
            let gradient = norm::backward(&self.runtime, &norm, &map, &dy, images, area, training)?;
            let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
            outputs.insert("grad.x".to_owned(), nchw(&gradient.input, &x.shape));
            outputs.insert("grad.weight".to_owned(), narrow(gradient.weight));
            outputs.insert("grad.bias".to_owned(), narrow(gradient.bias));
        }
        Ok(outputs)
    }

    fn relu6(&self, case: &Case) -> anyhow::Result<Outputs> {
        // Element by element, so the layout does not matter.
        let x = &case.input("x")?.values;
        ensure!(!x.is_empty(), "an empty input");
        let mut output = vec![0.0; x.len()];
        map::write(&self.runtime, Operand::plain(x), None, (0.0, 6.0), x.len(), &mut output)?;
        let mut outputs = Outputs::from([("output".to_owned(), output)]);
        if let Some(dy) = cotangent(case, x.len())? {
            let mut dx = dy.to_vec();
            let (mean, inv_std) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            let (mut sums, mut products) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mask = Some(Mask::Stored { data: x, low: 0.0, high: 6.0 });
            let producer = Some(Producer { h: x, mean: &mean, inv_std: &inv_std, mask });
            let sink = Sink { out: &mut dx, skip: None, producer, sums: (&mut sums, &mut products) };
            norm::sink(&self.runtime, sink, 1, 1, x.len())?;
            outputs.insert("grad.x".to_owned(), dx);
        }
        Ok(outputs)
    }

    fn silu(&self, case: &Case) -> anyhow::Result<Outputs> {
        let x = &case.input("x")?.values;
        let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        let silu = |x: f64| x * sigmoid(x);
        let slope = |x: f64| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
        let output = x.iter().map(|x| silu(f64::from(*x)) as f32).collect();
        let mut outputs = Outputs::from([("output".to_owned(), output)]);
        if let Some(dy) = cotangent(case, x.len())? {
            let dx = x.iter().zip(dy).map(|(x, dy)| (slope(f64::from(*x)) * f64::from(*dy)) as f32).collect();
            outputs.insert("grad.x".to_owned(), dx);
        }
        Ok(outputs)
    }

    fn residual_add(&self, kept: usize, case: &Case) -> anyhow::Result<Outputs> {
        let (x, branch) = (case.input("x")?, case.input("branch")?);
        let [_, channels, height, width] = x.nchw()?;
        let (skip, main) = (nhwc(x)?, nhwc(branch)?);
        let mut sum = vec![0.0; main.len()];
        let skip = Some((Operand::plain(&skip), kept));
        map::write(&self.runtime, Operand::plain(&main), skip, EVERYTHING, channels, &mut sum)?;
        let mut outputs = Outputs::from([("output".to_owned(), nchw(&sum, &x.shape))]);
        if let Some(dy) = cotangent(case, sum.len())? {
            let image =
                |dy: &[f32]| [&dy[..kept * height * width], &vec![0.0; (channels - kept) * height * width]].concat();
            outputs.insert("grad.x".to_owned(), dy.chunks_exact(channels * height * width).flat_map(image).collect());
            outputs.insert("grad.branch".to_owned(), dy.to_vec());
        }
        Ok(outputs)
    }

    fn global_avg_pool(&self, case: &Case) -> anyhow::Result<Outputs> {
        let x = case.input("x")?;
        let [images, channels, height, width] = x.nchw()?;
        let map = nhwc(x)?;
        let mut means = vec![0.0; images * channels];
        pool::average(&self.runtime, Operand::plain(&map), images, height * width, channels, &mut means)?;
        let mut outputs = Outputs::from([("output".to_owned(), means)]);
        if let Some(dy) = cotangent(case, images * channels)? {
            let mut dx = vec![0.0; map.len()];
            pool::average_backward(&self.runtime, dy, images, height * width, channels, plain(&mut dx))?;
            outputs.insert("grad.x".to_owned(), nchw(&dx, &x.shape));
        }
        Ok(outputs)
    }

    fn linear(&self, case: &Case) -> anyhow::Result<Outputs> {
        let (x, weight, bias) = (case.input("x")?, param(case, "weight")?, param(case, "bias")?);
        let (&[images, input], &[output, inputs]) = (x.shape.as_slice(), weight.shape.as_slice()) else {
            anyhow::bail!("x of shape {:?}, weight of shape {:?}", x.shape, weight.shape)
        };
        ensure!(input == inputs && bias.shape == [output], "bias of shape {:?}, {input} inputs", bias.shape);
        let (height, width, kernel, stride, padding, depthwise) = (1, 1, 1, 1, 0, false);
        let shape = ConvShape { images, height, width, input, output, kernel, stride, padding, depthwise };
        let dy = cotangent(case, images * output)?;
        let Convolved { output: mut logits, dx, dw } = self.convolve(&shape, &x.values, &weight.values, dy)?;
        logits.iter_mut().zip(bias.values.iter().cycle()).for_each(|(y, bias)| *y += bias);
        let mut outputs = Outputs::from([("output".to_owned(), logits)]);
        if let Some(dy) = dy {
            outputs.insert("grad.x".to_owned(), dx);
            outputs.insert("grad.weight".to_owned(), dw);
            outputs.insert("grad.bias".to_owned(), channel_sums(dy, 1, output));
        }
        Ok(outputs)
    }

    fn cross_entropy(&self, smoothing: f64, case: &Case) -> anyhow::Result<Outputs> {
        let (logits, target) = (case.input("logits")?, case.input("target")?);
        let targets: Vec<u32> = target.values.iter().map(|label| *label as u32).collect();
        let classes = logits.values.len() / targets.len();
        let loss = sandglass_train::cross_entropy(&logits.values, &targets, classes, smoothing)?;
        let mut outputs = Outputs::from([("output".to_owned(), vec![loss.mean as f32])]);
        if let Some(&[dy]) = cotangent(case, 1)? {
            outputs.insert("grad.logits".to_owned(), loss.gradient.iter().map(|g| g * dy).collect());
        }
        Ok(outputs)
    }
}

fn running(weights: &Weights) -> Outputs {
    let statistics = |role| matches!(role, Role::RunningMean | Role::RunningVar);
    let all = weights.specs.iter().zip(&weights.values).filter(|(spec, _)| statistics(spec.role));
    all.map(|(spec, values)| (format!("running.{}", spec.name), values.clone())).collect()
}

fn insert_gradients(outputs: &mut Outputs, pass: &Pass, gradients: &[Vec<f32>], dx: &[f32]) {
    for (spec, gradient) in pass.weights.specs.iter().zip(gradients).filter(|(spec, _)| spec.role.is_trained()) {
        outputs.insert(format!("grad.{}", spec.name), gradient.clone());
    }
    outputs.insert("grad.x".to_owned(), nchw(dx, &pass.x.shape));
}
