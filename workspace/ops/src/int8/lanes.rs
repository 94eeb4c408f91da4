//! Lanes of i32 and the words that they multiply, one type per instruction set, behind one trait.
//!
//! A lane is an output channel. A *word*, four bytes, holds the neighbouring terms of a sum that one instruction multiplies
//! and adds: four of 8 bits where the CPU has VNNI (`vpdpbusd`), else two of 16 (`vpmaddwd`, exact: 255 * 127 twice fits 32
//! bits easily). What is fast and common on AVX2, `vpmaddubsw`, adds two products in 16 bits that saturate, and is used
//! nowhere. Sums wrap in 32 bits, so their order decides nothing, and every instruction set gives the same.

use crate::Isa;

/// Lanes of i32.
///
/// As for [`crate::lanes::Lanes`], a value can only be made where the CPU has the instruction set.
pub(crate) trait ByteLanes: Copy {
    const N: usize;
    /// Terms of a word.
    const GROUP: usize;
    /// A term in a word: `4 / GROUP` bytes.
    type Cell: Copy + From<u8>;

    /// Factors of a vector's lanes.
    type Factors: Copy;
    /// # Safety
    /// As for `splat`, and `at` holds factors of `N` lanes.
    unsafe fn factors(at: FactorsAt) -> Self::Factors;

    /// A word of weights.
    fn word(weights: impl Fn(usize) -> i8) -> i32;
    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn splat(x: i32) -> Self;
    /// # Safety
    /// As for `splat`, and `N` numbers can be read, at any alignment.
    unsafe fn load(from: *const i32) -> Self;
    /// # Safety
    /// As for `splat`, and `N` numbers can be written, at any alignment.
    unsafe fn store(self, to: *mut i32);
    /// `N` bytes, each from 0 to 255.
    /// # Safety
    /// As for `splat`, and `N` bytes can be read.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// For each of `2 * N` channels a word of the first `GROUP` rows of bytes.
    /// # Safety
    /// As for `splat`, and `2 * N` bytes of each of these rows can be read.
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2];
    /// Bytes that `widen` takes, and cells that it gives: at most 64 bytes of them.
    const WIDE: usize;
    /// `WIDE` bytes to as many cells.
    /// # Safety
    /// As for `splat`; so many bytes can be read and cells written.
    unsafe fn widen(from: *const u8, to: *mut Self::Cell);
    /// Two vectors whose lanes are from 0 to 255, as `2 * N` bytes.
    /// # Safety
    /// As for `splat`, and `2 * N` bytes can be written.
    unsafe fn store_bytes(pair: [Self; 2], to: *mut u8);
    /// One such vector as `N` bytes.
    /// # Safety
    /// As for `splat`, and `N` bytes can be written.
    unsafe fn store_bytes_of_one(self, to: *mut u8);
    /// Lanes plus the products of the terms of each word of `x` and `w`.
    fn dot(self, x: Self, w: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    /// Bits to the left, by a number from 0 to 31 that is known when this is compiled.
    fn left(self, bits: i32) -> Self;
    /// What [`super::Multiplier::apply`] makes of each lane.
    fn scale(self, by: &Self::Factors) -> Self;
}

/// Where the factors of a vector's lanes lie: see [`super::factors::Factors`].
#[derive(Clone, Copy)]
pub(crate) struct FactorsAt {
    /// One more can be read than there are lanes.
    pub q: *const i32,
    /// Of the lanes 0, 2 and so on.
    pub even: *const i64,
    /// Of the lanes 1, 3 and so on.
    pub odd: *const i64,
    pub shift: *const i32,
}

impl FactorsAt {
    /// Those of the lanes from `lanes` on, an even number.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    pub unsafe fn from(self, lanes: usize) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self {
                q: self.q.add(lanes),
                even: self.even.add(lanes / 2),
                odd: self.odd.add(lanes / 2),
                shift: self.shift.add(lanes),
            }
        }
    }
}

/// The reference: plain Rust, on every architecture.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(super) [i32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

/// The terms of a word of 16 bits each.
#[inline(always)]
fn halves(word: i32) -> [i32; 2] {
    [i32::from(word as i16), word >> 16]
}

/// Four terms of a byte each.
pub(super) fn word_of_bytes(weights: impl Fn(usize) -> i8) -> i32 {
    i32::from_le_bytes(std::array::from_fn(|at| weights(at).cast_unsigned()))
}

fn word_of_halves(weights: impl Fn(usize) -> i8) -> i32 {
    i32::from(i16::from(weights(0)).cast_unsigned()) | i32::from(weights(1)) << 16
}

