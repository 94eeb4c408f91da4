//! The slow f64 reference that kernels are tested against: the definitions, loop by loop.
#![allow(dead_code)]

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sandglass_ops::{Activation, ConvShape};

pub const ACTIVATIONS: [Activation; 5] =
    [Activation::None, Activation::Relu, Activation::Relu6, Activation::Silu, Activation::Sigmoid];

pub fn activation(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

/// Convolutions of all three kinds, at stride 2 also with one row or column of padding fewer before the map.
pub fn shapes() -> impl Strategy<Value = ConvShape> {
    let depthwise = (1usize..40, prop::sample::select(vec![3usize, 5]), 1usize..3);
    let dense = (1usize..40, 1usize..40, prop::sample::select(vec![1usize, 1, 3, 7]), 1usize..3);
    let kind = prop_oneof![
        depthwise.prop_map(|(c, kernel, stride)| (c, c, kernel, stride, true)),
        dense.prop_map(|(input, output, kernel, stride)| (input, output, kernel, stride, false)),
    ];
    let sizes = (1usize..20, 1usize..12, 1usize..12);
    (kind, sizes, prop::array::uniform2(0usize..2)).prop_map(|(kind, (images, height, width), fewer)| {
        let (input, output, kernel, stride, depthwise) = kind;
        let images = if kernel == 7 { images.min(3) } else { images };
        let padding = kernel / 2;
        let fewer = if stride == 2 && kernel > 1 { fewer } else { [0; 2] };
        let shape = ConvShape { images, height, width, input, output, kernel, stride, padding, fewer, depthwise };
        // A map of one pixel has room for no output there.
        if shape.output_len() > 0 { shape } else { ConvShape { fewer: [0; 2], ..shape } }
    })
}

/// splitmix64, values in -1..1.
pub struct Rng(pub u64);

impl Rng {
    pub fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 * (2.0 / (1 << 24) as f32) - 1.0
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}

pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Within the error of a sum of `terms` products of values up to 1.
pub fn close(got: &[f32], want: &[f64], terms: f64) -> Result<(), TestCaseError> {
    let tolerance = 1.2e-7 * (4.0 + terms);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        if error.is_nan() || error > tolerance {
            return Err(TestCaseError::fail(format!("element {i}: {got} is not {want}, tolerance {tolerance:e}")));
        }
    }
    if got.len() == want.len() { Ok(()) } else { Err(TestCaseError::fail("lengths differ")) }
}

/// Calls `f(output element, input element, weight element)` for every product of a convolution.
fn products(shape: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (shape.out_height(), shape.out_width());
    let group = if shape.depthwise { 1 } else { shape.input };
    for n in 0..shape.images {
        for oy in 0..oh {
            for ox in 0..ow {
                for o in 0..shape.output {
                    for ky in 0..shape.kernel {
                        for kx in 0..shape.kernel {
                            let y = (oy * shape.stride + ky + shape.fewer[0]) as isize - shape.padding as isize;
                            let x = (ox * shape.stride + kx + shape.fewer[1]) as isize - shape.padding as isize;
                            if y < 0 || x < 0 || y >= shape.height as isize || x >= shape.width as isize {
                                continue;
                            }
                            for i in 0..group {
                                let channel = if shape.depthwise { o } else { i };
                                let pixel = (n * shape.height + y as usize) * shape.width + x as usize;
                                f(
                                    ((n * oh + oy) * ow + ox) * shape.output + o,
                                    pixel * shape.input + channel,
                                    ((o * group + i) * shape.kernel + ky) * shape.kernel + kx,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

pub fn conv_forward(shape: &ConvShape, x: &[f32], w: &[f32]) -> Vec<f64> {
    conv_forward_f64(shape, &wide(x), &wide(w))
}

pub fn conv_forward_f64(shape: &ConvShape, x: &[f64], w: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; shape.output_len()];
    products(shape, |o, i, k| y[o] += x[i] * w[k]);
    y
}

/// Gradients of input and weights.
pub fn conv_backward(shape: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    products(shape, |o, i, k| {
        dx[i] += f64::from(dy[o]) * f64::from(w[k]);
        dw[k] += f64::from(dy[o]) * f64::from(x[i]);
    });
    (dx, dw)
}
