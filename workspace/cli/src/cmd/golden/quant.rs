//! Quantisation: integers, which are exact on every path.

use anyhow::{Context, ensure};
use sandglass_models::{Conv, Padding, Window};
use sandglass_ops::Isa;
use sandglass_quant::layers::{Finish, IntConv, Sum, global_pool, global_pool_same};
use sandglass_quant::{Affine, Multiplier, Observer, Seen, quantise_bias, quantise_weight, weight_scale};
use serde::Deserialize;

use super::Exact;
use super::case::{Array, Case};

/// Runs a case of one kind.
pub type Run = fn(&Case) -> anyhow::Result<Exact>;

const KINDS: [(&str, Run); 10] = [
    ("quantize_activation", quantize_activation),
    ("quantize_weight", quantize_weight),
    ("observer", observer),
    ("quantize_multiplier", quantize_multiplier),
    ("requantize", requantize),
    ("quant_conv", quant_conv),
    ("quant_depthwise", quant_conv),
    ("quant_linear", quant_linear),
    ("quant_add", quant_add),
    ("quant_global_pool", quant_global_pool),
];

pub fn find(kind: &str) -> Option<Run> {
    KINDS.into_iter().find_map(|(name, run)| (name == kind).then_some(run))
}

fn outputs<const N: usize>(all: [(&str, Vec<f64>); N]) -> Exact {
    all.map(|(name, values)| (name.to_owned(), values)).into()
}

fn quantize_activation(case: &Case) -> anyhow::Result<Exact> {
    let x = &case.input("x")?.values;
    let affine = Seen::of(x)?.range(Observer::MinMax).affine();
    let q: Vec<i8> = x.iter().map(|&x| affine.quantise(x)).collect();
    Ok(outputs([
        ("scale", vec![affine.scale.into()]),
        ("zero_point", vec![affine.zero_point.into()]),
        ("dequantized", q.iter().map(|&q| affine.dequantise(q).into()).collect()),
        ("q", q.into_iter().map(f64::from).collect()),
    ]))
}

fn quantize_weight(case: &Case) -> anyhow::Result<Exact> {
    let Array { shape, values, .. } = case.input("weight")?;
    let channels = shape.first().copied().filter(|count| *count > 0 && !values.is_empty()).context("no weights")?;
    let quantised = |weights: &[f32], scale: f32| -> Vec<f64> {
        weights.iter().map(|&weight| quantise_weight(weight, scale).into()).collect()
    };
    let whole = weight_scale(values);
    let rows = || values.chunks_exact(values.len() / channels);
    Ok(outputs([
        ("scale_per_channel", rows().map(|row| weight_scale(row).into()).collect()),
        ("q_per_channel", rows().flat_map(|row| quantised(row, weight_scale(row))).collect()),
        ("scale_per_tensor", vec![whole.into()]),
        ("q_per_tensor", quantised(values, whole)),
    ]))
}

fn observer(case: &Case) -> anyhow::Result<Exact> {
    #[derive(Deserialize)]
    struct Config {
        percentile: f64,
        mse_steps: u32,
    }
    let Config { percentile, mse_steps } = case.config()?;
    ensure!(mse_steps == 100, "{mse_steps} steps are not built: 100 are");
    let seen = Seen::of(&case.input("x")?.values)?;
    let mut all = Exact::new();
    let observers =
        [("minmax", Observer::MinMax), ("percentile", Observer::Percentile(percentile)), ("mse", Observer::Mse)];
    for (name, observer) in observers {
        let range = seen.range(observer);
        let affine = range.affine();
        all.insert(format!("{name}.range"), vec![(range.low as f32).into(), (range.high as f32).into()]);
        all.insert(format!("{name}.scale"), vec![affine.scale.into()]);
        all.insert(format!("{name}.zero_point"), vec![affine.zero_point.into()]);
        if let Some((k, error)) = range.mse {
            all.extend(outputs([("mse.k", vec![k.into()]), ("mse.error", vec![error])]));
        }
    }
    Ok(all)
}

#[derive(Deserialize)]
struct Reals {
    reals: Vec<f64>,
}

fn quantize_multiplier(case: &Case) -> anyhow::Result<Exact> {
    let Reals { reals } = case.config()?;
    let all: Vec<Multiplier> = reals.into_iter().map(Multiplier::of).collect();
    Ok(outputs([
        ("multiplier", all.iter().map(|multiplier| multiplier.q.into()).collect()),
        ("shift", all.iter().map(|multiplier| multiplier.shift.into()).collect()),
    ]))
}