impl ByteLanes for Portable {
    type Factors = [(i32, i64, i32); 8];
    const N: usize = 8;
    const GROUP: usize = 2;
    type Cell = i16;
    const WIDE: usize = 16;

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        word_of_halves(weights)
    }
    #[inline(always)]
    unsafe fn factors(at: FactorsAt) -> Self::Factors {
        std::array::from_fn(|i| unsafe {
            let half = if i % 2 == 0 { *at.even.add(i / 2) } else { *at.odd.add(i / 2) };
            (*at.q.add(i), half, *at.shift.add(i))
        })
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        Self(unsafe { from.cast::<[i32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        unsafe { to.cast::<[i32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u8; 8]>().read_unaligned() }.map(i32::from))
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        [0, 8].map(|first| {
            Self(std::array::from_fn(|i| {
                let [top, bottom] = [rows[0], rows[1]].map(|row| i32::from(unsafe { *row.add(first + i) }));
                top | bottom << 16
            }))
        })
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut i16) {
        unsafe { to.cast::<[i16; 16]>().write_unaligned(from.cast::<[u8; 16]>().read_unaligned().map(i16::from)) }
    }
    #[inline(always)]
    unsafe fn store_bytes(pair: [Self; 2], to: *mut u8) {
        unsafe { to.cast::<[[u8; 8]; 2]>().write_unaligned(pair.map(|lanes| lanes.0.map(|x| x as u8))) }
    }
    #[inline(always)]
    unsafe fn store_bytes_of_one(self, to: *mut u8) {
        unsafe { to.cast::<[u8; 8]>().write_unaligned(self.0.map(|x| x as u8)) }
    }
    #[inline(always)]
    fn dot(self, x: Self, w: Self) -> Self {
        let products = x.zip(w, |x, w| {
            let ([x0, x1], [w0, w1]) = (halves(x), halves(w));
            (x0 * w0).wrapping_add(x1 * w1)
        });
        self.add(products)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_add)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_sub)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, i32::min)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, i32::max)
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        Self(self.0.map(|x| x << bits))
    }
    #[inline(always)]
    fn scale(self, by: &[(i32, i64, i32); 8]) -> Self {
        Self(std::array::from_fn(|i| {
            let (q, half, shift) = by[i];
            let high = ((i64::from(self.0[i]) * i64::from(q) + half) >> 31) as i32;
            high.wrapping_add(self.0[i] >> 31) >> shift
        }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Vnni, Vnni256};

/// As [`crate::lanes::kernel`], for [`ByteLanes`].
macro_rules! byte_kernel {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident<$lanes:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis unsafe fn $name(path: $crate::int8::Path, $($arg: $type),*) {
            #[inline(always)]
            unsafe fn generic<$lanes: $crate::int8::lanes::ByteLanes>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni,avx2,fma")]
            unsafe fn vnni($($arg: $type),*) {
                unsafe { generic::<$crate::int8::lanes::Vnni>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avxvnni,avx2,fma")]
            unsafe fn vnni256($($arg: $type),*) {
                unsafe { generic::<$crate::int8::lanes::Vnni256>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                unsafe { generic::<$crate::int8::lanes::Avx2>($($arg),*) }
            }
            // SAFETY: the caller's, who vouches for `path` too.
            unsafe {
                match path {
                    #[cfg(target_arch = "x86_64")]
                    $crate::int8::Path::Vnni => vnni($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::int8::Path::Vnni256 => vnni256($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::int8::Path::Avx2 => avx2($($arg),*),
                    #[cfg(test)]
                    $crate::int8::Path::Quads => generic::<$crate::int8::quads::Quads>($($arg),*),
                    _ => generic::<$crate::int8::lanes::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use byte_kernel;

/// The instructions that 8-bit kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AVX-512 with VNNI.
    Vnni,
    /// AVX2 with AVX-VNNI.
    Vnni256,
    Avx2,
    Portable,
    /// VNNI's layout without its instructions.
    #[cfg(test)]
    Quads,
}

impl Path {
    const ALL: &[Self] = &[
        Self::Vnni,
        Self::Vnni256,
        Self::Avx2,
        Self::Portable,
        #[cfg(test)]
        Self::Quads,
    ];

    /// What serves a runtime's instruction set best on this CPU.
    pub fn of(isa: Isa) -> Self {
        Self::served(isa).next().unwrap_or(Self::Portable)
    }

    /// All that this CPU has within a runtime's instruction set, the best first.
    pub(super) fn served(isa: Isa) -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let (avx512, avx256) = (is_x86_feature_detected!("avx512vnni"), is_x86_feature_detected!("avxvnni"));
        #[cfg(not(target_arch = "x86_64"))]
        let (avx512, avx256) = (false, false);
        Self::ALL.iter().copied().filter(move |path| match path {
            Self::Vnni => isa == Isa::Avx512 && avx512,
            Self::Vnni256 => isa != Isa::Portable && avx256,
            Self::Avx2 => isa != Isa::Portable,
            _ => true,
        })
    }
}
