//! One vector type per instruction set, behind one trait: every kernel is written once.
//!
//! A lane is a channel and no sum ever crosses lanes, so the width of a vector cannot change a bit. What could is
//! pinned here: multiply-add rounds once, `max` and `min` return their second operand where a comparison fails
//! (so NaN passes through `low.max(x)`), and nothing approximates.

use crate::Isa;

/// Lanes of f32.
///
/// A value can only be made where the CPU has the instruction set, as `splat` and the loads demand; so that arithmetic on
/// values is safe, and what is left to be careful about is memory.
pub(crate) trait Lanes: Copy {
    const N: usize;

    /// # Safety
    /// The CPU has the instruction set.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// As for `splat`, and `N` floats can be read, at any alignment.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` lanes, `n` from 0 to `N`; the others are zero and their memory is not touched.
    /// # Safety
    /// As for `splat`, and `n` floats can be read.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// # Safety
    /// `N` floats can be written, at any alignment.
    unsafe fn store(self, to: *mut f32);
    /// The first `n` lanes, `n` from 0 to `N`.
    /// # Safety
    /// `n` floats can be written.
    unsafe fn store_first(self, to: *mut f32, n: usize);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// `self` where it is greater, else `other`.
    fn max(self, other: Self) -> Self;
    /// `self` where it is less, else `other`.
    fn min(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `value` where `low < self < high`, else 0.
    fn open(self, low: Self, high: Self, value: Self) -> Self;
    /// 2 to the power of `self`, whole numbers from -126 to 127.
    fn pow2(self) -> Self;
}

/// The reference: plain Rust, on every architecture.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

// SAFETY of what follows: no instruction set is asked for, and pointers are the caller's, read and written without alignment.
impl Lanes for Portable {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        Self(std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(n) {
            unsafe { *to.add(i) = x };
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(((x as i32).wrapping_add(127) as u32) << 23)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i])))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn open(self, low: Self, high: Self, value: Self) -> Self {
        Self(std::array::from_fn(|i| if low.0[i] < self.0[i] && self.0[i] < high.0[i] { value.0[i] } else { 0.0 }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    // SAFETY of this module: a value is there, or is made by who vouches that the CPU has the instructions (see `Lanes`), so
    // that all on it may run; loads and stores need no alignment, touch no masked lane, and what they touch is the caller's.

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    #[inline(always)]
    fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    impl Lanes for Avx512 {
        const N: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            unsafe { Self(_mm512_maskz_loadu_ps(first(n), from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            unsafe { _mm512_mask_storeu_ps(to, first(n), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            unsafe { Self(_mm512_div_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn pow2(self) -> Self {
            unsafe {
                let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
            }
        }
        #[inline(always)]
        fn fma(self, factor: Self, addend: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn open(self, low: Self, high: Self, value: Self) -> Self {
            unsafe {
                let above = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(low.0, self.0);
                let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, self.0, high.0);
                Self(_mm512_maskz_mov_ps(inside, value.0))
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    /// All ones in the first `n` of eight lanes.
    ///
    /// # Safety
    /// The CPU has AVX2, and `n` is at most 8.
    #[inline(always)]
    unsafe fn first8(n: usize) -> __m256i {
        static ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the caller's; eight of the sixteen from one of the first nine on.
        unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(8 - n).cast()) }
    }

    impl Lanes for Avx2 {
        const N: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            unsafe { Self(_mm256_maskload_ps(from, first8(n))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            unsafe { _mm256_maskstore_ps(to, first8(n), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            unsafe { Self(_mm256_div_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn pow2(self) -> Self {
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            }
        }
        #[inline(always)]
        fn fma(self, factor: Self, addend: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            unsafe { Self(_mm256_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn open(self, low: Self, high: Self, value: Self) -> Self {
            unsafe {
                let above = _mm256_cmp_ps::<_CMP_LT_OQ>(low.0, self.0);
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, high.0);
                Self(_mm256_and_ps(_mm256_and_ps(above, below), value.0))
            }
        }
    }
}

/// Declares `unsafe fn name(isa, ...)` from one that is generic over [`Lanes`], compiled once per instruction set.
///
/// The body inlines all that it calls, as functions marked so. It hands on no closure: one that the compiler does not
/// inline is compiled without the instruction set, which costs more than all else here.
///
/// To the safety that the function itself asks for comes one thing: the CPU has the instructions of `isa`. A
/// [`Runtime`](crate::Runtime) is only made where that holds.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident<$lanes:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis unsafe fn $name(isa: $crate::Isa, $($arg: $type),*) {
            #[inline(always)]
            unsafe fn generic<$lanes: $crate::lanes::Lanes>($($arg: $type),*) $body

            // What is inlined into a function with these features is compiled with them.
            // SAFETY of both: the caller's, and the features are those of the lanes.
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) {
                unsafe { generic::<$crate::lanes::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                unsafe { generic::<$crate::lanes::Avx2>($($arg),*) }
            }
            // SAFETY: the caller's, who vouches for `isa` too.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::Isa::Avx2 => avx2($($arg),*),
                    _ => generic::<$crate::lanes::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use kernel;

/// True if this CPU has the instructions.
pub(crate) fn detected(isa: Isa) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            detected(Isa::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 | Isa::Avx2 => false,
        Isa::Portable => true,
    }
}