fn requantize(case: &Case) -> anyhow::Result<Exact> {
    let Reals { reals } = case.config()?;
    let x: Vec<i32> = integers(case, "x")?;
    let row = |real: f64| {
        let multiplier = Multiplier::of(real);
        x.iter().map(move |&x| multiplier.apply(x).into()).collect::<Vec<f64>>()
    };
    Ok(outputs([("output", reals.into_iter().flat_map(row).collect())]))
}

/// An input of integers that fit their type.
fn integers<T: TryFrom<i64>>(case: &Case, name: &str) -> anyhow::Result<Vec<T>> {
    let all = case.input(name)?.integers.iter();
    all.map(|&integer| T::try_from(integer).ok().with_context(|| format!("{name}: {integer} is out of range")))
        .collect()
}

#[derive(Deserialize)]
struct Scales {
    input_scale: f32,
    input_zero_point: i32,
    output_scale: f32,
    output_zero_point: i32,
    clamp_min: i32,
    clamp_max: i32,
}

impl Scales {
    fn check(&self) -> anyhow::Result<()> {
        let zero_points = [self.input_zero_point, self.output_zero_point, self.clamp_min, self.clamp_max];
        ensure!(zero_points.iter().all(|q| i8::try_from(*q).is_ok()), "a zero point or clamp beyond 8 bits");
        let scales = [self.input_scale, self.output_scale];
        ensure!(scales.iter().all(|scale| *scale > 0.0 && scale.is_finite()), "a scale that is none");
        Ok(())
    }
}

fn quant_conv(case: &Case) -> anyhow::Result<Exact> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "in")]
        input: usize,
        #[serde(rename = "out")]
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        groups: usize,
    }
    let Config { input, output, kernel, stride, padding, groups } = case.config()?;
    let sizes = [input, output, kernel, stride, groups];
    ensure!(sizes.iter().all(|size| (1..1 << 14).contains(size)) && padding < kernel, "a size in the config is off");
    let window = Window { kernel, stride, padding: Padding::Symmetric(padding) };
    convolution(case, Conv { input, output, groups, window })
}

fn quant_linear(case: &Case) -> anyhow::Result<Exact> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "in")]
        input: usize,
        #[serde(rename = "out")]
        output: usize,
    }
    let Config { input, output } = case.config()?;
    convolution(case, Conv::pointwise(input, output))
}

/// On the portable loops and on the widest instructions that this machine has; both must agree.
fn convolution(case: &Case, conv: Conv) -> anyhow::Result<Exact> {
    let scales: Scales = case.config()?;
    scales.check()?;
    let [images, channels, height, width] = match case.input("x")?.shape[..] {
        [images, channels] => [images, channels, 1, 1],
        [images, channels, height, width] => [images, channels, height, width],
        _ => anyhow::bail!("an input of {} dimensions", case.input("x")?.shape.len()),
    };
    ensure!(channels == conv.input, "an input of {channels} channels; {} expected", conv.input);
    let x: Vec<i8> = integers(case, "x")?;
    let (weight, bias): (Vec<i8>, Vec<i32>) = (integers(case, "weight")?, integers(case, "bias")?);
    let weight_scale = &case.input("weight_scale")?.values;
    ensure!(weight_scale.len() == conv.output, "{} weight scales for {} outputs", weight_scale.len(), conv.output);
    if let (Ok(weight_f32), Ok(bias_f32)) = (case.input("weight_f32"), case.input("bias_f32")) {
        let terms = weight.len() / conv.output;
        let rounded = weight_f32.values.iter().enumerate().map(|(at, &w)| quantise_weight(w, weight_scale[at / terms]));
        ensure!(rounded.eq(weight.iter().copied()), "weight_f32 does not give weight");
        let scale = |sw: &f32| f64::from(scales.input_scale) * f64::from(*sw);
        let rounded = bias_f32.values.iter().zip(weight_scale).map(|(&bias, sw)| quantise_bias(bias, scale(sw)));
        ensure!(rounded.eq(bias.iter().copied()), "bias_f32 does not give bias");
    }
    let layer = IntConv::new("layer", conv, &weight, &bias)?;
    let real = |sw: &f32| f64::from(scales.input_scale) * f64::from(*sw) / f64::from(scales.output_scale);
    let finish = Finish {
        multipliers: weight_scale.iter().map(|sw| Multiplier::of(real(sw))).collect(),
        zero_point: scales.output_zero_point,
        low: scales.clamp_min,
        high: vec![scales.clamp_max; conv.output],
    };
    let (mut sums, mut output) = (Vec::new(), Vec::new());
    for image in x.chunks_exact((channels * height * width).max(1)).take(images) {
        let image = turned(image, channels);
        let on = |isa| layer.accumulate(isa, &image, (height, width), scales.input_zero_point, false);
        let own = on(Isa::Portable).context("the kernel does not fit")?;
        ensure!(Isa::ALL.into_iter().all(|isa| on(isa).as_ref() == Some(&own)), "two paths differ");
        let pixels = own.len() / conv.output;
        let map = finish.apply(Isa::Portable, &own);
        ensure!(Isa::ALL.into_iter().all(|isa| finish.apply(isa, &own) == map), "two paths differ");
        output.extend(turned(&map, pixels).into_iter().map(f64::from));
        sums.extend(turned(&own, pixels).into_iter().map(f64::from));
    }
    let of = |part: fn(&Multiplier) -> i32| finish.multipliers.iter().map(|m| part(m).into()).collect();
    Ok(outputs([("multiplier", of(|m| m.q)), ("shift", of(|m| m.shift)), ("accumulator", sums), ("output", output)]))
}

