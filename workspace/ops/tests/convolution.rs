//! Convolutions against a slow f64 reference, over random shapes, on every path of this CPU and several thread counts.

mod reference;

use proptest::prelude::*;
use reference::{Rng, close, conv_backward, conv_forward, shapes};
use sandglass_ops::conv::After;
use sandglass_ops::map::{Gradient, Operand, Sink};
use sandglass_ops::{ConvShape, Isa, Runtime, conv};

struct Results {
    y: Vec<f32>,
    moments: conv::Moments,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

fn run(runtime: &Runtime, shape: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> Results {
    let mut y = vec![0.0; shape.output_len()];
    let mut moments = conv::Moments::default();
    conv::forward(runtime, shape, Operand::plain(x), w, &mut y, After::Moments(&mut moments)).unwrap();
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let gradient = Gradient { data: dy, norm: None };
    conv::backward(runtime, shape, Operand::plain(x), w, gradient, &mut dw, Some(Sink::plain(&mut dx))).unwrap();
    Results { y, moments, dx, dw }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_the_reference_and_between_paths(shape in shapes(), seed in any::<u64>()) {
        let mut rng = Rng(seed);
        let (x, w) = (rng.vec(shape.input_len()), rng.vec(shape.weight_len()));
        let dy = rng.vec(shape.output_len());
        let want_y = conv_forward(&shape, &x, &w);
        let (want_dx, want_dw) = conv_backward(&shape, &x, &w, &dy);
        let mut first: Option<Results> = None;
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 3] {
                let got = run(&Runtime::with_isa(threads, isa).unwrap(), &shape, &x, &w, &dy);
                if let Some(first) = &first {
                    prop_assert!(reference::same_bits(&got.y, &first.y));
                    prop_assert!(reference::same_bits(&got.dx, &first.dx));
                    prop_assert!(reference::same_bits(&got.dw, &first.dw));
                    prop_assert_eq!(&got.moments, &first.moments);
                    continue;
                }
                let group = if shape.depthwise { 1 } else { shape.input };
                let depth = (shape.kernel * shape.kernel * group) as f64;
                close(&got.y, &want_y, depth)?;
                close(&got.dx, &want_dx, depth * shape.output as f64)?;
                close(&got.dw, &want_dw, shape.output_len() as f64 / shape.output as f64)?;
                let count = want_y.len() / shape.output;
                for c in 0..shape.output {
                    let column = (0..count).map(|i| f64::from(got.y[i * shape.output + c]));
                    let (sum, square) = column.fold((0.0, 0.0), |(sum, square), y| (sum + y, square + y * y));
                    prop_assert!((got.moments.sum[c] - sum).abs() <= 1e-5 * (1.0 + square));
                    prop_assert!((got.moments.square[c] - square).abs() <= 1e-5 * (1.0 + square));
                }
                first = Some(got);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = ConvShape {
        images: 1,
        height: 2,
        width: 2,
        input: 4,
        output: 4,
        kernel: 7,
        stride: 1,
        padding: 0,
        fewer: [0; 2],
        depthwise: false,
    };
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let outcome = conv::forward(&runtime, &shape, Operand::plain(&[0.0; 16]), &[0.0; 784], &mut [], After::Raw);
    assert!(outcome.is_err());
}
