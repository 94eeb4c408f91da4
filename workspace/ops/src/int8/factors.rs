//! Requantisation: fixed-point factors with two roundings, gemmlowp's and TensorFlow Lite's.

use super::finish::LANES;
use super::lanes::ByteLanes;

/// A real factor as `q / 2^31 * 2^shift`, with q of 31 bits: gemmlowp's and TensorFlow Lite's fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    pub q: i32,
    pub shift: i32,
}

impl Multiplier {
    /// Of a number from 0 on; 0 gives (0, 0).
    pub fn of(real: f64) -> Self {
        if real <= 0.0 || !real.is_finite() {
            return Self { q: 0, shift: 0 };
        }
        let (mut fraction, mut shift) = (real, 0);
        while fraction >= 1.0 {
            fraction /= 2.0;
            shift += 1;
        }
        while fraction < 0.5 {
            fraction *= 2.0;
            shift -= 1;
        }
        match (fraction * (1u64 << 31) as f64).round() as i64 {
            q if q == 1 << 31 => Self { q: 1 << 30, shift: shift + 1 },
            q => Self { q: q as i32, shift },
        }
    }

    /// `x` times the factor, rounded twice: by a doubling high multiplication, and by a shift to the right.
    #[inline]
    pub fn apply(self, x: i32) -> i32 {
        let left = match self.shift {
            // What does not fit 32 bits would be clamped to 8 anyway.
            1.. => (i64::from(x) << self.shift.min(31)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => i64::from(x),
        };
        // Towards zero with a nudge by sign, or half up: the two are the same.
        let high = (left * i64::from(self.q) + (1 << 30)) >> 31;
        let shift = (-self.shift).clamp(0, 62);
        // Half away from zero: below zero, one less than a half goes on top.
        let half = (1i64 << shift) >> 1;
        let below = if high < 0 && shift > 0 { 1 } else { 0 };
        ((high + half - below) >> shift) as i32
    }
}

/// [`Multiplier`]s of many lanes, made ready for vectors: both roundings by one addition of 64 bits, one of the sign and one
/// shift.
///
/// With p = x * q and s = -shift, from 1 on, `apply` is `(((p + 2^30) >> 31) + 2^(s-1) - [below 0]) >> s`. Whole multiples of
/// 2^31 may be added before the first shift as well as after it, so that half of 2^s goes there with 2^30. Whether the
/// product's sign is asked or x's makes no difference: they differ where `p + 2^30 >> 31` is 0, and `2^(s-1) - 1 >> s` is 0
/// too.
///
/// Where the sign is not asked, the two shifts are one by 31 + s bits, which can be cut anywhere: by 32, which takes an upper
/// half as it lies, and by s - 1. Where it is, all is doubled, so that the first shift is by 32; 2q does not fit 32 bits, but
/// 2q - 2^32 does, and x on top of that upper half makes up for it.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    q: Vec<i32>,
    /// s.
    shift: Vec<i32>,
}

/// So small that sums below 2^29 become 0, as they do by all that are smaller still.
const TINY: Multiplier = Multiplier { q: 1 << 30, shift: -30 };

impl Factors {
    /// Padded to `lanes` lanes; `largest` bounds all that they are applied to. None where 32 bits would not do, or where there
    /// is no second rounding: for a factor of a half or more.
    pub fn new(multipliers: &[Multiplier], lanes: usize, largest: i64) -> Option<Self> {
        let ready = |m: &Multiplier| {
            let m = if m.q == 0 || m.shift < TINY.shift { TINY } else { *m };
            let half = (1i64 << (-m.shift).max(0)) >> 1;
            let fits = if m == TINY { largest < 1 << 29 } else { largest.saturating_add(half) < i64::from(i32::MAX) };
            (m.shift < 0 && fits).then_some((m.q, -m.shift))
        };
        let (mut q, mut shift): (Vec<_>, Vec<_>) = multipliers.iter().map(ready).collect::<Option<_>>()?;
        q.resize(lanes, 0);
        shift.resize(lanes, 1);
        Some(Self { q, shift })
    }

    /// One factor for all lanes of a vector.
    pub fn splat(multiplier: Multiplier, largest: i64) -> Option<Self> {
        Self::new(&[multiplier; LANES], LANES, largest)
    }

    /// Of one vector's lanes from `lane` on.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and the lanes are there.
    #[inline(always)]
    pub unsafe fn at<V: ByteLanes, const ABOVE: bool>(&self, lane: usize) -> V::Factors {
        // SAFETY: the caller's.
        unsafe { V::factors::<ABOVE>(V::load(self.q.as_ptr().add(lane)), V::load(self.shift.as_ptr().add(lane))) }
    }

