//! Where a quantised network loses what.

use sandglass_ops::Runtime;

use crate::net::{Float, each};
use crate::{Calibration, Fake, Images, Net, QuantError, Quantised, Scheme, Scores};

/// Of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNoise {
    /// The map's name.
    pub map: String,
    /// Signal to quantisation noise in decibels, of the network so far; infinite without noise.
    pub sqnr: f64,
    /// Pairs of products that 16 bits do not hold, of how many; none where no dense layer writes the map.
    pub saturated: Option<(u64, u64)>,
}

/// Of the maps, in the graph's order.
pub type Noise = Vec<LayerNoise>;

/// Energies of the signal and of the noise.
type Energy = (f64, f64);

fn decibels((signal, noise): Energy) -> f64 {
    match noise {
        0.0 => f64::INFINITY,
        _ => 10.0 * libm::log10(signal / noise),
    }
}

fn add(a: &mut Energy, b: Energy) {
    a.0 += b.0;
    a.1 += b.1;
}

fn energy(exact: impl Iterator<Item = f64>, rounded: impl Iterator<Item = f64>) -> Energy {
    exact.zip(rounded).fold((0.0, 0.0), |(signal, noise), (x, y)| (signal + x * x, noise + (x - y) * (x - y)))
}

/// Each map of the quantised network against that of `net`, which it was made of, and the pairs that saturate or would.
///
/// # Errors
/// Images of a size that the graph does not take.
pub fn noise(runtime: &Runtime, net: &Net, quantised: &Quantised, images: &Images) -> Result<Noise, QuantError> {
    let float = Float::new(net, runtime, images)?;
    let sizes = net.graph.sizes(images.height, images.width)?;
    let all = each(runtime, images, &net.graph, |image| {
        let exact = float.maps(image, |_, _| ());
        let (rounded, _) = quantised.run(runtime.isa(), &sizes, image);
        let of_map = |at: usize| {
            let affine = quantised.affines()[at];
            let exact = exact[at].iter().map(|&x| f64::from(x));
            let energy = energy(exact, rounded[at].iter().map(|&q| f64::from(affine.dequantise(q))));
            let pairs = at.checked_sub(1).map_or((0, 0), |node| quantised.saturated(&sizes, node, &rounded));
            (energy, pairs)
        };
        (0..exact.len()).map(of_map).collect::<Vec<_>>()
    })?;
    let mut totals = vec![((0.0, 0.0), (0u64, 0u64)); net.graph.maps().len()];
    for image in all {
        for ((total, pairs), (energy, own)) in totals.iter_mut().zip(image) {
            add(total, energy);
            *pairs = (pairs.0 + own.0, pairs.1 + own.1);
        }
    }
    let of = |(map, (energy, pairs)): (&sandglass_models::Map, (Energy, (u64, u64)))| LayerNoise {
        map: map.name.clone(),
        sqnr: decibels(energy),
        saturated: (pairs.1 > 0).then_some(pairs),
    };
    Ok(net.graph.maps().iter().zip(totals).map(of).collect())
}

/// For each layer the signal to noise at the scores, in decibels, where it alone stays in f32; the first entry, without a
/// name, is that of the whole network in 8 bits.
///
/// # Errors
/// As [`Fake::new`], and images of a size that the graph does not take.
pub fn leave_one_out(
    runtime: &Runtime,
    net: &Net,
    calibration: &Calibration,
    scheme: &Scheme,
    images: &Images,
) -> Result<Vec<(String, f64)>, QuantError> {
    let whole = Fake::new(net, calibration, scheme)?;
    let exact = net.scores(runtime, images)?;
    let against = |rounded: Vec<Scores>| {
        let flat = |scores: &[Scores]| scores.concat();
        decibels(energy(flat(&exact).into_iter(), flat(&rounded).into_iter()))
    };
    let mut all = vec![(String::new(), against(whole.scores(runtime, images)?))];
    for (node, layer) in net.layers.iter().enumerate() {
        if let Some(layer) = layer {
            let without = whole.without(node, net);
            all.push((layer.name.clone(), against(without.scores(runtime, images)?)));
        }
    }
    Ok(all)
}
