//! Residual sums: a shortcut added to a map, on its way out of a convolution.

use super::factors::{Multiplier, Scale};
use super::finish::{End, Finish};
use super::lanes::{ByteLanes, Span, bits};
use super::{Grid, Skip};

/// A residual sum: both sides with 20 bits of headroom at twice the larger scale, then brought to the output's.
#[derive(Clone, Debug)]
pub struct Sum {
    main: Side,
    skip: Side,
    output: Multiplier,
    zero: i32,
    low: i32,
    high: i32,
    /// Channels that the skip is added to, from the first.
    added: usize,
    way: Way,
}

#[derive(Clone, Debug)]
struct Side {
    zero: i32,
    multiplier: Multiplier,
}

/// How it is made; each comes to the same bytes.
#[derive(Clone, Debug)]
enum Way {
    /// By vectors.
    Reals(Reals),
    /// Looked up: for each byte of the skip, one for each of the map that it is added to.
    Table(Vec<u8>),
}

const HEADROOM: i32 = 20;

impl Side {
    fn new(of: Grid, twice: f64) -> Self {
        Self { zero: of.zero.into(), multiplier: Multiplier::of(f64::from(of.scale) / twice) }
    }

    fn apply(&self, q: u8) -> i32 {
        self.multiplier.apply((i32::from(q) - self.zero) << HEADROOM)
    }
}

impl Sum {
    /// `added`: the channels that get the skip, from the first; all others are brought to the output's scale alone. `low` and
    /// `high` are bytes.
    pub fn new(main: Grid, skip: Grid, output: Grid, added: usize, (low, high): (u8, u8)) -> Self {
        let twice = 2.0 * f64::from(main.scale.max(skip.scale));
        let mut sum = Self {
            main: Side::new(main, twice),
            skip: Side::new(skip, twice),
            output: Multiplier::of(twice / (f64::from(output.scale) * f64::from(1 << HEADROOM))),
            zero: output.zero.into(),
            low: low.into(),
            high: high.into(),
            added,
            way: Way::Table(Vec::new()),
        };
        let right: Vec<u8> = (0..=u16::MAX).map(|pair| sum.apply(pair as u8, (pair >> 8) as u8)).collect();
        sum.way = Reals::new(&right, main, skip, output).map_or(Way::Table(right), Way::Reals);
        sum
    }

    /// The reference, for one value. Where the skip does not reach, it is as its zero point.
    fn apply(&self, main: u8, skip: u8) -> u8 {
        let sum = self.main.apply(main).wrapping_add(self.skip.apply(skip));
        self.output.apply(sum).saturating_add(self.zero).min(self.high).max(self.low) as u8
    }

    /// One value; none where the skip does not reach.
    pub fn of(&self, main: u8, skip: Option<u8>) -> u8 {
        let skip = skip.unwrap_or(self.skip.zero as u8);
        match &self.way {
            Way::Reals(_) => self.apply(main, skip),
            Way::Table(right) => right[usize::from(main) | usize::from(skip) << 8],
        }
    }

    /// The channels that get the skip, from the first.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Whether vectors do.
    pub(super) fn is_fast(&self) -> bool {
        matches!(self.way, Way::Reals(_))
    }
}

/// A residual sum in f32: `nearest(main * a + (skip * b + start))`, rounded after each multiply-add, main's steps from its zero
/// point on and skip's bytes.
///
/// The sum itself has five roundings, and this others. What they come to differs where a sum lies near the middle between two
/// steps, so near that few of the 65,536 sums do; and the last bits of the three numbers move these to one side or the other. So
/// numbers are tried with all sums, until each is right. Where the middle itself is met time and again, the scales being multiples
/// of each other, it is larger factors that are right: what lies below the zero point is rounded down then, what lies above it up.
///
/// The sum's own roundings may contradict any such numbers, at a pair of bytes or two of one layer in two hundred. These are known
/// by what they come to before it is rounded, which no other pair comes to that is right.
#[derive(Clone, Debug)]
struct Reals {
    main: f32,
    /// Of bytes that lie in the upper halves of 32 bits.
    skip: f32,
    start: f32,
    /// What pairs come to that are not right, and what they should.
    odd: Vec<(f32, f32)>,
}

const UPPER: f32 = (1 << 16) as f32;
/// How often what is tried moves twice as far away.
const DOUBLED: i32 = 13;
/// What is tried nearby is a cube of so many to a side.
const NEAR: i32 = 21;
/// Odd pairs, at most.
const FEW: usize = 4;
/// Sums that are no nearer than this to the middle between two steps are right with any of the numbers that are tried.
const CLOSE: f64 = 1.0 / (1 << 9) as f64;