    /// Of a pair's.
    ///
    /// # Safety
    /// As for `at`.
    #[inline(always)]
    pub unsafe fn of_pair<V: ByteLanes, const ABOVE: bool>(&self, lane: usize) -> [V::Factors; 2] {
        // SAFETY: the caller's.
        unsafe {
            let (q, shift) = (self.q.as_ptr().add(lane), self.shift.as_ptr().add(lane));
            let q = V::paired([V::load(q), V::load(q.add(V::N))]);
            let shift = V::paired([V::load(shift), V::load(shift.add(V::N))]);
            [V::factors::<ABOVE>(q[0], shift[0]), V::factors::<ABOVE>(q[1], shift[1])]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::byte_kernel;
    use super::super::tests::{Mixed, paths};
    use super::*;

    /// gemmlowp's text: a doubling high multiplication with a nudge by sign, then a rounding shift by its remainder.
    fn slow(Multiplier { q, shift }: Multiplier, x: i32) -> i32 {
        let left = i128::from(x) << shift.max(0);
        let left = left.clamp(i32::MIN.into(), i32::MAX.into());
        let product = left * i128::from(q);
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = (product + nudge) / (1 << 31);
        let right = (-shift).max(0);
        let mask = (1i128 << right) - 1;
        let (remainder, threshold) = (high & mask, (mask >> 1) + i128::from(high < 0));
        ((high >> right) + i128::from(remainder > threshold)) as i32
    }

    #[test]
    fn the_two_roundings_are_gemmlowps() {
        let reals = [3e-12, 7.3e-6, 0.0003921, 0.25, 0.3, 0.5, 0.75, 0.999_999_999_9, 1.0, 1.7, 3.999, 700.0, 3e9];
        let edges = (0..32)
            .flat_map(|bit| [-1i64, 0, 1].map(|by| ((1i64 << bit) + by) as i32))
            .flat_map(|x| [x, x.wrapping_neg()]);
        let mixed = (0..2000u32).map(|at| at.wrapping_mul(0x9E37_79B9).cast_signed() >> (at % 31));
        for x in edges.chain(mixed) {
            for real in reals {
                let multiplier = Multiplier::of(real);
                assert_eq!(multiplier.apply(x), slow(multiplier, x), "{x} times {real}");
            }
        }
        assert_eq!(Multiplier::of(0.0).apply(i32::MAX), 0);
    }

    byte_kernel! {
        /// # Safety
        /// As many numbers as factors, whole vectors.
        unsafe fn scale_all<V>(x: &mut [i32], factors: &Factors) {
            for at in (0..x.len()).step_by(V::N) {
                let from = x[at..].as_mut_ptr();
                // SAFETY: the caller's.
                unsafe { V::load(from).scale::<false>(&factors.at::<V, false>(at)).store(from) };
            }
        }
    }

    byte_kernel! {
        /// # Safety
        /// As for `scale_all`.
        unsafe fn scale_above<V>(x: &mut [i32], factors: &Factors) {
            for at in (0..x.len()).step_by(V::N) {
                let from = x[at..].as_mut_ptr();
                // SAFETY: the caller's.
                unsafe { V::load(from).scale::<true>(&factors.at::<V, true>(at)).store(from) };
            }
        }
    }

    #[test]
    fn factors_of_many_lanes_are_multipliers_one_by_one() {
        let mut mixed = Mixed(7);
        let mut checked = 0;
        for round in 0..40_000 {
            // Some factors whose last bits are zero, where products meet halves exactly.
            let multiplier = |mixed: &mut Mixed| {
                let q = (1 << 30) + (mixed.next() >> 34) as i32;
                let zeros = mixed.next() % 31;
                Multiplier { q: (q >> zeros) << zeros, shift: -1 - (mixed.next() % 24) as i32 }
            };
            let multipliers: Vec<Multiplier> = (0..32).map(|_| multiplier(&mut mixed)).collect();
            let largest = 1i64 << 30;
            let factors = Factors::new(&multipliers, 32, largest).unwrap();
            let number = |mixed: &mut Mixed| {
                let x = (mixed.next() as i32) >> (mixed.next() % 32);
                let edge = (1i32 << (mixed.next() % 31)).wrapping_sub((mixed.next() % 3) as i32 - 1);
                let x = if round % 3 == 0 { edge } else { x };
                x.clamp(-(1 << 30), 1 << 30)
            };
            let numbers: Vec<i32> = (0..32).map(|_| number(&mut mixed)).collect();
            let expected: Vec<i32> = multipliers.iter().zip(&numbers).map(|(m, &x)| m.apply(x)).collect();
            for path in paths() {
                let mut got = numbers.clone();
                // SAFETY: the CPU has the paths; 32 numbers and factors are whole vectors.
                unsafe { scale_all(path, &mut got, &factors) };
                assert_eq!(got, expected, "{path:?}: {numbers:?} by {multipliers:?}");
                // Those above 0, where others need only stay there or below.
                let mut above = numbers.clone();
                // SAFETY: as above.
                unsafe { scale_above(path, &mut above, &factors) };
                for ((x, above), expected) in numbers.iter().zip(above).zip(&expected) {
                    assert!(if *x > 0 { above == *expected } else { above <= 0 }, "{path:?}: {x}");
                }
                checked += got.len();
            }
        }
        assert!(checked >= 1_000_000);
    }

    #[test]
    fn what_32_bits_do_not_hold_is_refused() {
        let fits = |real, largest| Factors::new(&[Multiplier::of(real)], 8, largest).is_some();
        assert!(fits(0.01, 1 << 30) && fits(0.499, 1 << 28));
        assert!(!fits(0.5, 10) && !fits(0.01, i64::from(i32::MAX)) && !fits(1e-12, 1 << 29));
    }

    #[test]
    fn tiny_factors_make_nothing() {
        for multiplier in [Multiplier::of(0.0), Multiplier::of(1e-12), Multiplier::of(2e-10)] {
            let largest = (1 << 29) - 1;
            let factors = Factors::splat(multiplier, largest).unwrap();
            for path in paths() {
                let mut x: Vec<i32> = [largest as i32, -(largest as i32), 1, -1].repeat(4);
                // SAFETY: the CPU has the paths; 16 numbers are whole vectors, and so many factors are there.
                unsafe { scale_all(path, &mut x, &factors) };
                assert_eq!(x, [multiplier.apply(largest as i32); 16], "{path:?} {multiplier:?}");
            }
        }
    }
}
