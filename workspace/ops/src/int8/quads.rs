//! What VNNI does, in plain Rust: all but the instructions themselves is tested on any machine.

use super::lanes::{ByteLanes, FactorsAt, Portable, word_of_bytes};

#[derive(Clone, Copy)]
pub(crate) struct Quads([i32; 16]);

impl Quads {
    fn zip(self, other: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl ByteLanes for Quads {
    type Factors = [<Portable as ByteLanes>::Factors; 2];
    const N: usize = 16;
    const GROUP: usize = 4;
    type Cell = u8;
    const WIDE: usize = 64;

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        word_of_bytes(weights)
    }
    unsafe fn factors(at: FactorsAt) -> Self::Factors {
        unsafe { [Portable::factors(at), Portable::factors(at.from(8))] }
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
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u8; 16]>().read_unaligned() }.map(i32::from))
    }
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        [0, 16].map(|first| {
            Self(std::array::from_fn(|i| i32::from_le_bytes(rows.map(|row| unsafe { *row.add(first + i) }))))
        })
    }
    unsafe fn widen(from: *const u8, to: *mut u8) {
        unsafe { std::ptr::copy_nonoverlapping(from, to, 64) }
    }
    unsafe fn store_bytes(pair: [Self; 2], to: *mut u8) {
        unsafe { to.cast::<[[u8; 16]; 2]>().write_unaligned(pair.map(|lanes| lanes.0.map(|x| x as u8))) }
    }
    unsafe fn store_bytes_of_one(self, to: *mut u8) {
        unsafe { to.cast::<[u8; 16]>().write_unaligned(self.0.map(|x| x as u8)) }
    }
    fn dot(self, x: Self, w: Self) -> Self {
        let products = x.zip(w, |x, w| {
            let pairs = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
            pairs.map(|(x, w)| i32::from(x) * i32::from(w.cast_signed())).sum()
        });
        self.add(products)
    }
    fn add(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_add)
    }
    fn sub(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_sub)
    }
    fn min(self, other: Self) -> Self {
        self.zip(other, i32::min)
    }
    fn max(self, other: Self) -> Self {
        self.zip(other, i32::max)
    }
    fn left(self, bits: i32) -> Self {
        Self(self.0.map(|x| x << bits))
    }
    fn scale(self, by: &Self::Factors) -> Self {
        let halves = [0, 1].map(|half| Portable(std::array::from_fn(|i| self.0[8 * half + i])).scale(&by[half]).0);
        Self(std::array::from_fn(|i| halves[i / 8][i % 8]))
    }
}
