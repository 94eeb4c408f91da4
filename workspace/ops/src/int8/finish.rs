//! From the sums of a tile to the bytes of a map.

use super::Skip;
use super::factors::{Factors, Multiplier};
use super::lanes::{ByteLanes, channel, place_of_one};
use crate::scratch::Shared;

/// Lanes of a pair of vectors on the widest path: what outputs are padded to.
pub(crate) const LANES: usize = 32;

/// From accumulators to a map's bytes: a factor a channel, the zero point, and the clamp that an activation is. Bytes are
/// `q + 128`.
#[derive(Clone, Debug)]
pub struct Finish {
    multipliers: Vec<Multiplier>,
    /// None where vectors of 32 bits do not do.
    factors: Option<Factors>,
    zero: i16,
    low: i16,
    /// One a channel, padded.
    high: Vec<i16>,
}

impl Finish {
    /// `largest` bounds every accumulator; `zero`, `low` and `high` (one a channel) are bytes, from 0 to 255.
    pub fn new(multipliers: Vec<Multiplier>, largest: i64, zero: u8, low: u8, high: &[u8]) -> Self {
        let lanes = multipliers.len().next_multiple_of(LANES);
        let factors = Factors::new(&multipliers, lanes, largest);
        let high = (0..lanes).map(|lane| high.get(lane).copied().map_or(0, i16::from)).collect();
        Self { multipliers, factors, zero: zero.into(), low: low.into(), high }
    }

    pub(super) fn channels(&self) -> usize {
        self.multipliers.len()
    }

    /// Whether vectors do.
    pub(super) fn is_fast(&self) -> bool {
        self.factors.is_some()
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
        Self {
            main: Side::new(main, twice),
            skip: Side::new(skip, twice),
            output: back,
            factors: Factors::splat(back, 256 << HEADROOM),
            zero: output.zero.into(),
            low: low.into(),
            high: high.into(),
            added,
        }
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
/// The CPU has the instructions of `V`; the pixels are the map's, this task's own and in the skip's map.
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
                let Some(factors) = &finish.factors else { return };
                match (skip.as_ref().and_then(|skip| Added::<V>::new(skip)), finish.low >= finish.zero) {
                    (Some(added), _) => bytes::<V, VECTORS, false>(out, finish, factors, Some(&added), sums, rows),
                    // What lies below 0 becomes the lower end, whatever it is.
                    (None, true) => bytes::<V, VECTORS, true>(out, finish, factors, None, sums, rows),
                    (None, false) => bytes::<V, VECTORS, false>(out, finish, factors, None, sums, rows),
                }
            }
        }
    }
}

/// # Safety
/// As for [`write`].
#[inline(always)]
unsafe fn bytes<V: ByteLanes, const VECTORS: usize, const ABOVE: bool>(
    out: &Shared<u8>,
    finish: &Finish,
    factors: &Factors,
    added: Option<&Added<V>>,
    sums: *const i32,
    rows: Rows,
) {
    let Rows { pixel, count, channels, c, n } = rows;
    // SAFETY: the caller's; factors and clamps are padded.
    unsafe {
        let [first, second] = match VECTORS {
            2 => factors.of_pair::<V>(c),
            _ => [factors.at::<V>(c); 2],
        };
        let high = finish.high.as_ptr().add(c);
        let high = match VECTORS {
            2 => V::load_short(high),
            _ => {
                let mut places = [0; LANES];
                for lane in 0..V::N {
                    places[place_of_one(lane)] = *high.add(lane);
                }
                V::load_short(places.as_ptr())
            }
        };
        let (zero, low) = (V::splat_short(finish.zero), V::splat_short(finish.low));
        for row in 0..count {
            let sums = sums.add(row * 2 * V::N);
            let one = V::load(sums).scale::<ABOVE>(&first);
            let other = if VECTORS == 2 { V::load(sums.add(V::N)).scale::<ABOVE>(&second) } else { one };
            let mut short = V::clamp(V::pack([one, other]), zero, low, high);
            if let Some(added) = added {
                short = added.to::<VECTORS>(short, pixel + row, c, n);
            }
            V::store_bytes::<VECTORS>(short, out.at((pixel + row) * channels + c), n);
        }
    }
}

/// A shortcut, as vectors add it.
struct Added<V: ByteLanes> {
    skip: *const u8,
    pitch: usize,
    reached: usize,
    /// The skip's zero point, a byte.
    nothing: u8,
    /// Of the main side and the skip; none is a half.
    sides: [Option<V::Factors>; 2],
    back: V::Factors,
    /// Of the main side, the skip and the output.
    zeros: [V::Short; 3],
    low: V::Short,
    high: V::Short,
}

impl<V: ByteLanes> Added<V> {
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn new(skip: &Skip<'_>) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let back = sum.factors.as_ref().filter(|_| sum.is_fast())?;
        let mut sides = [None; 2];
        // SAFETY: the caller's; factors that are splat are as many as any vector has lanes.
        unsafe {
            for (to, side) in sides.iter_mut().zip([&sum.main, &sum.skip]) {
                if let Some(factors) = &side.factors {
                    *to = Some(factors.at::<V>(0));
                }
            }
            let short = |x: i32| V::splat_short(x as i16);
            let zeros = [short(sum.main.zero), short(sum.skip.zero), short(sum.zero)];
            let (back, low, high) = (back.at::<V>(0), short(sum.low), short(sum.high));
            let (skip, reached, nothing) = (map.as_ptr(), sum.added, sum.skip.zero as u8);
            Some(Self { skip, pitch, reached, nothing, sides, back, zeros, low, high })
        }
    }

    /// To channels from `c` on, `n` of a block, of a pixel.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and the skip has the pixel.
    #[inline(always)]
    unsafe fn to<const VECTORS: usize>(&self, main: V::Short, pixel: usize, c: usize, n: usize) -> V::Short {
        // Channels beyond those that are reached get the skip's zero, which adds 0.
        let reached = self.reached.saturating_sub(c).min(n);
        // SAFETY: the caller's; where the skip does not reach, nothing is read: its map may have ended.
        unsafe {
            let from = self.skip.wrapping_add(pixel * self.pitch + c);
            let skip = V::load_bytes::<VECTORS>(from, reached, self.nothing);
            let main = V::unpack(V::sub_short(main, self.zeros[0]));
            let skip = V::unpack(V::sub_short(skip, self.zeros[1]));
            let mut pair = [main[0]; 2];
            for v in 0..VECTORS {
                let sum = side(main[v], &self.sides[0]).add(side(skip[v], &self.sides[1]));
                pair[v] = sum.scale::<false>(&self.back);
            }
            V::clamp(V::pack(pair), self.zeros[2], self.low, self.high)
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
