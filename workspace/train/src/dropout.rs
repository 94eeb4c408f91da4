//! Dropout masks, the same for a place in the run whatever came before.

use sandglass_data::{Draws, Purpose};

/// Factors for the `count` pooled features of a batch: 0 with probability `rate`, else 1 / (1 - rate).
pub fn dropout_factors(seed: u64, epoch: u64, step: u64, count: usize, rate: f64) -> Vec<f32> {
    let mut draws = Draws::new(seed, Purpose::Dropout, epoch, step);
    let keep = (1.0 / (1.0 - rate)) as f32;
    (0..count).map(|_| if draws.uniform() < rate { 0.0 } else { keep }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let factors = dropout_factors(3, 1, 2, 100_000, 0.2);
        let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f64 / factors.len() as f64;
        assert!((dropped - 0.2).abs() < 0.005, "{dropped}");
        assert!(factors.iter().all(|&f| f == 0.0 || f == 1.25));
    }
}
