//! Every candle op against an f64 definition, its gradients against central differences of that definition, over random
//! shapes, strided tensors included, with the same bits on every path of this CPU and several thread counts.

mod reference;

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use reference::{Rng, conv_forward, same_bits};
use sandglass_ops::candle::Ops;
use sandglass_ops::{ConvShape, Isa, Runtime};

type Outcome = Result<(), TestCaseError>;

/// An op's argument: values and shape.
struct Argument(Vec<f32>, Vec<usize>);

/// `ours` on f32 tensors, `definition` on f64 values in the same (row-major) order.
fn check(
    seed: u64,
    arguments: &[Argument],
    ours: impl Fn(&Ops, &[Tensor]) -> candle_core::Result<Tensor>,
    definition: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) -> Outcome {
    let mut rng = Rng(seed);
    let wide: Vec<Vec<f64>> = arguments.iter().map(|a| a.0.iter().map(|x| f64::from(*x)).collect()).collect();
    let want = definition(&wide);
    let cotangent = rng.vec(want.len());
    let mut first: Option<Vec<Vec<f32>>> = None;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 2] {
            let ops = Ops::new(Runtime::with_isa(threads, isa).unwrap());
            let got = run(&ops, arguments, &ours, &cotangent, seed.is_multiple_of(2)).unwrap();
            if let Some(first) = &first {
                prop_assert!(got.iter().zip(first).all(|(a, b)| same_bits(a, b)), "{isa:?}, {threads} threads differ");
            } else {
                first = Some(got);
            }
        }
    }
    let got = first.unwrap();
    near("output", &got[0], &want)?;
    let loss =
        |wide: &[Vec<f64>]| -> f64 { definition(wide).iter().zip(&cotangent).map(|(y, g)| y * f64::from(*g)).sum() };
    for (index, argument) in arguments.iter().enumerate() {
        for _ in 0..6 {
            let at = (rng.value().abs() * 1e6) as usize % argument.0.len();
            let mut moved = wide.clone();
            let step = 1e-4;
            moved[index][at] += step;
            let up = loss(&moved);
            moved[index][at] -= 2.0 * step;
            let slope = (up - loss(&moved)) / (2.0 * step);
            let found = f64::from(got[1 + index][at]);
            prop_assert!(
                (found - slope).abs() <= 3e-4 * (1.0 + slope.abs()),
                "gradient of argument {index} at {at}: {found}, central difference {slope}"
            );
        }
    }
    Ok(())
}

fn near(what: &str, got: &[f32], want: &[f64]) -> Outcome {
    prop_assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        prop_assert!((f64::from(*got) - want).abs() <= 2e-5 * (1.0 + want.abs()), "{}: {} is not {}", what, got, want);
    }
    Ok(())
}

/// Output and the gradients of all arguments; `strided` hands the arguments over as transposes of transposed copies.
fn run(
    ops: &Ops,
    arguments: &[Argument],
    ours: impl Fn(&Ops, &[Tensor]) -> candle_core::Result<Tensor>,
    cotangent: &[f32],
    strided: bool,
) -> candle_core::Result<Vec<Vec<f32>>> {
    let mut vars = Vec::new();
    for Argument(values, shape) in arguments {
        vars.push(Var::from_vec(values.clone(), &shape[..], &Device::Cpu)?);
    }
    let mut tensors = Vec::new();
    for var in &vars {
        let rank = var.rank();
        tensors.push(match strided && rank > 1 {
            true => var.transpose(0, rank - 1)?.contiguous()?.transpose(0, rank - 1)?,
            false => var.as_tensor().clone(),
        });
    }
    let y = ours(ops, &tensors)?;
    let loss = y.mul(&Tensor::from_slice(cotangent, y.shape(), &Device::Cpu)?)?.sum_all()?;
    let gradients = loss.backward()?;
    let mut all = vec![y.flatten_all()?.to_vec1()?];
    for var in &vars {
        let gradient = gradients.get(var.as_tensor()).ok_or(candle_core::Error::Msg("no gradient".into()))?;
        all.push(gradient.flatten_all()?.to_vec1()?);
    }
    Ok(all)
}

