//! What each byte of a map becomes by a table: the inner loops of [`super::look_up`].

use crate::Isa;

/// How.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// AVX-512 VBMI picks 64 bytes at a time out of 128 in registers.
    #[cfg(target_arch = "x86_64")]
    Vbmi,
    /// AVX2 picks 32 out of 16, for each sixteenth of the table.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Byte by byte.
    Portable,
}

impl Way {
    /// The best that this CPU has within a runtime's instruction set.
    pub fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vbmi") => Self::Vbmi,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => Self::Avx2,
            _ => Self::Portable,
        }
    }

    /// # Safety
    /// The CPU has the instructions.
    pub unsafe fn run(self, x: &[u8], table: &[u8; 256], out: &mut [u8]) {
        match self {
            // SAFETY: the caller's.
            #[cfg(target_arch = "x86_64")]
            Self::Vbmi => unsafe { x86::vbmi(x, table, out) },
            // SAFETY: the caller's.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(x, table, out) },
            Self::Portable => portable(x, table, out),
        }
    }
}

fn portable(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = table[usize::from(x)]);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// An index has seven bits for two registers; the eighth says which two.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub fn vbmi(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
        // SAFETY: quarters of the table; of `x` and `out` no more than is there.
        unsafe {
            let [a, b, c, d] = [0, 64, 128, 192].map(|at| _mm512_loadu_si512(table.as_ptr().add(at).cast()));
            for (x, out) in x.chunks(64).zip(out.chunks_mut(64)) {
                let mask = u64::MAX >> (64 - x.len().min(out.len()));
                let x = _mm512_maskz_loadu_epi8(mask, x.as_ptr().cast());
                let (lower, upper) = (_mm512_permutex2var_epi8(a, x, b), _mm512_permutex2var_epi8(c, x, d));
                let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), lower, upper);
                _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, found);
            }
        }
    }

    /// A shuffle gives 0 where its index has the eighth bit, which each sixteenth gives to all bytes but its own.
    #[target_feature(enable = "avx2")]
    pub fn avx2(x: &[u8], table: &[u8; 256], out: &mut [u8]) {
        // SAFETY: sixteenths of the table; chunks of 32 bytes.
        unsafe {
            let rows: [__m256i; 16] = std::array::from_fn(|row| {
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * row).cast()))
            });
            let (mut x, mut out) = (x.chunks_exact(32), out.chunks_exact_mut(32));
            for (x, out) in x.by_ref().zip(out.by_ref()) {
                let x = _mm256_loadu_si256(x.as_ptr().cast());
                let mut found = _mm256_setzero_si256();
                for (row, &bytes) in rows.iter().enumerate() {
                    let own = _mm256_xor_si256(x, _mm256_set1_epi8((16 * row) as i8));
                    let index = _mm256_adds_epu8(own, _mm256_set1_epi8(0x70));
                    found = _mm256_or_si256(found, _mm256_shuffle_epi8(bytes, index));
                }
                _mm256_storeu_si256(out.as_mut_ptr().cast(), found);
            }
            super::portable(x.remainder(), table, out.into_remainder());
        }
    }
}
