//! From values to ranges.

use serde::{Deserialize, Serialize};

use crate::{Affine, QuantError};

/// How the range of a map follows from the values seen in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observer {
    /// From the smallest to the largest.
    #[default]
    MinMax,
    /// From the percentile 100 - p to p, between neighbours linearly.
    Percentile(f64),
    /// The hundredth parts of (smallest, largest) with the least mean squared error of quantising and dequantising.
    Mse,
}

/// A range, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
    /// Hundredths of the whole range, and the mean squared error at them: of [`Observer::Mse`] alone.
    pub mse: Option<(u32, f64)>,
}

impl Range {
    /// The 8 bits that hold it.
    pub fn affine(&self) -> Affine {
        Affine::of_range(self.low, self.high)
    }
}

/// Values in rising order, and how often each was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen(Vec<(f64, u64)>);

impl Seen {
    /// `values` in any order.
    ///
    /// # Errors
    /// None, or one that is no number.
    pub fn of(values: &[f32]) -> Result<Self, QuantError> {
        if values.is_empty() {
            return Err(QuantError::NoValues);
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(QuantError::NotFinite("the values seen".to_owned()));
        }
        let mut sorted: Vec<(f64, u64)> = values.iter().map(|&value| (f64::from(value), 1)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self(sorted))
    }

    /// The middles of a histogram's bins that are not empty, between the exact ends.
    pub(crate) fn of_histogram(low: f64, high: f64, bins: &[u64]) -> Self {
        let width = (high - low) / bins.len().max(1) as f64;
        let middle = |at: usize| low + (at as f64 + 0.5) * width;
        let filled = bins.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut seen: Vec<(f64, u64)> = filled.map(|(at, &count)| (middle(at), count)).collect();
        // The ends are known exactly, and were seen.
        if let Some(first) = seen.first_mut() {
            first.0 = low;
        }
        if let [_, .., last] = &mut seen[..] {
            last.0 = high;
        }
        Self(seen)
    }

    /// As `observer` has it; a range of 0 where nothing was seen.
    pub fn range(&self, observer: Observer) -> Range {
        let (low, high) = (self.at(0), self.at(self.count().saturating_sub(1)));
        match observer {
            Observer::MinMax => Range { low, high, mse: None },
            Observer::Percentile(p) => Range { low: self.percentile(100.0 - p), high: self.percentile(p), mse: None },
            Observer::Mse => {
                let error = |k: u32| {
                    let share = f64::from(k);
                    self.error(Affine::of_range(low * share / 100.0, high * share / 100.0))
                };
                let errors = (1..=100).map(|k| (k, error(k)));
                let (k, error) = errors.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((100, 0.0));
                let share = f64::from(k);
                Range { low: low * share / 100.0, high: high * share / 100.0, mse: Some((k, error)) }
            }
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The value of this rank.
    fn at(&self, rank: u64) -> f64 {
        let mut before = 0;
        let found = self.0.iter().find(|(_, count)| {
            before += count;
            before > rank
        });
        found.or(self.0.last()).map_or(0.0, |(value, _)| *value)
    }

    fn percentile(&self, p: f64) -> f64 {
        let rank = (p / 100.0).clamp(0.0, 1.0) * self.count().saturating_sub(1) as f64;
        let (low, high) = (self.at(rank.floor() as u64), self.at(rank.ceil() as u64));
        low + (high - low) * rank.fract()
    }

    fn error(&self, affine: Affine) -> f64 {
        let (scale, zero_point) = (f64::from(affine.scale), f64::from(affine.zero_point));
        let square = |&(value, count): &(f64, u64)| {
            let q = ((value / scale).round() + zero_point).clamp(-128.0, 127.0);
            let error = (q - zero_point) * scale - value;
            error * error * count as f64
        };
        self.0.iter().map(square).sum::<f64>() / self.count().max(1) as f64
    }
}
