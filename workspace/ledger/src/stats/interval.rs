//! Effects with intervals of 95 %: a mean, means pooled over groups, a slope, a median.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::{Summary, t_quantile};

/// An effect and its interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub effect: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    fn around(effect: f64, half: f64) -> Self {
        Self { effect, low: effect - half, high: effect + half }
    }

    /// The effect the other way round.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { effect: -self.effect, low: -self.high, high: -self.low }
    }

    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The mean, by Student's t. None for fewer than two values.
pub fn mean(values: &[f64]) -> Option<Interval> {
    pooled(&[values])
}

/// The mean of the groups' means, each group counting once however many values it has; the spread is that within groups,
/// pooled, so that groups may differ in their means. None without values, or where no group has two.
pub fn pooled<G: AsRef<[f64]>>(groups: &[G]) -> Option<Interval> {
    let Pool { effect, error, freedom } = Pool::of(groups)?;
    Some(Interval::around(effect, t_quantile(0.975, freedom)? * error))
}

/// The smallest true effect that [`pooled`] shows in four of five repetitions, as [`super::smallest_effect`] has it.
pub fn smallest_pooled<G: AsRef<[f64]>>(groups: &[G]) -> Option<f64> {
    let Pool { error, freedom, .. } = Pool::of(groups)?;
    Some((t_quantile(0.975, freedom)? + t_quantile(0.8, freedom)?) * error)
}

/// The mean of groups' means, its standard error and the degrees of freedom of that.
struct Pool {
    effect: f64,
    error: f64,
    freedom: usize,
}

impl Pool {
    fn of<G: AsRef<[f64]>>(groups: &[G]) -> Option<Self> {
        let groups = groups.iter().map(|group| Summary::of(group.as_ref())).collect::<Option<Vec<_>>>()?;
        let count = groups.len() as f64;
        let effect = groups.iter().map(|group| group.mean).sum::<f64>() / count;
        let freedom: usize = groups.iter().map(|group| group.n - 1).sum();
        let squares: f64 = groups.iter().map(|group| group.sd.unwrap_or(0.0).powi(2) * (group.n - 1) as f64).sum();
        let variance = squares / freedom as f64 * groups.iter().map(|group| 1.0 / group.n as f64).sum::<f64>();
        Some(Self { effect, error: variance.sqrt() / count, freedom })
    }
}

/// The slope of the least-squares line through points (x, y), by Student's t on the residuals. None for fewer than three
/// points, or where all have one x.
pub fn slope(points: &[(f64, f64)]) -> Option<Interval> {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let residuals: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    let freedom = points.len().checked_sub(2)?;
    let t = t_quantile(0.975, freedom)?;
    Some(Interval::around(slope, t * (residuals / freedom as f64 / spread).sqrt()))
}

/// The median, between the order statistics that a binomial distribution gives: nothing is assumed of the values' own.
/// At least 95 %; None for fewer than six values, which have no such interval.
pub fn median(values: &[f64]) -> Option<Interval> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let below = Binomial::new(0.5, n as u64).ok()?;
    let rank = (0..n / 2).take_while(|&rank| below.cdf(rank as u64) <= 0.025).last()?;
    let middle = |at: usize| sorted.get(at).copied();
    let effect = (middle((n - 1) / 2)? + middle(n / 2)?) / 2.0;
    Some(Interval { effect, low: middle(rank)?, high: middle(n - 1 - rank)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Interval, [effect, low, high]: [f64; 3], within: f64) {
        for (found, expected) in [(found.effect, effect), (found.low, low), (found.high, high)] {
            assert!((found - expected).abs() < within, "{found} for {expected}");
        }
    }

    /// Student's own data (1908), hours of sleep gained by two drugs; R's `t.test(paired = TRUE)` on `sleep`.
    #[test]
    fn a_mean_has_students_interval() {
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        close(mean(&differences).unwrap(), [-1.58, -2.459_885_8, -0.700_114_2], 1e-6);
        assert_eq!(mean(&[1.0]), None);
    }

    /// By hand: means 2 and 5, squares 2 and 0.5 on 3 degrees of freedom, t 3.18245.
    #[test]
    fn groups_count_once_and_share_their_spread() {
        let groups = [vec![1.0, 2.0, 3.0], vec![4.5, 5.5]];
        let half = 3.182_446_3 * (2.5f64 / 3.0 * (1.0 / 3.0 + 1.0 / 2.0)).sqrt() / 2.0;
        close(pooled(&groups).unwrap(), [3.5, 3.5 - half, 3.5 + half], 1e-6);
        let with_single = [vec![1.0, 2.0, 3.0], vec![8.0]];
        assert!((pooled(&with_single).unwrap().effect - 5.0).abs() < 1e-12);
        assert_eq!(pooled(&[vec![1.0], vec![2.0]]), None);
        assert_eq!(pooled(&[vec![1.0, 2.0], vec![]]), None);
        assert_eq!(pooled::<Vec<f64>>(&[]), None);
    }

    /// Anscombe's first set (1973): slope 0.5001, standard error 0.1179, t 2.2622 on 9 degrees of freedom.
    #[test]
    fn a_slope_is_anscombes() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
        close(slope(&points).unwrap(), [0.5001, 0.5001 - 2.2622 * 0.1179, 0.5001 + 2.2622 * 0.1179], 2e-4);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (2.0, 2.0)]), None);
    }

    proptest::proptest! {
        /// An interval moves with its values, grows with them, turns with them, and does not ask for their order.
        #[test]
        fn an_interval_goes_with_its_values(
            first in proptest::collection::vec(-50.0f64..50.0, 2..7),
            second in proptest::collection::vec(-50.0f64..50.0, 1..7),
            by in -20.0f64..20.0,
            times in 0.1f64..9.0,
        ) {
            let groups = [first, second];
            let of = |change: &dyn Fn(f64) -> f64| {
                pooled(&groups.each_ref().map(|group| group.iter().rev().map(|value| change(*value)).collect::<Vec<_>>())).unwrap()
            };
            let found = pooled(&groups).unwrap();
            proptest::prop_assert!(found.low <= found.effect && found.effect <= found.high && found.holds(found.effect));
            let near = |a: Interval, b: Interval| {
                [(a.effect, b.effect), (a.low, b.low), (a.high, b.high)].iter().all(|(a, b)| (a - b).abs() < 1e-6 * (1.0 + b.abs()))
            };
            proptest::prop_assert!(near(of(&|value| value), found));
            let moved = Interval { effect: found.effect + by, low: found.low + by, high: found.high + by };
            proptest::prop_assert!(near(of(&|value| value + by), moved));
            let grown = Interval { effect: found.effect * times, low: found.low * times, high: found.high * times };
            proptest::prop_assert!(near(of(&|value| value * times), grown));
            proptest::prop_assert!(near(of(&|value| -value), found.negated()));
        }
    }

    /// Ranks from printed tables of the median's interval at 95 %: 1 and 6 of 6, 2 and 9 of 10, 4 and 12 of 15.
    #[test]
    fn a_median_lies_between_the_ranks_of_the_tables() {
        for (n, low, high) in [(6, 1.0, 6.0), (10, 2.0, 9.0), (15, 4.0, 12.0)] {
            let values: Vec<f64> = (1..=n).rev().map(f64::from).collect();
            close(median(&values).unwrap(), [f64::from(n + 1) / 2.0, low, high], 1e-12);
        }
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0, 5.0]), None);
    }
}
