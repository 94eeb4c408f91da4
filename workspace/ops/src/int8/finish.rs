//! From the sums of a tile to the bytes of a map.

use std::marker::PhantomData;

use super::Skip;
use super::factors::{Factors, Multiplier, Reals, Scale, block};
use super::lanes::{ByteLanes, Span, channel};
use super::sum::Added;
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
    /// In steps from the zero point on.
    most: Vec<f32>,
}

impl Finish {
    /// `largest` bounds every accumulator; `zero`, `low` and `high` (one a channel) are bytes, from 0 to 255.
    pub fn new(multipliers: Vec<Multiplier>, largest: i64, zero: u8, low: u8, high: &[u8]) -> Self {
        let lanes = multipliers.len().next_multiple_of(LANES);
        let factors = Factors::new(&multipliers, lanes, largest);
        let high: Vec<u8> = (0..lanes).map(|lane| high.get(lane).copied().unwrap_or(0)).collect();
        let steps = |lane: usize| [i64::from(high[lane]) - i64::from(zero), i64::from(zero) - i64::from(low)];
        let reals = factors.as_ref().and_then(|factors| Reals::new(factors, largest, steps));
        let most = high.iter().map(|&high| f32::from(high) - f32::from(zero)).collect();
        Self { multipliers, factors, reals, zero, low, high, most }
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

    /// The clamp's lower end, in steps from the zero point on.
    pub(super) fn least(&self) -> f32 {
        f32::from(self.low) - f32::from(self.zero)
    }

    /// Its upper ends, of a block's channels from `c` on.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and the block is the finish's.
    #[inline(always)]
    pub(super) unsafe fn most_of_block<V: ByteLanes, const VECTORS: usize>(&self, c: usize) -> [V; 2] {
        // SAFETY: the caller's; they are padded.
        unsafe { block::<V, VECTORS>(self.most.as_ptr().add(c).cast()) }
    }

    /// The reference, for one value of channel `c`.
    pub(super) fn apply(&self, sum: i32, c: usize) -> u8 {
        let steps = self.multipliers[c].apply(sum).saturating_add(self.zero.into());
        steps.min(self.high[c].into()).max(self.low.into()) as u8
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
    unsafe fn go<F: Scale<V>, E: End<V>>(self, ready: &Ready<'_, F, E>) {
        let (step, Rows { pixel, count, .. }) = (4 / VECTORS, self.rows);
        // From a vector of sums to the next.
        let next = if VECTORS == 2 { V::N } else { 2 * V::N };
        for row in (0..count).step_by(step) {
            // SAFETY: the caller's.
            unsafe {
                let sums = self.sums.add(row * 2 * V::N);
                let four =
                    [V::load(sums), V::load(sums.add(next)), V::load(sums.add(2 * next)), V::load(sums.add(3 * next))];
                ready.put::<V, VECTORS>(four, pixel + row, 1, (count - row).min(step));
            }
        }
    }
}

/// What puts sums into a block that is ready: compiled for each kind of factors, and of what becomes of steps.
pub(super) trait Way<V: ByteLanes, const VECTORS: usize> {
    /// # Safety
    /// As for [`write`].
    unsafe fn go<F: Scale<V>, E: End<V>>(self, ready: &Ready<'_, F, E>);
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
            if let Some(added) = Added::<V>::new::<VECTORS>(skip, finish, rows.c) {
                scaled::<V, VECTORS, false>(out, finish, rows, added, way);
            }
        } else if above {
            scaled::<V, VECTORS, true>(out, finish, rows, Alone::new::<VECTORS>(finish, rows.c), way);
        } else {
            scaled::<V, VECTORS, false>(out, finish, rows, Alone::new::<VECTORS>(finish, rows.c), way);
        }
    }
}

/// [`ready`], with what becomes of steps.
///
/// # Safety
/// As for that.
#[inline(always)]
unsafe fn scaled<V: ByteLanes, const VECTORS: usize, const ABOVE: bool>(
    out: &Shared<u8>,
    finish: &Finish,
    Rows { channels, c, n, .. }: Rows,
    end: impl End<V>,
    way: impl Way<V, VECTORS>,
) {
    // SAFETY: the caller's.
    unsafe {
        match (&finish.reals, &finish.factors) {
            (Some(reals), _) if V::ROUNDS && reals.is_fine(c) => {
                way.go(&Ready { out, channels, c, n, scales: reals.of_block::<V, VECTORS, ABOVE, true>(c), end });
            }
            (Some(reals), _) if V::ROUNDS => {
                way.go(&Ready { out, channels, c, n, scales: reals.of_block::<V, VECTORS, ABOVE, false>(c), end });
            }
            (_, Some(factors)) => {
                way.go(&Ready { out, channels, c, n, scales: factors.of_block::<V, VECTORS, ABOVE>(c), end });
            }
            (_, None) => {}
        }
    }
}

/// What stays the same from pixel to pixel of a block.
pub(super) struct Ready<'a, F, E> {
    out: &'a Shared<u8>,
    channels: usize,
    c: usize,
    n: usize,
    scales: [F; 2],
    end: E,
}

