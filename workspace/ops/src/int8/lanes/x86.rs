//! AVX2, AVX-VNNI and AVX-512 with VNNI.
//!
//! What the unsafe blocks here lean on: a value is there, or is made by who vouches that the CPU has the instructions (see
//! [`ByteLanes`]), so that all on it may run; loads and stores need no alignment, touch no masked lane, and what they touch is
//! the caller's. What leans on more says so.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{ByteLanes, gather, spread};

#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256i);

impl ByteLanes for Avx2 {
    const N: usize = 8;
    const GROUP: usize = 2;
    type Cell = i16;
    type Short = __m256i;
    /// Of even and of odd lanes, what is added to products of either, and shifts.
    type Factors = [__m256i; 5];

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        super::word_of_halves(weights)
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
    fn paired([a, b]: [Self; 2]) -> [Self; 2] {
        unsafe {
            [Self(_mm256_permute2x128_si256::<0x20>(a.0, b.0)), Self(_mm256_permute2x128_si256::<0x31>(a.0, b.0))]
        }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        unsafe {
            let (top, bottom) = (bytes_of_row(rows[0]), bytes_of_row(rows[1]));
            [Self(_mm256_unpacklo_epi16(top, bottom)), Self(_mm256_unpackhi_epi16(top, bottom))]
        }
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut i16) {
        unsafe { _mm256_storeu_si256(to.cast(), bytes_of_row(from)) }
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
    fn times_above(self, other: Self) -> Self {
        unsafe {
            // Pairs of 16 bits, of which the first is 0.
            Self(_mm256_madd_epi16(self.0, other.0))
        }
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        unsafe { Self(_mm256_sllv_epi32(self.0, _mm256_set1_epi32(bits))) }
    }
    #[inline(always)]
    fn factors(q: Self, shift: Self) -> [__m256i; 5] {
        unsafe {
            let nudge = |shift| {
                let half = _mm256_sllv_epi64(_mm256_set1_epi64x(1 << 31), shift);
                _mm256_add_epi64(half, _mm256_set1_epi64x(1 << 31))
            };
            let even = _mm256_and_si256(shift.0, _mm256_set1_epi64x(0xFFFF_FFFF));
            let odd = _mm256_srli_epi64::<32>(shift.0);
            [q.0, _mm256_srli_epi64::<32>(q.0), nudge(even), nudge(odd), shift.0]
        }
    }
    /// Products of 64 bits are there for every other lane only.
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &[__m256i; 5]) -> Self {
        unsafe {
            let even = _mm256_add_epi64(products256(self.0, by[0]), by[2]);
            let odd = _mm256_add_epi64(products256(_mm256_srli_epi64::<32>(self.0), by[1]), by[3]);
            let high = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
            let mut sum = _mm256_add_epi32(high, self.0);
            if !ABOVE {
                sum = _mm256_add_epi32(sum, _mm256_srai_epi32::<31>(self.0));
            }
            Self(_mm256_srav_epi32(sum, by[4]))
        }
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m256i {
        unsafe { _mm256_set1_epi16(x) }
    }
    #[inline(always)]
    unsafe fn load_short(from: *const i16) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    fn pack([a, b]: [Self; 2]) -> __m256i {
        unsafe { _mm256_packs_epi32(a.0, b.0) }
    }
    #[inline(always)]
    fn unpack(short: __m256i) -> [Self; 2] {
        unsafe {
            let nothing = _mm256_setzero_si256();
            [Self(_mm256_unpacklo_epi16(nothing, short)), Self(_mm256_unpackhi_epi16(nothing, short))]
        }
    }
    #[inline(always)]
    fn clamp(x: __m256i, zero: __m256i, low: __m256i, high: __m256i) -> __m256i {
        unsafe { _mm256_max_epi16(_mm256_min_epi16(_mm256_adds_epi16(x, zero), high), low) }
    }
    #[inline(always)]
    fn sub_short(x: __m256i, y: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi16(x, y) }
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, n: usize, rest: u8) -> __m256i {
        unsafe {
            match (VECTORS, n) {
                (2, 16) => bytes_of_row(from),
                _ => _mm256_cvtepu8_epi16(_mm_loadu_si128(spread::<VECTORS, 16>(from, n, rest).as_ptr().cast())),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m256i, to: *mut u8, n: usize) {
        unsafe {
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            match (VECTORS, n) {
                (2, 16) => _mm_storeu_si128(to.cast(), bytes),
                (1, 8) => _mm_storel_epi64(to.cast(), _mm_shuffle_epi32::<0b10_00>(bytes)),
                _ => {
                    let mut all = [0; 16];
                    _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                    gather::<VECTORS, 16>(all, to, n);
                }
            }
        }
    }
}

/// Signed products of even lanes.
///
/// As an instruction: what the compiler makes of the intrinsic is a sign extension and a product of 64 bits; it takes the
/// extension of what stays the same out of the loop, no longer knows there that 32 bits do, and multiplies thrice.
///
/// # Safety
/// The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products256(x: __m256i, y: __m256i) -> __m256i {
    let out: __m256i;
    // SAFETY: the caller's; it reads two registers, writes one, and nothing else.
    unsafe {
        asm!("vpmuldq {}, {}, {}", out(ymm_reg) out, in(ymm_reg) x, in(ymm_reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// As [`products256`].
///
/// # Safety
/// The CPU has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn products512(x: __m512i, y: __m512i) -> __m512i {
    let out: __m512i;
    // SAFETY: as in `products256`.
    unsafe {
        asm!("vpmuldq {}, {}, {}", out(zmm_reg) out, in(zmm_reg) x, in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// 16 bytes as numbers of 16 bits.
///
/// # Safety
/// The CPU has AVX2, and they can be read.
#[inline(always)]
unsafe fn bytes_of_row(row: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(row.cast())) }
}

/// AVX-VNNI: vectors as AVX2's, words as AVX-512's.
#[derive(Clone, Copy)]
pub(crate) struct Vnni256(Avx2);

impl ByteLanes for Vnni256 {
    const N: usize = 8;
    const GROUP: usize = 4;
    type Cell = u8;
    type Short = __m256i;
    type Factors = <Avx2 as ByteLanes>::Factors;

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        super::word_of_bytes(weights)
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
    fn paired([a, b]: [Self; 2]) -> [Self; 2] {
        let [a, b] = Avx2::paired([a.0, b.0]);
        [Self(a), Self(b)]
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        unsafe {
            let top = _mm256_or_si256(bytes_of_row(rows[0]), _mm256_slli_epi16::<8>(bytes_of_row(rows[1])));
            let bottom = _mm256_or_si256(bytes_of_row(rows[2]), _mm256_slli_epi16::<8>(bytes_of_row(rows[3])));
            [Self(Avx2(_mm256_unpacklo_epi16(top, bottom))), Self(Avx2(_mm256_unpackhi_epi16(top, bottom)))]
        }
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut u8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast())) }
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
    fn times_above(self, other: Self) -> Self {
        Self(self.0.times_above(other.0))
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        Self(self.0.left(bits))
    }
    #[inline(always)]
    fn factors(q: Self, shift: Self) -> Self::Factors {
        Avx2::factors(q.0, shift.0)
    }
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &Self::Factors) -> Self {
        Self(self.0.scale::<ABOVE>(by))
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m256i {
        unsafe { Avx2::splat_short(x) }
    }
    #[inline(always)]
    unsafe fn load_short(from: *const i16) -> __m256i {
        unsafe { Avx2::load_short(from) }
    }
    #[inline(always)]
    fn pack([a, b]: [Self; 2]) -> __m256i {
        Avx2::pack([a.0, b.0])
    }
    #[inline(always)]
    fn unpack(short: __m256i) -> [Self; 2] {
        let [a, b] = Avx2::unpack(short);
        [Self(a), Self(b)]
    }
    #[inline(always)]
    fn clamp(x: __m256i, zero: __m256i, low: __m256i, high: __m256i) -> __m256i {
        Avx2::clamp(x, zero, low, high)
    }
    #[inline(always)]
    fn sub_short(x: __m256i, y: __m256i) -> __m256i {
        Avx2::sub_short(x, y)
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, n: usize, rest: u8) -> __m256i {
        unsafe { Avx2::load_bytes::<VECTORS>(from, n, rest) }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m256i, to: *mut u8, n: usize) {
        unsafe { Avx2::store_bytes::<VECTORS>(x, to, n) }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Vnni(__m512i);

impl ByteLanes for Vnni {
    const N: usize = 16;
    const GROUP: usize = 4;
    type Cell = u8;
    type Short = __m512i;
    /// Of even and of odd lanes, what is added to products of either, and shifts.
    type Factors = [__m512i; 5];

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        super::word_of_bytes(weights)
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        unsafe { Self(_mm512_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        unsafe { Self(_mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut i32) {
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }
    #[inline(always)]
    fn paired([a, b]: [Self; 2]) -> [Self; 2] {
        unsafe {
            let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a.0, b.0);
            let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a.0, b.0);
            [Self(even), Self(odd)]
        }
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        unsafe {
            let row = |at: usize| _mm512_cvtepu8_epi16(_mm256_loadu_si256(rows[at].cast()));
            let top = _mm512_or_si512(row(0), _mm512_slli_epi16::<8>(row(1)));
            let bottom = _mm512_or_si512(row(2), _mm512_slli_epi16::<8>(row(3)));
            [Self(_mm512_unpacklo_epi16(top, bottom)), Self(_mm512_unpackhi_epi16(top, bottom))]
        }
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut u8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast())) }
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
    fn times_above(self, other: Self) -> Self {
        unsafe { Self(_mm512_madd_epi16(self.0, other.0)) }
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        unsafe { Self(_mm512_sllv_epi32(self.0, _mm512_set1_epi32(bits))) }
    }
    #[inline(always)]
    fn factors(q: Self, shift: Self) -> [__m512i; 5] {
        unsafe {
            let one = _mm512_set1_epi64(1 << 31);
            let even = _mm512_and_si512(shift.0, _mm512_set1_epi64(0xFFFF_FFFF));
            let odd = _mm512_srli_epi64::<32>(shift.0);
            let even = _mm512_add_epi64(_mm512_sllv_epi64(one, even), one);
            let odd = _mm512_add_epi64(_mm512_sllv_epi64(one, odd), one);
            [q.0, _mm512_srli_epi64::<32>(q.0), even, odd, shift.0]
        }
    }
    /// As AVX2's; the upper halves of the even lanes' products move down and join the others in one instruction.
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &[__m512i; 5]) -> Self {
        unsafe {
            let even = _mm512_add_epi64(products512(self.0, by[0]), by[2]);
            let odd = _mm512_add_epi64(products512(_mm512_srli_epi64::<32>(self.0), by[1]), by[3]);
            let high = _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, even);
            let mut sum = _mm512_add_epi32(high, self.0);
            if !ABOVE {
                sum = _mm512_add_epi32(sum, _mm512_srai_epi32::<31>(self.0));
            }
            Self(_mm512_srav_epi32(sum, by[4]))
        }
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m512i {
        unsafe { _mm512_set1_epi16(x) }
    }
    #[inline(always)]
    unsafe fn load_short(from: *const i16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    fn pack([a, b]: [Self; 2]) -> __m512i {
        unsafe { _mm512_packs_epi32(a.0, b.0) }
    }
    #[inline(always)]
    fn unpack(short: __m512i) -> [Self; 2] {
        unsafe {
            let nothing = _mm512_setzero_si512();
            [Self(_mm512_unpacklo_epi16(nothing, short)), Self(_mm512_unpackhi_epi16(nothing, short))]
        }
    }
    #[inline(always)]
    fn clamp(x: __m512i, zero: __m512i, low: __m512i, high: __m512i) -> __m512i {
        unsafe { _mm512_max_epi16(_mm512_min_epi16(_mm512_adds_epi16(x, zero), high), low) }
    }
    #[inline(always)]
    fn sub_short(x: __m512i, y: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi16(x, y) }
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, n: usize, rest: u8) -> __m512i {
        unsafe {
            let bytes = match VECTORS {
                2 => _mm256_mask_loadu_epi8(_mm256_set1_epi8(rest.cast_signed()), first(n), from.cast()),
                _ => {
                    let rest = _mm_set1_epi8(rest.cast_signed());
                    _mm256_cvtepu32_epi64(_mm_mask_loadu_epi8(rest, first(n) as u16, from.cast()))
                }
            };
            _mm512_cvtepu8_epi16(bytes)
        }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m512i, to: *mut u8, n: usize) {
        unsafe {
            let bytes = _mm512_cvtepi16_epi8(x);
            match (VECTORS, n) {
                (2, 32) => _mm256_storeu_si256(to.cast(), bytes),
                (2, _) => _mm256_mask_storeu_epi8(to.cast(), first(n), bytes),
                (_, 16) => _mm_storeu_si128(to.cast(), _mm256_cvtepi64_epi32(bytes)),
                _ => _mm_mask_storeu_epi8(to.cast(), first(n) as u16, _mm256_cvtepi64_epi32(bytes)),
            }
        }
    }
}

/// A mask of the first `n` of 32.
#[inline(always)]
fn first(n: usize) -> u32 {
    ((1u64 << n.min(32)) - 1) as u32
}
