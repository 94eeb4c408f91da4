//! From the sums of a tile to the bytes of a map.

use std::marker::PhantomData;

use super::Skip;
use super::factors::{Factors, Multiplier, Reals, Scale};
use super::lanes::{ByteLanes, Span, channel};
use crate::scratch::Shared;

/// Lanes of a pair of vectors on the widest path: what outputs are padded to.
pub(crate) const LANES: usize = 32;

/// Pixels whose sums are read beyond the last, where four vectors at a time are more than there are.
pub(super) const OVER: usize = 3;

/// From accumulators to a map's bytes: a factor a channel, the zero point, and the clamp that an activation is. Bytes are
/// `q + 128`.
#[derive(Clone, Debug)]
pub struct Finish {
    multipliers: Vec<Multiplier>,
    /// None where vectors of 32 bits do not do.
    factors: Option<Factors>,
    /// None where those of a channel are not exact.
    reals: Option<Reals>,
    zero: u8,
    low: u8,
    /// One a channel, padded.
    high: Vec<u8>,
}

impl Finish {
    /// `largest` bounds every accumulator; `zero`, `low` and `high` (one a channel) are bytes, from 0 to 255.
    pub fn new(multipliers: Vec<Multiplier>, largest: i64, zero: u8, low: u8, high: &[u8]) -> Self {
        let lanes = multipliers.len().next_multiple_of(LANES);
        let factors = Factors::new(&multipliers, lanes, largest);
        let high: Vec<u8> = (0..lanes).map(|lane| high.get(lane).copied().unwrap_or(0)).collect();
        let steps = |lane: usize| [i64::from(high[lane]) - i64::from(zero), i64::from(zero) - i64::from(low)];
        let reals = factors.as_ref().and_then(|factors| Reals::new(factors, largest, steps));
        Self { multipliers, factors, reals, zero, low, high }
    }

    pub(super) fn channels(&self) -> usize {
        self.multipliers.len()
    }

    /// Whether vectors do.
    pub(super) fn is_fast(&self) -> bool {
        self.factors.is_some()
    }

    /// Whether sums are best finished out of registers, for what they are finished with is few vectors.
    pub(super) fn is_short<V: ByteLanes>(&self) -> bool {
        V::ROUNDS && self.reals.is_some()
    }

    /// The reference, for one value of channel `c`.
    pub(super) fn apply(&self, sum: i32, c: usize) -> u8 {
        let steps = self.multipliers[c].apply(sum).saturating_add(self.zero.into());
        steps.min(self.high[c].into()).max(self.low.into()) as u8
    }
}

/// A residual sum: both sides with 20 bits of headroom at twice the larger scale, then brought to the output's.
#[derive(Clone, Debug)]
pub struct Sum {
    main: Side,
    skip: Side,
    output: Multiplier,
    factors: Option<Factors>,
    estimate: Option<Estimate>,
    zero: i32,
    low: i32,
    high: i32,
    /// Channels that the skip is added to, from the first.
    added: usize,
}

#[derive(Clone, Debug)]
struct Side {
    zero: i32,
    multiplier: Multiplier,
    /// Of the map with the larger scale: exact, without a rounding.
    is_half: bool,
    factors: Option<Factors>,
}

/// The scale and the zero point, a byte, of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub scale: f32,
    pub zero: u8,
}

const HEADROOM: i32 = 20;

impl Side {
    fn new(of: Grid, twice: f64) -> Self {
        let multiplier = Multiplier::of(f64::from(of.scale) / twice);
        let is_half = multiplier == Multiplier::of(0.5);
        Self { zero: of.zero.into(), multiplier, is_half, factors: Factors::splat(multiplier, 255 << HEADROOM) }
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
        let mut sum = Self {
            main: Side::new(main, twice),
            skip: Side::new(skip, twice),
            output: back,
            factors: Factors::splat(back, 256 << HEADROOM),
            estimate: None,
            zero: output.zero.into(),
            low: low.into(),
            high: high.into(),
            added,
        };
        if sum.is_fast() {
            sum.estimate = Estimate::new(&sum, main, skip, output);
        }
        sum
    }

