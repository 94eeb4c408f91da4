//! Activations against their f64 definitions, and their derivatives against central differences of those, on every path of
//! this CPU: as an operand is read, as a map is written, and in a sink's mask.

mod reference;

use reference::{ACTIVATIONS, activation, same_bits};
use sandglass_ops::map::{self, Affine, Mask, Operand, Producer, Sink, Sums};
use sandglass_ops::{Activation, Isa, MapShape, OpError, Runtime, norm, pool};

const CHANNELS: usize = 37;
const SHAPE: MapShape = MapShape { images: 3, area: 7, channels: CHANNELS };

/// From -12 to 12, no border of a clamp among them; the gradients that meet them.
fn values() -> (Vec<f32>, Vec<f32>) {
    let place = |i: usize| i as f32 / SHAPE.len() as f32;
    let x = (0..SHAPE.len()).map(|i| 24.0 * place(i * 101 % SHAPE.len()) - 12.0 + 0.003);
    (x.collect(), (0..SHAPE.len()).map(|i| 1.5 - place(i * 7 % SHAPE.len())).collect())
}

fn paths() -> impl Iterator<Item = Runtime> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    isas.flat_map(|isa| [1, 2].map(|threads| Runtime::with_isa(threads, isa).unwrap()))
}

fn slope(kind: Activation, x: f64) -> f64 {
    const STEP: f64 = 1e-5;
    (activation(kind, x + STEP) - activation(kind, x - STEP)) / (2.0 * STEP)
}

fn near(kind: Activation, got: f32, want: f64) {
    assert!((f64::from(got) - want).abs() <= 4e-7 * (1.0 + want.abs()), "{kind:?}: {got} is not {want}");
}

#[test]
fn values_are_those_of_the_definition_wherever_it_is_applied() {
    let (x, _) = values();
    for kind in ACTIVATIONS {
        let mut first: Option<Vec<f32>> = None;
        for runtime in paths() {
            let mut written = vec![0.0; x.len()];
            map::write(&runtime, Operand::plain(&x), None, kind, CHANNELS, &mut written).unwrap();
            for (got, x) in written.iter().zip(&x) {
                near(kind, *got, activation(kind, f64::from(*x)));
            }
            assert!(same_bits(first.get_or_insert(written.clone()), &written), "{kind:?} on {:?}", runtime.isa());
            // Read by an operator that does nothing else: the mean of one pixel.
            let read = Operand { data: &x, affine: None, activation: kind };
            let pixels = MapShape { images: SHAPE.images * SHAPE.area, area: 1, channels: CHANNELS };
            let mut means = vec![0.0; x.len()];
            pool::average(&runtime, read, pixels, &mut means).unwrap();
            assert_eq!(means, written, "{kind:?} on {:?}", runtime.isa());
        }
    }
}

#[test]
fn far_from_zero_nothing_overflows_and_a_nan_stays_one() {
    let x = [f32::NAN, -1e30, -200.0, -88.0, 88.0, 200.0, 1e30, -0.0];
    let runtime = Runtime::new(1).unwrap();
    let write = |kind| {
        let mut y = [0.0; 8];
        map::write(&runtime, Operand::plain(&x), None, kind, 8, &mut y).unwrap();
        y
    };
    for kind in ACTIVATIONS {
        let y = write(kind);
        assert!(y[0].is_nan() && y[1..].iter().all(|y| y.is_finite()), "{kind:?}: {y:?}");
    }
    assert_eq!(write(Activation::Silu)[4..7], x[4..7]);
    assert_eq!(write(Activation::Sigmoid)[4..], [1.0, 1.0, 1.0, 0.5]);
    assert_eq!(write(Activation::Relu)[7].to_bits(), (-0.0f32).to_bits());
}

#[test]
fn a_mask_is_the_derivative_and_the_sums_are_of_what_is_written() {
    let (h, g) = values();
    let (scale, shift) = (vec![0.5; CHANNELS], vec![0.25; CHANNELS]);
    let (mean, inv_std) = (vec![0.125; CHANNELS], vec![2.0; CHANNELS]);
    let affine = Affine { scale: &scale, shift: &shift };
    for kind in ACTIVATIONS {
        let x: Vec<f64> = h.iter().map(|h| f64::from(*h) * 0.5 + 0.25).collect();
        let stored: Vec<f32> = x.iter().map(|x| activation(kind, *x) as f32).collect();
        let mut masks = vec![Mask::Norm { affine, activation: kind }];
        if kind.is_known_by_output() {
            masks.push(Mask::Stored { data: &stored, activation: kind });
        }
        for mask in masks {
            let mut first: Option<Vec<f32>> = None;
            for runtime in paths() {
                let mut out = g.clone();
                let (mut gradient, mut product) = (vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
                let producer = Producer { h: &h, mean: &mean, inv_std: &inv_std, mask: Some(mask) };
                let sums = Sums { gradient: &mut gradient, product: &mut product };
                norm::sink(&runtime, Sink { out: &mut out, skip: None, producer: Some((producer, sums)) }, SHAPE)
                    .unwrap();
                for ((got, x), g) in out.iter().zip(&x).zip(&g) {
                    let want = slope(kind, *x) * f64::from(*g);
                    assert!((f64::from(*got) - want).abs() <= 2e-6, "{mask:?} at {x}: {got} is not {want}");
                }
                for c in 0..CHANNELS {
                    let column = || (c..out.len()).step_by(CHANNELS);
                    let sum: f64 = column().map(|i| f64::from(out[i])).sum();
                    let normed: f64 = column().map(|i| f64::from(out[i]) * (f64::from(h[i]) - 0.125) * 2.0).sum();
                    assert!((gradient[c] - sum).abs() <= 1e-5 && (product[c] - normed).abs() <= 1e-4);
                }
                assert!(same_bits(first.get_or_insert(out.clone()), &out), "{kind:?} on {:?}", runtime.isa());
            }
        }
    }
}

#[test]
fn the_gradient_of_silu_does_not_follow_from_its_output() {
    let (h, g) = values();
    let ones = vec![1.0; CHANNELS];
    let mask = Some(Mask::Stored { data: &h, activation: Activation::Silu });
    let (mut out, mut gradient, mut product) = (g, vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
    let sums = Sums { gradient: &mut gradient, product: &mut product };
    let producer = Producer { h: &h, mean: &ones, inv_std: &ones, mask };
    let sink = Sink { out: &mut out, skip: None, producer: Some((producer, sums)) };
    let outcome = norm::sink(&Runtime::new(1).unwrap(), sink, SHAPE);
    assert!(matches!(outcome, Err(OpError::MaskByOutput(Activation::Silu))));
}
