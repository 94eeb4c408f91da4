//! AVX-512 with VNNI: 512 bits.
//!
//! What the unsafe blocks here lean on: a value is there, or is made by who vouches that the CPU has the instructions (see
//! [`ByteLanes`]), so that all on it may run; loads and stores need no alignment, touch no masked lane, and what they touch is
//! the caller's. What leans on more says so.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{ByteLanes, Span, gather, scatter};

#[derive(Clone, Copy)]
pub(crate) struct Vnni(__m512i);

impl ByteLanes for Vnni {
    const N: usize = 16;
    const GROUP: usize = 4;
    type Cell = u8;
    type Short = __m512i;
    type Bytes = __m512i;
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
            let (top, bottom) = (two_rows(rows[0], rows[1]), two_rows(rows[2], rows[3]));
            // In each part of 128 bits the same four channels of each row; then, of each channel, its four rows.
            let ours = _mm512_setr_epi32(0, 8, 16, 24, 2, 10, 18, 26, 4, 12, 20, 28, 6, 14, 22, 30);
            let theirs = _mm512_add_epi32(ours, _mm512_set1_epi32(1));
            let by_channel = _mm512_set4_epi32(0x0F0B_0703, 0x0E0A_0602, 0x0D09_0501, 0x0C08_0400);
            let ours = _mm512_shuffle_epi8(chosen(top, ours, bottom), by_channel);
            let theirs = _mm512_shuffle_epi8(chosen(top, theirs, bottom), by_channel);
            [Self(ours), Self(theirs)]
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
    fn times_above(self, other: Self) -> Self {
        unsafe { Self(_mm512_madd_epi16(self.0, other.0)) }
    }
    #[inline(always)]
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> [__m512i; 5] {
        unsafe {
            let even = _mm512_and_si512(shift.0, _mm512_set1_epi64(0xFFFF_FFFF));
            let odd = _mm512_srli_epi64::<32>(shift.0);
            let one = _mm512_set1_epi64(if ABOVE { 1 << 30 } else { 1 << 31 });
            let even = _mm512_add_epi64(_mm512_sllv_epi64(one, even), one);
            let odd = _mm512_add_epi64(_mm512_sllv_epi64(one, odd), one);
            let (q, shift) = match ABOVE {
                true => (q.0, _mm512_sub_epi32(shift.0, _mm512_set1_epi32(1))),
                false => (_mm512_add_epi32(q.0, q.0), shift.0),
            };
            [q, _mm512_srli_epi64::<32>(q), even, odd, shift]
        }
    }
    /// As AVX2's; the upper halves of the even lanes' products move down and join the others in one instruction.
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, by: &[__m512i; 5]) -> Self {
        unsafe {
            let even = _mm512_add_epi64(products(self.0, by[0]), by[2]);
            let odd = _mm512_add_epi64(products(_mm512_srli_epi64::<32>(self.0), by[1]), by[3]);
            let mut high = _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, even);
            if !ABOVE {
                high = _mm512_add_epi32(_mm512_add_epi32(high, self.0), _mm512_srai_epi32::<31>(self.0));
            }
            Self(_mm512_srav_epi32(high, by[4]))
        }
    }
    const ROUNDS: bool = true;
    #[inline(always)]
    fn round<const ABOVE: bool, const FINE: bool>(self, by: &[Self; 3]) -> Self {
        unsafe { Self(_mm512_cvttps_epi32(self.fraction::<ABOVE, FINE>(by))) }
    }
    #[inline(always)]
    fn round_real<const ABOVE: bool, const FINE: bool>(self, by: &[Self; 3]) -> Self {
        unsafe {
            let whole = _mm512_roundscale_ps::<TOWARDS_ZERO>(self.fraction::<ABOVE, FINE>(by));
            Self(_mm512_castps_si512(whole))
        }
    }
    #[inline(always)]
    fn real(self) -> Self {
        unsafe { Self(_mm512_castps_si512(_mm512_cvtepi32_ps(self.0))) }
    }
    #[inline(always)]
    fn clamp_real(self, low: Self, high: Self) -> Self {
        unsafe {
            let x = _mm512_min_ps(_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(high.0));
            Self(_mm512_castps_si512(_mm512_max_ps(x, _mm512_castsi512_ps(low.0))))
        }
    }
    #[inline(always)]
    fn times_plus(self, by: Self, more: Self) -> Self {
        unsafe {
            let (x, by, more) = (_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(by.0), _mm512_castsi512_ps(more.0));
            Self(_mm512_castps_si512(_mm512_fmadd_ps(x, by, more)))
        }
    }
    #[inline(always)]
    fn replaced(self, from: Self, to: Self) -> Self {
        unsafe {
            let is = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(_mm512_castsi512_ps(self.0), _mm512_castsi512_ps(from.0));
            Self(_mm512_mask_mov_epi32(self.0, is, to.0))
        }
    }
    #[inline(always)]
    fn nearest(self) -> Self {
        unsafe { Self(_mm512_cvtps_epi32(_mm512_castsi512_ps(self.0))) }
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> __m512i {
        unsafe { _mm512_set1_epi16(x) }
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
    fn add_short(x: __m512i, y: __m512i) -> __m512i {
        unsafe { _mm512_adds_epi16(x, y) }
    }
    #[inline(always)]
    fn sub_short(x: __m512i, y: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi16(x, y) }
    }
    /// As AVX2's.
    #[inline(always)]
    fn bytes<const VECTORS: usize>([a, b]: [__m512i; 2]) -> __m512i {
        unsafe {
            let bytes = _mm512_packus_epi16(a, b);
            match VECTORS {
                2 => _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes),
                _ => _mm512_permutexvar_epi32(transposed(), bytes),
            }
        }
    }
    #[inline(always)]
    fn shorts<const VECTORS: usize>(bytes: __m512i) -> [__m512i; 2] {
        unsafe {
            let bytes = match VECTORS {
                2 => _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), bytes),
                _ => _mm512_permutexvar_epi32(transposed(), bytes),
            };
            let nothing = _mm512_setzero_si512();
            [_mm512_unpacklo_epi8(bytes, nothing), _mm512_unpackhi_epi8(bytes, nothing)]
        }
    }
    #[inline(always)]
    unsafe fn splat_bytes(x: u8) -> __m512i {
        unsafe { _mm512_set1_epi8(x.cast_signed()) }
    }
    #[inline(always)]
    fn at_most(x: __m512i, high: __m512i) -> __m512i {
        unsafe { _mm512_min_epu8(x, high) }
    }
    #[inline(always)]
    fn clamp_bytes(x: __m512i, low: __m512i, high: __m512i) -> __m512i {
        unsafe { _mm512_max_epu8(_mm512_min_epu8(x, high), low) }
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> __m512i {
        let Span { pitch, count, n } = span;
        unsafe {
            if VECTORS == 1 {
                return _mm512_loadu_si512(gather::<VECTORS, 64>(from, span, rest).as_ptr().cast());
            }
            let (rest, mask) = (_mm256_set1_epi8(rest.cast_signed()), first(n));
            let one = _mm256_mask_loadu_epi8(rest, mask, from.cast());
            let other = if count > 1 { _mm256_mask_loadu_epi8(rest, mask, from.add(pitch).cast()) } else { one };
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(one), other)
        }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: __m512i, to: *mut u8, span: Span) {
        let Span { pitch, count, n } = span;
        unsafe {
            let (low, high) = (_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
            match (VECTORS, n, count) {
                // Without a mask: stores of bytes by one are slow, even where it leaves nothing out.
                (2, 32, _) => {
                    _mm256_storeu_si256(to.cast(), low);
                    if count > 1 {
                        _mm256_storeu_si256(to.add(pitch).cast(), high);
                    }
                }
                (2, ..) => {
                    _mm256_mask_storeu_epi8(to.cast(), first(n), low);
                    if count > 1 {
                        _mm256_mask_storeu_epi8(to.add(pitch).cast(), first(n), high);
                    }
                }
                (_, _, 4..) => {
                    let mask = first(n) as u16;
                    _mm_mask_storeu_epi8(to.cast(), mask, _mm256_castsi256_si128(low));
                    _mm_mask_storeu_epi8(to.add(pitch).cast(), mask, _mm256_extracti128_si256::<1>(low));
                    _mm_mask_storeu_epi8(to.add(2 * pitch).cast(), mask, _mm256_castsi256_si128(high));
                    _mm_mask_storeu_epi8(to.add(3 * pitch).cast(), mask, _mm256_extracti128_si256::<1>(high));
                }
                _ => {
                    let mut bytes = [0; 64];
                    _mm512_storeu_si512(bytes.as_mut_ptr().cast(), x);
                    scatter::<VECTORS, 64>(bytes, to, span);
                }
            }
        }
    }
}

