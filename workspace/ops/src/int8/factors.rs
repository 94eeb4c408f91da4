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

    /// Of a block's vectors from `lane` on: a pair, or one and itself.
    ///
    /// # Safety
    /// As for `at`.
    #[inline(always)]
    pub unsafe fn of_block<V: ByteLanes, const VECTORS: usize, const ABOVE: bool>(
        &self,
        lane: usize,
    ) -> [Whole<V, ABOVE>; 2] {
        // SAFETY: the caller's.
        unsafe {
            let q = block::<V, VECTORS>(self.q.as_ptr().add(lane));
            let shift = block::<V, VECTORS>(self.shift.as_ptr().add(lane));
            [Whole(V::factors::<ABOVE>(q[0], shift[0])), Whole(V::factors::<ABOVE>(q[1], shift[1]))]
        }
    }
}

/// The lanes of a block's vectors, which lie in the order of channels: of a pair, or of one and of itself.
///
/// # Safety
/// The CPU has the instructions of `V`, and the lanes are there.
#[inline(always)]
pub(super) unsafe fn block<V: ByteLanes, const VECTORS: usize>(from: *const i32) -> [V; 2] {
    // SAFETY: the caller's.
    unsafe {
        match VECTORS {
            2 => V::paired([V::load(from), V::load(from.add(V::N))]),
            _ => [V::load(from); 2],
        }
    }
}

/// A vector's factors, of one kind or another.
pub(crate) trait Scale<V: ByteLanes> {
    /// Whether all that matters are numbers above 0: what others become is then 0 or less.
    const ABOVE: bool;
    /// What [`Multiplier::apply`] makes of each lane.
    fn scale(&self, sums: V) -> V;
    /// The same as f32.
    #[inline(always)]
    fn real(&self, sums: V) -> V {
        self.scale(sums).real()
    }
}

/// Of [`Factors`].
pub(crate) struct Whole<V: ByteLanes, const ABOVE: bool>(V::Factors);

impl<V: ByteLanes, const ABOVE: bool> Scale<V> for Whole<V, ABOVE> {
    const ABOVE: bool = ABOVE;
    #[inline(always)]
    fn scale(&self, sums: V) -> V {
        sums.scale::<ABOVE>(&self.0)
    }
}

/// Of [`Reals`]; not `FINE`: without what is left of them.
pub(crate) struct Real<V: ByteLanes, const ABOVE: bool, const FINE: bool>([V; 3]);

impl<V: ByteLanes, const ABOVE: bool, const FINE: bool> Scale<V> for Real<V, ABOVE, FINE> {
    const ABOVE: bool = ABOVE;
    #[inline(always)]
    fn scale(&self, sums: V) -> V {
        sums.round::<ABOVE, FINE>(&self.0)
    }
    #[inline(always)]
    fn real(&self, sums: V) -> V {
        sums.round_real::<ABOVE, FINE>(&self.0)
    }
}

/// [`Multiplier`]s of many lanes as f32: `trunc(x * (factor + rest) + start)`, x's sign put before `start`.
///
/// `apply` is a staircase: it reaches the step u at some number x_u, and all that a map tells apart are the 255 steps at most
/// between the ends of its clamp. So is this, multiply-adds and truncation being monotone; the two are equal if each of these
/// steps lies at the same number in either, for which `u - f * x_u <= start < u - f * (x_u - 1)` with f the whole factor. For
/// nearly every channel there is such an interval, wider than what is rounded: the multiply-add with `factor` rounds towards
/// zero, which moves nothing over a step, and where f needs to be finer than an f32 there is a `rest`.
#[derive(Clone, Debug)]
pub(crate) struct Reals {
    factor: Vec<f32>,
    rest: Vec<f32>,
    start: Vec<f32>,
    /// Of each lane, whether it or one of those after it in a block has a rest.
    fine: Vec<bool>,
}

/// From here on f32 does not have every number.
const WHOLE: i64 = 1 << 24;

/// An interval as wide as this has a `start` that bears its own rounding and that of its multiply-add: each of a number below 1,
/// by half of 2^-24, to either side.
const ROUNDED: f64 = 1.0 / (1 << 23) as f64;

