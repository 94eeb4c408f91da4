//! Differences on the same images, with intervals of 95 %.

use sandglass_ledger::stats::pooled;
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
    interval(&[(0.0, values(first, second)?)])
}

/// How many points the second of each unit, of a width, leads the first.
pub(crate) fn gap(units: &[(f64, [&Right; 2])]) -> Option<Interval> {
    let units = units.iter().map(|(width, [first, second])| Some((*width, values(second, first)?)));
    interval(&units.collect::<Option<Vec<_>>>()?)
}

fn values(first: &Right, second: &Right) -> Option<Vec<f64>> {
    let pairs = first.iter().zip(second);
    (first.len() == second.len())
        .then(|| pairs.map(|(&a, &b)| f64::from(u8::from(a)) - f64::from(u8::from(b))).collect())
}

/// A network of each family in f32 and in 8 bits: one such unit a width and a seed.
pub(crate) struct Unit<'a> {
    pub width: f64,
    pub first: [&'a Right; 2],
    pub second: [&'a Right; 2],
}

/// How much more the first family drops than the second.
pub(crate) fn difference_of_drops(units: &[Unit]) -> Option<Interval> {
    let of = |unit: &Unit| {
        let [a, b] = [unit.first, unit.second].map(|[float, quantised]| values(float, quantised));
        let (a, b) = (a?, b?);
        (a.len() == b.len()).then(|| (unit.width, a.iter().zip(&b).map(|(a, b)| a - b).collect()))
    };
    interval(&units.iter().map(of).collect::<Option<Vec<_>>>()?)
}

/// The mean over images and units, each width counting once. Its interval is that over images, by a normal distribution; where a
/// width has several seeds, together with that over seeds, by Student's t on the spread within widths.
fn interval(units: &[(f64, Vec<f64>)]) -> Option<Interval> {
    let n = units.first().map(|(_, unit)| unit.len()).filter(|n| *n > 1)?;
    if units.iter().any(|(_, unit)| unit.len() != n) {
        return None;
    }
    let mut widths: Vec<(f64, Vec<&[f64]>)> = Vec::new();
    for (width, unit) in units {
        match widths.iter_mut().find(|(of, _)| of == width) {
            Some((_, seeds)) => seeds.push(unit),
            None => widths.push((*width, vec![unit])),
        }
    }
    let count = widths.len() as f64;
    let of_width = |seeds: &[&[f64]], at: usize| mean(&seeds.iter().map(|seed| seed[at]).collect::<Vec<_>>());
    let of_image = |at: usize| widths.iter().map(|(_, seeds)| of_width(seeds, at)).sum::<f64>() / count;
    let per_image: Vec<f64> = (0..n).map(of_image).collect();
    let over_images = variance(&per_image, n as f64) / n as f64;
    let means: Vec<Vec<f64>> = widths.iter().map(|(_, seeds)| seeds.iter().map(|seed| mean(seed)).collect()).collect();
    let over_seeds = pooled(&means).map_or(0.0, |seeds| (seeds.high - seeds.low) / 2.0);
    Some(Interval { mean: 100.0 * mean(&per_image), half: 100.0 * (Z95 * over_images.sqrt()).hypot(over_seeds) })
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

    /// Per image 10 of +1 and 5 of -1 at one width; at another no difference, so that half of it is left.
    #[test]
    fn a_difference_of_drops_counts_each_width_once() {
        let whole = of(&[(true, 100)]);
        let (ten, five) = (of(&[(false, 10), (true, 90)]), of(&[(true, 95), (false, 5)]));
        let unit = || Unit { width: 1.0, first: [&whole, &ten], second: [&whole, &five] };
        let one = difference_of_drops(&[unit()]).unwrap();
        assert!((one.mean - 5.0).abs() < 1e-12);
        assert!((one.half - 1.959_963_984_540_054 * ((0.15f64 - 0.0025) * 100.0).sqrt()).abs() < 1e-9);
        let none = |width: f64| Unit { width, first: [&whole, &whole], second: [&whole, &whole] };
        let both = difference_of_drops(&[unit(), none(0.5)]).unwrap();
        assert!((both.mean - 2.5).abs() < 1e-12 && (both.half - one.half / 2.0).abs() < 1e-9);
        // Two seeds of one width, 5 points and none: by Student's t, 12.706 at one degree of freedom, 12.706 * 2.5 beside images.
        let seeds = difference_of_drops(&[unit(), none(1.0)]).unwrap();
        assert!((seeds.half - both.half.hypot(12.706_204_736 * 2.5)).abs() < 1e-6, "{seeds:?}");
        assert_eq!(difference_of_drops(&[]), None);
    }

    /// What a claim's bootstrap over the same images gives, within the noise of its thousand draws.
    #[test]
    fn with_one_seed_it_is_the_bootstrap_over_images() {
        let first = of(&[(true, 700), (true, 30), (false, 10), (false, 260)]);
        let second = of(&[(true, 700), (false, 30), (true, 10), (false, 260)]);
        let found = gap(&[(1.0, [&second, &first]), (0.5, [&second, &first])]).unwrap();
        let images: Vec<f64> = values(&first, &second).unwrap().iter().map(|value| 100.0 * value).collect();
        let drawn = sandglass_ledger::stats::bootstrap(&[vec![images.clone()], vec![images]]).unwrap();
        assert!((found.mean - drawn.effect).abs() < 1e-9);
        assert!(
            (found.low() - drawn.low).abs() < 0.15 * found.half
                && (found.high() - drawn.high).abs() < 0.15 * found.half
        );
    }
}
