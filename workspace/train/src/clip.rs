//! Gradient clipping by the norm over all tensors, as PyTorch's `clip_grad_norm_`.

/// The L2 norm over all tensors together, summed in their order in f64.
pub fn gradient_norm(gradients: &[Vec<f32>]) -> f64 {
    let square = |&g: &f32| f64::from(g) * f64::from(g);
    gradients.iter().flatten().map(square).sum::<f64>().sqrt()
}

/// What all gradients are multiplied by so that their norm is at most `max_norm`: min(1, max / (norm + 1e-6)).
pub fn clip_scale(norm: f64, max_norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}
