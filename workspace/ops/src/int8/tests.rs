//! Each convolution against one written out in 64-bit integers.

use super::*;
use crate::Isa;

/// SplitMix64.
pub(super) struct Mixed(pub u64);

impl Mixed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Mixed, or nothing but corners.
    fn bytes(&mut self, len: usize, corners: bool) -> Vec<u8> {
        let of = |at: u64| if corners { [0, 255, 128, 127][(at % 4) as usize] } else { (at >> 20) as u8 };
        (0..len).map(|_| of(self.next())).collect()
    }

    fn weights(&mut self, len: usize, corners: bool) -> Vec<i8> {
        let of = |at: u64| if corners { [-127, 127][(at % 2) as usize] } else { ((at >> 20) % 255) as i8 };
        (0..len).map(|_| of(self.next()).max(-127)).collect()
    }
}

/// Those that this CPU has.
pub(super) fn paths() -> Vec<Path> {
    let widest = Isa::ALL.into_iter().find(|isa| isa.is_available()).unwrap();
    Path::served(widest).collect()
}

/// The narrowest instruction set that serves a path.
fn isa(path: Path) -> Isa {
    let served = |isa: &Isa| isa.is_available() && Path::served(*isa).any(|of| of == path);
    Isa::ALL.into_iter().rev().find(served).unwrap()
}

/// `bias + sum of (x - zero) * w`, zeros of the map around it.
fn slow(shape: &ConvShape, x: &[u8], zero: u8, weights: &[i8], bias: &[i32]) -> Vec<i32> {
    let ConvShape { images, height, width, input, output, kernel, stride, depthwise, .. } = *shape;
    let mut sums = Vec::new();
    for image in 0..images {
        for (oy, ox) in (0..shape.out_height()).flat_map(|oy| (0..shape.out_width()).map(move |ox| (oy, ox))) {
            for o in 0..output {
                let mut sum = i64::from(bias[o]);
                for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                    let row = (oy * stride + ky).checked_sub(shape.above()).filter(|y| *y < height);
                    let column = (ox * stride + kx).checked_sub(shape.left()).filter(|x| *x < width);
                    let Some((iy, ix)) = row.zip(column) else { continue };
                    let group = if depthwise { 1 } else { input };
                    for i in 0..group {
                        let c = if depthwise { o } else { i };
                        let x = x[((image * height + iy) * width + ix) * input + c];
                        let w = weights[((o * group + i) * kernel + ky) * kernel + kx];
                        sum += (i64::from(x) - i64::from(zero)) * i64::from(w);
                    }
                }
                sums.push(sum as i32);
            }
        }
    }
    sums
}

fn shapes(mixed: &mut Mixed) -> ConvShape {
    let depthwise = mixed.next().is_multiple_of(5);
    let (kernel, stride) = match depthwise {
        true => ([3, 5][mixed.below(2)], 1 + mixed.below(2)),
        false => ([1, 1, 1, 3][mixed.below(4)], 1 + mixed.below(2)),
    };
    let input = 1 + mixed.below(70);
    let output = if depthwise { input } else { 1 + mixed.below(70) };
    let padding = kernel / 2;
    let fewer = if stride == 2 && kernel > 1 { [mixed.below(2), mixed.below(2)] } else { [0; 2] };
    let size = |mixed: &mut Mixed| kernel + mixed.below(12);
    let (height, width) = (size(mixed), size(mixed));
    ConvShape { images: 1 + mixed.below(3), height, width, input, output, kernel, stride, padding, fewer, depthwise }
}

