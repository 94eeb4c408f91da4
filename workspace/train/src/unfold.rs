//! Batch norms that were folded into their convolutions, taken apart again.

use std::sync::Arc;

use sandglass_models::{After, BatchNorm, Graph, Node, Weights};
use sandglass_ops::Runtime;

use crate::{Engine, TrainError};

/// Weights that can be trained further, of ones whose batch norms only add: statistics of 0 and 1, a weight of
/// sqrt(1 + eps), the folded bias. A step with batch statistics would scramble these.
///
/// With the mean m and the variance v of a convolution's output on `images`, its running statistics become m and v, its
/// weight sqrt(v + eps), and its bias grows by m: evaluation stays as it was, and batch statistics change little. Norm by
/// norm in their order, for what comes into one must be right before it is measured: a pass over the images for each.
///
/// # Errors
/// A batch norm that does more than add, or images or weights that are not the graph's.
pub fn unfold(
    runtime: Arc<Runtime>,
    graph: &Graph,
    weights: &Weights,
    images: &[f32],
    (height, width): (usize, usize),
) -> Result<Weights, TrainError> {
    let count = images.len() / (3 * height * width).max(1);
    let mut engine = Engine::new(runtime, &graph.with_norm_momentum(1.0), height, width, count)?;
    let sizes = graph.sizes(height, width)?;
    let mut unfolded = weights.clone();
    for node in graph.nodes() {
        let Node::Conv { unit, to, .. } = node else { continue };
        let (After::Norm(norm) | After::BiasNorm(norm)) = &unit.after else { continue };
        let [weight, bias, mean, var] = places(&unfolded, norm)?;
        let plain = (1.0 + norm.eps).sqrt();
        let adds = |value: f32, plain: f32| (value - plain).abs() <= 1e-6 * plain.max(1.0);
        let of = |at: usize, plain: f32| unfolded.values[at].iter().all(|&value| adds(value, plain));
        if !(of(weight, plain) && of(mean, 0.0) && of(var, 1.0)) {
            return Err(TrainError::NotFolded(norm.name.clone()));
        }
        let mut measured = unfolded.clone();
        engine.forward(&mut measured, images, None)?;
        // A step divides by its values' own variance, and leaves the estimate for all values behind.
        let (rows, columns) = sizes[to.index()];
        let values = (count * rows * columns) as f32;
        let v: Vec<f32> = measured.values[var].iter().map(|v| v * (values - 1.0) / values).collect();
        let m = measured.values[mean].clone();
        unfolded.values[weight] = v.iter().map(|v| (v + norm.eps).sqrt()).collect();
        unfolded.values[bias].iter_mut().zip(&m).for_each(|(bias, m)| *bias += m);
        (unfolded.values[mean], unfolded.values[var]) = (m, v);
    }
    Ok(unfolded)
}

/// Of a norm's weight, bias, running mean and running variance among the weights.
fn places(weights: &Weights, norm: &BatchNorm) -> Result<[usize; 4], TrainError> {
    let place = |part: &str| {
        let name = format!("{}.{part}", norm.name);
        weights.specs.iter().position(|spec| spec.name == name).ok_or_else(|| TrainError::NotFolded(name))
    };
    Ok([place("weight")?, place("bias")?, place("running_mean")?, place("running_var")?])
}