impl Reals {
    /// `right`: the 65,536 sums. None where nothing that is tried comes to all of them, as where their clamp is not a byte's own.
    fn new(right: &[u8], main: Grid, skip: Grid, output: Grid) -> Option<Self> {
        let ratio = |of: Grid| f64::from(of.scale) / f64::from(output.scale);
        let (of_main, of_skip) = (ratio(main), ratio(skip));
        // No sum is more, whatever the bytes are: larger ones are not rounded as vectors do it.
        if (255.0 * (of_main + of_skip)).is_nan() || 255.0 * (of_main + of_skip) > f64::from(1 << 30) {
            return None;
        }
        let pairs = || (0..=u16::MAX).zip(right);
        let close: Vec<(u16, &u8)> = pairs()
            .filter(|(pair, _)| {
                let [m, s] = pair.to_le_bytes().map(f64::from);
                let sum = (m - f64::from(main.zero)) * of_main + (s - f64::from(skip.zero)) * of_skip;
                (sum.rem_euclid(1.0) - 0.5).abs() < CLOSE
            })
            .collect();
        let tried = || {
            let far = (0..DOUBLED).flat_map(|power| (0..27).map(move |at| cube(at, 3).map(|side| side << power)));
            far.chain((0..NEAR.pow(3)).map(|at| cube(at, NEAR)))
        };
        [0, FEW].into_iter().flat_map(|few| tried().map(move |away| (few, away))).find_map(|(few, away)| {
            // The start moves by what is about a last bit of it.
            let [a, b, c] = away.map(|away| f64::from(away) * 2f64.powi(-24));
            let (a, b) = ((of_main * (1.0 + a)) as f32, (of_skip * (1.0 + b)) as f32);
            let start = f64::from(output.zero) - f64::from(b) * f64::from(skip.zero) + c * 64.0;
            let mut reals = Self { main: a, skip: b / UPPER, start: start as f32, odd: Vec::new() };
            let wrong = close.iter().filter(|(pair, right)| reals.sum(main.zero, *pair) != **right).take(few + 1);
            let odd: Vec<_> = wrong.map(|(pair, right)| (reals.real(main.zero, *pair), f32::from(**right))).collect();
            reals.odd = odd;
            let is_right = |(pair, right): (u16, &u8)| reals.sum(main.zero, pair) == *right;
            (reals.odd.len() <= few && pairs().all(is_right)).then_some(reals)
        })
    }

    /// As vectors make it, of the map's byte below and the skip's above.
    fn sum(&self, zero: u8, pair: u16) -> u8 {
        let real = self.real(zero, pair);
        let real = self.odd.iter().find(|(from, _)| *from == real).map_or(real, |(_, to)| *to);
        real.round_ties_even().clamp(0.0, 255.0) as u8
    }

    fn real(&self, zero: u8, pair: u16) -> f32 {
        let [main, skip] = pair.to_le_bytes().map(f32::from);
        (main - f32::from(zero)).mul_add(self.main, (skip * UPPER).mul_add(self.skip, self.start))
    }
}

/// The places of a cube of `side` to a side, around its middle.
fn cube(at: i32, side: i32) -> [i32; 3] {
    [at % side, at / side % side, at / (side * side)].map(|at| at - side / 2)
}

/// A shortcut, as vectors add it to a block.
pub(super) struct Added<'a, V: ByteLanes> {
    skip: *const u8,
    pitch: usize,
    /// The block's first channel, and the channels that the skip is added to from the map's first on.
    c: usize,
    reached: usize,
    /// The skip's zero point.
    nothing: u8,
    /// Ends of the clamp of what is added to, from its zero point on.
    least: V,
    most: [V; 2],
    /// As [`Reals`] has them.
    main: V,
    by: V,
    start: V,
    odd: &'a [(f32, f32)],
}

impl<'a, V: ByteLanes> Added<'a, V> {
    /// # Safety
    /// The CPU has the instructions of `V`; the block from channel `c` on is the finish's.
    #[inline(always)]
    pub unsafe fn new<const VECTORS: usize>(skip: &Skip<'a>, finish: &Finish, c: usize) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let Way::Reals(Reals { main, skip: by, start, odd }) = &sum.way else { return None };
        // SAFETY: the caller's.
        unsafe {
            Some(Self {
                skip: map.as_ptr(),
                pitch,
                c,
                reached: sum.added,
                nothing: sum.skip.zero as u8,
                least: V::splat(bits(finish.least())),
                most: finish.most_of_block::<V, VECTORS>(c),
                main: V::splat(bits(*main)),
                by: V::splat(bits(*by)),
                start: V::splat(bits(*start)),
                odd,
            })
        }
    }
}