/// Some 10^6 tiles of either kind, all in all: a tile is at most six pixels or one by sixteen channels.
#[test]
fn convolutions_are_the_integers_on_every_path_and_thread_count() {
    let mut mixed = Mixed(1);
    let runtimes: Vec<(Path, Runtime)> = paths()
        .into_iter()
        .flat_map(|path| [1, 3].map(|threads| (path, Runtime::with_isa(threads, isa(path)).unwrap())))
        .collect();
    let mut tiles = [0; 2];
    for round in 0..4500 {
        let shape = shapes(&mut mixed);
        let corners = round % 3 == 0;
        let zero = if corners { [0, 255, 128][round % 9 / 3] } else { mixed.next() as u8 };
        let x = mixed.bytes(shape.input_len(), corners);
        let weights = mixed.weights(shape.weight_len(), corners);
        let bias: Vec<i32> = (0..shape.output).map(|_| (mixed.next() as i32) >> (8 + mixed.below(20))).collect();
        let expected = slow(&shape, &x, zero, &weights, &bias);
        // A residual sum that reaches some of the channels, onto a map that is wider or not.
        let channels = shape.output + mixed.below(3);
        let skip = mixed.bytes(expected.len() / shape.output * channels, false);
        let grid =
            |mixed: &mut Mixed| Grid { scale: 0.01 + (mixed.next() % 1000) as f32 / 5e3, zero: mixed.next() as u8 };
        let (mut main, other, to) = (grid(&mut mixed), grid(&mut mixed), grid(&mut mixed));
        // As after a ReLU.
        let is_clamped = round % 4 == 1;
        main.zero *= u8::from(!is_clamped);
        // A clamp that is not a byte's own is looked up.
        let clamp = if round % 7 == 0 { (mixed.below(100) as u8, 180) } else { (0, 255) };
        let sum = Sum::new(main, other, to, mixed.below(shape.output + 1), clamp);
        let factor = |mixed: &mut Mixed| match round % 20 {
            // Factors that vectors of 32 bits do not do.
            0 => 0.5 + mixed.below(3) as f64,
            _ => 0.3 / (1 + mixed.below(4000)) as f64,
        };
        let multipliers: Vec<Multiplier> = (0..shape.output).map(|_| Multiplier::of(factor(&mut mixed))).collect();
        let high = mixed.bytes(shape.output, false);
        let low = mixed.below(30) as u8 * u8::from(!is_clamped);
        let map: Vec<u8> = expected
            .iter()
            .enumerate()
            .map(|(at, &sum)| {
                let c = at % shape.output;
                let x = multipliers[c].apply(sum).saturating_add(main.zero.into());
                x.min(high[c].into()).max(low.into()) as u8
            })
            .collect();
        let added: Vec<u8> = map
            .iter()
            .enumerate()
            .map(|(at, &q)| {
                let (pixel, c) = (at / shape.output, at % shape.output);
                sum.of(q, (c < sum.added()).then(|| skip[pixel * channels + c]))
            })
            .collect();
        // More threads every now and then.
        for (path, runtime) in runtimes.iter().filter(|(_, runtime)| runtime.threads() == 1 || round % 8 == 0) {
            let path = *path;
            let conv = Conv::new(path, &shape, &weights, &bias, zero).unwrap();
            let mut sums = vec![7; expected.len()];
            conv.sums(runtime, &shape, &x, &mut sums).unwrap();
            assert_eq!(sums, expected, "{path:?} {shape:?}");
            let finish = Finish::new(multipliers.clone(), conv.largest(), main.zero, low, &high);
            let mut out = vec![7; expected.len()];
            conv.run(runtime, &shape, &x, &finish, None, &mut out).unwrap();
            assert_eq!(out, map, "{path:?} {shape:?}");
            let skip = Skip { map: &skip, channels, sum: &sum };
            conv.run(runtime, &shape, &x, &finish, Some(skip), &mut out).unwrap();
            assert_eq!(out, added, "{path:?} {shape:?} {sum:?}");
            let pixels = expected.len() / shape.output;
            let size = if shape.depthwise { 1 } else { 6 };
            tiles[usize::from(shape.depthwise)] += 3 * pixels.div_ceil(size) * shape.output.div_ceil(16);
        }
    }
    assert!(tiles.iter().all(|&tiles| tiles > 1_000_000), "{tiles:?}");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let shape = ConvShape {
        images: 1,
        height: 4,
        width: 4,
        input: 3,
        output: 5,
        kernel: 3,
        stride: 1,
        padding: 1,
        fewer: [0; 2],
        depthwise: false,
    };
    let new = |path, weights, biases| Conv::new(path, &shape, &vec![1; weights], &vec![0; biases], 0);
    assert!(new(Path::Portable, 134, 5).is_err());
    assert!(new(Path::Portable, 135, 4).is_err());
    let conv = new(Path::Portable, 135, 5).unwrap();
    let sums = |shape: &ConvShape, x: usize, out: usize| conv.sums(&runtime, shape, &vec![0; x], &mut vec![0; out]);
    assert!(sums(&shape, 48, 80).is_ok());
    assert!(sums(&shape, 47, 80).is_err());
    assert!(sums(&shape, 48, 79).is_err());
    assert!(sums(&ConvShape { stride: 2, ..shape }, 48, 20).is_err());
    let finish = |channels: usize| Finish::new(vec![Multiplier::of(0.01); channels], 100, 0, 0, &vec![255; channels]);
    let grid = Grid { scale: 0.1, zero: 0 };
    let run = |channels, added, map: &[u8]| {
        let sum = Sum::new(grid, grid, grid, added, (0, 255));
        let skip = Skip { map, channels: 5, sum: &sum };
        conv.run(&runtime, &shape, &[0; 48], &finish(channels), Some(skip), &mut [0; 80])
    };
    assert!(run(5, 5, &[0; 80]).is_ok());
    assert!(run(4, 5, &[0; 80]).is_err());
    assert!(run(5, 6, &[0; 80]).is_err());
    assert!(run(5, 5, &[0; 79]).is_err());
    // Packed for a path that the runtime does not run on.
    if Path::of(Isa::Avx2) != Path::Portable && Isa::Avx2.is_available() {
        let other = new(Path::Avx2, 135, 5).unwrap();
        assert!(other.sums(&runtime, &shape, &[0; 48], &mut [0; 80]).is_err());
    }
}

