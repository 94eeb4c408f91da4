//! From the sums of a tile to the bytes of a map.

use super::Skip;
use super::factors::{Factors, Multiplier};
use super::lanes::{ByteLanes, FactorsAt};

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

/// What becomes of the sums of a few pixels. A type of its own for each case, made of plain numbers and pointers: a kernel that
/// asks at every pixel what is to be done loses more by it than all else here costs.
pub(super) trait Tail: Copy {
    /// Vectors of channels from `c` on, of pixels from `pixel` on, ready to be stored; the first `n` lanes count.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; pixels and channels are the map's.
    unsafe fn finish<V: ByteLanes, const M: usize>(&self, sums: [V; M], pixel: usize, c: usize, n: usize) -> [V; M];

    /// Stores the first `n` of a pair of vectors: channels from `c` on of a pixel.
    ///
    /// # Safety
    /// As for `finish`, and the place is this task's own.
    unsafe fn store<V: ByteLanes>(&self, pair: [V; 2], pixel: usize, c: usize, n: usize);
}

/// They stay as they are: [pixels, channels].
#[derive(Clone, Copy)]
pub(super) struct ToSums {
    pub out: *mut i32,
    pub channels: usize,
}

/// They become a map.
#[derive(Clone, Copy)]
pub(super) struct ToBytes {
    out: *mut u8,
    channels: usize,
    factors: FactorsAt,
    high: *const i32,
    zero: i32,
    low: i32,
}

/// They become a map, to which a shortcut is added.
#[derive(Clone, Copy)]
pub(super) struct ToBlock {
    bytes: ToBytes,
    skip: *const u8,
    pitch: usize,
    added: usize,
    /// Of the main side and the skip; none is a half.
    sides: [Option<FactorsAt>; 2],
    back: FactorsAt,
    /// Of the main side, the skip and the output.
    zeros: [i32; 3],
    low: i32,
    high: i32,
}

impl ToBytes {
    /// None where vectors do not do.
    pub fn new(out: *mut u8, finish: &Finish) -> Option<Self> {
        let Finish { factors, zero, low, high, .. } = finish;
        let factors = factors.as_ref()?.at();
        Some(Self { out, channels: finish.channels(), factors, high: high.as_ptr(), zero: *zero, low: *low })
    }
}

impl ToBlock {
    /// None where vectors do not do.
    pub fn new(bytes: ToBytes, skip: &Skip<'_>) -> Option<Self> {
        let Skip { map, channels: pitch, sum } = *skip;
        let back = sum.factors.as_ref().filter(|_| sum.is_fast())?.at();
        let sides = [&sum.main, &sum.skip].map(|side| side.factors.as_ref().map(Factors::at));
        let zeros = [sum.main.zero, sum.skip.zero, sum.zero];
        let (skip, added, low, high) = (map.as_ptr(), sum.added, sum.low, sum.high);
        Some(Self { bytes, skip, pitch, added, sides, back, zeros, low, high })
    }
}

impl Tail for ToSums {
    #[inline(always)]
    unsafe fn finish<V: ByteLanes, const M: usize>(&self, sums: [V; M], _: usize, _: usize, _: usize) -> [V; M] {
        sums
    }

    #[inline(always)]
    unsafe fn store<V: ByteLanes>(&self, pair: [V; 2], pixel: usize, c: usize, n: usize) {
        let mut lanes = [0; LANES];
        // SAFETY: the caller's; no pair is wider than the lanes.
        unsafe {
            pair[0].store(lanes.as_mut_ptr());
            pair[1].store(lanes.as_mut_ptr().add(V::N));
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), self.out.add(pixel * self.channels + c), n);
        }
    }
}

impl Tail for ToBytes {
    #[inline(always)]
    unsafe fn finish<V: ByteLanes, const M: usize>(&self, sums: [V; M], _: usize, c: usize, _: usize) -> [V; M] {
        let mut out = sums;
        // SAFETY: the caller's; factors and clamps are padded.
        unsafe {
            let (factors, high) = (self.factors.from(c), V::load(self.high.add(c)));
            for m in 0..M {
                out[m] = sums[m].scale(factors).add(V::splat(self.zero)).min(high).max(V::splat(self.low));
            }
        }
        out
    }

    #[inline(always)]
    unsafe fn store<V: ByteLanes>(&self, pair: [V; 2], pixel: usize, c: usize, n: usize) {
        // SAFETY: the caller's; no pair is wider than the bytes.
        unsafe {
            let to = self.out.add(pixel * self.channels + c);
            if n == 2 * V::N {
                V::store_bytes(pair, to);
            } else {
                let mut bytes = [0; LANES];
                V::store_bytes(pair, bytes.as_mut_ptr());
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n);
            }
        }
    }
}

/// A side of a sum, with its headroom.
///
/// # Safety
/// As for [`Tail::finish`].
#[inline(always)]
unsafe fn side<V: ByteLanes>(steps: V, factors: Option<FactorsAt>) -> V {
    match factors {
        // SAFETY: the caller's.
        Some(factors) => unsafe { steps.left(HEADROOM).scale(factors) },
        None => steps.left(HEADROOM - 1),
    }
}

impl Tail for ToBlock {
    #[inline(always)]
    unsafe fn finish<V: ByteLanes, const M: usize>(&self, sums: [V; M], pixel: usize, c: usize, n: usize) -> [V; M] {
        // SAFETY: the caller's.
        unsafe {
            let mut out = self.bytes.finish(sums, pixel, c, n);
            let [main_zero, skip_zero, zero] = self.zeros.map(|zero| V::splat(zero));
            let [of_main, of_skip] = self.sides;
            let reached = self.added.saturating_sub(c).min(n.min(V::N));
            for m in 0..M {
                let from = self.skip.add((pixel + m) * self.pitch + c);
                let skip = if reached == V::N {
                    V::load_bytes(from)
                } else {
                    // Lanes beyond give the skip's zero, which adds 0.
                    let mut bytes = [self.zeros[1] as u8; LANES];
                    std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), reached);
                    V::load_bytes(bytes.as_ptr())
                };
                let sum = side(out[m].sub(main_zero), of_main).add(side(skip.sub(skip_zero), of_skip));
                out[m] = sum.scale(self.back).add(zero).min(V::splat(self.high)).max(V::splat(self.low));
            }
            out
        }
    }

    #[inline(always)]
    unsafe fn store<V: ByteLanes>(&self, pair: [V; 2], pixel: usize, c: usize, n: usize) {
        // SAFETY: the caller's.
        unsafe { self.bytes.store(pair, pixel, c, n) }
    }
}
