//! Two networks on the same images, and two families at one cost.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

/// McNemar's test on images that one of two networks alone names right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Right by the first alone.
    pub lost: u64,
    /// Right by the second alone.
    pub won: u64,
    /// Two-sided, exact: by the binomial distribution.
    pub p: f64,
}

impl McNemar {
    /// For each image whether each network is right. None where the two were not asked of as many images.
    pub fn of(first: &[bool], second: &[bool]) -> Option<Self> {
        if first.len() != second.len() {
            return None;
        }
        let count = |of: (bool, bool)| first.iter().zip(second).filter(|&(&a, &b)| (a, b) == of).count() as u64;
        Self::of_counts(count((true, false)), count((false, true)))
    }

    fn of_counts(lost: u64, won: u64) -> Option<Self> {
        let p = match lost + won {
            0 => 1.0,
            all => (2.0 * Binomial::new(0.5, all).ok()?.cdf(lost.min(won))).min(1.0),
        };
        Some(Self { lost, won, p })
    }
}

/// The value at `x` of straight lines through points (x, y), in any order; None outside their range: nothing is
/// extrapolated.
pub fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let below = points.iter().filter(|point| point.0 <= x).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let above = points.iter().filter(|point| point.0 >= x).min_by(|a, b| a.0.total_cmp(&b.0))?;
    let share = if above.0 > below.0 { (x - below.0) / (above.0 - below.0) } else { 0.0 };
    Some(below.1 + share * (above.1 - below.1))
}

/// How alike two measures order the same things, from -1 to 1: Pearson's correlation of their ranks, equal values sharing theirs
/// (Spearman). None for fewer than three, or where a measure tells none apart.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let ranks = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let below = |value: f64| pairs.iter().filter(|pair| of(pair) < value).count() as f64;
        let equal = |value: f64| pairs.iter().filter(|pair| of(pair) == value).count() as f64;
        pairs.iter().map(|pair| below(of(pair)) + (equal(of(pair)) - 1.0) / 2.0).collect()
    };
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let (a, b) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (pairs.len() > 2 && spread > 0.0).then(|| product(&a, &b) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The usual worked example of IQ against hours of television, -29/165; and by hand with a tie, ranks 1.5, 1.5, 3 against 1, 2,
    /// 3: 1.5 / sqrt(1.5 * 2).
    #[test]
    fn ranks_are_compared_as_spearman_has_it() {
        let iq = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let hours = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        let pairs: Vec<(f64, f64)> = iq.into_iter().zip(hours).collect();
        assert!((rank_correlation(&pairs).unwrap() + 29.0 / 165.0).abs() < 1e-12);
        let tied = rank_correlation(&[(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)]).unwrap();
        assert!((tied - 1.5 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(rank_correlation(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(rank_correlation(&[(1.0, 1.0), (2.0, 2.0)]), None);
    }

    /// The exact binomial test of 5 in 17 that R's `binom.test` prints, 0.1435; and by hand 2 / 2^4 for 0 of 4.
    #[test]
    fn mcnemar_is_the_exact_binomial_test() {
        assert!((McNemar::of_counts(12, 5).unwrap().p - 0.143_463_1).abs() < 1e-6);
        assert!((McNemar::of_counts(0, 4).unwrap().p - 0.125).abs() < 1e-12);
        let test = McNemar::of(&[true, true, false, true], &[true, false, true, false]).unwrap();
        assert_eq!((test.lost, test.won, test.p), (2, 1, 1.0));
        assert_eq!(McNemar::of(&[true], &[]), None);
        assert!((McNemar::of(&[true], &[true]).unwrap().p - 1.0).abs() < 1e-12);
    }

    #[test]
    fn lines_are_followed_and_not_left() {
        let points = [(4.0, 40.0), (1.0, 10.0), (2.0, 30.0)];
        assert_eq!(interpolate(&points, 1.5), Some(20.0));
        assert_eq!(interpolate(&points, 3.0), Some(35.0));
        assert_eq!(interpolate(&points, 4.0), Some(40.0));
        assert_eq!((interpolate(&points, 0.9), interpolate(&points, 4.1), interpolate(&[], 1.0)), (None, None, None));
    }
}