/// NCHW values to NHWC or, with rows and columns exchanged, back.
fn turn(x: &[f64], images: usize, rows: usize, columns: usize) -> Vec<f64> {
    let plane = rows * columns;
    (0..images * plane).map(|i| x[i / plane * plane + i % rows * columns + i % plane / rows]).collect()
}

fn conv_nchw(shape: &ConvShape, x: &[f64], w: &[f64]) -> Vec<f64> {
    let area = shape.height * shape.width;
    let y = reference::conv_forward_f64(shape, &turn(x, shape.images, shape.input, area), w);
    turn(&y, shape.images, shape.out_height() * shape.out_width(), shape.output)
}

/// Moves values away from the borders of ReLU6, where no derivative exists.
fn off_borders(values: Vec<f32>) -> Vec<f32> {
    let near = |x: f32| x.abs() < 0.01 || (x - 6.0).abs() < 0.01;
    values.into_iter().map(|x| 8.0 * x).map(|x| if near(x) { x + 0.05 } else { x }).collect()
}

/// Batch norm of NCHW values: by their own statistics, or by given ones.
fn batch_norm(
    x: &[f64],
    w: &[f64],
    b: &[f64],
    channels: usize,
    area: usize,
    given: Option<(&[f32], &[f32])>,
) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for c in 0..channels {
        let places: Vec<usize> = (0..x.len()).filter(|i| i / area % channels == c).collect();
        let n = places.len() as f64;
        let (mean, var) = match given {
            Some((mean, var)) => (f64::from(mean[c]), f64::from(var[c])),
            None => {
                let mean = places.iter().map(|i| x[*i]).sum::<f64>() / n;
                (mean, places.iter().map(|i| (x[*i] - mean).powi(2)).sum::<f64>() / n)
            }
        };
        for i in places {
            y[i] = (x[i] - mean) / (var + 1e-3).sqrt() * w[c] + b[c];
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn depthwise(n in 1usize..4, c in 1usize..21, h in 1usize..8, w in 1usize..8, five: bool, stride in 1usize..3, seed: u64) {
        let kernel = if five { 5 } else { 3 };
        let shape = ConvShape { images: n, height: h, width: w, input: c, output: c, kernel, stride, padding: kernel / 2, fewer: [0; 2], depthwise: true };
        let mut rng = Rng(seed);
        let x = Argument(rng.vec(shape.input_len()), vec![n, c, h, w]);
        let weight = Argument(rng.vec(shape.weight_len()), vec![c, 1, kernel, kernel]);
        check(seed, &[x, weight], |ops, t| ops.conv2d(&t[0], &t[1], stride, kernel / 2, c), |t| conv_nchw(&shape, &t[0], &t[1]))?;
    }

    #[test]
    fn dense(n in 1usize..4, input in 1usize..12, output in 1usize..20, h in 1usize..7, w in 1usize..7, kernel in 0usize..3, stride in 1usize..3, seed: u64) {
        let kernel = [1, 3, 5][kernel];
        let shape = ConvShape { images: n, height: h, width: w, input, output, kernel, stride, padding: kernel / 2, fewer: [0; 2], depthwise: false };
        let mut rng = Rng(seed);
        let x = Argument(rng.vec(shape.input_len()), vec![n, input, h, w]);
        let weight = Argument(rng.vec(shape.weight_len()), vec![output, input, kernel, kernel]);
        check(seed, &[x, weight], |ops, t| ops.conv2d(&t[0], &t[1], stride, kernel / 2, 1), |t| conv_nchw(&shape, &t[0], &t[1]))?;
    }

    #[test]
    fn batch_norm_in_training(n in 1usize..5, c in 1usize..21, h in 1usize..6, w in 1usize..6, seed: u64) {
        prop_assume!(n * h * w > 1);
        let mut rng = Rng(seed);
        let arguments = [
            Argument(rng.vec(n * c * h * w), vec![n, c, h, w]),
            Argument(rng.vec(c), vec![c]),
            Argument(rng.vec(c), vec![c]),
        ];
        let zeros = Tensor::zeros(c, candle_core::DType::F32, &Device::Cpu).unwrap();
        check(
            seed,
            &arguments,
            |ops, t| Ok(ops.batch_norm(&t[0], &t[1], &t[2], (&zeros, &zeros), 0.1, 1e-3)?.output),
            |t| batch_norm(&t[0], &t[1], &t[2], c, h * w, None),
        )?;
    }

    #[test]
    fn batch_norm_in_evaluation(n in 1usize..5, c in 1usize..21, h in 1usize..6, w in 1usize..6, seed: u64) {
        let mut rng = Rng(seed);
        let arguments = [
            Argument(rng.vec(n * c * h * w), vec![n, c, h, w]),
            Argument(rng.vec(c), vec![c]),
            Argument(rng.vec(c), vec![c]),
        ];
        let (mean, var) = (rng.vec(c), rng.vec(c).into_iter().map(|v| 1.5 + v).collect::<Vec<_>>());
        let (mean_t, var_t) = (Tensor::new(&mean[..], &Device::Cpu).unwrap(), Tensor::new(&var[..], &Device::Cpu).unwrap());
        check(
            seed,
            &arguments,
            |ops, t| ops.batch_norm_eval(&t[0], &t[1], &t[2], (&mean_t, &var_t), 1e-3),
            |t| batch_norm(&t[0], &t[1], &t[2], c, h * w, Some((&mean, &var))),
        )?;
    }

    #[test]
    fn relu6(n in 1usize..4, c in 1usize..9, h in 1usize..6, w in 1usize..6, seed: u64) {
        let x = Argument(off_borders(Rng(seed).vec(n * c * h * w)), vec![n, c, h, w]);
        check(seed, &[x], |ops, t| ops.relu6(&t[0]), |t| t[0].iter().map(|x| x.clamp(0.0, 6.0)).collect())?;
    }

    #[test]
    fn silu(n in 1usize..4, c in 1usize..9, h in 1usize..6, w in 1usize..6, seed: u64) {
        let x = Argument(Rng(seed).vec(n * c * h * w).into_iter().map(|x| 9.0 * x).collect(), vec![n, c, h, w]);
        check(seed, &[x], |ops, t| ops.silu(&t[0]), |t| t[0].iter().map(|x| x / (1.0 + (-x).exp())).collect())?;
    }

    #[test]
    fn residual_add(n in 1usize..4, c in 1usize..9, h in 1usize..6, w in 1usize..6, share in 0usize..9, seed: u64) {
        let channels = share.min(c);
        let mut rng = Rng(seed);
        let branch = Argument(rng.vec(n * c * h * w), vec![n, c, h, w]);
        let identity = Argument(rng.vec(n * c * h * w), vec![n, c, h, w]);
        let reached = |i: usize| i / (h * w) % c < channels;
        check(seed, &[branch, identity], |ops, t| ops.residual_add(&t[0], &t[1], channels), |t| {
            (0..t[0].len()).map(|i| t[0][i] + if reached(i) { t[1][i] } else { 0.0 }).collect()
        })?;
    }

    #[test]
    fn global_avg_pool(n in 1usize..4, c in 1usize..21, h in 1usize..6, w in 1usize..6, seed: u64) {
        let x = Argument(Rng(seed).vec(n * c * h * w), vec![n, c, h, w]);
        check(seed, &[x], |ops, t| ops.global_avg_pool(&t[0]), |t| {
            t[0].chunks(h * w).map(|plane| plane.iter().sum::<f64>() / (h * w) as f64).collect()
        })?;
    }

    #[test]
    fn linear(n in 1usize..20, input in 1usize..40, output in 1usize..40, seed: u64) {
        let mut rng = Rng(seed);
        let arguments = [
            Argument(rng.vec(n * input), vec![n, input]),
            Argument(rng.vec(output * input), vec![output, input]),
            Argument(rng.vec(output), vec![output]),
        ];
        check(seed, &arguments, |ops, t| ops.linear(&t[0], &t[1], &t[2]), |t| {
            let dot = |i: usize, o: usize| -> f64 { (0..input).map(|k| t[0][i * input + k] * t[1][o * input + k]).sum() };
            (0..n * output).map(|at| dot(at / output, at % output) + t[2][at % output]).collect()
        })?;
    }

    #[test]
    fn cross_entropy(n in 1usize..10, classes in 1usize..30, smoothing in 0usize..3, seed: u64) {
        let smoothing = smoothing as f64 * 0.1;
        let labels: Vec<u32> = (0..n).map(|i| ((i * 7 + seed as usize % 100) % classes) as u32).collect();
        let x = Argument(Rng(seed).vec(n * classes).into_iter().map(|x| 9.0 * x).collect(), vec![n, classes]);
        check(seed, &[x], |ops, t| ops.cross_entropy(&t[0], &labels, smoothing), |t| {
            let row = |(logits, label): (&[f64], &u32)| {
                let sum: f64 = logits.iter().map(|x| x.exp()).sum();
                let want = |class: usize| smoothing / classes as f64 + if class == *label as usize { 1.0 - smoothing } else { 0.0 };
                logits.iter().enumerate().map(|(class, x)| want(class) * (sum.ln() - x)).sum::<f64>()
            };
            vec![t[0].chunks(classes).zip(&labels).map(row).sum::<f64>() / n as f64]
        })?;
    }
}

/// By hand: two channels of a 2x3 map, of which a 3x3 kernel with stride 2 and padding 1 makes one row of two pixels.
#[test]
fn the_reference_convolves_a_worked_example() {
    let shape = ConvShape {
        images: 1,
        height: 2,
        width: 3,
        input: 2,
        output: 1,
        kernel: 3,
        stride: 2,
        padding: 1,
        fewer: [0; 2],
        depthwise: false,
    };
    // NHWC: the first channel counts 1 to 6, the second is ten times that.
    let x = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0, 5.0, 50.0, 6.0, 60.0];
    // OIHW: the first channel's filter is 0 to 8 in reading order, the second's picks the tap in the middle of the lowest row.
    let w = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    // Left: 4 * 1 + 5 * 2 + 7 * 4 + 8 * 5 + 40. Right: 3 * 2 + 4 * 3 + 6 * 5 + 7 * 6 + 60.
    assert_eq!(conv_forward(&shape, &x, &w), [122.0, 150.0]);
    let each = ConvShape { output: 2, depthwise: true, ..shape };
    // Depthwise: a filter each, so that the sums stay apart.
    assert_eq!(conv_forward(&each, &x, &w), [82.0, 40.0, 90.0, 60.0]);
}