#[test]
fn reals_are_rounded_half_away_from_zero() {
    let mut mixed = Mixed(5);
    let runtimes: Vec<Runtime> = paths().into_iter().map(|path| Runtime::with_isa(2, isa(path)).unwrap()).collect();
    for scale in [0.02f32, 1.0, 0.25, 3.7e-3] {
        let grid = Grid { scale, zero: mixed.next() as u8 };
        // Halves, what is near them, what is far away and what is no number.
        let mut x: Vec<f32> = (-600..600).map(|half| half as f32 / 2.0 * scale).collect();
        x.extend((0..40_000).map(|_| ((mixed.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * 300.0 * scale));
        x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0, 1e-45]);
        let expected: Vec<u8> = x
            .iter()
            .map(|&x| {
                let steps = f64::from(x) / f64::from(scale);
                (if steps.is_nan() { 0.0 } else { steps.round() } + f64::from(grid.zero)).clamp(0.0, 255.0) as u8
            })
            .collect();
        for runtime in &runtimes {
            let mut out = vec![7; x.len()];
            quantise(runtime, &x, grid, &mut out).unwrap();
            assert_eq!(out, expected, "{:?}", runtime.isa());
        }
    }
}

#[test]
fn gates_are_products_brought_to_a_scale() {
    let mut mixed = Mixed(11);
    let runtimes: Vec<Runtime> = paths().into_iter().map(|path| Runtime::with_isa(2, isa(path)).unwrap()).collect();
    for round in 0..400 {
        let (channels, pixels) = (1 + mixed.below(100), 1 + mixed.below(40) * (1 + round % 3));
        let (x, by) = (mixed.bytes(pixels * channels, round % 2 == 0), mixed.bytes(channels, round % 3 == 0));
        let zeros = (mixed.next() as u8, mixed.next() as u8);
        // A half and more are done value by value.
        let real = [0.5, 1e-3, 0.013, 1e-5, 0.499][mixed.below(5)];
        let to = Rescale { multiplier: Multiplier::of(real), zero: mixed.next() as u8 };
        let one = |at: usize, x: u8| {
            let product = (i32::from(x) - i32::from(zeros.0)) * (i32::from(by[at % channels]) - i32::from(zeros.1));
            to.multiplier.apply(product).saturating_add(to.zero.into()).clamp(0, 255) as u8
        };
        let expected: Vec<u8> = x.iter().enumerate().map(|(at, &x)| one(at, x)).collect();
        for runtime in &runtimes {
            let mut out = vec![7; x.len()];
            gate(runtime, (&x, &by), zeros, to, &mut out).unwrap();
            assert_eq!(out, expected, "{:?}, {channels} channels", runtime.isa());
        }
    }
}