impl<V: ByteLanes> End<V> for Added<'_, V> {
    #[inline(always)]
    unsafe fn bytes<F: Scale<V>, const VECTORS: usize>(
        &self,
        [first, second]: &[F; 2],
        sums: [V; 4],
        (pixel, apart): (usize, usize),
        span: Span,
    ) -> V::Bytes {
        // Channels beyond those that are reached get the skip's zero, which adds 0.
        let reached = self.reached.saturating_sub(self.c).min(span.n);
        // SAFETY: the caller's; where the skip does not reach, nothing is read: its map may have ended.
        unsafe {
            let from = self.skip.wrapping_add(pixel * self.pitch + self.c);
            let span = Span { pitch: apart * self.pitch, n: reached, ..span };
            let skip = V::shorts::<VECTORS>(V::load_bytes::<VECTORS>(from, span, self.nothing));
            let ([one, two], [three, four]) = (V::unpack(skip[0]), V::unpack(skip[1]));
            // All four from step to step: one after the other they would wait for each other's chains.
            let mut all = [one, two, three, four];
            for v in 0..4 {
                all[v] = all[v].real().times_plus(self.by, self.start);
            }
            let steps = [first.real(sums[0]), second.real(sums[1]), first.real(sums[2]), second.real(sums[3])];
            for v in 0..4 {
                all[v] = steps[v].clamp_real(self.least, self.most[v % 2]).times_plus(self.main, all[v]);
            }
            for (from, to) in self.odd {
                let (from, to) = (V::splat(bits(*from)), V::splat(bits(*to)));
                for v in 0..4 {
                    all[v] = all[v].replaced(from, to);
                }
            }
            let one = V::pack([all[0].nearest(), all[1].nearest()]);
            let two = V::pack([all[2].nearest(), all[3].nearest()]);
            V::bytes::<VECTORS>([one, two])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finish::{self, OVER, Rows, To};
    use super::super::lanes::{byte_kernel, channel};
    use super::super::tests::{Mixed, paths};
    use super::*;
    use crate::scratch::Shared;

    /// Scales whose ratios are mixed, or multiples of each other: sums meet the middle between two steps again and again.
    fn grids(mixed: &mut Mixed, multiples: bool) -> [Grid; 3] {
        let mut scales = [0; 3].map(|_| match multiples {
            true => 2f32.powi((mixed.next() % 4) as i32 - 4),
            false => 0.01 + (mixed.next() >> 40) as f32 / (1 << 24) as f32 * 0.09,
        });
        scales[2] = if multiples { scales[2] } else { scales[0].hypot(scales[1]) * 1.1 };
        scales.map(|scale| Grid { scale, zero: mixed.next() as u8 })
    }

    byte_kernel! {
        /// All pairs, as a pass over stored sums makes them: pixels of one block, whose factor is a quarter.
        ///
        /// # Safety
        /// The CPU has the instructions of `path`.
        unsafe fn all_pairs<V>(finish: &Finish, zero: u8, skip: &[u8], sum: &Sum, out: &mut [u8]) {
            let block = 2 * V::N;
            let mut sums = vec![0; out.len() + OVER * block];
            for (at, to) in sums[..out.len()].iter_mut().enumerate() {
                let main = (at / block * block + channel(at % block, V::N)) as u8;
                *to = 4 * (i32::from(main) - i32::from(zero));
            }
            let rows = Rows { pixel: 0, count: out.len() / block, channels: block, c: 0, n: block };
            let to = To::Bytes(Shared::new(out), finish, Some(Skip { map: skip, channels: block, sum }));
            // SAFETY: the caller's; all is as long as the rows say.
            unsafe { finish::write::<V, 2>(&to, sums.as_ptr(), rows) };
        }
    }

    #[test]
    fn all_sums_are_the_integers() {
        let mut mixed = Mixed(13);
        let (mut fast, mut odd) = ([0; 2], 0);
        for round in 0..600 {
            let multiples = round % 3 == 1;
            // First one whose own roundings contradict themselves.
            let [main, skip, output] = match round {
                0 => [(0.087_508_05, 86), (0.035_606_395, 147), (0.090_929_27, 83)]
                    .map(|(scale, zero)| Grid { scale, zero }),
                _ => grids(&mut mixed, multiples),
            };
            let sum = Sum::new(main, skip, output, 32, (0, 255));
            let pairs = || (0..=u16::MAX).map(|pair| pair.to_le_bytes());
            let expected: Vec<u8> = pairs().map(|[main, skip]| sum.apply(main, skip)).collect();
            assert!(pairs().map(|[main, skip]| sum.of(main, Some(skip))).eq(expected.iter().copied()), "{sum:?}");
            let Way::Reals(reals) = &sum.way else { continue };
            odd += usize::from(!reals.odd.is_empty());
            fast[usize::from(multiples)] += 1;
            let finish = Finish::new(vec![Multiplier::of(0.25); 32], 1 << 12, main.zero, 0, &[255; 32]);
            let skip: Vec<u8> = pairs().map(|[_, skip]| skip).collect();
            for path in paths() {
                let mut out = vec![0; 1 << 16];
                // SAFETY: the CPU has the paths.
                unsafe { all_pairs(path, &finish, main.zero, &skip, &sum, &mut out) };
                assert!(out == expected, "{path:?} {sum:?}");
            }
        }
        assert!(fast == [400, 200] && odd > 0, "{fast:?} {odd}");
    }
}
