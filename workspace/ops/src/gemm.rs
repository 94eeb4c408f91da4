//! The matrix product that every convolution but the depthwise one is made of.
//!
//! `C[r, :] (+)= sum over k of A[r, k] * B[k, :]`, lanes along the columns. Each element of C is one chain of fused
//! multiply-adds in the order of k, whatever the tile: tiles split rows and columns, never the sum.
//!
//! B is packed so that its panel of a few vectors is one stream, read again for every tile of rows while it stays in the
//! first cache. A is read a float at a time, each spread over a vector, so that it may lie in either order.

use crate::lanes::{Lanes, kernel};

/// Vectors of a full panel of B: 8 x 3 accumulators fill AVX-512's 32 registers, 6 x 2 AVX2's 16. (4 x 3 would, too, and read
/// less; but with three vectors of B and two factors on their way there are 17, and the one that lies in memory is waited for
/// at every step: NOTES.md.)
pub(crate) const fn panel_vectors<V: Lanes>() -> usize {
    if V::N == 16 { 3 } else { 2 }
}

/// A, by strides: element (r, k) lies at `data + r * row + k * step`.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub data: *const f32,
    pub row: usize,
    pub step: usize,
}

/// B in one of two forms.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// Made by `pack`: panels of [`panel_vectors`] vectors, each `depth` rows, zeros beyond the last column.
    Packed(*const f32),
    /// Rows `stride` apart, each readable up to a whole number of vectors.
    Rows(*const f32, usize),
}

/// C, row-major, rows `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub data: *mut f32,
    pub stride: usize,
    /// Add to what is there, or overwrite it.
    pub accumulate: bool,
}

/// Floats that a packed matrix takes, at most, on any instruction set.
pub(crate) const fn packed_len(depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(16)
}

/// Copies a matrix, element (k, j) at `from + k * step + j * column`, to panels of up to [`panel_vectors`] vectors, each
/// `depth` rows, with zeros beyond the last column.
///
/// # Safety
/// The matrix can be read, and `to` has room for [`packed_len`] floats.
#[inline(always)]
unsafe fn pack<V: Lanes>(from: *const f32, step: usize, column: usize, depth: usize, columns: usize, to: *mut f32) {
    // SAFETY: the caller's; a panel is at most the columns left, rounded up to a vector.
    unsafe {
        let mut to = to;
        let mut start = 0;
        while start < columns {
            let width = (panel_vectors::<V>() * V::N).min((columns - start).next_multiple_of(V::N));
            let filled = width.min(columns - start);
            for k in 0..depth {
                let row = from.add(k * step + start * column);
                for j in 0..filled {
                    *to.add(j) = *row.add(j * column);
                }
                for j in filled..width {
                    *to.add(j) = 0.0;
                }
                to = to.add(width);
            }
            start += width;
        }
    }
}

kernel! {
    /// Packs the transpose of `rows` [columns, depth]: row-major weights [output, input] for the forward pass.
    ///
    /// # Safety
    /// `rows` are `columns * depth` floats, `to` is [`packed_len`] long.
    pub(crate) unsafe fn pack_columns<V>(rows: &[f32], depth: usize, columns: usize, to: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { pack::<V>(rows.as_ptr(), 1, depth, depth, columns, to.as_mut_ptr()) }
    }
}

kernel! {
    /// Packs `rows` [depth, columns] as they are.
    ///
    /// # Safety
    /// As for `pack_columns`.
    pub(crate) unsafe fn pack_rows<V>(rows: &[f32], depth: usize, columns: usize, to: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { pack::<V>(rows.as_ptr(), columns, 1, depth, columns, to.as_mut_ptr()) }
    }
}