    /// The reference, for one value; none where the skip does not reach.
    pub fn apply(&self, main: u8, skip: Option<u8>) -> u8 {
        let sum = self.main.apply(main).wrapping_add(skip.map_or(0, |skip| self.skip.apply(skip)));
        self.output.apply(sum).saturating_add(self.zero).min(self.high).max(self.low) as u8
    }

    /// The channels that get the skip, from the first.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Whether vectors do.
    pub(super) fn is_fast(&self) -> bool {
        let is_fast = |side: &Side| side.is_half || side.factors.is_some();
        is_fast(&self.main) && is_fast(&self.skip) && self.factors.is_some()
    }
}

/// A residual sum in one fixed-point number: `a * main + b * skip + start`, in steps of the output with [`FRACTION`] bits below.
///
/// That is a rounding where the sum itself has five, and may differ from it where a sum lies near the middle between two
/// steps. Such sums are known by the bits below a step, which are then near 0; they are then made as the sum says, and are so
/// few that this costs nothing. How near is near enough has been tried for each of the 65,536 sums that there are.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// `a` and `b` as halves of 16 bits: what lies above [`COARSE`] bits, and what is left, with its sign.
    coarse: i32,
    fine: i32,
    start: i32,
    /// The bits of which one is set where the estimate is right.
    sure: i32,
}

/// Bits below a step.
const FRACTION: i32 = 20;
const COARSE: i32 = 12;

impl Estimate {
    /// None where 32 bits do not do, or where too many sums would be made anew.
    fn new(sum: &Sum, main: Grid, skip: Grid, output: Grid) -> Option<Self> {
        let step = f64::from(1 << FRACTION);
        let factor = |grid: Grid| (f64::from(grid.scale) / f64::from(output.scale) * step).round();
        let (a, b) = (factor(main), factor(skip));
        // No sum is more, whatever the bytes are.
        let reach = 255.0 * (a + b) + 256.0 * step;
        if reach.is_nan() || reach >= f64::from(i32::MAX) {
            return None;
        }
        let (a, b) = (a as i32, b as i32);
        let middle = (i32::from(output.zero) << FRACTION) + (1 << (FRACTION - 1));
        let middle = middle - a * i32::from(main.zero) - b * i32::from(skip.zero);
        let right: Vec<u8> = (0..=u16::MAX).map(|pair| sum.apply(pair as u8, Some((pair >> 8) as u8))).collect();
        let near = (0..FRACTION - 6).find(|near| {
            let start = middle + (1 << near >> 1);
            right.iter().enumerate().all(|(pair, &right)| {
                let at = a * (pair & 0xFF) as i32 + b * (pair >> 8) as i32 + start;
                at & above(*near) == 0 || (at >> FRACTION).min(sum.high).max(sum.low) as u8 == right
            })
        })?;
        // What is left of a factor lies from -2^11 to 2^11 - 1.
        let coarse = |x: i32| (x + (1 << (COARSE - 1))) >> COARSE;
        let fine = |x: i32| x - (coarse(x) << COARSE);
        let halves = |a: i32, b: i32| a & 0xFFFF | b << 16;
        Some(Self {
            coarse: halves(coarse(a), coarse(b)),
            fine: halves(fine(a), fine(b)),
            start: middle + (1 << near >> 1),
            sure: above(near),
        })
    }
}

/// The bits below a step above the lowest `near`: all 0 where a sum, moved up by half of that, is near the middle.
fn above(near: i32) -> i32 {
    (1 << FRACTION) - (1 << near)
}

/// What a convolution's sums become.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    /// They stay as they are: [pixels, channels].
    Sums(Shared<i32>),
    /// A map, perhaps with a shortcut added to it. Both are fast.
    Bytes(Shared<u8>, &'a Finish, Option<Skip<'a>>),
}

/// Pixels in a row, and a block of their channels.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first pixel of the map, and how many there are.
    pub pixel: usize,
    pub count: usize,
    /// Channels of the map; the block's first, and how many it has.
    pub channels: usize,
    pub c: usize,
    pub n: usize,
}