/// A matrix of `rows` rows, turned: CHW to HWC where there are as many rows as channels, and back with as many as pixels.
fn turned<T: Copy>(matrix: &[T], rows: usize) -> Vec<T> {
    let columns = matrix.len() / rows.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

fn quant_add(case: &Case) -> anyhow::Result<Exact> {
    #[derive(Deserialize)]
    struct Config {
        channels: usize,
        identity_channels: usize,
        branch_scale: f32,
        branch_zero_point: i32,
        identity_scale: f32,
        identity_zero_point: i32,
        output_scale: f32,
        output_zero_point: i32,
        #[serde(default = "lowest")]
        clamp_min: i32,
        #[serde(default = "highest")]
        clamp_max: i32,
    }
    let config: Config = case.config()?;
    let affine = |scale, zero_point| Affine { scale, zero_point };
    let sum = Sum::new(
        affine(config.branch_scale, config.branch_zero_point),
        affine(config.identity_scale, config.identity_zero_point),
        affine(config.output_scale, config.output_zero_point),
    );
    let [images, channels, height, width] = case.input("branch")?.nchw()?;
    ensure!(
        channels == config.channels && case.input("identity")?.shape == case.input("branch")?.shape,
        "shapes differ"
    );
    let (branch, identity): (Vec<i8>, Vec<i8>) = (integers(case, "branch")?, integers(case, "identity")?);
    let len = channels * height * width;
    let mut output = Vec::new();
    for at in 0..images {
        let side = |map: &[i8]| turned(&map[at * len..][..len], channels);
        let (branch, identity) = (side(&branch), side(&identity));
        let clamp = (config.clamp_min, config.clamp_max);
        let map = sum.apply((&branch, channels), (&identity, channels), config.identity_channels, clamp);
        output.extend(turned(&map, height * width).into_iter().map(f64::from));
    }
    Ok(outputs([("output", output)]))
}

const fn lowest() -> i32 {
    -128
}

const fn highest() -> i32 {
    127
}

fn quant_global_pool(case: &Case) -> anyhow::Result<Exact> {
    #[derive(Deserialize)]
    struct Config {
        input_scale: f32,
        input_zero_point: i32,
        output_scale: f32,
        output_zero_point: i32,
    }
    let config: Config = case.config()?;
    let input = Affine { scale: config.input_scale, zero_point: config.input_zero_point };
    let output = Affine { scale: config.output_scale, zero_point: config.output_zero_point };
    let [_, channels, height, width] = case.input("x")?.nchw()?;
    let x: Vec<i8> = integers(case, "x")?;
    let (mut same, mut requantized) = (Vec::new(), Vec::new());
    for image in x.chunks_exact(channels * height * width) {
        let map = turned(image, channels);
        same.extend(global_pool_same(&map, channels).into_iter().map(f64::from));
        requantized.extend(global_pool(&map, channels, input, output).into_iter().map(f64::from));
    }
    Ok(outputs([("same_params", same), ("requantized", requantized)]))
}