/// See the head of this file.
///
/// # Safety
/// The CPU has the instructions of `V`. A holds `rows` by `depth` elements, B `depth` rows as its form says, packed for the
/// same instruction set; C has room for `rows` rows of `columns` floats and is neither of them.
#[inline(always)]
pub(crate) unsafe fn gemm<V: Lanes>(rows: usize, columns: usize, depth: usize, a: Left, b: Right, c: Out) {
    // SAFETY: the caller's.
    unsafe {
        let mut start = 0;
        let mut packed = 0;
        while start < columns {
            let left = columns - start;
            let vectors = left.div_ceil(V::N).min(panel_vectors::<V>());
            let last = (left - (vectors - 1) * V::N).min(V::N);
            let (b, step) = match b {
                Right::Packed(data) => (data.add(packed), vectors * V::N),
                Right::Rows(data, stride) => (data.add(start), stride),
            };
            let c = Out { data: c.data.add(start), ..c };
            match (vectors, last == V::N) {
                (3, true) => panel::<V, 3, false>(rows, depth, a, b, step, c, last),
                (3, false) => panel::<V, 3, true>(rows, depth, a, b, step, c, last),
                (2, true) => panel::<V, 2, false>(rows, depth, a, b, step, c, last),
                (2, false) => panel::<V, 2, true>(rows, depth, a, b, step, c, last),
                (_, true) => panel::<V, 1, false>(rows, depth, a, b, step, c, last),
                (_, false) => panel::<V, 1, true>(rows, depth, a, b, step, c, last),
            }
            packed += depth * vectors * V::N;
            start += vectors * V::N;
        }
    }
}

/// All rows of A by a panel of B, `NV` vectors of which the last has `last` lanes (`TAIL`: fewer than all). A tile is as tall
/// as registers allow: 8 rows on AVX-512's 32, 6 on AVX2's 16.
///
/// # Safety
/// As for [`gemm`].
#[inline(always)]
unsafe fn panel<V: Lanes, const NV: usize, const TAIL: bool>(
    rows: usize,
    depth: usize,
    a: Left,
    b: *const f32,
    step: usize,
    c: Out,
    last: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut row = 0;
        if V::N == 16 {
            while row + 8 <= rows {
                micro::<V, 8, NV, TAIL>(row, depth, a, b, step, c, last);
                row += 8;
            }
        } else {
            while row + 6 <= rows {
                micro::<V, 6, NV, TAIL>(row, depth, a, b, step, c, last);
                row += 6;
            }
        }
        while row + 4 <= rows {
            micro::<V, 4, NV, TAIL>(row, depth, a, b, step, c, last);
            row += 4;
        }
        while row < rows {
            micro::<V, 1, NV, TAIL>(row, depth, a, b, step, c, last);
            row += 1;
        }
    }
}

/// `MR` rows by `NV` vectors, held in registers over the whole sum.
///
/// # Safety
/// As for [`gemm`].
#[inline(always)]
unsafe fn micro<V: Lanes, const MR: usize, const NV: usize, const TAIL: bool>(
    row: usize,
    depth: usize,
    a: Left,
    b: *const f32,
    step: usize,
    c: Out,
    last: usize,
) {
    // SAFETY: the caller's; only the last vector of a row of C is cut.
    unsafe {
        let mut sums = [[V::splat(0.0); NV]; MR];
        if c.accumulate {
            for r in 0..MR {
                let c = c.data.add((row + r) * c.stride);
                for v in 0..NV {
                    let at = c.add(v * V::N);
                    sums[r][v] = if TAIL && v == NV - 1 { V::load_first(at, last) } else { V::load(at) };
                }
            }
        }
        let mut a_at = a.data.add(row * a.row);
        let mut b_at = b;
        for _ in 0..depth {
            let mut vectors = [V::splat(0.0); NV];
            for v in 0..NV {
                vectors[v] = V::load(b_at.add(v * V::N));
            }
            for r in 0..MR {
                let factor = V::splat(*a_at.add(r * a.row));
                for v in 0..NV {
                    sums[r][v] = vectors[v].fma(factor, sums[r][v]);
                }
            }
            a_at = a_at.add(a.step);
            b_at = b_at.add(step);
        }
        for r in 0..MR {
            let c = c.data.add((row + r) * c.stride);
            for v in 0..NV {
                let at = c.add(v * V::N);
                if TAIL && v == NV - 1 { sums[r][v].store_first(at, last) } else { sums[r][v].store(at) }
            }
        }
    }
}
