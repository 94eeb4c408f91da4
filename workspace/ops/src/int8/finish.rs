//! From the sums of a tile to the bytes of a map.

use super::Skip;
use super::factors::{Factors, Multiplier};
use super::lanes::ByteLanes;
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
    zero: i32,
    low: i32,
    /// One a channel, padded.
    high: Vec<i32>,
}

impl Finish {
    /// `largest` bounds every accumulator; `zero`, `low` and `high` (one a channel) are bytes, from 0 to 255.
    pub fn new(multipliers: Vec<Multiplier>, largest: i64, zero: u8, low: u8, high: &[u8]) -> Self {
        let lanes = multipliers.len().next_multiple_of(LANES);
        let factors = Factors::new(&multipliers, lanes, largest);
        let high = (0..lanes).map(|lane| high.get(lane).copied().map_or(0, i32::from)).collect();
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
        self.multipliers[c].apply(sum).saturating_add(self.zero).min(self.high[c]).max(self.low) as u8
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
///
/// # Safety
/// The CPU has the instructions of `V`; the pixels are the map's, this task's own and in the skip's map.
#[inline(always)]
pub(super) unsafe fn write<V: ByteLanes>(to: &To<'_>, sums: *const i32, rows: Rows) {
    let block = 2 * V::N;
    let Rows { pixel, count, channels, c, n } = rows;
    // SAFETY: the caller's; factors and clamps are padded, and no pair is wider than the bytes.
    unsafe {
        match to {
            To::Sums(out) => {
                for row in 0..count {
                    let to = out.at((pixel + row) * channels + c);
                    std::ptr::copy_nonoverlapping(sums.add(row * block), to, n);
                }
            }
            To::Bytes(out, finish, skip) => {
                let Some(factors) = &finish.factors else { return };
                let factors = [V::factors(factors.at().from(c)), V::factors(factors.at().from(c + V::N))];
                let high = [V::load(finish.high.as_ptr().add(c)), V::load(finish.high.as_ptr().add(c + V::N))];
                let (zero, low) = (V::splat(finish.zero), V::splat(finish.low));
                let added = skip.as_ref().and_then(|skip| Added::<V>::new(skip));
                for row in 0..count {
                    let mut pair = [V::splat(0); 2];
                    for v in 0..2 {
                        let sum = V::load(sums.add(row * block + v * V::N));
                        pair[v] = sum.scale(&factors[v]).add(zero).min(high[v]).max(low);
                    }
                    if let Some(added) = &added {
                        pair = added.to(pair, pixel + row, c, n);
                    }
                    let to = out.at((pixel + row) * channels + c);
                    if n == block {
                        V::store_bytes(pair, to);
                    } else if n == V::N {
                        V::store_bytes_of_one(pair[0], to);
                    } else {
                        let mut bytes = [0; LANES];
                        V::store_bytes(pair, bytes.as_mut_ptr());
                        std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
                    }
                }
            }
        }
    }
}

/// A shortcut, as vectors add it.
struct Added<V: ByteLanes> {
    skip: *const u8,
    pitch: usize,
    reached: usize,
    /// Of the main side and the skip; none is a half.
    sides: [Option<V::Factors>; 2],
    back: V::Factors,
    /// Of the main side, the skip and the output.
    zeros: [i32; 3],
    low: i32,
    high: i32,
}

impl<V: ByteLanes> Added<V> {
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn new(skip: &Skip<'_>) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let back = sum.factors.as_ref().filter(|_| sum.is_fast())?.at();
        let mut sides = [None; 2];
        for (to, side) in sides.iter_mut().zip([&sum.main, &sum.skip]) {
            if let Some(factors) = &side.factors {
                // SAFETY: factors that are splat are as many as any vector has lanes.
                *to = Some(unsafe { V::factors(factors.at()) });
            }
        }
        let zeros = [sum.main.zero, sum.skip.zero, sum.zero];
        let (skip, reached, low, high) = (map.as_ptr(), sum.added, sum.low, sum.high);
        // SAFETY: as above.
        Some(Self { skip, pitch, reached, sides, back: unsafe { V::factors(back) }, zeros, low, high })
    }

    /// To channels from `c` on, `n` of a pair, of a pixel.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and the skip has the pixel.
    #[inline(always)]
    unsafe fn to(&self, pair: [V; 2], pixel: usize, c: usize, n: usize) -> [V; 2] {
        let reached = self.reached.saturating_sub(c).min(n);
        // SAFETY: the caller's; no pair is wider than the bytes.
        unsafe {
            // Where the skip does not reach, its map may have ended.
            let from = self.skip.wrapping_add(pixel * self.pitch + c);
            let mut bytes = [0; LANES];
            let from = if reached == 2 * V::N {
                from
            } else {
                // Lanes beyond give the skip's zero, which adds 0.
                bytes.fill(self.zeros[1] as u8);
                std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), reached);
                bytes.as_ptr()
            };
            let mut out = pair;
            for v in 0..2 {
                let main = side(pair[v].sub(V::splat(self.zeros[0])), &self.sides[0]);
                let skip = side(V::load_bytes(from.add(v * V::N)).sub(V::splat(self.zeros[1])), &self.sides[1]);
                let sum = main.add(skip).scale(&self.back).add(V::splat(self.zeros[2]));
                out[v] = sum.min(V::splat(self.high)).max(V::splat(self.low));
            }
            out
        }
    }
}

/// A side of a sum, with its headroom.
#[inline(always)]
fn side<V: ByteLanes>(steps: V, factors: &Option<V::Factors>) -> V {
    match factors {
        Some(factors) => steps.left(HEADROOM).scale(factors),
        None => steps.left(HEADROOM - 1),
    }
}