/// Writes what becomes of `sums`, for each pixel a pair of vectors: a pass of its own over what lies in the first cache, so that
/// factors stay where they are from pixel to pixel, and the loops over products are no longer than they need to be.
/// `VECTORS`: 2 where the sums are pairs, 1 where they are one vector in the order of channels.
///
/// # Safety
/// The CPU has the instructions of `V`; sums can be read of [`OVER`] pixels more; the pixels are the map's, this task's own and in
/// the skip's map.
#[inline(always)]
pub(super) unsafe fn write<V: ByteLanes, const VECTORS: usize>(to: &To<'_>, sums: *const i32, rows: Rows) {
    let block = 2 * V::N;
    // SAFETY: the caller's.
    unsafe {
        match to {
            To::Sums(out) => {
                for row in 0..rows.count {
                    let to = out.at((rows.pixel + row) * rows.channels + rows.c);
                    for lane in 0..if VECTORS == 2 { block } else { V::N } {
                        let c = if VECTORS == 2 { channel(lane, V::N) } else { lane };
                        if c < rows.n {
                            *to.add(c) = *sums.add(row * block + lane);
                        }
                    }
                }
            }
            To::Bytes(out, finish, skip) => {
                ready(out, finish, *skip, rows, Stored::<V, VECTORS> { sums, rows, of: PhantomData });
            }
        }
    }
}

/// Sums that lie in memory.
struct Stored<V, const VECTORS: usize> {
    sums: *const i32,
    rows: Rows,
    of: PhantomData<V>,
}

impl<V: ByteLanes, const VECTORS: usize> Way<V, VECTORS> for Stored<V, VECTORS> {
    #[inline(always)]
    unsafe fn go<F: Scale<V>, A: Addition<V>>(self, ready: &Ready<'_, V, F, A, VECTORS>) {
        let (step, Rows { pixel, count, .. }) = (4 / VECTORS, self.rows);
        // From a vector of sums to the next.
        let next = if VECTORS == 2 { V::N } else { 2 * V::N };
        for row in (0..count).step_by(step) {
            // SAFETY: the caller's.
            unsafe {
                let sums = self.sums.add(row * 2 * V::N);
                let four =
                    [V::load(sums), V::load(sums.add(next)), V::load(sums.add(2 * next)), V::load(sums.add(3 * next))];
                ready.put(four, pixel + row, 1, (count - row).min(step));
            }
        }
    }
}

/// What puts sums into a block that is ready: compiled for each kind of factors.
pub(super) trait Way<V: ByteLanes, const VECTORS: usize> {
    /// # Safety
    /// As for [`write`].
    unsafe fn go<F: Scale<V>, A: Addition<V>>(self, ready: &Ready<'_, V, F, A, VECTORS>);
}

/// Makes a block ready, and goes the way.
///
/// # Safety
/// As for [`write`], but for sums.
#[inline(always)]
pub(super) unsafe fn ready<V: ByteLanes, const VECTORS: usize>(
    out: &Shared<u8>,
    finish: &Finish,
    skip: Option<Skip<'_>>,
    rows: Rows,
    way: impl Way<V, VECTORS>,
) {
    // SAFETY: the caller's.
    unsafe {
        // What lies below 0 becomes 0, the map's zero and its lower end: as after a ReLU.
        let above = (finish.zero, finish.low) == (0, 0);
        // Nothing here is handed to a closure, which would not have the instructions.
        if let Some(skip) = &skip {
            if let Some(added) = Added::<V>::new(skip) {
                scaled::<V, VECTORS, false>(out, finish, rows, added, way);
            }
        } else if above {
            scaled::<V, VECTORS, true>(out, finish, rows, Nothing, way);
        } else {
            scaled::<V, VECTORS, false>(out, finish, rows, Nothing, way);
        }
    }
}

/// [`ready`], with what is added.
///
/// # Safety
/// As for that.
#[inline(always)]
unsafe fn scaled<V: ByteLanes, const VECTORS: usize, const ABOVE: bool>(
    out: &Shared<u8>,
    finish: &Finish,
    rows: Rows,
    added: impl Addition<V>,
    way: impl Way<V, VECTORS>,
) {
    let c = rows.c;
    // SAFETY: the caller's.
    unsafe {
        match (&finish.reals, &finish.factors) {
            (Some(reals), _) if V::ROUNDS && reals.is_fine(c) => {
                way.go(&Ready::new(out, finish, reals.of_block::<V, VECTORS, ABOVE, true>(c), added, rows));
            }
            (Some(reals), _) if V::ROUNDS => {
                way.go(&Ready::new(out, finish, reals.of_block::<V, VECTORS, ABOVE, false>(c), added, rows));
            }
            (_, Some(factors)) => {
                way.go(&Ready::new(out, finish, factors.of_block::<V, VECTORS, ABOVE>(c), added, rows));
            }
            (_, None) => {}
        }
    }
}

/// What stays the same from pixel to pixel of a block.
pub(super) struct Ready<'a, V: ByteLanes, F, A, const VECTORS: usize> {
    out: &'a Shared<u8>,
    channels: usize,
    c: usize,
    n: usize,
    scales: [F; 2],
    zero: V::Short,
    low: V::Bytes,
    high: V::Bytes,
    added: A,
}

