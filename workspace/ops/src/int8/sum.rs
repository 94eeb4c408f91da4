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
    /// None where there are none; then value by value.
    reals: Option<Reals>,
    zero: u8,
    low: u8,
    high: u8,
    /// Channels that the skip is added to, from the first.
    added: usize,
}

#[derive(Clone, Debug)]
struct Side {
    zero: i32,
    multiplier: Multiplier,
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
        let back = Multiplier::of(twice / (f64::from(output.scale) * f64::from(1 << HEADROOM)));
        let (of_main, of_skip) = (Side::new(main, twice), Side::new(skip, twice));
        let mut sum =
            Self { main: of_main, skip: of_skip, output: back, reals: None, zero: output.zero, low, high, added };
        sum.reals = Reals::new(&sum, [main, skip].map(|grid| f64::from(grid.scale) / f64::from(output.scale)));
        sum
    }

    /// The reference, for one value; none where the skip does not reach.
    pub fn apply(&self, main: u8, skip: Option<u8>) -> u8 {
        let sum = self.main.apply(main).wrapping_add(skip.map_or(0, |skip| self.skip.apply(skip)));
        self.clamp(self.output.apply(sum))
    }

    fn clamp(&self, steps: i32) -> u8 {
        steps.saturating_add(self.zero.into()).min(self.high.into()).max(self.low.into()) as u8
    }

    /// The channels that get the skip, from the first.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Whether vectors do.
    pub(super) fn is_fast(&self) -> bool {
        self.reals.is_some()
    }
}

/// A residual sum in f32: `nearest(main * a + skip * b)` of steps from the maps' zero points on, the second product rounded
/// before it is added.
///
/// The sum itself has five roundings, and this others. What they come to differs where a sum lies near the middle between two
/// steps, so near that few of the 65,536 sums do; and the last bits of the two factors move these to one side or the other. So
/// factors are tried with all sums, until each is right. Where the middle itself is met time and again, the scales being
/// multiples of each other, both factors have to be larger by a little: a half is rounded away from zero then.
#[derive(Clone, Copy, Debug)]
struct Reals {
    main: f32,
    /// Of steps that lie in the upper halves of 32 bits.
    skip: f32,
}

/// Where from the scales' ratios factors are tried, in 2^-24 of themselves and powers of two times that.
const AWAY: [[i32; 2]; 16] = [
    [1, 1],
    [-1, -1],
    [1, 0],
    [0, 1],
    [-1, 0],
    [0, -1],
    [1, -1],
    [-1, 1],
    [2, 1],
    [1, 2],
    [-2, -1],
    [-1, -2],
    [2, -1],
    [-1, 2],
    [-2, 1],
    [1, -2],
];

impl Reals {
    fn new(sum: &Sum, ratios: [f64; 2]) -> Option<Self> {
        // No sum is more, whatever the bytes are.
        if !(255.0 * (ratios[0] + ratios[1]) < f64::from(i32::MAX)) {
            return None;
        }
        let right: Vec<u8> = (0..=u16::MAX).map(|pair| sum.apply(pair as u8, Some((pair >> 8) as u8))).collect();
        let away = (0..12).flat_map(|power| AWAY.map(|away| away.map(|away| f64::from(away << power))));
        std::iter::once([0.0; 2]).chain(away).find_map(|away| {
            let factor = |side: usize| (ratios[side] * (1.0 + away[side] / f64::from(1 << 24))) as f32;
            let reals = Self { main: factor(0), skip: factor(1) / 65536.0 };
            let is_right = |(skip, right): (u8, &[u8])| {
                let skip = ((i32::from(skip) - sum.skip.zero) << 16) as f32 * reals.skip;
                (0..=255u8).zip(right).all(|(main, right)| {
                    let main = (i32::from(main) - sum.main.zero) as f32;
                    sum.clamp(main.mul_add(reals.main, skip).round_ties_even() as i32) == *right
                })
            };
            (0..=255u8).zip(right.chunks_exact(256)).all(is_right).then_some(reals)
        })
    }
}

/// A shortcut, as vectors add it to a block.
pub(super) struct Added<V: ByteLanes> {
    skip: *const u8,
    pitch: usize,
    /// The block's first channel, and the channels that the skip is added to from the map's first on.
    c: usize,
    reached: usize,
    /// The skip's zero point.
    nothing: u8,
    nothings: V::Short,
    /// Ends of the clamp of what is added to, from its zero point on.
    least: V,
    most: [V; 2],
    main: V,
    by: V,
    zero: V::Short,
    low: V::Bytes,
    high: V::Bytes,
}

impl<V: ByteLanes> Added<V> {
    /// # Safety
    /// The CPU has the instructions of `V`; the block from channel `c` on is the finish's.
    #[inline(always)]
    pub unsafe fn new<const VECTORS: usize>(skip: &Skip<'_>, finish: &Finish, c: usize) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let Some(Reals { main, skip: by }) = sum.reals else { return None };
        let (zero, low) = finish.zero_and_low();
        let nothing = sum.skip.zero as u8;
        // SAFETY: the caller's.
        unsafe {
            let high = V::shorts::<VECTORS>(finish.high_of_block::<V, VECTORS>(c))[0];
            let most = V::unpack(V::sub_short(high, V::splat_short(zero.into())));
            let whole = V::splat(bits(1.0 / 65536.0));
            Some(Self {
                skip: map.as_ptr(),
                pitch,
                c,
                reached: sum.added,
                nothing,
                nothings: V::splat_short(nothing.into()),
                least: V::splat(i32::from(low) - i32::from(zero)).real(),
                most: [most[0].real().times(whole), most[1].real().times(whole)],
                main: V::splat(bits(main)),
                by: V::splat(bits(by)),
                zero: V::splat_short(sum.zero.into()),
                low: V::splat_bytes(sum.low),
                high: V::splat_bytes(sum.high),
            })
        }
    }

    /// A pair's steps and the skip's bytes of the same channels.
    #[inline(always)]
    fn add(&self, steps: [V; 2], skip: V::Short) -> V::Short {
        let skip = V::unpack(V::sub_short(skip, self.nothings));
        let (one, two) = (skip[0].real().times(self.by), skip[1].real().times(self.by));
        let one = steps[0].clamp_real(self.least, self.most[0]).times_plus(self.main, one).nearest();
        let two = steps[1].clamp_real(self.least, self.most[1]).times_plus(self.main, two).nearest();
        V::add_short(V::pack([one, two]), self.zero)
    }
}

impl<V: ByteLanes> End<V> for Added<V> {
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
        let [one, two] = unsafe {
            let from = self.skip.wrapping_add(pixel * self.pitch + self.c);
            let span = Span { pitch: apart * self.pitch, n: reached, ..span };
            V::shorts::<VECTORS>(V::load_bytes::<VECTORS>(from, span, self.nothing))
        };
        let one = self.add([first.real(sums[0]), second.real(sums[1])], one);
        let two = self.add([first.real(sums[2]), second.real(sums[3])], two);
        V::clamp_bytes(V::bytes::<VECTORS>([one, two]), self.low, self.high)
    }
}
