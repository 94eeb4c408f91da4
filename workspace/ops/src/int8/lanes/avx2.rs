//! AVX2 and AVX-VNNI: 256 bits.
//!
//! What the unsafe blocks here lean on: a value is there, or is made by who vouches that the CPU has the instructions (see
//! [`ByteLanes`]), so that all on it may run; loads and stores need no alignment, touch no masked lane, and what they touch is
//! the caller's. What leans on more says so.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{ByteLanes, Span, gather, scatter};

#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256i);

impl ByteLanes for Avx2 {
    const N: usize = 8;
    const GROUP: usize = 2;
    type Cell = i16;
    type Short = __m256i;
    type Bytes = __m256i;
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
    fn times_above(self, other: Self) -> Self {
        unsafe {
            // Pairs of 16 bits, of which the first is 0.
            Self(_mm256_madd_epi16(self.0, other.0))
        }
    }
    #[inline(always)]
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> [__m256i; 5] {
        unsafe {
            let even = _mm256_and_si256(shift.0, _mm256_set1_epi64x(0xFFFF_FFFF));
            let odd = _mm256_srli_epi64::<32>(shift.0);
            let one = _mm256_set1_epi64x(if ABOVE { 1 << 30 } else { 1 << 31 });
            let even = _mm256_add_epi64(_mm256_sllv_epi64(one, even), one);
            let odd = _mm256_add_epi64(_mm256_sllv_epi64(one, odd), one);
            let (q, shift) = match ABOVE {
                true => (q.0, _mm256_sub_epi32(shift.0, _mm256_set1_epi32(1))),
                false => (_mm256_add_epi32(q.0, q.0), shift.0),
            };
            [q, _mm256_srli_epi64::<32>(q), even, odd, shift]
        }
    }
    /// Products of 64 bits are there for every other lane only.
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &[__m256i; 5]) -> Self {
        unsafe {
            let even = _mm256_add_epi64(products(self.0, by[0]), by[2]);
            let odd = _mm256_add_epi64(products(_mm256_srli_epi64::<32>(self.0), by[1]), by[3]);
            let mut high = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
            if !ABOVE {
                high = _mm256_add_epi32(_mm256_add_epi32(high, self.0), _mm256_srai_epi32::<31>(self.0));
            }
            Self(_mm256_srav_epi32(high, by[4]))
        }
    }
    #[inline(always)]
    fn real(self) -> Self {
        unsafe { Self(_mm256_castps_si256(_mm256_cvtepi32_ps(self.0))) }
    }
    #[inline(always)]
    fn clamp_real(self, low: Self, high: Self) -> Self {
        unsafe {
            let x = _mm256_min_ps(_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(high.0));
            Self(_mm256_castps_si256(_mm256_max_ps(x, _mm256_castsi256_ps(low.0))))
        }
    }
    #[inline(always)]
    fn times_plus(self, by: Self, more: Self) -> Self {
        unsafe {
            let (x, by, more) = (_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(by.0), _mm256_castsi256_ps(more.0));
            Self(_mm256_castps_si256(_mm256_fmadd_ps(x, by, more)))
        }
    }
    #[inline(always)]
    fn replaced(self, from: Self, to: Self) -> Self {
        unsafe {
            let is = _mm256_cmp_ps::<_CMP_EQ_OQ>(_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(from.0));
            Self(_mm256_blendv_epi8(self.0, to.0, _mm256_castps_si256(is)))
        }
    }
    #[inline(always)]
    fn nearest(self) -> Self {
        unsafe { Self(_mm256_cvtps_epi32(_mm256_castsi256_ps(self.0))) }
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m256i {
        unsafe { _mm256_set1_epi16(x) }
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
    fn add_short(x: __m256i, y: __m256i) -> __m256i {
        unsafe { _mm256_adds_epi16(x, y) }
    }
    #[inline(always)]
    fn sub_short(x: __m256i, y: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi16(x, y) }
    }
    /// What is packed has, in each part of 128 bits, 8 channels of one pixel and of the next; or 4 of each of four.
    #[inline(always)]
    fn bytes<const VECTORS: usize>([a, b]: [__m256i; 2]) -> __m256i {
        unsafe {
            let bytes = _mm256_packus_epi16(a, b);
            match VECTORS {
                2 => _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes),
                _ => _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)),
            }
        }
    }
    #[inline(always)]
    fn shorts<const VECTORS: usize>(bytes: __m256i) -> [__m256i; 2] {
        unsafe {
            let (bytes, nothing) = match VECTORS {
                2 => (_mm256_permute4x64_epi64::<0b11_01_10_00>(bytes), _mm256_setzero_si256()),
                _ => {
                    let back = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
                    (_mm256_permutevar8x32_epi32(bytes, back), _mm256_setzero_si256())
                }
            };
            [_mm256_unpacklo_epi8(bytes, nothing), _mm256_unpackhi_epi8(bytes, nothing)]
        }
    }
    #[inline(always)]
    unsafe fn splat_bytes(x: u8) -> __m256i {
        unsafe { _mm256_set1_epi8(x.cast_signed()) }
    }
    #[inline(always)]
    fn at_most(x: __m256i, high: __m256i) -> __m256i {
        unsafe { _mm256_min_epu8(x, high) }
    }
    #[inline(always)]
    fn clamp_bytes(x: __m256i, low: __m256i, high: __m256i) -> __m256i {
        unsafe { _mm256_max_epu8(_mm256_min_epu8(x, high), low) }
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> __m256i {
        unsafe {
            if let (2, Span { n: 16, count: 2.., pitch }) = (VECTORS, span) {
                return _mm256_loadu2_m128i(from.add(pitch).cast(), from.cast());
            }
            _mm256_loadu_si256(gather::<VECTORS, 32>(from, span, rest).as_ptr().cast())
        }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m256i, to: *mut u8, span: Span) {
        unsafe {
            if let (2, Span { n: 16, count: 2.., pitch }) = (VECTORS, span) {
                return _mm256_storeu2_m128i(to.add(pitch).cast(), to.cast(), x);
            }
            let mut bytes = [0; 32];
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), x);
            scatter::<VECTORS, 32>(bytes, to, span);
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
unsafe fn products(x: __m256i, y: __m256i) -> __m256i {
    let out: __m256i;
    // SAFETY: the caller's; it reads two registers, writes one, and nothing else.
    unsafe {
        asm!("vpmuldq {}, {}, {}", out(ymm_reg) out, in(ymm_reg) x, in(ymm_reg) y,
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
    type Bytes = __m256i;
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
    fn times_above(self, other: Self) -> Self {
        Self(self.0.times_above(other.0))
    }
    #[inline(always)]
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> Self::Factors {
        Avx2::factors::<ABOVE>(q.0, shift.0)
    }
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &Self::Factors) -> Self {
        Self(self.0.scale::<ABOVE>(by))
    }
    #[inline(always)]
    fn real(self) -> Self {
        Self(self.0.real())
    }
    #[inline(always)]
    fn clamp_real(self, low: Self, high: Self) -> Self {
        Self(self.0.clamp_real(low.0, high.0))
    }
    #[inline(always)]
    fn times_plus(self, by: Self, more: Self) -> Self {
        Self(self.0.times_plus(by.0, more.0))
    }
    #[inline(always)]
    fn replaced(self, from: Self, to: Self) -> Self {
        Self(self.0.replaced(from.0, to.0))
    }
    #[inline(always)]
    fn nearest(self) -> Self {
        Self(self.0.nearest())
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m256i {
        unsafe { Avx2::splat_short(x) }
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
    fn add_short(x: __m256i, y: __m256i) -> __m256i {
        Avx2::add_short(x, y)
    }
    #[inline(always)]
    fn sub_short(x: __m256i, y: __m256i) -> __m256i {
        Avx2::sub_short(x, y)
    }
    #[inline(always)]
    fn bytes<const VECTORS: usize>(shorts: [__m256i; 2]) -> __m256i {
        Avx2::bytes::<VECTORS>(shorts)
    }
    #[inline(always)]
    fn shorts<const VECTORS: usize>(bytes: __m256i) -> [__m256i; 2] {
        Avx2::shorts::<VECTORS>(bytes)
    }
    #[inline(always)]
    unsafe fn splat_bytes(x: u8) -> __m256i {
        unsafe { Avx2::splat_bytes(x) }
    }
    #[inline(always)]
    fn at_most(x: __m256i, high: __m256i) -> __m256i {
        Avx2::at_most(x, high)
    }
    #[inline(always)]
    fn clamp_bytes(x: __m256i, low: __m256i, high: __m256i) -> __m256i {
        Avx2::clamp_bytes(x, low, high)
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> __m256i {
        unsafe { Avx2::load_bytes::<VECTORS>(from, span, rest) }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m256i, to: *mut u8, span: Span) {
        unsafe { Avx2::store_bytes::<VECTORS>(x, to, span) }
    }
}
