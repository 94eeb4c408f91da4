//! From a folded network, its ranges and a scheme to a network in 8 bits.

use sandglass_models::{Node, Pool};
use sandglass_ops::Runtime;

use crate::arith::{quantise_bias, quantise_weight, weight_scale};
use crate::bias::correction;
use crate::integer::{IntLayer, share_affines};
use crate::net::{Float, Layer, each};
use crate::{Affine, Calibration, Granularity, Images, Net, QuantError, Quantised, Scheme, Scores, Warning, calibrate};

/// A bias beyond this leaves no room for the sum that it is added to.
const MAX_BIAS: f64 = (1u32 << 30) as f64;

impl Scheme {
    /// `net` as the scheme changes it in f32, before anything is rounded: the network that its quantised form is held against.
    pub fn shape(&self, net: Net) -> Net {
        let net = if self.relu { net.with_relu() } else { net };
        if self.equalise { net.equalised() } else { net }
    }

    fn granularity(&self, layer: &Layer) -> Granularity {
        if layer.conv.is_depthwise() { self.depthwise } else { self.dense }
    }

    /// As [`calibrate`], by this scheme's observer.
    ///
    /// # Errors
    /// As [`calibrate`].
    pub fn calibrate(&self, runtime: &Runtime, net: &Net, images: &Images) -> Result<Calibration, QuantError> {
        calibrate(runtime, net, images, self.observer)
    }
}

/// The network in integers. `net` is what [`Scheme::shape`] gave and was calibrated.
///
/// # Errors
/// A scheme that contradicts itself or leaves weights float, or sums that 32 bits do not hold.
pub fn quantise(
    net: &Net,
    calibration: &Calibration,
    scheme: &Scheme,
) -> Result<(Quantised, Vec<Warning>), QuantError> {
    scheme.check()?;
    if scheme.float_weights {
        return Err(QuantError::Scheme("weights that stay float are no network of integers".to_owned()));
    }
    let affines = affines(net, calibration)?;
    let mut warnings = Vec::new();
    let mut layers = Vec::with_capacity(net.layers.len());
    for (node, layer) in net.graph.nodes().iter().zip(&net.layers) {
        let Some(layer) = layer else {
            layers.push(None);
            continue;
        };
        let [from] = node.reads()[..] else { continue };
        let (input, output) = (affines[from.index()], affines[node.writes().index()]);
        let (quantised, raised) = round_layer(layer, scheme, input, output, &calibration.means[from.index()]);
        if raised > 0 {
            warnings.push(Warning::SmallWeights { layer: layer.name.clone(), channels: raised });
        }
        layers.push(Some(quantised));
    }
    let quantised = Quantised::new(net.graph.clone(), affines, layers, scheme.clone())?;
    Ok((quantised, warnings))
}

fn affines(net: &Net, calibration: &Calibration) -> Result<Vec<Affine>, QuantError> {
    let (expected, found) = (net.graph.maps().len(), calibration.ranges.len());
    if expected != found {
        return Err(QuantError::Length { what: "ranges".to_owned(), expected, found });
    }
    let mut affines: Vec<Affine> = calibration.ranges.iter().map(|range| range.affine()).collect();
    share_affines(&net.graph, &mut affines);
    Ok(affines)
}

/// The layer, and for how many channels the scale was raised.
fn round_layer(layer: &Layer, scheme: &Scheme, input: Affine, output: Affine, means: &[f64]) -> (IntLayer, usize) {
    let terms = layer.terms();
    let limit = scheme.clip.unwrap_or(f32::INFINITY);
    let clipped: Vec<f32> = layer.weight.iter().map(|weight| weight.clamp(-limit, limit)).collect();
    let mut scales: Vec<f32> = match scheme.granularity(layer) {
        Granularity::PerChannel => clipped.chunks_exact(terms).map(weight_scale).collect(),
        Granularity::PerTensor => vec![weight_scale(&clipped); layer.conv.output],
    };
    let input_scale = f64::from(input.scale);
    let mut raised = 0;
    for (scale, bias) in scales.iter_mut().zip(&layer.bias) {
        let least = (f64::from(bias.abs()) / (input_scale * MAX_BIAS)) as f32;
        // Room for a correction, too.
        if *scale < 2.0 * least {
            *scale = 2.0 * least;
            raised += 1;
        }
    }
    let rounded = |(weights, scale): (&[f32], &f32)| {
        let scale = *scale;
        weights.iter().map(|&weight| quantise_weight(weight, scale)).collect::<Vec<i8>>()
    };
    let weight: Vec<i8> = clipped.chunks_exact(terms).zip(&scales).flat_map(rounded).collect();
    let mut bias: Vec<f64> = layer.bias.iter().map(|&bias| f64::from(bias)).collect();
    if scheme.correct_bias {
        let back = dequantised(&weight, terms, &scales);
        bias.iter_mut().zip(correction(layer, &back, means)).for_each(|(bias, lost)| *bias += lost);
    }
    let bias = bias.iter().zip(&scales);
    let bias = bias.map(|(&bias, &scale)| quantise_bias(bias as f32, input_scale * f64::from(scale))).collect();
    let bound = |real: f32, otherwise: i32| if real.is_finite() { output.quantise(real).into() } else { otherwise };
    let low = bound(layer.low, -128);
    let high = layer.high.iter().map(|&high| bound(high, 127)).collect();
    let (name, conv) = (layer.name.clone(), layer.conv);
    (IntLayer { name, conv, weight, scales, bias, low, high }, raised)
}

