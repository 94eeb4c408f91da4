//! Dropout masks and dropped branches, the same for a place in the run whatever came before.

use sandglass_data::{Draws, Purpose};

use crate::Drop;

/// A step of a run.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub seed: u64,
    /// From 0, as the step in it.
    pub epoch: u64,
    pub step: u64,
}

/// Factors for a batch of `images` at each of `drops`, one after another: 0 with the drop's probability, else
/// 1 / (1 - probability). None where nothing is dropped. `dropout` is the recipe's.
///
/// A branch's factors depend on the moment and on its place among the drops alone.
pub fn drop_factors(drops: &[Drop], images: usize, dropout: f64, moment: Moment) -> Option<Vec<f32>> {
    let rates: Vec<f64> = drops.iter().map(|drop| drop.rate.unwrap_or(dropout)).collect();
    if rates.iter().all(|&rate| rate == 0.0) {
        return None;
    }
    let Moment { seed, epoch, step } = moment;
    let mut factors = Vec::new();
    for (place, (drop, rate)) in drops.iter().zip(rates).enumerate() {
        let mut draws = match drop.rate {
            None => Draws::new(seed, Purpose::Dropout, epoch, step),
            Some(_) => Draws::new(seed, Purpose::DropConnect, epoch, step * drops.len() as u64 + place as u64),
        };
        let keep = (1.0 / (1.0 - rate)) as f32;
        let factor = |_| if draws.uniform() < rate { 0.0 } else { keep };
        factors.extend((0..images * drop.factors).map(factor));
    }
    Some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Moment = Moment { seed: 3, epoch: 1, step: 2 };

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let drops = [Drop { factors: 1000, rate: None }];
        let factors = drop_factors(&drops, 100, 0.2, MOMENT).unwrap();
        let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f64 / factors.len() as f64;
        assert!((dropped - 0.2).abs() < 0.005, "{dropped}");
        assert!(factors.iter().all(|&f| f == 0.0 || f == 1.25));
        assert_eq!(drop_factors(&drops, 100, 0.0, MOMENT), None);
    }

    #[test]
    fn each_branch_has_a_rate_and_draws_of_its_own() {
        let branch = |rate| Drop { factors: 1, rate: Some(rate) };
        let drops = [branch(0.5), branch(0.5), Drop { factors: 3, rate: None }];
        let of = |moment| drop_factors(&drops, 4000, 0.0, moment).unwrap();
        let factors = of(MOMENT);
        let (first, rest) = factors.split_at(4000);
        let (second, values) = rest.split_at(4000);
        assert_ne!(first, second);
        for branch in [first, second] {
            let dropped = branch.iter().filter(|&&f| f == 0.0).count() as f64 / 4000.0;
            assert!((dropped - 0.5).abs() < 0.04, "{dropped}");
            assert!(branch.iter().all(|&f| f == 0.0 || f == 2.0));
        }
        assert_eq!(values, [1.0; 12_000]);
        assert_eq!(factors, of(MOMENT));
        assert_ne!(factors, of(Moment { step: 3, ..MOMENT }));
    }
}