impl<F, E> Ready<'_, F, E> {
    /// Four vectors of sums, which become the bytes of one: of two pixels a pair each, or of four a vector. They lie `apart` pixels
    /// from each other, `count` of them, from pixel `pixel` of the map on.
    ///
    /// # Safety
    /// As for [`write`].
    #[inline(always)]
    pub unsafe fn put<V: ByteLanes, const VECTORS: usize>(&self, sums: [V; 4], pixel: usize, apart: usize, count: usize)
    where
        F: Scale<V>,
        E: End<V>,
    {
        let span = Span { pitch: apart * self.channels, count, n: self.n };
        // SAFETY: the caller's.
        unsafe {
            let bytes = self.end.bytes::<F, VECTORS>(&self.scales, sums, (pixel, apart), span);
            V::store_bytes::<VECTORS>(bytes, self.out.at(pixel * self.channels + self.c), span);
        }
    }
}

/// How the sums of a block become bytes.
pub(super) trait End<V: ByteLanes> {
    /// Of pixels from `pixel` on, `apart` from each other, as `span` has them.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`, and a skip has the pixels.
    unsafe fn bytes<F: Scale<V>, const VECTORS: usize>(
        &self,
        scales: &[F; 2],
        sums: [V; 4],
        pixels: (usize, usize),
        span: Span,
    ) -> V::Bytes;
}

/// By themselves.
struct Alone<V: ByteLanes> {
    zero: V::Short,
    low: V::Bytes,
    high: V::Bytes,
}

impl<V: ByteLanes> Alone<V> {
    /// # Safety
    /// The CPU has the instructions of `V`; the block from channel `c` on is the finish's.
    #[inline(always)]
    unsafe fn new<const VECTORS: usize>(finish: &Finish, c: usize) -> Self {
        // SAFETY: the caller's; clamps are padded.
        unsafe {
            let span = Span { pitch: 0, count: 4 / VECTORS, n: VECTORS * V::N };
            let high = V::load_bytes::<VECTORS>(finish.high.as_ptr().add(c), span, 0);
            Self { zero: V::splat_short(finish.zero.into()), low: V::splat_bytes(finish.low), high }
        }
    }
}

impl<V: ByteLanes> End<V> for Alone<V> {
    #[inline(always)]
    unsafe fn bytes<F: Scale<V>, const VECTORS: usize>(
        &self,
        [first, second]: &[F; 2],
        sums: [V; 4],
        _: (usize, usize),
        _: Span,
    ) -> V::Bytes {
        let steps = [first.scale(sums[0]), second.scale(sums[1]), first.scale(sums[2]), second.scale(sums[3])];
        let (one, two) = (V::pack([steps[0], steps[1]]), V::pack([steps[2], steps[3]]));
        if F::ABOVE {
            return V::at_most(V::bytes::<VECTORS>([one, two]), self.high);
        }
        let shorts = [V::add_short(one, self.zero), V::add_short(two, self.zero)];
        V::clamp_bytes(V::bytes::<VECTORS>(shorts), self.low, self.high)
    }
}
