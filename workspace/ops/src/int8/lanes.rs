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
    /// `4 * N` bytes.
    type Bytes: Copy;

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
    /// Products of the upper halves of lanes, which are signed; their lower halves are 0.
    fn times_above(self, other: Self) -> Self;

    /// Factors of a vector's lanes: see [`super::factors::Factors`]. What is made for `ABOVE` serves `scale` for `ABOVE`.
    type Factors: Copy;
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> Self::Factors;
    /// What [`super::Multiplier::apply`] makes of each lane; where `ABOVE`, only of those above 0: what others become is then
    /// 0 or less.
    fn scale<const ABOVE: bool>(self, by: &Self::Factors) -> Self;

    /// Whether there is [`ByteLanes::round`]: it asks for an instruction that rounds towards zero, else it is not called.
    const ROUNDS: bool = false;
    /// As `scale`, by a factor, its rest (left out where not `FINE`) and a start of [`super::factors::Reals`].
    #[inline(always)]
    fn round<const ABOVE: bool, const FINE: bool>(self, _by: &[Self; 3]) -> Self {
        self
    }
    /// As `round`, but the whole numbers are f32.
    #[inline(always)]
    fn round_real<const ABOVE: bool, const FINE: bool>(self, _by: &[Self; 3]) -> Self {
        self
    }

    /// Lanes as f32, which are held by their bits; those that follow are such already.
    fn real(self) -> Self;
    /// `x.min(high).max(low)`
    fn clamp_real(self, low: Self, high: Self) -> Self;
    /// `self * by + more`, rounded once.
    fn times_plus(self, by: Self, more: Self) -> Self;
    /// `to` in the lanes that are `from`.
    fn replaced(self, from: Self, to: Self) -> Self;
    /// The nearest whole numbers as i32, the even one of two. What does not fit becomes anything.
    fn nearest(self) -> Self;

    /// # Safety
    /// As for `splat`.
    unsafe fn splat_short(x: i16) -> Self::Short;
    /// Lanes of a pair, clamped to 16 bits.
    fn pack(pair: [Self; 2]) -> Self::Short;
    /// The upper halves of the lanes of a pair; their lower halves are 0.
    fn unpack(short: Self::Short) -> [Self; 2];
    /// The sum, clamped to 16 bits.
    fn add_short(x: Self::Short, y: Self::Short) -> Self::Short;
    fn sub_short(x: Self::Short, y: Self::Short) -> Self::Short;

    /// Two shorts clamped to bytes: of two pixels of a pair each, or (`VECTORS` is 1) of four of one vector, two in each short
    /// as if they were a pair. Bytes are in the order of pixels, then channels.
    fn bytes<const VECTORS: usize>(shorts: [Self::Short; 2]) -> Self::Bytes;
    /// The inverse of `bytes`.
    fn shorts<const VECTORS: usize>(bytes: Self::Bytes) -> [Self::Short; 2];
    /// # Safety
    /// As for `splat`.
    unsafe fn splat_bytes(x: u8) -> Self::Bytes;
    fn at_most(x: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// `x.min(high).max(low)`
    fn clamp_bytes(x: Self::Bytes, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// `n` channels, and `rest` beyond, of each of `count` pixels that lie `pitch` bytes apart; of those beyond them, anything.
    /// # Safety
    /// As for `splat`; `count` is from 1 on, and the bytes can be read.
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> Self::Bytes;
    /// What `load_bytes` would read.
    /// # Safety
    /// As for `splat`, and the bytes can be written.
    unsafe fn store_bytes<const VECTORS: usize>(x: Self::Bytes, to: *mut u8, span: Span);
}

/// Where the bytes of four vectors lie in a map.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// Bytes from a pixel to the next.
    pub pitch: usize,
    /// Pixels.
    pub count: usize,
    /// Channels, from the first of a block.
    pub n: usize,
}

/// The channel, from a block's first, of a lane of a pair of vectors of `n` lanes.
pub(crate) fn channel(lane: usize, n: usize) -> usize {
    let (vector, lane) = (lane / n, lane % n);
    lane / 4 * 8 + vector * 4 + lane % 4
}

/// Where byte `at` of [`ByteLanes::bytes`] lies among shorts of `W` numbers.
#[inline(always)]
fn place<const VECTORS: usize, const W: usize>(at: usize) -> (usize, usize) {
    if VECTORS == 2 {
        return (at / W, at % W);
    }
    // A pair, of which the first vector is one pixel and the second the next.
    let (pixel, lane) = (at / (W / 2), at % (W / 2));
    (pixel / 2, lane / 4 * 8 + pixel % 2 * 4 + lane % 4)
}

/// [`ByteLanes::bytes`], of arrays.
#[inline(always)]
pub(super) fn bytes_of<const VECTORS: usize, const W: usize, const B: usize>(shorts: [[i16; W]; 2]) -> [u8; B] {
    std::array::from_fn(|at| {
        let (short, place) = place::<VECTORS, W>(at);
        shorts[short][place].clamp(0, 255) as u8
    })
}

/// [`ByteLanes::shorts`], of arrays.
#[inline(always)]
pub(super) fn shorts_of<const VECTORS: usize, const W: usize, const B: usize>(bytes: [u8; B]) -> [[i16; W]; 2] {
    let mut shorts = [[0; W]; 2];
    for (at, byte) in bytes.into_iter().enumerate() {
        let (short, place) = place::<VECTORS, W>(at);
        shorts[short][place] = byte.into();
    }
    shorts
}

