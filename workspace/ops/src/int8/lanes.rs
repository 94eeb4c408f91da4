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
pub(crate) use x86::{Avx2, Vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ByteLanes, FactorsAt};

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256i);

    /// # Safety
    /// The CPU has AVX2, and 32 bytes can be read.
    #[inline(always)]
    unsafe fn load(from: *const __m256i) -> __m256i {
        unsafe { _mm256_loadu_si256(from) }
    }

    impl ByteLanes for Avx2 {
        /// Of even and of odd lanes, what is added to products of either, and shifts.
        type Factors = [__m256i; 5];
        const N: usize = 8;
        const GROUP: usize = 2;
        type Cell = i16;
        const WIDE: usize = 16;

        fn word(weights: impl Fn(usize) -> i8) -> i32 {
            super::word_of_halves(weights)
        }
        #[inline(always)]
        unsafe fn factors(at: FactorsAt) -> [__m256i; 5] {
            unsafe {
                let (even, odd) = (load(at.q.cast()), load(at.q.add(1).cast()));
                [even, odd, load(at.even.cast()), load(at.odd.cast()), load(at.shift.cast())]
            }
        }
        #[inline(always)]
        unsafe fn splat(x: i32) -> Self {
            unsafe { Self(_mm256_set1_epi32(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const i32) -> Self {
            unsafe { Self(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut i32) {
            unsafe { _mm256_storeu_si256(to.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> Self {
            unsafe { Self(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
            unsafe {
                let (first, second) = (_mm_loadu_si128(rows[0].cast()), _mm_loadu_si128(rows[1].cast()));
                let (low, high) = (_mm_unpacklo_epi8(first, second), _mm_unpackhi_epi8(first, second));
                [Self(_mm256_cvtepu8_epi16(low)), Self(_mm256_cvtepu8_epi16(high))]
            }
        }
        #[inline(always)]
        unsafe fn widen(from: *const u8, to: *mut i16) {
            unsafe { _mm256_storeu_si256(to.cast(), _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn store_bytes([first, second]: [Self; 2], to: *mut u8) {
            unsafe {
                // Packing works in halves of 128 bits: 0..4, 8..12 | 4..8, 12..16.
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first.0, second.0));
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(to.cast(), bytes);
            }
        }
        #[inline(always)]
        unsafe fn store_bytes_of_one(self, to: *mut u8) {
            unsafe {
                let words = _mm_packs_epi32(_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
            }
        }
        #[inline(always)]
        fn dot(self, x: Self, w: Self) -> Self {
            unsafe { Self(_mm256_add_epi32(self.0, _mm256_madd_epi16(x.0, w.0))) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            unsafe { Self(_mm256_min_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn left(self, bits: i32) -> Self {
            unsafe { Self(_mm256_sllv_epi32(self.0, _mm256_set1_epi32(bits))) }
        }
        /// Products of 64 bits are there for every other lane only. Of the even ones, bits 31 to 62 are brought to the low
        /// half; of the odd ones to the high half, where they belong; then both are one vector.
        #[inline(always)]
        fn scale(self, by: &[__m256i; 5]) -> Self {
            unsafe {
                let even = _mm256_mul_epi32(self.0, by[0]);
                let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(self.0), by[1]);
                let even = _mm256_srli_epi64::<31>(_mm256_add_epi64(even, by[2]));
                let odd = _mm256_slli_epi64::<1>(_mm256_add_epi64(odd, by[3]));
                let high = _mm256_blend_epi32::<0b1010_1010>(even, odd);
                let below = _mm256_srai_epi32::<31>(self.0);
                Self(_mm256_srav_epi32(_mm256_add_epi32(high, below), by[4]))
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Vnni(__m512i);

    /// # Safety
    /// The CPU has AVX-512, and 64 bytes can be read.
    #[inline(always)]
    unsafe fn load512(from: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    impl ByteLanes for Vnni {
        /// Of even and of odd lanes, what is added to products of either, and shifts.
        type Factors = [__m512i; 5];
        const N: usize = 16;
        const GROUP: usize = 4;
        type Cell = u8;
        const WIDE: usize = 64;

        fn word(weights: impl Fn(usize) -> i8) -> i32 {
            super::word_of_bytes(weights)
        }
        #[inline(always)]
        unsafe fn factors(at: FactorsAt) -> [__m512i; 5] {
            unsafe {
                let (even, odd) = (load512(at.q), load512(at.q.add(1)));
                [even, odd, load512(at.even.cast()), load512(at.odd.cast()), load512(at.shift)]
            }
        }
        #[inline(always)]
        unsafe fn splat(x: i32) -> Self {
            unsafe { Self(_mm512_set1_epi32(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const i32) -> Self {
            unsafe { Self(load512(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut i32) {
            unsafe { _mm512_storeu_si512(to.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> Self {
            unsafe { Self(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
            unsafe { [quads(rows), quads(rows.map(|row| row.add(16)))] }
        }
        #[inline(always)]
        unsafe fn widen(from: *const u8, to: *mut u8) {
            unsafe { _mm512_storeu_si512(to.cast(), _mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store_bytes([first, second]: [Self; 2], to: *mut u8) {
            unsafe {
                _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(first.0));
                _mm_storeu_si128(to.add(16).cast(), _mm512_cvtepi32_epi8(second.0));
            }
        }
        #[inline(always)]
        unsafe fn store_bytes_of_one(self, to: *mut u8) {
            unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(self.0)) }
        }
        #[inline(always)]
        fn dot(self, x: Self, w: Self) -> Self {
            unsafe { Self(_mm512_dpbusd_epi32(self.0, x.0, w.0)) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            unsafe { Self(_mm512_min_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_epi32(self.0, other.0)) }
        }
        #[inline(always)]
        fn left(self, bits: i32) -> Self {
            unsafe { Self(_mm512_sllv_epi32(self.0, _mm512_set1_epi32(bits))) }
        }
        #[inline(always)]
        fn scale(self, by: &[__m512i; 5]) -> Self {
            unsafe {
                let even = _mm512_mul_epi32(self.0, by[0]);
                let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(self.0), by[1]);
                let even = _mm512_srli_epi64::<31>(_mm512_add_epi64(even, by[2]));
                let odd = _mm512_slli_epi64::<1>(_mm512_add_epi64(odd, by[3]));
                let high = _mm512_mask_blend_epi32(0b1010_1010_1010_1010, even, odd);
                let below = _mm512_srai_epi32::<31>(self.0);
                Self(_mm512_srav_epi32(_mm512_add_epi32(high, below), by[4]))
            }
        }
    }

    /// Words of 16 channels: neighbouring bytes of two rows, then neighbouring pairs.
    ///
    /// # Safety
    /// The CPU has AVX-512, and 16 bytes of each row can be read.
    #[inline(always)]
    unsafe fn quads(rows: [*const u8; 4]) -> Vnni {
        unsafe {
            let row = |at: usize| _mm_loadu_si128(rows[at].cast());
            let (top, bottom) = ([row(0), row(1)], [row(2), row(3)]);
            let low = [_mm_unpacklo_epi8(top[0], top[1]), _mm_unpacklo_epi8(bottom[0], bottom[1])];
            let high = [_mm_unpackhi_epi8(top[0], top[1]), _mm_unpackhi_epi8(bottom[0], bottom[1])];
            let words = _mm512_castsi128_si512(_mm_unpacklo_epi16(low[0], low[1]));
            let words = _mm512_inserti32x4::<1>(words, _mm_unpackhi_epi16(low[0], low[1]));
            let words = _mm512_inserti32x4::<2>(words, _mm_unpacklo_epi16(high[0], high[1]));
            Vnni(_mm512_inserti32x4::<3>(words, _mm_unpackhi_epi16(high[0], high[1])))
        }
    }
}

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
    Avx2,
    Portable,
    /// VNNI's layout without its instructions.
    #[cfg(test)]
    Quads,
}

impl Path {
    /// What serves a runtime's instruction set best on this CPU.
    pub fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_vnni = is_x86_feature_detected!("avx512vnni");
        #[cfg(not(target_arch = "x86_64"))]
        let has_vnni = false;
        match isa {
            Isa::Avx512 if has_vnni => Self::Vnni,
            Isa::Avx512 | Isa::Avx2 => Self::Avx2,
            Isa::Portable => Self::Portable,
        }
    }
}
