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
///
/// What is packed to bytes comes in pairs of vectors, and packing works in parts of 128 bits: four lanes of the first vector,
/// four of the second, and so on. So a *pair* holds its channels in that order ([`channel`]), from the packing of weights on,
/// and bytes come out in theirs without a further permutation. Where a block has channels for one vector alone, they are
/// in order, and the other half of what is packed is nothing.
pub(crate) trait ByteLanes: Copy {
    const N: usize;
    /// Terms of a word.
    const GROUP: usize;
    /// A term in a word: `4 / GROUP` bytes.
    type Cell: Copy + From<u8>;
    /// `2 * N` numbers of 16 bits, in the order of channels.
    type Short: Copy;

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
    /// Lanes in the order of channels as a pair.
    fn paired(lanes: [Self; 2]) -> [Self; 2];
    /// For each channel of a pair a word of the first `GROUP` rows of bytes.
    /// # Safety
    /// As for `splat`, and `2 * N` bytes of each of these rows can be read.
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2];
    /// 16 bytes to as many cells.
    /// # Safety
    /// As for `splat`; so many bytes can be read and cells written.
    unsafe fn widen(from: *const u8, to: *mut Self::Cell);
    /// Lanes plus the products of the terms of each word of `x` and `w`.
    fn dot(self, x: Self, w: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// Products of the upper halves of lanes, which are signed; their lower halves are 0.
    fn times_above(self, other: Self) -> Self;
    /// Bits to the left, by a number from 0 to 31 that is known when this is compiled.
    fn left(self, bits: i32) -> Self;

    /// Factors of a vector's lanes: see [`super::factors::Factors`].
    type Factors: Copy;
    fn factors(q: Self, shift: Self) -> Self::Factors;
    /// What [`super::Multiplier::apply`] makes of each lane; where `ABOVE`, only of those above 0: what others become is then
    /// 0 or less.
    fn scale<const ABOVE: bool>(self, by: &Self::Factors) -> Self;

    /// # Safety
    /// As for `splat`.
    unsafe fn splat_short(x: i16) -> Self::Short;
    /// # Safety
    /// As for `splat`, and `2 * N` numbers can be read.
    unsafe fn load_short(from: *const i16) -> Self::Short;
    /// Lanes of a pair, clamped to 16 bits.
    fn pack(pair: [Self; 2]) -> Self::Short;
    /// The upper halves of the lanes of a pair; their lower halves are 0.
    fn unpack(short: Self::Short) -> [Self; 2];
    /// `(x + zero).min(high).max(low)`; the sum is clamped to 16 bits.
    fn clamp(x: Self::Short, zero: Self::Short, low: Self::Short, high: Self::Short) -> Self::Short;
    fn sub_short(x: Self::Short, y: Self::Short) -> Self::Short;
    /// The first `n` bytes of a pair, or of one vector (`VECTORS`), each from 0 to 255, and `rest` beyond.
    /// # Safety
    /// As for `splat`, and `n` bytes can be read.
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, n: usize, rest: u8) -> Self::Short;
    /// The first `n` numbers of a pair, or of one vector, as bytes; each is from 0 to 255.
    /// # Safety
    /// As for `splat`, and `n` bytes can be written.
    unsafe fn store_bytes<const VECTORS: usize>(x: Self::Short, to: *mut u8, n: usize);
}

/// The channel, from a block's first, of a lane of a pair of vectors of `n` lanes.
pub(crate) fn channel(lane: usize, n: usize) -> usize {
    let (vector, lane) = (lane / n, lane % n);
    lane / 4 * 8 + vector * 4 + lane % 4
}

/// Where among the numbers of a pair those of a single vector lie.
pub(crate) fn place_of_one(lane: usize) -> usize {
    channel(lane, usize::MAX)
}

/// The first `n` bytes at `from`, with `rest` beyond: `W` of a pair, or half as many of one vector.
///
/// # Safety
/// They can be read.
#[inline(always)]
pub(super) unsafe fn spread<const VECTORS: usize, const W: usize>(from: *const u8, n: usize, rest: u8) -> [u8; W] {
    let mut bytes = [rest; W];
    // SAFETY: the caller's, and no more than the array.
    unsafe {
        if VECTORS == 2 {
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), n.min(W));
        } else {
            for lane in 0..n.min(W / 2) {
                bytes[place_of_one(lane)] = *from.add(lane);
            }
        }
    }
    bytes
}

