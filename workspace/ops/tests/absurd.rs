//! Shapes that no memory holds, that divide by zero, or whose lengths would wrap: an error, and nothing is read.

use sandglass_ops::conv::{self, After, Packed};
use sandglass_ops::map::{self, Gradient, Operand, Sink, Skip};
use sandglass_ops::norm::{self, Norm, Running};
use sandglass_ops::pool::{self, MaxPoolShape};
use sandglass_ops::{Activation, ConvShape, Isa, MapShape, Moments, Runtime, loss};

const CONV: ConvShape = ConvShape {
    images: 1,
    height: 4,
    width: 4,
    input: 4,
    output: 4,
    kernel: 3,
    stride: 1,
    padding: 1,
    fewer: [0; 2],
    depthwise: false,
};

fn runtime() -> Runtime {
    Runtime::with_isa(2, Isa::Portable).unwrap()
}

/// All doors of convolution, with slices as long as wrapping arithmetic would ask for.
fn is_refused(shape: ConvShape) {
    let wrapped = |sizes: &[usize]| sizes.iter().fold(1usize, |a, b| a.wrapping_mul(*b)).min(1 << 16);
    let (oh, ow) = (shape.out_height(), shape.out_width());
    let group = if shape.depthwise { 1 } else { shape.input };
    let x = vec![0.0; wrapped(&[shape.images, shape.height, shape.width, shape.input])];
    let w = vec![0.0; wrapped(&[shape.output, group, shape.kernel, shape.kernel])];
    let mut y = vec![0.0; wrapped(&[shape.images, oh, ow, shape.output])];
    let (mut dw, mut dx) = (w.clone(), x.clone());
    let (runtime, x) = (runtime(), Operand::plain(&x));
    let (gradient, sink) = (y.clone(), Sink::plain(&mut dx));
    let gradient = Gradient { data: &gradient, norm: None };
    assert!(conv::backward(&runtime, &shape, x, &w, gradient, &mut dw, Some(sink)).is_err(), "{shape:?}");
    assert!(conv::forward(&runtime, &shape, x, &w, &mut y, After::Raw).is_err(), "{shape:?}");
    if let Ok(packed) = Packed::new(&runtime, &shape, &w) {
        assert!(conv::forward_packed(&runtime, &shape, x, &packed, &mut y, After::Raw).is_err(), "{shape:?}");
    }
}

#[test]
fn convolutions() {
    // Lengths of 2^64, which wrap to 0.
    is_refused(ConvShape { images: 1 << 22, height: 1 << 22, width: 1 << 20, input: 1, output: 1, ..CONV });
    is_refused(ConvShape { images: 1 << 23, height: 1 << 23, width: 1 << 23, ..CONV });
    is_refused(ConvShape { input: 1 << 23, output: 1 << 23, kernel: 1 << 9, padding: 0, ..CONV });
    is_refused(ConvShape {
        depthwise: true,
        images: 1 << 22,
        height: 1 << 22,
        width: 1 << 20,
        input: 1,
        output: 1,
        ..CONV
    });
    for huge in [usize::MAX, usize::MAX / 2, 1 << 63, 1 << 24] {
        is_refused(ConvShape { images: huge, ..CONV });
        is_refused(ConvShape { height: huge, ..CONV });
        is_refused(ConvShape { width: huge, ..CONV });
        is_refused(ConvShape { input: huge, ..CONV });
        is_refused(ConvShape { output: huge, ..CONV });
        is_refused(ConvShape { kernel: huge, ..CONV });
        is_refused(ConvShape { stride: huge, ..CONV });
        is_refused(ConvShape { padding: huge, ..CONV });
    }
    for shape in [
        ConvShape { images: 0, ..CONV },
        ConvShape { height: 0, ..CONV },
        ConvShape { input: 0, ..CONV },
        ConvShape { output: 0, ..CONV },
        ConvShape { kernel: 0, ..CONV },
        ConvShape { stride: 0, ..CONV },
        ConvShape { kernel: 7, ..CONV },
        ConvShape { padding: 3, ..CONV },
        ConvShape { fewer: [0, 2], ..CONV },
        ConvShape { depthwise: true, fewer: [1, 0], ..CONV },
        ConvShape { depthwise: true, padding: 0, ..CONV },
        ConvShape { depthwise: true, stride: 3, ..CONV },
        ConvShape { depthwise: true, output: 8, ..CONV },
    ] {
        is_refused(shape);
    }
}

