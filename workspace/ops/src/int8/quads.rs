//! What VNNI does, in plain Rust: all but the instructions themselves is tested on any machine.

use super::lanes::{
    ByteLanes, Span, bits, bytes_of, float, gather, packed, pair_of, scaled, scatter, shorts_of, word_of_bytes,
};

#[derive(Clone, Copy)]
pub(crate) struct Quads([i32; 16]);

impl Quads {
    fn zip_with(self, other: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    /// What is left is to leave out the part below 1.
    fn fraction<const ABOVE: bool, const FINE: bool>(self, [factor, rest, start]: &[Self; 3]) -> [f64; 16] {
        std::array::from_fn(|i| {
            let x = self.0[i] as f32;
            let start = if ABOVE { float(start.0[i]) } else { float(start.0[i]).copysign(x) };
            let small = f64::from(if FINE { x.mul_add(float(rest.0[i]), start) } else { start });
            // What f64 rounds here is far less than what the factors were proven to bear.
            f64::from(x) * f64::from(float(factor.0[i])) + small
        })
    }
}

// SAFETY of what follows: as for `Portable`.
impl ByteLanes for Quads {
    const N: usize = 16;
    const GROUP: usize = 4;
    type Cell = u8;
    type Short = [i16; 32];
    type Bytes = [u8; 64];
    type Factors = ([i32; 16], [i32; 16]);

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        word_of_bytes(weights)
    }
    unsafe fn splat(x: i32) -> Self {
        Self([x; 16])
    }
    unsafe fn load(from: *const i32) -> Self {
        Self(unsafe { from.cast::<[i32; 16]>().read_unaligned() })
    }
    unsafe fn store(self, to: *mut i32) {
        unsafe { to.cast::<[i32; 16]>().write_unaligned(self.0) }
    }
    fn paired(lanes: [Self; 2]) -> [Self; 2] {
        pair_of(|c| lanes[c / 16].0[c % 16]).map(Self)
    }
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        pair_of(|c| i32::from_le_bytes(rows.map(|row| unsafe { *row.add(c) }))).map(Self)
    }
    unsafe fn widen(from: *const u8, to: *mut u8) {
        unsafe { std::ptr::copy_nonoverlapping(from, to, 16) }
    }
    fn dot(self, x: Self, w: Self) -> Self {
        let products = x.zip_with(w, |x, w| {
            let pairs = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
            pairs.map(|(x, w)| i32::from(x) * i32::from(w.cast_signed())).sum()
        });
        self.zip_with(products, i32::wrapping_add)
    }
    fn times_above(self, other: Self) -> Self {
        self.zip_with(other, |x, y| (x >> 16) * (y >> 16))
    }
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> Self::Factors {
        (q.0, shift.0)
    }
    fn scale<const ABOVE: bool>(self, (q, shift): &Self::Factors) -> Self {
        Self(std::array::from_fn(|i| scaled::<ABOVE>(self.0[i], q[i], shift[i])))
    }
    const ROUNDS: bool = true;
    fn round<const ABOVE: bool, const FINE: bool>(self, by: &[Self; 3]) -> Self {
        Self(self.fraction::<ABOVE, FINE>(by).map(|x| x as i32))
    }
    fn round_real<const ABOVE: bool, const FINE: bool>(self, by: &[Self; 3]) -> Self {
        Self(self.fraction::<ABOVE, FINE>(by).map(|x| bits(x.trunc() as f32)))
    }
    fn real(self) -> Self {
        Self(self.0.map(|x| bits(x as f32)))
    }
    fn clamp_real(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|i| bits(float(self.0[i]).min(float(high.0[i])).max(float(low.0[i])))))
    }
    fn times_plus(self, by: Self, more: Self) -> Self {
        Self(std::array::from_fn(|i| bits(float(self.0[i]).mul_add(float(by.0[i]), float(more.0[i])))))
    }
    fn replaced(self, from: Self, to: Self) -> Self {
        Self(std::array::from_fn(|i| if float(self.0[i]) == float(from.0[i]) { to.0[i] } else { self.0[i] }))
    }
    fn nearest(self) -> Self {
        Self(self.0.map(|x| float(x).round_ties_even() as i32))
    }
    unsafe fn splat_short(x: i16) -> [i16; 32] {
        [x; 32]
    }
    fn pack(pair: [Self; 2]) -> [i16; 32] {
        packed(&pair.map(|lanes| lanes.0))
    }
    fn unpack(short: [i16; 32]) -> [Self; 2] {
        pair_of(|c| i32::from(short[c]) << 16).map(Self)
    }
    fn add_short(x: [i16; 32], y: [i16; 32]) -> [i16; 32] {
        std::array::from_fn(|i| x[i].saturating_add(y[i]))
    }
    fn sub_short(x: [i16; 32], y: [i16; 32]) -> [i16; 32] {
        std::array::from_fn(|i| x[i].wrapping_sub(y[i]))
    }
    fn bytes<const VECTORS: usize>(shorts: [[i16; 32]; 2]) -> [u8; 64] {
        bytes_of::<VECTORS, 32, 64>(shorts)
    }
    fn shorts<const VECTORS: usize>(bytes: [u8; 64]) -> [[i16; 32]; 2] {
        shorts_of::<VECTORS, 32, 64>(bytes)
    }
    unsafe fn splat_bytes(x: u8) -> [u8; 64] {
        [x; 64]
    }
    fn at_most(x: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| x[i].min(high[i]))
    }
    fn clamp_bytes(x: [u8; 64], low: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| x[i].min(high[i]).max(low[i]))
    }
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> [u8; 64] {
        unsafe { gather::<VECTORS, 64>(from, span, rest) }
    }
    unsafe fn store_bytes<const VECTORS: usize>(x: [u8; 64], to: *mut u8, span: Span) {
        unsafe { scatter::<VECTORS, 64>(x, to, span) }
    }
}
