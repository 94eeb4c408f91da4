//! Convolutions that run line by line, to the bit what they give one after another.

mod reference;

use proptest::prelude::*;
use reference::{ACTIVATIONS, Rng, same_bits};
use sandglass_ops::conv::{self, After, Chain, Packed, Stage};
use sandglass_ops::map::{Affine, Operand, Skip};
use sandglass_ops::{Activation, ConvShape, Isa, OpError, Runtime};

/// One convolution with all that it reads.
struct Layer {
    shape: ConvShape,
    weights: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    activation: Activation,
}

impl Layer {
    fn new(shape: ConvShape, rng: &mut Rng) -> Self {
        let activation = ACTIVATIONS[(rng.value().abs() * 1e6) as usize % 5];
        let [scale, shift] = [(); 2].map(|()| rng.vec(shape.output));
        Self { shape, weights: rng.vec(shape.weight_len()), scale, shift, activation }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift }
    }

    fn packed(&self, runtime: &Runtime) -> Packed {
        Packed::new(runtime, &self.shape, &self.weights).unwrap()
    }

    fn stage<'a>(&'a self, weights: &'a Packed) -> Stage<'a> {
        Stage { shape: self.shape, weights, affine: self.affine(), activation: self.activation }
    }

    fn alone(&self, runtime: &Runtime, x: &[f32], skip: Option<Skip<'_>>) -> Vec<f32> {
        let mut y = vec![0.0; self.shape.output_len()];
        let after = After::Finish { affine: self.affine(), skip, activation: self.activation };
        conv::forward(runtime, &self.shape, Operand::plain(x), &self.weights, &mut y, after).unwrap();
        y
    }
}

/// Up to three layers, the middle one depthwise.
fn layers(depthwise: ConvShape, expand: Option<usize>, project: Option<usize>, seed: u64) -> [Option<Layer>; 3] {
    let mut rng = Rng(seed);
    let point = ConvShape { kernel: 1, stride: 1, padding: 0, fewer: [0; 2], depthwise: false, ..depthwise };
    let expand = expand.map(|input| Layer::new(ConvShape { input, ..point }, &mut rng));
    let (height, width) = (depthwise.out_height(), depthwise.out_width());
    let project = project.map(|output| Layer::new(ConvShape { output, height, width, ..point }, &mut rng));
    [expand, Some(Layer::new(depthwise, &mut rng)), project]
}

fn check(layers: &[Option<Layer>; 3], reached: Option<usize>, seed: u64) {
    let given = || layers.iter().flatten();
    let (first, last) = (given().next().unwrap(), given().last().unwrap());
    let mut rng = Rng(seed ^ 1);
    let (x, skip) = (rng.vec(first.shape.input_len()), rng.vec(last.shape.output_len()));
    let skip = reached.map(|channels| Skip { map: Operand::plain(&skip), channels: channels.min(last.shape.output) });
    let one = Runtime::with_isa(1, Isa::Portable).unwrap();
    let mut want = x.clone();
    for layer in given() {
        want = layer.alone(&one, &want, skip.filter(|_| std::ptr::eq(layer, last)));
    }
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 3] {
            let runtime = Runtime::with_isa(threads, isa).unwrap();
            let packed = layers.each_ref().map(|layer| layer.as_ref().map(|layer| layer.packed(&runtime)));
            let stage = |at: usize| Some(layers[at].as_ref()?.stage(packed[at].as_ref()?));
            let chain = Chain { expand: stage(0), depthwise: stage(1).unwrap(), project: stage(2), skip };
            let mut scratch = vec![f32::NAN; chain.scratch_len(&runtime)];
            let mut y = vec![f32::NAN; last.shape.output_len()];
            chain.run(&runtime, &x, &mut scratch, &mut y).unwrap();
            assert!(same_bits(&y, &want), "{:?} on {isa:?}, {threads} threads", layers[1].as_ref().unwrap().shape);
        }
    }
}