#[test]
fn max_pools() {
    let fits = MaxPoolShape { images: 1, height: 4, width: 4, channels: 2, kernel: 3, stride: 2, padding: 1 };
    let run = |shape: MaxPoolShape| {
        let wrapped = |area: usize| shape.images.wrapping_mul(area).wrapping_mul(shape.channels).min(1 << 16);
        let x = vec![1.0; wrapped(shape.height.wrapping_mul(shape.width))];
        let mut y = vec![1.0; wrapped(shape.out_height().wrapping_mul(shape.out_width()))];
        let mut dx = x.clone();
        let backward = pool::max_backward(&runtime(), &shape, &x, &y, Sink::plain(&mut dx));
        let forward = pool::max(&runtime(), &shape, &x, &mut y);
        assert_eq!(forward.is_ok(), backward.is_ok(), "{shape:?}");
        forward
    };
    assert!(run(fits).is_ok());
    for shape in [
        MaxPoolShape { stride: 0, ..fits },
        MaxPoolShape { kernel: 0, padding: 0, ..fits },
        MaxPoolShape { kernel: 9, ..fits },
        MaxPoolShape { kernel: usize::MAX, ..fits },
        MaxPoolShape { padding: 3, ..fits },
        MaxPoolShape { padding: usize::MAX, kernel: usize::MAX, ..fits },
        MaxPoolShape { images: 0, ..fits },
        MaxPoolShape { channels: 0, ..fits },
        MaxPoolShape { images: 1 << 22, height: 1 << 22, width: 1 << 20, channels: 1, ..fits },
        MaxPoolShape { height: usize::MAX, ..fits },
    ] {
        assert!(run(shape).is_err(), "{shape:?}");
    }
}

#[test]
fn maps() {
    let runtime = runtime();
    for shape in [
        MapShape { images: 0, area: 2, channels: 2 },
        MapShape { images: 2, area: 0, channels: 2 },
        MapShape { images: 2, area: 2, channels: 0 },
        MapShape { images: 1 << 32, area: 1 << 31, channels: 2 },
        MapShape { images: 1 << 32, area: 1 << 32, channels: 1 },
    ] {
        assert!(pool::average(&runtime, Operand::plain(&[]), shape, &mut []).is_err(), "{shape:?}");
        assert!(pool::average_backward(&runtime, &[], shape, Sink::plain(&mut [])).is_err(), "{shape:?}");
        assert!(norm::moments(&runtime, &[], shape).is_err(), "{shape:?}");
        assert!(norm::sink(&runtime, Sink::plain(&mut []), shape).is_err(), "{shape:?}");
        assert!(norm::backward(&runtime, &Norm::default(), &[], &[], shape, true).is_err(), "{shape:?}");
    }
    let write = |channels, skip| {
        let operand = Operand::plain(&[1.0; 12]);
        map::write(&runtime, operand, skip, Activation::None, channels, &mut [0.0; 12])
    };
    assert!(write(4, None).is_ok());
    for channels in [0, 5, 13, usize::MAX] {
        assert!(write(channels, None).is_err(), "{channels}");
    }
    assert!(write(4, Some(Skip { map: Operand::plain(&[1.0; 12]), channels: usize::MAX })).is_err());
    let gradient = Gradient { data: &[1.0; 12], norm: None };
    assert!(map::write_gradient(&runtime, gradient, 5, &mut [0.0; 12]).is_err());
}

#[test]
fn batch_norms_and_losses() {
    let moments = Moments { sum: vec![1.0; 3], square: vec![1.0; 3] };
    let train = |count, weight: &[f32], mean: &mut [f32], var: &mut [f32]| {
        Norm::train(&moments, count, 1e-5, weight, &[0.0; 3], Running { mean, var, momentum: 0.1 }).map(|_| ())
    };
    assert!(train(2, &[1.0; 3], &mut [0.0; 3], &mut [1.0; 3]).is_ok());
    assert!(train(1, &[1.0; 3], &mut [0.0; 3], &mut [1.0; 3]).is_err());
    assert!(train(2, &[1.0; 2], &mut [0.0; 3], &mut [1.0; 3]).is_err());
    assert!(train(2, &[1.0; 3], &mut [0.0; 2], &mut [1.0; 3]).is_err());
    assert!(train(2, &[1.0; 3], &mut [0.0; 3], &mut []).is_err());
    assert!(loss::cross_entropy(&[], &[0, 0], 0, 0.0).is_err());
    assert!(loss::cross_entropy(&[], &[0, 0], 1 << 63, 0.0).is_err());
}
