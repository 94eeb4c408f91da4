//! Gates, forward and backward, against their definition; equal bits on every path.

mod reference;

use proptest::prelude::*;
use reference::{ACTIVATIONS, Rng, activation, same_bits};
use sandglass_ops::map::{Affine, Operand, Sink};
use sandglass_ops::{Isa, MapShape, Runtime, gate};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_gate_scales_each_channel_of_each_image(
        (images, area, channels) in (1usize..4, prop::sample::select(vec![1usize, 7, 64, 70, 1030]), 1usize..40),
        read in 0usize..5,
        seed in any::<u64>(),
    ) {
        let shape = MapShape { images, area, channels };
        let mut rng = Rng(seed);
        let (map, by, g) = (rng.vec(shape.len()), rng.vec(images * channels), rng.vec(shape.len()));
        let (scale, shift) = (rng.vec(channels), rng.vec(channels));
        let of = ACTIVATIONS[read];
        let x = Operand { data: &map, affine: Some(Affine { scale: &scale, shift: &shift }), activation: of };

        let wide = |value: f32| f64::from(value);
        let (mut want, mut dx, mut dby) = (Vec::new(), Vec::new(), vec![0.0; images * channels]);
        for (at, (&raw, &g)) in map.iter().zip(&g).enumerate() {
            let c = at % channels;
            let own = at / (area * channels) * channels + c;
            let x = activation(of, wide(raw) * wide(scale[c]) + wide(shift[c]));
            want.push(x * wide(by[own]));
            dx.push(wide(g) * wide(by[own]));
            dby[own] += wide(g) * x;
        }
        let close = |got: &[f32], want: &[f64], tolerance: f64| {
            got.len() == want.len() && got.iter().zip(want).all(|(got, want)| (wide(*got) - want).abs() <= tolerance)
        };

        let mut first: Option<[Vec<f32>; 3]> = None;
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 3] {
                let runtime = Runtime::with_isa(threads, isa).unwrap();
                let (mut y, mut sink) = (vec![f32::NAN; map.len()], vec![f32::NAN; map.len()]);
                gate::forward(&runtime, x, &by, shape, &mut y).unwrap();
                let of_gate = gate::backward(&runtime, &g, x, &by, shape, Sink::plain(&mut sink)).unwrap();
                prop_assert!(close(&y, &want, 1e-6) && close(&sink, &dx, 1e-6));
                prop_assert!(close(&of_gate, &dby, 1e-6 * area as f64));
                let got = [y, sink, of_gate];
                if let Some(first) = &first {
                    prop_assert!(got.iter().zip(first).all(|(a, b)| same_bits(a, b)), "{isa:?}, {threads} threads");
                }
                first.get_or_insert(got);
            }
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let runtime = Runtime::with_isa(1, Isa::Portable).unwrap();
    let (shape, map) = (MapShape { images: 2, area: 3, channels: 4 }, [0.0; 24]);
    let forward = |x: usize, by: usize, to: usize| {
        gate::forward(&runtime, Operand::plain(&map[..x]), &map[..by], shape, &mut vec![0.0; to]).is_ok()
    };
    let backward = |g: usize, by: usize, out: usize| {
        let (x, mut out) = (Operand::plain(&map), vec![0.0; out]);
        gate::backward(&runtime, &map[..g], x, &map[..by], shape, Sink::plain(&mut out)).is_ok()
    };
    assert!(forward(24, 8, 24) && backward(24, 8, 24));
    assert!(!forward(23, 8, 24) && !forward(24, 7, 24) && !forward(24, 8, 23));
    assert!(!backward(23, 8, 24) && !backward(24, 7, 24) && !backward(24, 8, 23));
}