#[test]
fn borders_of_relu6_pass_no_gradient() {
    let ops = Ops::new(Runtime::with_isa(1, Isa::Portable).unwrap());
    let x = Var::new(&[0f32, -0.0, 6.0, 3.0, f32::from_bits(1), 5.9999995], &Device::Cpu).unwrap();
    let gradients = ops.relu6(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let ops = Ops::new(Runtime::with_isa(1, Isa::Portable).unwrap());
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(ops.conv2d(&zeros(&[1, 4, 2, 2]), &zeros(&[4, 1, 7, 7]), 1, 2, 4).is_err());
    assert!(ops.conv2d(&zeros(&[1, 4, 2, 2]), &zeros(&[4, 3, 1, 1]), 1, 0, 1).is_err());
    assert!(ops.conv2d(&zeros(&[1, 4, 2, 2]), &zeros(&[4, 4, 3, 3]), 0, 0, 1).is_err());
    assert!(ops.conv2d(&zeros(&[1, 4, 2, 2]), &zeros(&[6, 2, 1, 1]), 1, 0, 4).is_err());
    assert!(ops.relu6(&zeros(&[2]).to_dtype(candle_core::DType::F64).unwrap()).is_err());
    assert!(ops.cross_entropy(&zeros(&[1, 3]), &[3], 0.0).is_err());
    let one = zeros(&[1, 3, 1, 1]);
    let c = zeros(&[3]);
    let outcome = ops.batch_norm(&one, &c, &c, (&c, &c), 0.1, 1e-5).map(|_| ());
    assert!(outcome.unwrap_err().to_string().contains("more than one value"));
}