fn depthwise(
    images: usize,
    (height, width): (usize, usize),
    channels: usize,
    kernel: usize,
    stride: usize,
) -> ConvShape {
    // As TensorFlow's SAME pads a map of even size.
    let fewer = [height, width].map(|size| usize::from(stride == 2 && size % 2 == 0));
    let (input, output, padding) = (channels, channels, kernel / 2);
    ConvShape { images, height, width, input, output, kernel, stride, padding, fewer, depthwise: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_chain_is_its_convolutions_one_after_another(
        images in 1usize..4,
        size in (1usize..20, 1usize..12),
        (channels, kernel, stride) in (1usize..40, prop::sample::select(vec![3usize, 5]), 1usize..3),
        (expand, project) in (prop::option::of(1usize..20), prop::option::of(1usize..20)),
        reached in prop::option::of(0usize..40),
        seed in any::<u64>(),
    ) {
        check(&layers(depthwise(images, size, channels, kernel, stride), expand, project, seed), reached, seed);
    }
}

/// Large enough for several bands, and for steps that do not end with them.
#[test]
fn bands_meet_without_a_seam() {
    for (seed, stride, kernel) in [(1, 1, 3), (2, 2, 3), (3, 1, 5), (4, 2, 5)] {
        let shape = depthwise(2, (45, 40), 200, kernel, stride);
        for (expand, project) in [(Some(24), Some(33)), (Some(24), None), (None, Some(33))] {
            check(&layers(shape, expand, project, seed), Some(20), seed);
        }
    }
}

#[test]
fn what_does_not_follow_is_an_error() {
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let shape = depthwise(1, (6, 6), 4, 3, 1);
    let [expand, middle, project] = layers(shape, Some(3), Some(5), 7);
    let (expand, middle, project) = (expand.unwrap(), middle.unwrap(), project.unwrap());
    let [a, b, c] = [&expand, &middle, &project].map(|layer| layer.packed(&runtime));
    let whole = Chain {
        expand: Some(expand.stage(&a)),
        depthwise: middle.stage(&b),
        project: Some(project.stage(&c)),
        skip: None,
    };
    let run = |chain: &Chain<'_>, x: usize, y: usize, less: usize| {
        let mut scratch = vec![0.0; chain.scratch_len(&runtime) - less];
        chain.run(&runtime, &vec![0.0; x], &mut scratch, &mut vec![0.0; y])
    };
    assert!(run(&whole, 36 * 3, 36 * 5, 0).is_ok());
    assert!(matches!(run(&whole, 36 * 3, 36 * 5, 1), Err(OpError::Length { what: "scratch", .. })));
    assert!(run(&whole, 36 * 4, 36 * 5, 0).is_err());
    assert!(run(&whole, 36 * 3, 36 * 4, 0).is_err());
    // An expansion in the place of a projection, and the other way round.
    assert!(run(&Chain { project: whole.expand, ..whole }, 36 * 3, 36 * 4, 0).is_err());
    assert!(run(&Chain { expand: whole.project, ..whole }, 36 * 4, 36 * 5, 0).is_err());
    assert!(run(&Chain { depthwise: expand.stage(&a), expand: None, ..whole }, 36 * 3, 36 * 5, 0).is_err());
    assert!(run(&Chain { depthwise: middle.stage(&a), ..whole }, 36 * 3, 36 * 5, 0).is_err());
    let map = vec![0.0; 36 * 5];
    let read = Operand { data: &map, affine: None, activation: Activation::Relu };
    assert!(run(&Chain { skip: Some(Skip { map: read, channels: 5 }), ..whole }, 36 * 3, 36 * 5, 0).is_err());
    let plain = Skip { map: Operand::plain(&map), channels: 6 };
    assert!(run(&Chain { skip: Some(plain), ..whole }, 36 * 3, 36 * 5, 0).is_err());
}