/// The inverse of [`spread`].
///
/// # Safety
/// `n` bytes can be written.
#[inline(always)]
pub(super) unsafe fn gather<const VECTORS: usize, const W: usize>(bytes: [u8; W], to: *mut u8, n: usize) {
    // SAFETY: the caller's, and no more than the array.
    unsafe {
        if VECTORS == 2 {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n.min(W));
        } else {
            for lane in 0..n.min(W / 2) {
                *to.add(lane) = bytes[place_of_one(lane)];
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

// SAFETY of what follows: no instruction set is asked for, and pointers are the caller's, read and written without alignment.
impl ByteLanes for Portable {
    const N: usize = 8;
    const GROUP: usize = 2;
    type Cell = i16;
    type Short = [i16; 16];
    type Factors = ([i32; 8], [i32; 8]);

    fn word(weights: impl Fn(usize) -> i8) -> i32 {
        word_of_halves(weights)
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
    fn paired(lanes: [Self; 2]) -> [Self; 2] {
        pair_of(|c| lanes[c / 8].0[c % 8]).map(Self)
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self; 2] {
        let word = |c| {
            let [top, bottom] = [rows[0], rows[1]].map(|row| i32::from(unsafe { *row.add(c) }));
            top | bottom << 16
        };
        pair_of(word).map(Self)
    }
    #[inline(always)]
    unsafe fn widen(from: *const u8, to: *mut i16) {
        unsafe { to.cast::<[i16; 16]>().write_unaligned(from.cast::<[u8; 16]>().read_unaligned().map(i16::from)) }
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
    fn times_above(self, other: Self) -> Self {
        self.zip(other, |x, y| (x >> 16) * (y >> 16))
    }
    #[inline(always)]
    fn left(self, bits: i32) -> Self {
        Self(self.0.map(|x| x << bits))
    }
    #[inline(always)]
    fn factors(q: Self, shift: Self) -> Self::Factors {
        (q.0, shift.0)
    }
    #[inline(always)]
    fn scale<const ABOVE: bool>(self, (q, shift): &Self::Factors) -> Self {
        Self(std::array::from_fn(|i| scaled::<ABOVE>(self.0[i], q[i], shift[i])))
    }
    #[inline(always)]
    unsafe fn splat_short(x: i16) -> [i16; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load_short(from: *const i16) -> [i16; 16] {
        unsafe { from.cast::<[i16; 16]>().read_unaligned() }
    }
    #[inline(always)]
    fn pack(pair: [Self; 2]) -> [i16; 16] {
        packed(&pair.map(|lanes| lanes.0))
    }
    #[inline(always)]
    fn unpack(short: [i16; 16]) -> [Self; 2] {
        pair_of(|c| i32::from(short[c]) << 16).map(Self)
    }
    #[inline(always)]
    fn clamp(x: [i16; 16], zero: [i16; 16], low: [i16; 16], high: [i16; 16]) -> [i16; 16] {
        std::array::from_fn(|i| x[i].saturating_add(zero[i]).min(high[i]).max(low[i]))
    }
    #[inline(always)]
    fn sub_short(x: [i16; 16], y: [i16; 16]) -> [i16; 16] {
        std::array::from_fn(|i| x[i].wrapping_sub(y[i]))
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, n: usize, rest: u8) -> [i16; 16] {
        unsafe { spread::<VECTORS, 16>(from, n, rest) }.map(i16::from)
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: [i16; 16], to: *mut u8, n: usize) {
        unsafe { gather::<VECTORS, 16>(x.map(|x| x as u8), to, n) }
    }
}

/// A pair's lanes, by channel.
#[inline(always)]
pub(super) fn pair_of<const N: usize>(of: impl Fn(usize) -> i32) -> [[i32; N]; 2] {
    [0, 1].map(|vector| std::array::from_fn(|lane| of(channel(vector * N + lane, N))))
}

/// The inverse of [`pair_of`], clamped.
#[inline(always)]
pub(super) fn packed<const N: usize, const W: usize>(pair: &[[i32; N]; 2]) -> [i16; W] {
    std::array::from_fn(|c| pair[c / 4 % 2][c / 8 * 4 + c % 4].clamp(i16::MIN.into(), i16::MAX.into()) as i16)
}

/// One lane of [`ByteLanes::scale`].
#[inline(always)]
pub(super) fn scaled<const ABOVE: bool>(x: i32, q: i32, shift: i32) -> i32 {
    let nudge = (1i64 << 31) + (1i64 << (31 + shift));
    let high = (((i64::from(x) * i64::from(q)) + nudge) >> 32) as i32;
    let below = if ABOVE { 0 } else { x >> 31 };
    high.wrapping_add(x).wrapping_add(below) >> shift
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

            // SAFETY of all three: the caller's, and the features are those of the lanes.
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

    pub fn name(self) -> &'static str {
        match self {
            Self::Vnni => "AVX-512 VNNI",
            Self::Vnni256 => "AVX-VNNI",
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
            #[cfg(test)]
            Self::Quads => "quads",
        }
    }

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