/// [`ByteLanes::load_bytes`], into an array.
///
/// # Safety
/// As for that.
#[inline(always)]
pub(super) unsafe fn gather<const VECTORS: usize, const B: usize>(from: *const u8, span: Span, rest: u8) -> [u8; B] {
    let of_pixel = B / 4 * VECTORS;
    let mut bytes = [rest; B];
    for pixel in 0..span.count.min(4 / VECTORS) {
        // SAFETY: the caller's, and no more than the array's part for a pixel.
        unsafe {
            let to = bytes.as_mut_ptr().add(pixel * of_pixel);
            std::ptr::copy_nonoverlapping(from.add(pixel * span.pitch), to, span.n.min(of_pixel));
        }
    }
    bytes
}

/// The inverse of [`gather`].
///
/// # Safety
/// As for [`ByteLanes::store_bytes`].
#[inline(always)]
pub(super) unsafe fn scatter<const VECTORS: usize, const B: usize>(bytes: [u8; B], to: *mut u8, span: Span) {
    let of_pixel = B / 4 * VECTORS;
    for pixel in 0..span.count.min(4 / VECTORS) {
        // SAFETY: as in `gather`.
        unsafe {
            let from = bytes.as_ptr().add(pixel * of_pixel);
            std::ptr::copy_nonoverlapping(from, to.add(pixel * span.pitch), span.n.min(of_pixel));
        }
    }
}

/// The reference: plain Rust, on every architecture.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(super) [i32; 8]);

impl Portable {
    #[inline(always)]
    fn zip_with(self, other: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

/// An f32 of these bits.
#[inline(always)]
pub(super) fn float(bits: i32) -> f32 {
    f32::from_bits(bits.cast_unsigned())
}

/// The inverse of [`float`].
#[inline(always)]
pub(super) fn bits(x: f32) -> i32 {
    x.to_bits().cast_signed()
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
    type Bytes = [u8; 32];
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
        let products = x.zip_with(w, |x, w| {
            let ([x0, x1], [w0, w1]) = (halves(x), halves(w));
            (x0 * w0).wrapping_add(x1 * w1)
        });
        self.zip_with(products, i32::wrapping_add)
    }
    #[inline(always)]
    fn times_above(self, other: Self) -> Self {
        self.zip_with(other, |x, y| (x >> 16) * (y >> 16))
    }
    #[inline(always)]
    fn real(self) -> Self {
        Self(self.0.map(|x| bits(x as f32)))
    }
    #[inline(always)]
    fn clamp_real(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|i| bits(float(self.0[i]).min(float(high.0[i])).max(float(low.0[i])))))
    }
    #[inline(always)]
    fn times_plus(self, by: Self, more: Self) -> Self {
        Self(std::array::from_fn(|i| bits(float(self.0[i]).mul_add(float(by.0[i]), float(more.0[i])))))
    }
    #[inline(always)]
    fn replaced(self, from: Self, to: Self) -> Self {
        Self(std::array::from_fn(|i| if float(self.0[i]) == float(from.0[i]) { to.0[i] } else { self.0[i] }))
    }
    #[inline(always)]
    fn nearest(self) -> Self {
        Self(self.0.map(|x| float(x).round_ties_even() as i32))
    }
    #[inline(always)]
    fn factors<const ABOVE: bool>(q: Self, shift: Self) -> Self::Factors {
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
    fn pack(pair: [Self; 2]) -> [i16; 16] {
        packed(&pair.map(|lanes| lanes.0))
    }
    #[inline(always)]
    fn unpack(short: [i16; 16]) -> [Self; 2] {
        pair_of(|c| i32::from(short[c]) << 16).map(Self)
    }
    #[inline(always)]
    fn add_short(x: [i16; 16], y: [i16; 16]) -> [i16; 16] {
        std::array::from_fn(|i| x[i].saturating_add(y[i]))
    }
    #[inline(always)]
    fn sub_short(x: [i16; 16], y: [i16; 16]) -> [i16; 16] {
        std::array::from_fn(|i| x[i].wrapping_sub(y[i]))
    }
    #[inline(always)]
    fn bytes<const VECTORS: usize>(shorts: [[i16; 16]; 2]) -> [u8; 32] {
        bytes_of::<VECTORS, 16, 32>(shorts)
    }
    #[inline(always)]
    fn shorts<const VECTORS: usize>(bytes: [u8; 32]) -> [[i16; 16]; 2] {
        shorts_of::<VECTORS, 16, 32>(bytes)
    }
    #[inline(always)]
    unsafe fn splat_bytes(x: u8) -> [u8; 32] {
        [x; 32]
    }
    #[inline(always)]
    fn at_most(x: [u8; 32], high: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| x[i].min(high[i]))
    }
    #[inline(always)]
    fn clamp_bytes(x: [u8; 32], low: [u8; 32], high: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| x[i].min(high[i]).max(low[i]))
    }
    #[inline(always)]
    unsafe fn load_bytes<const VECTORS: usize>(from: *const u8, span: Span, rest: u8) -> [u8; 32] {
        unsafe { gather::<VECTORS, 32>(from, span, rest) }
    }
    #[inline(always)]
    unsafe fn store_bytes<const VECTORS: usize>(x: [u8; 32], to: *mut u8, span: Span) {
        unsafe { scatter::<VECTORS, 32>(x, to, span) }
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
    let nudge = (1i64 << 30) + (1i64 << (30 + shift));
    let below = if ABOVE || x >= 0 { 0 } else { 1i64 << 31 };
    ((i64::from(x) * i64::from(q) + nudge - below) >> (31 + shift)) as i32
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, Vnni256};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Vnni;

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
