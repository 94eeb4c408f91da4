//! Bias correction (Nagel et al., Data-Free Quantization, ICCV 2019, section 4.2), with means from calibration data.

use crate::net::Layer;

/// What rounding the weights from `layer.weight` to `rounded` takes from each output in the mean, where the mean of each
/// input channel is `means`. Borders, where a window reads zeros, are not told apart.
pub(crate) fn correction(layer: &Layer, rounded: &[f32], means: &[f64]) -> Vec<f64> {
    let area = layer.conv.window.kernel.pow(2);
    let terms = layer.terms();
    let lost = |output: usize| {
        let (exact, rounded) = (&layer.weight[output * terms..][..terms], &rounded[output * terms..][..terms]);
        let per_term = exact.iter().zip(rounded).enumerate().map(|(term, (exact, rounded))| {
            let channel = layer.conv.first_input(output) + term / area;
            (f64::from(*exact) - f64::from(*rounded)) * means[channel]
        });
        per_term.sum()
    };
    (0..layer.conv.output).map(lost).collect()
}
