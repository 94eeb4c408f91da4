//! Statistics over seeds, over images, and over both.

mod bootstrap;
mod interval;
mod paired;

pub use bootstrap::{bootstrap, percentiles, resamples};
pub use interval::{Interval, mean, median, pooled, slope, smallest_pooled};
pub use paired::{McNemar, interpolate, rank_correlation};

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Location and spread of a few measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub mean: f64,
    /// Sample standard deviation (n - 1); None for one measurement.
    pub sd: Option<f64>,
}

impl Summary {
    /// None for no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        Some(Self { n, mean, sd })
    }
}

/// The smallest true effect that the mean of `n` measurements of this spread shows in four of five repetitions: what a
/// two-sided t test at 5 % finds with 80 % power, by the usual approximation (t at 97.5 % plus t at 80 %) sd / sqrt(n).
/// `freedom` is that of the spread. None where it has none.
pub fn smallest_effect(sd: f64, n: usize, freedom: usize) -> Option<f64> {
    Some((t_quantile(0.975, freedom)? + t_quantile(0.8, freedom)?) * sd / (n as f64).sqrt())
}

fn t_quantile(p: f64, freedom: usize) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    Some(t.inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Python's `statistics` module: mean and stdev of [72.9, 73.4, 72.1, 74.0].
    #[test]
    fn summary_equals_python_statistics() {
        let summary = Summary::of(&[72.9, 73.4, 72.1, 74.0]).unwrap();
        assert!((summary.mean - 73.1).abs() < 1e-12);
        assert!((summary.sd.unwrap() - 0.804_155_872_120_988).abs() < 1e-12);
        assert_eq!(summary.n, 4);
    }

    /// Quantiles from printed tables of Student's t: 3.182 (97.5 %, 3 degrees of freedom), 0.978 (80 %), and 12.706, 1.376
    /// for one degree.
    #[test]
    fn effects_are_those_of_students_tables() {
        assert!((smallest_effect(2.0, 4, 3).unwrap() - (3.182 + 0.978)).abs() < 2e-3);
        assert!((smallest_effect(1.0, 2, 1).unwrap() - (12.706 + 1.376) / 2f64.sqrt()).abs() < 1e-2);
        assert_eq!(smallest_effect(1.0, 1, 0), None);
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_summary() {
        assert_eq!(Summary::of(&[3.0]).unwrap().sd, None);
        assert_eq!(Summary::of(&[]), None);
    }
}