/// Factors that are tried of either kind.
const TRIED: i32 = 24;

impl Reals {
    /// Of `factors`, for numbers up to `largest`. `steps(lane)`: as many steps matter above 0 and below it. None where a lane has
    /// no such factor.
    pub fn new(factors: &Factors, largest: i64, steps: impl Fn(usize) -> [i64; 2]) -> Option<Self> {
        let lanes = factors.q.len();
        let (mut factor, mut rest, mut start) = (vec![0.0; lanes], vec![0.0; lanes], vec![0.5; lanes]);
        let mut stairs = Vec::new();
        for (lane, (&q, &shift)) in factors.q.iter().zip(&factors.shift).enumerate().filter(|(_, (q, _))| **q != 0) {
            stairs.clear();
            Self::stairs(i64::from(q), shift, largest, steps(lane), &mut stairs)?;
            let ideal = f64::from(q) / 2f64.powi(31 + shift);
            // Next to the ideal one, on one side and the other.
            let away = (0..TRIED).map(|at| f64::from(if at % 2 == 0 { at / 2 } else { -at / 2 - 1 }));
            // An f32's last bit; or what moves the last step by about as much as intervals are wide, a 128th of f.
            let coarse = away.clone().map(|away| ((ideal * (1.0 + away * 2f64.powi(-24))) as f32, 0.0));
            let fine = away.map(|away| {
                let f = ideal + away * ideal * ideal / f64::from(1 << 14);
                (f as f32, (f - f64::from(f as f32)) as f32)
            });
            (factor[lane], rest[lane], start[lane]) =
                coarse.chain(fine).find_map(|(f, rest)| Some((f, rest, Self::start(f, rest, &stairs)?)))?;
        }
        let fine = (0..lanes).map(|lane| rest[lane..].iter().take(LANES).any(|rest| *rest != 0.0)).collect();
        Some(Self { factor, rest, start, fine })
    }

    /// What a factor begins with to come to all steps where they lie.
    fn start(factor: f32, rest: f32, stairs: &[(f64, f64)]) -> Option<f32> {
        let f = f64::from(factor) + f64::from(rest);
        let (mut low, mut high) = (0f64, 1f64);
        for &(step, x) in stairs {
            low = low.max(step - f * x);
            high = high.min(step - f * (x - 1.0));
            if high - low < ROUNDED {
                return None;
            }
        }
        Some(((low + high) / 2.0) as f32)
    }

    /// Whether the block from `lane` on needs what is left of its factors.
    pub fn is_fine(&self, lane: usize) -> bool {
        self.fine.get(lane).is_none_or(|fine| *fine)
    }

    /// Each step and the number, without its sign, that reaches it, and the first step that none reaches.
    fn stairs(q: i64, shift: i32, largest: i64, [above, below]: [i64; 2], stairs: &mut Vec<(f64, f64)>) -> Option<()> {
        // x reaches u where `x * q` does so many, and -x reaches -u where it has one more: u less a half, and both nudges.
        let step = 1i128 << (31 + shift);
        let first = (step >> 1) - (1 << 30);
        let (whole, part) = ((step / i128::from(q)) as i64, (step % i128::from(q)) as i64);
        let (mut x, mut left) = ((first / i128::from(q)) as i64, (first % i128::from(q)) as i64);
        for u in 1..=above.max(below) {
            let up = x + i64::from(left > 0);
            if up > WHOLE && largest > WHOLE {
                return None;
            }
            if u <= above {
                stairs.push((u as f64, up as f64));
            }
            if u <= below && (u > above || left == 0) {
                stairs.push((u as f64, (x + 1) as f64));
            }
            if up > largest {
                break;
            }
            (x, left) = (x + whole, left + part);
            if left >= q {
                (x, left) = (x + 1, left - q);
            }
        }
        Some(())
    }