impl<'a, V: ByteLanes, F: Scale<V>, A: Addition<V>, const VECTORS: usize> Ready<'a, V, F, A, VECTORS> {
    /// # Safety
    /// The CPU has the instructions of `V`; the block is the finish's.
    #[inline(always)]
    unsafe fn new(
        out: &'a Shared<u8>,
        finish: &Finish,
        scales: [F; 2],
        added: A,
        Rows { channels, c, n, .. }: Rows,
    ) -> Self {
        // SAFETY: the caller's; clamps are padded.
        unsafe {
            let span = Span { pitch: 0, count: 4 / VECTORS, n: VECTORS * V::N };
            let (low, high) =
                (V::splat_bytes(finish.low), V::load_bytes::<VECTORS>(finish.high.as_ptr().add(c), span, 0));
            Self { out, channels, c, n, scales, zero: V::splat_short(finish.zero.into()), low, high, added }
        }
    }

    /// Four vectors of sums, which become the bytes of one: of two pixels a pair each, or of four a vector. They lie `apart` pixels
    /// from each other, `count` of them, from pixel `pixel` of the map on.
    ///
    /// # Safety
    /// As for [`write`].
    #[inline(always)]
    pub unsafe fn put(&self, sums: [V; 4], pixel: usize, apart: usize, count: usize) {
        let [first, second] = &self.scales;
        let one = V::pack([first.scale(sums[0]), second.scale(sums[1])]);
        let two = V::pack([first.scale(sums[2]), second.scale(sums[3])]);
        let mut bytes = match F::ABOVE {
            true => V::at_most(V::bytes::<VECTORS>([one, two]), self.high),
            false => {
                let shorts = [V::add_short(one, self.zero), V::add_short(two, self.zero)];
                V::clamp_bytes(V::bytes::<VECTORS>(shorts), self.low, self.high)
            }
        };
        let span = Span { pitch: apart * self.channels, count, n: self.n };
        // SAFETY: the caller's.
        unsafe {
            bytes = self.added.to::<VECTORS>(bytes, (pixel, apart), self.c, span);
            V::store_bytes::<VECTORS>(bytes, self.out.at(pixel * self.channels + self.c), span);
        }
    }
}

/// What is added to a block's bytes.
pub(super) trait Addition<V: ByteLanes> {
    /// To channels from `c` on of pixels from `pixel` on, `apart` from each other, as `span` has them.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and the skip has the pixels.
    unsafe fn to<const VECTORS: usize>(&self, main: V::Bytes, pixels: (usize, usize), c: usize, span: Span)
    -> V::Bytes;
}

struct Nothing;

impl<V: ByteLanes> Addition<V> for Nothing {
    #[inline(always)]
    unsafe fn to<const VECTORS: usize>(&self, main: V::Bytes, _: (usize, usize), _: usize, _: Span) -> V::Bytes {
        main
    }
}

/// A shortcut, as vectors add it.
struct Added<V: ByteLanes> {
    skip: *const u8,
    pitch: usize,
    reached: usize,
    /// The skip's zero point, a byte.
    nothing: u8,
    /// The estimate's coarse and fine factors, what it begins with, and the bits of which one is set where it is right.
    estimate: Option<[V; 4]>,
    /// Of the main side and the skip; none is a half.
    sides: [Option<V::Factors>; 2],
    back: V::Factors,
    /// Of the main side, the skip and the output.
    zeros: [V::Short; 3],
    low: V::Bytes,
    high: V::Bytes,
}

