//! AVX2, AVX-VNNI and AVX-512 with VNNI.

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

/// AVX-VNNI: vectors as AVX2's, words as AVX-512's.
#[derive(Clone, Copy)]
pub(crate) struct Vnni256(Avx2);

impl ByteLanes for Vnni256 {
    type Factors = <Avx2 as ByteLanes>::Factors;
    const N: usize = 8;
    const GROUP: usize = 4;
    type Cell = u8;
    const WIDE: usize = 64;

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        super::word_of_bytes(weights)
    }
    #[inline(always)]
    unsafe fn factors(at: FactorsAt) -> Self::Factors {
        unsafe { Avx2::factors(at) }
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        unsafe { Self(Avx2::splat(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        unsafe { Self(Avx2::load(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe { Self(Avx2::load_bytes(from)) }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        unsafe {
            let words = quads(rows);
            [[words[0], words[1]], [words[2], words[3]]].map(|[low, high]| Self(Avx2(_mm256_set_m128i(high, low))))
        }
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut u8) {
        unsafe { std::ptr::copy_nonoverlapping(from, to, 64) }
    }
    #[inline(always)]
    unsafe fn store_bytes(pair: [Self; 2], to: *mut u8) {
        unsafe { Avx2::store_bytes(pair.map(|lanes| lanes.0), to) }
    }
    #[inline(always)]
    unsafe fn store_bytes_of_one(self, to: *mut u8) {
        unsafe { self.0.store_bytes_of_one(to) }
    }
    #[inline(always)]
    fn dot(self, x: Self, w: Self) -> Self {
        unsafe { Self(Avx2(_mm256_dpbusd_avx_epi32(self.0.0, x.0.0, w.0.0))) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0.sub(other.0))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        Self(self.0.left(bits))
    }
    #[inline(always)]
    fn scale(self, by: &Self::Factors) -> Self {
        Self(self.0.scale(by))
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
        unsafe {
            [rows, rows.map(|row| row.add(16))].map(|rows| {
                let [a, b, c, d] = quads(rows);
                let words = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
                Self(_mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(words, c), d))
            })
        }
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

/// Words of 16 channels, four by four: neighbouring bytes of two rows, then neighbouring pairs.
///
/// # Safety
/// The CPU has AVX2, and 16 bytes of each row can be read.
#[inline(always)]
unsafe fn quads(rows: [*const u8; 4]) -> [__m128i; 4] {
    unsafe {
        let row = |at: usize| _mm_loadu_si128(rows[at].cast());
        let (top, bottom) = ([row(0), row(1)], [row(2), row(3)]);
        let low = [_mm_unpacklo_epi8(top[0], top[1]), _mm_unpacklo_epi8(bottom[0], bottom[1])];
        let high = [_mm_unpackhi_epi8(top[0], top[1]), _mm_unpackhi_epi8(bottom[0], bottom[1])];
        [
            _mm_unpacklo_epi16(low[0], low[1]),
            _mm_unpackhi_epi16(low[0], low[1]),
            _mm_unpacklo_epi16(high[0], high[1]),
            _mm_unpackhi_epi16(high[0], high[1]),
        ]
    }
}
