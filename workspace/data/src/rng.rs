//! Counter-based random numbers: every draw is a pure function of its key, whatever was drawn elsewhere before it.

/// What a stream of draws is for; streams of different purposes never share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Order of the images within an epoch.
    Order = 1,
    /// Augmentation of one image.
    Augment = 2,
    /// Which training images form the development split.
    Split = 3,
    /// Embedded images of the training part.
    DrawTrain = 4,
    /// Embedded images of the validation part.
    DrawValidation = 5,
    /// Initial weights.
    Init = 6,
    /// Dropout masks.
    Dropout = 7,
    /// Which training images a quantised network is calibrated on.
    Calibration = 8,
    /// Dropped branches of blocks.
    DropConnect = 9,
    /// Random layers that a plane is sent through; the epoch is the number of outputs.
    RandomLayer = 10,
    /// Embedded images with objects; the epoch is the split's number.
    DrawObjects = 16,
}

/// A stream of draws keyed by (seed, purpose, epoch, index).
#[derive(Clone, Debug)]
pub struct Draws {
    key: u64,
    count: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function (Steele, Lea, Flood 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Draws {
    /// The start of the stream of this key.
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> Self {
        let words = [seed, purpose as u64, epoch, index];
        let key =
            words.iter().fold(0, |key: u64, &word| mix(key.wrapping_add(GOLDEN) ^ mix(word.wrapping_add(GOLDEN))));
        Self { key, count: 0 }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.count += 1;
        mix(self.key.wrapping_add(self.count.wrapping_mul(GOLDEN)))
    }

    /// In [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True every other time.
    pub fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// In 0..bound without bias (Lemire 2019); 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        if bound == 0 {
            return 0;
        }
        let reject = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            if wide as u64 >= reject {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Mean 0, variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of an independent implementation in Python.
    #[test]
    fn a_stream_is_pinned() {
        let mut draws = Draws::new(42, Purpose::Augment, 3, 7);
        let bits = [(); 3].map(|()| draws.bits());
        assert_eq!(bits, [0x339c_0e61_95d5_907a, 0x21ba_1813_8ed4_706d, 0x21be_c350_4742_6d98]);
    }

    #[test]
    fn each_part_of_the_key_matters() {
        let first = |seed, purpose, epoch, index| Draws::new(seed, purpose, epoch, index).bits();
        let base = first(1, Purpose::Order, 2, 3);
        let others = [
            first(2, Purpose::Order, 2, 3),
            first(1, Purpose::Augment, 2, 3),
            first(1, Purpose::Order, 3, 3),
            first(1, Purpose::Order, 2, 4),
            first(1, Purpose::Order, 3, 2),
        ];
        assert!(others.iter().all(|&other| other != base));
    }

    #[test]
    fn draws_have_their_distributions() {
        let n = 60_000;
        let mut draws = Draws::new(9, Purpose::Init, 0, 0);
        let mut counts = [0; 6];
        (0..n).for_each(|_| counts[draws.below(6)] += 1);
        let expected = n as f64 / 6.0;
        let chi2: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        assert!(chi2 < 20.5, "{counts:?}: beyond the 99.9 % point of 5 degrees of freedom");

        let normals: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
        let moment = |power| normals.iter().map(|x| x.powi(power)).sum::<f64>() / n as f64;
        let moments = [moment(1), moment(2) - 1.0, moment(3), moment(4) - 3.0];
        assert!(moments.iter().zip([0.02, 0.03, 0.06, 0.2]).all(|(m, bound)| m.abs() < bound), "{moments:?}");
    }

    #[test]
    fn shuffles_reach_every_order() {
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..2400 {
            let mut items = [0, 1, 2, 3];
            Draws::new(0, Purpose::Order, 0, index).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (60..150).contains(count)), "{counts:?}");
    }
}
