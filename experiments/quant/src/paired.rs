//! Differences on the same images, with intervals of 95 %.

use serde::Serialize;

/// Of a normal distribution, on both sides.
const Z95: f64 = 1.959_963_984_540_054;

/// A mean and half of its interval's length, in points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub mean: f64,
    pub half: f64,
}

impl Interval {
    pub fn low(&self) -> f64 {
        self.mean - self.half
    }

    pub fn high(&self) -> f64 {
        self.mean + self.half
    }
}

/// For each image whether it is named right.
pub(crate) type Right = Vec<bool>;

/// How many points `second` loses against `first`, by McNemar's variance: that of the images that one alone names right.
/// None where the two were not scored on as many images.
pub(crate) fn drop(first: &Right, second: &Right) -> Option<Interval> {
    interval(&[values(first, second)?])
}

/// How many points the second of each unit leads the first.
pub(crate) fn gap(units: &[(&Right, &Right)]) -> Option<Interval> {
    interval(&units.iter().map(|(first, second)| values(second, first)).collect::<Option<Vec<_>>>()?)
}

fn values(first: &Right, second: &Right) -> Option<Vec<f64>> {
    let pairs = first.iter().zip(second);
    (first.len() == second.len())
        .then(|| pairs.map(|(&a, &b)| f64::from(u8::from(a)) - f64::from(u8::from(b))).collect())
}

/// A network of each family in f32 and in 8 bits: one such unit a width and a seed.
pub(crate) struct Unit<'a> {
    pub first: [&'a Right; 2],
    pub second: [&'a Right; 2],
}

/// How much more the first family drops than the second.
pub(crate) fn difference_of_drops(units: &[Unit]) -> Option<Interval> {
    let of = |unit: &Unit| {
        let [a, b] = [unit.first, unit.second].map(|[float, quantised]| values(float, quantised));
        let (a, b) = (a?, b?);
        (a.len() == b.len()).then(|| a.iter().zip(&b).map(|(a, b)| a - b).collect())
    };
    interval(&units.iter().map(of).collect::<Option<Vec<Vec<f64>>>>()?)
}

/// The mean over images and units. Its variance is that over images, each the mean of its units, and, of several units,
/// that over units beside it: both are there, and the sum errs on the careful side.
fn interval(units: &[Vec<f64>]) -> Option<Interval> {
    let n = units.first().map(Vec::len).filter(|n| *n > 1)?;
    if units.iter().any(|unit| unit.len() != n) {
        return None;
    }
    let count = units.len() as f64;
    let per_image: Vec<f64> = (0..n).map(|at| units.iter().map(|unit| unit[at]).sum::<f64>() / count).collect();
    let per_unit: Vec<f64> = units.iter().map(|unit| mean(unit)).collect();
    let over_images = variance(&per_image, n as f64) / n as f64;
    let over_units = if units.len() > 1 { variance(&per_unit, count - 1.0) / count } else { 0.0 };
    Some(Interval { mean: 100.0 * mean(&per_image), half: 100.0 * Z95 * (over_images + over_units).sqrt() })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn variance(values: &[f64], of: f64) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &[(bool, usize)]) -> Right {
        pattern.iter().flat_map(|&(right, count)| vec![right; count]).collect()
    }

    /// McNemar: of 1000 images 30 are lost and 10 won; variance (30 + 10 - 20^2 / 1000) / 1000^2.
    #[test]
    fn a_drop_has_mcnemars_interval() {
        let first = of(&[(true, 700), (true, 30), (false, 10), (false, 260)]);
        let second = of(&[(true, 700), (false, 30), (true, 10), (false, 260)]);
        let drop = drop(&first, &second).unwrap();
        assert!((drop.mean - 2.0).abs() < 1e-12);
        assert!((drop.half - 1.959_963_984_540_054 * (39.6f64).sqrt() / 10.0).abs() < 1e-9);
        assert_eq!(super::drop(&first, &first).unwrap(), Interval { mean: 0.0, half: 0.0 });
        assert_eq!(super::drop(&first, &of(&[(true, 3)])), None);
    }

    #[test]
    fn a_difference_of_drops_counts_images_and_units() {
        let whole = of(&[(true, 100)]);
        let (ten, five) = (of(&[(false, 10), (true, 90)]), of(&[(true, 95), (false, 5)]));
        let unit = || Unit { first: [&whole, &ten], second: [&whole, &five] };
        let one = difference_of_drops(&[unit()]).unwrap();
        assert!((one.mean - 5.0).abs() < 1e-12);
        // Per image: 10 of +1, 5 of -1.
        assert!((one.half - 1.959_963_984_540_054 * ((0.15f64 - 0.0025) * 100.0).sqrt()).abs() < 1e-9);
        let none = Unit { first: [&whole, &whole], second: [&whole, &whole] };
        let both = difference_of_drops(&[unit(), none]).unwrap();
        assert!((both.mean - 2.5).abs() < 1e-12 && both.half > one.half / 2.0);
        assert_eq!(difference_of_drops(&[]), None);
    }
}
