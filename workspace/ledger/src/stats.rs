//! Statistics over seeds.

/// Location and spread of a few measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub mean: f64,
    /// Sample standard deviation (n - 1); None for one measurement.
    pub sd: Option<f64>,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// None for no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let median = median(values)?;
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { n, mean, sd, median, min, max })
    }
}

/// Middle value, or the mean of the two middle ones; None for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Python's `statistics` module: mean, stdev, median of [72.9, 73.4, 72.1, 74.0].
    #[test]
    fn summary_equals_python_statistics() {
        let summary = Summary::of(&[72.9, 73.4, 72.1, 74.0]).unwrap();
        assert!((summary.mean - 73.1).abs() < 1e-12);
        assert!((summary.sd.unwrap() - 0.804_155_872_120_988).abs() < 1e-12);
        assert!((summary.median - 73.15).abs() < 1e-12);
        assert_eq!((summary.n, summary.min, summary.max), (4, 72.1, 74.0));
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_summary() {
        assert_eq!(Summary::of(&[3.0]).unwrap().sd, None);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
    }
}