impl<V: ByteLanes> Added<V> {
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn new(skip: &Skip<'_>) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let Some(back) = &sum.factors else { return None };
        let (mut sides, mut estimate) = ([None; 2], None);
        // SAFETY: the caller's; factors that are splat are as many as any vector has lanes.
        unsafe {
            for (to, side) in sides.iter_mut().zip([&sum.main, &sum.skip]) {
                if let Some(factors) = &side.factors {
                    *to = Some(factors.at::<V, false>(0));
                }
            }
            if let Some(Estimate { coarse, fine, start, sure }) = sum.estimate {
                estimate = Some([V::splat(coarse), V::splat(fine), V::splat(start), V::splat(sure)]);
            }
            let zeros = [sum.main.zero, sum.skip.zero, sum.zero];
            let zeros =
                [V::splat_short(zeros[0] as i16), V::splat_short(zeros[1] as i16), V::splat_short(zeros[2] as i16)];
            let (low, high) = (V::splat_bytes(sum.low as u8), V::splat_bytes(sum.high as u8));
            let (skip, reached, nothing) = (map.as_ptr(), sum.added, sum.skip.zero as u8);
            let back = back.at::<V, false>(0);
            Some(Self { skip, pitch, reached, nothing, estimate, sides, back, zeros, low, high })
        }
    }

    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn sum(&self, main: V::Short, skip: V::Short) -> V::Short {
        if let Some([coarse, fine, start, sure]) = self.estimate {
            let [one, two] = V::zip(main, skip);
            // SAFETY: the caller's.
            let nothing = unsafe { V::splat(0) };
            let one = start.dot_halves(one, fine).add(nothing.dot_halves(one, coarse).left(COARSE));
            let two = start.dot_halves(two, fine).add(nothing.dot_halves(two, coarse).left(COARSE));
            if !V::any_without([one, two], sure) {
                return V::pack([one.right(FRACTION), two.right(FRACTION)]);
            }
        }
        let main = V::unpack(V::sub_short(main, self.zeros[0]));
        let skip = V::unpack(V::sub_short(skip, self.zeros[1]));
        let one = side(main[0], &self.sides[0]).add(side(skip[0], &self.sides[1])).scale::<false>(&self.back);
        let two = side(main[1], &self.sides[0]).add(side(skip[1], &self.sides[1])).scale::<false>(&self.back);
        V::add_short(V::pack([one, two]), self.zeros[2])
    }
}

impl<V: ByteLanes> Addition<V> for Added<V> {
    #[inline(always)]
    unsafe fn to<const VECTORS: usize>(
        &self,
        main: V::Bytes,
        (pixel, apart): (usize, usize),
        c: usize,
        span: Span,
    ) -> V::Bytes {
        // Channels beyond those that are reached get the skip's zero, which adds 0.
        let reached = self.reached.saturating_sub(c).min(span.n);
        // SAFETY: the caller's; where the skip does not reach, nothing is read: its map may have ended.
        unsafe {
            let from = self.skip.wrapping_add(pixel * self.pitch + c);
            let skip =
                V::load_bytes::<VECTORS>(from, Span { pitch: apart * self.pitch, n: reached, ..span }, self.nothing);
            let (main, skip) = (V::shorts::<VECTORS>(main), V::shorts::<VECTORS>(skip));
            let shorts = [self.sum(main[0], skip[0]), self.sum(main[1], skip[1])];
            V::clamp_bytes(V::bytes::<VECTORS>(shorts), self.low, self.high)
        }
    }
}

/// A side of a sum, with its headroom: `steps` lie in the upper halves of lanes.
#[inline(always)]
fn side<V: ByteLanes>(steps: V, factors: &Option<V::Factors>) -> V {
    match factors {
        Some(factors) => steps.left(HEADROOM - 16).scale::<false>(factors),
        None => steps.left(HEADROOM - 17),
    }
}