const TOWARDS_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

impl Vnni {
    /// What [`ByteLanes::round`] makes whole.
    #[inline(always)]
    fn fraction<const ABOVE: bool, const FINE: bool>(self, [factor, rest, start]: &[Self; 3]) -> __m512 {
        unsafe {
            let x = _mm512_cvtepi32_ps(self.0);
            // The sign of x beside a number that has none.
            let start = match ABOVE {
                true => start.0,
                false => {
                    _mm512_ternarylogic_epi32::<0xEA>(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MIN), start.0)
                }
            };
            let mut start = _mm512_castsi512_ps(start);
            if FINE {
                start = _mm512_fmadd_ps(x, _mm512_castsi512_ps(rest.0), start);
            }
            _mm512_fmadd_round_ps::<TOWARDS_ZERO>(x, _mm512_castsi512_ps(factor.0), start)
        }
    }
}

/// Signed products of even lanes: an instruction for the reason that AVX2 has one.
///
/// # Safety
/// The CPU has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn products(x: __m512i, y: __m512i) -> __m512i {
    let out: __m512i;
    // SAFETY: the caller's; it reads two registers, writes one, and nothing else.
    unsafe {
        asm!("vpmuldq {}, {}, {}", out(zmm_reg) out, in(zmm_reg) x, in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Of two vectors' lanes those that `by` numbers.
///
/// As an instruction: with the shuffle that follows it the compiler takes the intrinsic for one permutation of bytes, and makes
/// a dozen instructions of that.
///
/// # Safety
/// The CPU has AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn chosen(mut x: __m512i, by: __m512i, y: __m512i) -> __m512i {
    // SAFETY: as in `products`.
    unsafe {
        asm!("vpermt2d {}, {}, {}", inout(zmm_reg) x, in(zmm_reg) by, in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    x
}

/// 32 bytes and 32 more.
///
/// # Safety
/// The CPU has AVX-512, and they can be read.
#[inline(always)]
unsafe fn two_rows(top: *const u8, bottom: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let top = _mm512_castsi256_si512(_mm256_loadu_si256(top.cast()));
        _mm512_inserti64x4::<1>(top, _mm256_loadu_si256(bottom.cast()))
    }
}

/// Four channels of each of four pixels in each part of 128 bits, by pixel and the other way round.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn transposed() -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15) }
}

/// A mask of the first `n` of 32.
#[inline(always)]
fn first(n: usize) -> u32 {
    ((1u64 << n.min(32)) - 1) as u32
}