    /// As [`Factors::of_block`].
    ///
    /// # Safety
    /// As for that.
    #[inline(always)]
    pub unsafe fn of_block<V: ByteLanes, const VECTORS: usize, const ABOVE: bool, const FINE: bool>(
        &self,
        lane: usize,
    ) -> [Real<V, ABOVE, FINE>; 2] {
        // SAFETY: the caller's.
        unsafe {
            let factor = block::<V, VECTORS>(self.factor.as_ptr().add(lane).cast());
            let rest = block::<V, VECTORS>(self.rest.as_ptr().add(lane).cast());
            let start = block::<V, VECTORS>(self.start.as_ptr().add(lane).cast());
            [Real([factor[0], rest[0], start[0]]), Real([factor[1], rest[1], start[1]])]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Path;
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

    byte_kernel! {
        /// # Safety
        /// As for `scale_all`.
        unsafe fn round_all<V>(x: &mut [i32], reals: &Reals, above: bool, fine: bool) {
            for at in (0..x.len()).step_by(V::N) {
                // SAFETY: the caller's.
                unsafe {
                    let from = x[at..].as_mut_ptr();
                    let sums = V::load(from);
                    let steps = match (above, fine) {
                        (true, true) => reals.of_block::<V, 1, true, true>(at)[0].scale(sums),
                        (true, false) => reals.of_block::<V, 1, true, false>(at)[0].scale(sums),
                        (false, true) => reals.of_block::<V, 1, false, true>(at)[0].scale(sums),
                        (false, false) => reals.of_block::<V, 1, false, false>(at)[0].scale(sums),
                    };
                    steps.store(from);
                }
            }
        }
    }

    /// The least number for which `apply` is `step` or more, or one more than `largest`.
    fn first(multiplier: Multiplier, step: i32, largest: i32) -> i32 {
        let (mut below, mut first) = (-largest - 1, largest + 1);
        while first - below > 1 {
            let middle = below + (first - below) / 2;
            if multiplier.apply(middle) >= step { first = middle } else { below = middle }
        }
        first
    }

    #[test]
    fn reals_are_multipliers_on_both_sides_of_every_step() {
        let mut mixed = Mixed(3);
        // Those that have no rest, those that do, and those that there are none for.
        let mut kinds = [0; 3];
        for round in 0..3000 {
            let q = (1 << 30) + (mixed.next() >> 34) as i32;
            // Some whose last bits are zero, where products meet halves exactly.
            let zeros = if round % 4 == 0 { mixed.next() % 31 } else { 0 };
            let multiplier = Multiplier { q: (q >> zeros) << zeros, shift: -1 - (mixed.next() % 18) as i32 };
            let above = (mixed.next() % 256) as i32;
            let below = if round % 2 == 0 { 0 } else { 255 - above };
            let largest = [300_000, 30_000_000, 1000][round % 3];
            let factors = Factors::splat(multiplier, largest.into()).unwrap();
            let Some(reals) = Reals::new(&factors, largest.into(), |_| [above.into(), below.into()]) else {
                kinds[2] += 1;
                continue;
            };
            kinds[usize::from(reals.is_fine(0))] += 1;
            let mut numbers: Vec<i32> = (-below..=above)
                .flat_map(|step| [-2, -1, 0, 1].map(|by| first(multiplier, step, largest) + by))
                .chain([-largest, largest, 0])
                .chain((0..64).map(|_| mixed.next() as i32 % largest))
                .map(|x| x.clamp(-largest, largest))
                .collect();
            numbers.resize(numbers.len().next_multiple_of(32), 0);
            let clamped = |x: i32| x.clamp(-below, above);
            let expected: Vec<i32> = numbers.iter().map(|&x| clamped(multiplier.apply(x))).collect();
            for path in paths().into_iter().filter(|path| matches!(path, Path::Vnni | Path::Quads)) {
                for fine in [reals.is_fine(0), true] {
                    let mut got = numbers.clone();
                    for got in got.chunks_exact_mut(32) {
                        // SAFETY: the CPU has the paths; 32 numbers and factors are whole vectors.
                        unsafe { round_all(path, got, &reals, below == 0, fine) };
                    }
                    got.iter_mut().for_each(|x| *x = clamped(*x));
                    assert_eq!(got, expected, "{path:?}: {numbers:?} by {multiplier:?}, {fine}");
                }
            }
        }
        assert!(kinds[0] > 1000 && kinds[1] > 100 && kinds[2] < 300, "{kinds:?}");
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