pub(crate) fn dequantised(weight: &[i8], terms: usize, scales: &[f32]) -> Vec<f32> {
    let of = |(weights, &scale): (&[i8], &f32)| {
        weights.iter().map(|&q| (f64::from(q) * f64::from(scale)) as f32).collect::<Vec<f32>>()
    };
    weight.chunks_exact(terms.max(1)).zip(scales).flat_map(of).collect()
}

/// A network in f32 whose maps, and weights where the scheme says so, are quantised and dequantised: what integers
/// compute, but for the rounding of multipliers.
#[derive(Clone, Debug)]
pub struct Fake {
    pub(crate) net: Net,
    /// Parallel to the maps; none for one that stays as it is.
    pub(crate) affines: Vec<Option<Affine>>,
}

impl Fake {
    /// Of the same three as [`quantise`], and of schemes whose weights stay float.
    ///
    /// # Errors
    /// As [`quantise`], but for weights that stay float.
    pub fn new(net: &Net, calibration: &Calibration, scheme: &Scheme) -> Result<Self, QuantError> {
        scheme.check()?;
        if scheme.float_weights {
            let mut affines: Vec<Option<Affine>> = affines(net, calibration)?.into_iter().map(Some).collect();
            affines[net.output()] = None;
            return Ok(Self { net: net.clone(), affines });
        }
        let (quantised, _) = quantise(net, calibration, scheme)?;
        Ok(Self::of(net, &quantised))
    }

    /// `net` with the rounded weights and biases of its quantised form.
    pub(crate) fn of(net: &Net, quantised: &Quantised) -> Self {
        let mut fake = net.clone();
        for (at, node) in net.graph.nodes().iter().enumerate() {
            let (Some(layer), Some(rounded)) = (&mut fake.layers[at], quantised.layer(at)) else { continue };
            let [from] = node.reads()[..] else { continue };
            let input = f64::from(quantised.affines()[from.index()].scale);
            layer.weight = dequantised(&rounded.weight, layer.terms(), &rounded.scales);
            let bias = rounded.bias.iter().zip(&rounded.scales);
            layer.bias = bias.map(|(&q, &scale)| (f64::from(q) * input * f64::from(scale)) as f32).collect();
        }
        let mut affines: Vec<Option<Affine>> = quantised.affines().iter().copied().map(Some).collect();
        affines[net.output()] = None;
        Self { net: fake, affines }
    }

    /// With one layer, its weights, bias and output, as it was.
    #[must_use]
    pub(crate) fn without(&self, node: usize, net: &Net) -> Self {
        let mut other = self.clone();
        other.net.layers[node] = net.layers[node].clone();
        other.affines[net.graph.nodes()[node].writes().index()] = None;
        other
    }

    /// Scores for each image.
    ///
    /// # Errors
    /// Images of a size that the graph does not take.
    pub fn scores(&self, runtime: &Runtime, images: &Images) -> Result<Vec<Scores>, QuantError> {
        let float = Float::new(&self.net, runtime, images)?;
        let output = self.net.output();
        each(runtime, images, &self.net.graph, |image| {
            let maps = float.maps(image, |at, map| self.round(at, map));
            maps[output].iter().map(|&score| f64::from(score)).collect()
        })
    }

    pub(crate) fn round(&self, at: usize, map: &mut [f32]) {
        if let Some(affine) = self.affines[at] {
            map.iter_mut().for_each(|x| *x = affine.dequantise(affine.quantise(*x)));
        }
    }
}

/// Whether a node's map has the scale of the map that it reads.
pub(crate) const fn keeps_scale(node: &Node) -> bool {
    node.hands_on() || matches!(node, Node::Pool { pool: Pool::Max(_), .. })
}
