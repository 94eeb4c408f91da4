//! The bootstrap over images, and over seeds and images at once.

use super::Interval;

const REPLICATES: usize = 1000;

/// For what is no mean over images, such as average precision: how often each of `images` is drawn, for each of a thousand
/// replicates. The same on every machine, so that what two networks come to on one replicate is paired.
pub fn resamples(images: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut draws = Draws(0);
    (0..REPLICATES).map(move |_| draws.times(images))
}

/// The percentile interval of an effect, given what it came to on each replicate; None without replicates.
pub fn percentiles(effect: f64, mut replicates: Vec<f64>) -> Option<Interval> {
    replicates.sort_by(f64::total_cmp);
    Some(Interval { effect, low: quantile(&replicates, 0.025)?, high: quantile(&replicates, 0.975)? })
}

/// The mean over groups of the mean over seeds and images, with the percentile interval of a bootstrap: each replicate draws
/// images anew, the same for all, and, where a group has several seeds, seeds within it. `groups` are, such as for each
/// width, the seeds' effects image by image. With one seed each it is the paired bootstrap.
///
/// The draws are the same on every machine and in every run. None where there is nothing, or units differ in their images.
pub fn bootstrap(groups: &[Vec<Vec<f64>>]) -> Option<Interval> {
    let images = groups.first()?.first()?.len();
    let is_odd = |group: &Vec<Vec<f64>>| group.is_empty() || group.iter().any(|seed| seed.len() != images);
    if images == 0 || groups.iter().any(is_odd) {
        return None;
    }
    let mut draws = Draws(0);
    let effects = (0..REPLICATES).map(|_| replicate(groups, images, &mut draws)).collect();
    let once = vec![1; images];
    let means = groups.iter().map(|group| average(group.iter().map(|seed| weighted(seed, &once))));
    percentiles(average(means), effects)
}

fn replicate(groups: &[Vec<Vec<f64>>], images: usize, draws: &mut Draws) -> f64 {
    let times = draws.times(images);
    let of_group = |group: &Vec<Vec<f64>>| {
        let seeds: Vec<f64> = group.iter().map(|seed| weighted(seed, &times)).collect();
        average((0..seeds.len()).filter_map(|_| seeds.get(draws.below(seeds.len())).copied()).collect::<Vec<_>>())
    };
    average(groups.iter().map(of_group).collect::<Vec<_>>())
}

fn weighted(values: &[f64], times: &[usize]) -> f64 {
    values.iter().zip(times).map(|(value, count)| value * *count as f64).sum::<f64>() / values.len() as f64
}

fn average(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// Between order statistics, in proportion.
fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let place = p * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + place.fract() * (above - below))
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Draws(u64);

impl Draws {
    /// How often each of so many is drawn when as many are drawn.
    fn times(&mut self, images: usize) -> Vec<usize> {
        let mut times = vec![0; images];
        for _ in 0..images {
            if let Some(count) = times.get_mut(self.below(images)) {
                *count += 1;
            }
        }
        times
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The high half of the product: as good as even, for no bound comes near 2^64.
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator's published first value for seed 0 is e220a8397b1dcdaf.
    #[test]
    fn draws_are_splitmix() {
        assert_eq!(Draws(0).below(1 << 16), 0xe220);
    }

    /// Over images alone the interval is that of McNemar's variance, (30 + 10 - 20^2 / 1000) / 1000^2, on 40 images that
    /// one alone names right; a percentile interval of a thousand replicates is near it.
    #[test]
    fn one_seed_has_the_interval_of_its_images() {
        let effects = [vec![-1.0; 30], vec![1.0; 10], vec![0.0; 960]].concat();
        let found = bootstrap(&[vec![effects.clone()]]).unwrap();
        let half = 1.96 * 39.6f64.sqrt() / 1000.0;
        assert!((found.effect + 0.02).abs() < 1e-12);
        assert!((found.low - (-0.02 - half)).abs() < 0.15 * half, "{found:?}");
        assert!((found.high - (-0.02 + half)).abs() < 0.15 * half, "{found:?}");
        assert_eq!(bootstrap(&[vec![effects]]).unwrap(), found, "the same draws again");
    }

    /// Where all images of a seed say the same, only seeds vary: means of three from {0, 3, 6} lie in 0..=6, and one in 27 is
    /// 0, so that the 2.5 % quantile is 0.
    #[test]
    fn seeds_vary_beside_images() {
        let seeds = [0.0, 3.0, 6.0].map(|effect| vec![effect; 10]).to_vec();
        let found = bootstrap(&[seeds]).unwrap();
        assert_eq!((found.effect, found.low, found.high), (3.0, 0.0, 6.0));
    }

    /// The mean over images that are drawn anew is the bootstrap's.
    #[test]
    fn resamples_are_the_bootstraps_draws() {
        let effects: Vec<f64> = (0..50).map(f64::from).collect();
        let mean = |times: Vec<usize>| {
            assert_eq!(times.iter().sum::<usize>(), 50);
            weighted(&effects, &times)
        };
        let drawn = percentiles(24.5, resamples(50).map(mean).collect()).unwrap();
        let whole = bootstrap(&[vec![effects.clone()]]).unwrap();
        assert!((drawn.low - whole.low).abs() < 0.5 && (drawn.high - whole.high).abs() < 0.5, "{drawn:?} {whole:?}");
        assert_eq!(percentiles(0.0, Vec::new()), None);
    }

    #[test]
    fn what_does_not_pair_has_no_interval() {
        assert_eq!(bootstrap(&[]), None);
        assert_eq!(bootstrap(&[vec![]]), None);
        assert_eq!(bootstrap(&[vec![vec![]]]), None);
        assert_eq!(bootstrap(&[vec![vec![1.0]], vec![vec![1.0, 2.0]]]), None);
    }
}
