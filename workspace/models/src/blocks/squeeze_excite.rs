//! Squeeze-and-excite (CVPR 2018), as EfficientNet has it: what a map is on the whole decides how much each channel counts.

use crate::{Activation, After, Conv, GraphBuilder, MapId, ModelError, Unit};

/// Pools `x`, squeezes it to `squeezed` values, and multiplies each channel of `x` by what an expansion and a sigmoid make of
/// them. `names`: of the pool, the two 1x1 convolutions with bias, and the gate.
pub(super) fn squeeze_excite(
    g: &mut GraphBuilder,
    [pool, reduce, expand, gate]: [String; 4],
    squeezed: usize,
    x: MapId,
) -> Result<MapId, ModelError> {
    let channels = g.channels(x)?;
    let pooled = g.global_average(&pool, x)?;
    let mut unit = |conv, name, activation, x| g.unit(Unit { conv, name, after: After::Bias, activation }, x);
    let thin = unit(Conv::pointwise(channels, squeezed), reduce, Activation::Silu, pooled)?;
    let wide = unit(Conv::pointwise(squeezed, channels), expand, Activation::Sigmoid, thin)?;
    g.gate(&gate, x, wide)
}
