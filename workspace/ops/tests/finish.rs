//! What happens to a convolution's output: the fused finish against a slow f64 reference and, to the bit, against a pass of
//! its own; weights packed before against weights packed for the call.

mod reference;

use proptest::prelude::*;
use reference::{ACTIVATIONS, Rng, activation, close, conv_forward, same_bits, shapes};
use sandglass_ops::conv::{self, After, Packed};
use sandglass_ops::map::{self, Affine, Operand, Skip};
use sandglass_ops::{Activation, ConvShape, Isa, OpError, Runtime};

/// Everything that a finish reads.
struct Case {
    shape: ConvShape,
    x: Vec<f32>,
    weights: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    skip: Vec<f32>,
    /// How many channels the shortcut reaches; None without one.
    reached: Option<usize>,
    /// The shortcut's map is read as it is stored.
    plain: bool,
    /// Of the shortcut's map as it is read, and of the result.
    activations: (Activation, Activation),
}

impl Case {
    fn new(shape: ConvShape, seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut pick = |n: usize| (rng.value().abs() * 1e6) as usize % n;
        let reached = (pick(4) > 0).then(|| pick(shape.output + 1));
        let plain = pick(2) == 0;
        let activations = (ACTIVATIONS[if plain { 0 } else { pick(5) }], ACTIVATIONS[pick(5)]);
        let mut vec = |len| rng.vec(len);
        Self {
            x: vec(shape.input_len()),
            weights: vec(shape.weight_len()),
            scale: vec(shape.output),
            shift: vec(shape.output),
            skip: vec(shape.output_len()),
            shape,
            reached,
            plain,
            activations,
        }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift }
    }

    fn skip(&self) -> Option<Skip<'_>> {
        let affine = (!self.plain).then(|| self.affine());
        let map = Operand { data: &self.skip, affine, activation: self.activations.0 };
        self.reached.map(|channels| Skip { map, channels })
    }

    fn fused(&self, runtime: &Runtime) -> Vec<f32> {
        let mut y = vec![0.0; self.shape.output_len()];
        let after = After::Finish { affine: self.affine(), skip: self.skip(), activation: self.activations.1 };
        conv::forward(runtime, &self.shape, Operand::plain(&self.x), &self.weights, &mut y, after).unwrap();
        y
    }

    fn packed(&self, runtime: &Runtime) -> Vec<f32> {
        // Packed for maps of another size.
        let packed = Packed::new(runtime, &ConvShape { images: 7, height: 5, ..self.shape }, &self.weights).unwrap();
        let mut y = vec![0.0; self.shape.output_len()];
        for _ in 0..2 {
            let after = After::Finish { affine: self.affine(), skip: self.skip(), activation: self.activations.1 };
            conv::forward_packed(runtime, &self.shape, Operand::plain(&self.x), &packed, &mut y, after).unwrap();
        }
        y
    }

    fn apart(&self, runtime: &Runtime) -> Vec<f32> {
        let mut raw = vec![0.0; self.shape.output_len()];
        conv::forward(runtime, &self.shape, Operand::plain(&self.x), &self.weights, &mut raw, After::Raw).unwrap();
        let mut y = vec![0.0; raw.len()];
        let operand = Operand { data: &raw, affine: Some(self.affine()), activation: Activation::None };
        map::write(runtime, operand, self.skip(), self.activations.1, self.shape.output, &mut y).unwrap();
        y
    }

    fn reference(&self) -> Vec<f64> {
        let channels = self.shape.output;
        let affine = |c: usize, x: f64| x * f64::from(self.scale[c]) + f64::from(self.shift[c]);
        let mut y = conv_forward(&self.shape, &self.x, &self.weights);
        for (i, y) in y.iter_mut().enumerate() {
            let c = i % channels;
            let mut sum = affine(c, *y);
            if self.reached.is_some_and(|reached| c < reached) {
                let skip = f64::from(self.skip[i]);
                sum += activation(self.activations.0, if self.plain { skip } else { affine(c, skip) });
            }
            *y = activation(self.activations.1, sum);
        }
        y
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_fused_finish_is_a_raw_output_and_a_pass(shape in shapes(), seed in any::<u64>()) {
        let case = Case::new(shape, seed);
        let group = if shape.depthwise { 1 } else { shape.input };
        let want = case.reference();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let runtime = Runtime::with_isa(2, isa).unwrap();
            let got = case.fused(&runtime);
            close(&got, &want, (shape.kernel * shape.kernel * group) as f64 + 16.0)?;
            prop_assert!(same_bits(&got, &case.apart(&runtime)), "fused and apart differ on {isa:?}");
            prop_assert!(same_bits(&got, &case.packed(&runtime)), "packed before and for the call differ on {isa:?}");
            prop_assert!(first.get_or_insert_with(|| got.clone()).iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

/// Large enough to be cut into parts, by pixels and by channels.
const CUT: [[usize; 7]; 9] = [
    // images, height, width, input, output, kernel, stride
    [1, 7, 7, 96, 1280, 1, 1],
    [1, 1, 1, 1280, 1000, 1, 1],
    [1, 29, 31, 40, 200, 1, 1],
    [3, 5, 9, 130, 150, 1, 1],
    [1, 40, 56, 3, 32, 3, 2],
    [2, 9, 13, 33, 100, 3, 1],
    [1, 14, 14, 64, 130, 1, 2],
    [1, 28, 28, 200, 200, 3, 1],
    [2, 57, 56, 72, 72, 3, 2],
];

#[test]
fn a_call_that_is_cut_has_the_bits_of_one_that_is_not() {
    for (seed, [images, height, width, input, output, kernel, stride]) in (0..).zip(CUT) {
        for depthwise in [false, true] {
            if depthwise && (kernel == 1 || input != output) {
                continue;
            }
            let (padding, fewer) = (kernel / 2, if stride == 2 && kernel > 1 { [1, 0] } else { [0; 2] });
            let shape = ConvShape { images, height, width, input, output, kernel, stride, padding, fewer, depthwise };
            let case = Case { plain: true, ..Case::new(shape, seed) };
            let activations = (Activation::None, case.activations.1);
            let case = Case { activations, ..case };
            let want = case.apart(&Runtime::with_isa(1, Isa::Portable).unwrap());
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                for threads in [1, 3] {
                    let got = case.packed(&Runtime::with_isa(threads, isa).unwrap());
                    assert!(same_bits(&got, &want), "{shape:?} on {isa:?}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn sums_taken_in_groups_of_inputs_have_the_bits_of_one() {
    let shape = ConvShape {
        images: 2,
        height: 5,
        width: 7,
        input: 50,
        output: 70,
        kernel: 1,
        stride: 1,
        padding: 0,
        fewer: [0; 2],
        depthwise: false,
    };
    let case = Case { plain: true, activations: (Activation::None, Activation::Relu6), ..Case::new(shape, 9) };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let runtime = Runtime::with_isa(2, isa).unwrap();
        let mut y = vec![0.0; shape.output_len()];
        for (group, last) in [(0..16, false), (16..48, false), (48..50, true)] {
            let part = ConvShape { input: group.len(), ..shape };
            let of = |rows: &[f32]| rows.chunks(50).flat_map(|row| row[group.clone()].to_vec()).collect::<Vec<f32>>();
            let (x, packed) = (of(&case.x), Packed::new(&runtime, &part, &of(&case.weights)).unwrap());
            let after = || match last {
                true => After::Finish { affine: case.affine(), skip: case.skip(), activation: case.activations.1 },
                false => After::Raw,
            };
            if group.start == 0 {
                conv::forward_packed(&runtime, &part, Operand::plain(&x), &packed, &mut y, after()).unwrap();
            } else {
                conv::go_on(&runtime, &part, &x, &packed, &mut y, after()).unwrap();
            }
            assert!(conv::go_on(&runtime, &part, &x[1..], &packed, &mut y, After::Raw).is_err());
            assert!(conv::go_on(&runtime, &shape, &case.x, &packed, &mut y, After::Raw).is_err());
        }
        assert!(same_bits(&y, &case.apart(&runtime)), "{isa:?}");
    }
}

#[test]
fn packed_weights_serve_their_own_filter_on_their_own_path_alone() {
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let shape = ConvShape {
        images: 1,
        height: 4,
        width: 4,
        input: 4,
        output: 4,
        kernel: 3,
        stride: 1,
        padding: 1,
        fewer: [0; 2],
        depthwise: true,
    };
    let packed = Packed::new(&runtime, &shape, &[1.0; 36]).unwrap();
    let forward = |runtime: &Runtime, shape: &ConvShape| {
        let mut y = vec![0.0; shape.output_len()];
        let x = vec![0.0; shape.input_len()];
        conv::forward_packed(runtime, shape, Operand::plain(&x), &packed, &mut y, After::Raw)
    };
    assert!(forward(&runtime, &ConvShape { images: 3, width: 9, ..shape }).is_ok());
    for other in [
        ConvShape { depthwise: false, ..shape },
        ConvShape { kernel: 5, padding: 2, ..shape },
        ConvShape { stride: 2, ..shape },
        ConvShape { input: 8, output: 8, ..shape },
    ] {
        assert!(matches!(forward(&runtime, &other), Err(OpError::Packed { .. })), "{other:?}");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| *isa != Isa::Portable && isa.is_available()) {
        assert!(matches!(forward(&Runtime::with_isa(1, isa).unwrap(), &shape), Err(OpError::Packed { .. })));
    }
    assert!(Packed::new(&runtime, &shape, &[1.0; 35]).is_err());
    assert!(Packed::new(&runtime, &ConvShape { stride: 0, ..shape }, &[1.0; 36]).is_err());
}

#[test]
fn factors_and_shortcuts_that_do_not_fit_are_errors() {
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let shape = ConvShape {
        images: 1,
        height: 2,
        width: 2,
        input: 3,
        output: 5,
        kernel: 1,
        stride: 1,
        padding: 0,
        fewer: [0; 2],
        depthwise: false,
    };
    let (five, four, map) = ([1.0; 5], [1.0; 4], [1.0; 20]);
    let run = |affine: Affine<'_>, skip: Option<Skip<'_>>| {
        let after = After::Finish { affine, skip, activation: Activation::None };
        conv::forward(&runtime, &shape, Operand::plain(&[1.0; 12]), &[1.0; 15], &mut [0.0; 20], after)
    };
    let affine = Affine { scale: &five, shift: &five };
    assert!(run(affine, Some(Skip { map: Operand::plain(&map), channels: 5 })).is_ok());
    assert!(run(Affine { scale: &four, ..affine }, None).is_err());
    assert!(run(Affine { shift: &four, ..affine }, None).is_err());
    assert!(run(affine, Some(Skip { map: Operand::plain(&map), channels: 6 })).is_err());
    assert!(run(affine, Some(Skip { map: Operand::plain(&map[..19]), channels: 1 })).is_err());
    let short = Affine { scale: &four, shift: &five };
    let read = Operand { data: &map, affine: Some(short), activation: Activation::None };
    assert!(run(affine, Some(Skip { map: read, channels: 1 })).is_err());
}
