//! Convolutions of any kernel over all channels: patches of the input as rows of a matrix product.
//!
//! As a 1x1 convolution, but a row of the tile is the patch that one output reads. A patch's taps follow each other
//! without a gap, [tap, input], so that the sum over them is one loop.

use super::{Backward, Form, Forward, tile_pitch};
use crate::ConvShape;
use crate::gemm::{self, Left, Out, Right, gemm};
use crate::lanes::{Lanes, kernel};
use crate::map::{ChunkSink, Operand, SinkWalk, TILE, load_exactly, load_gradient};
use crate::scratch::Shared;

// SAFETY of both packings: the caller's, as `Form` says; rows are as long as the weights.
pub(super) static FORM: Form = Form {
    packed_len: |shape| (gemm::packed_len(depth(shape), shape.output), gemm::packed_len(shape.output, depth(shape))),
    pack_forward: |isa, shape, weights, to| unsafe {
        gemm::pack_columns(isa, &dense_rows(shape, weights), depth(shape), shape.output, to);
    },
    pack_backward: |isa, shape, weights, to| unsafe {
        gemm::pack_rows(isa, &dense_rows(shape, weights), shape.output, depth(shape), to);
    },
    scratch: |shape| {
        let (patch, output) = (tile_pitch(depth(shape)), tile_pitch(shape.output));
        (TILE * patch, TILE * (2 * patch + output))
    },
    forward,
    backward,
    share_len: ConvShape::weight_len,
    add_shares: |_, shape, shares, to| {
        let (taps, input, len) = (shape.kernel * shape.kernel, shape.input, to.len());
        for (at, sum) in to.iter_mut().enumerate() {
            let (o, i, tap) = (at / (taps * input), at / taps % input, at % taps);
            let place = (o * taps + tap) * input + i;
            *sum = shares.chunks_exact(len).map(|share| share[place]).fold(0.0, |a, b| a + b);
        }
    },
};

/// Elements that one output reads.
fn depth(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * shape.input
}

/// OIHW to [output, tap, input], the order in which a tile holds the input.
fn dense_rows(shape: &ConvShape, weights: &[f32]) -> Vec<f32> {
    let (taps, input) = (shape.kernel * shape.kernel, shape.input);
    let mut rows = vec![0.0; weights.len()];
    for (row, filter) in rows.chunks_exact_mut(taps * input).zip(weights.chunks_exact(taps * input)) {
        for tap in 0..taps {
            for i in 0..input {
                row[tap * input + i] = filter[i * taps + tap];
            }
        }
    }
    rows
}

kernel! {
    /// # Safety
    /// As for [`Form::forward`].
    unsafe fn forward<V>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        let Forward { shape, x, packed, y, .. } = call;
        let (depth, output) = (depth(shape), shape.output);
        let area = shape.out_area();
        let images = call.images(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let (tile, pitch) = (scratch.as_mut_ptr(), tile_pitch(depth));
        let mut pixel = 0;
        // SAFETY: the scratch is one tile; pixels are the chunk's own.
        unsafe {
            let mut walk = call.walk(chunk);
            while pixel < pixels {
                let rows = TILE.min(pixels - pixel);
                load_patches::<V>(shape, x, start + pixel, rows, tile, pitch);
                let a = Left { data: tile, row: pitch, step: 1 };
                let c = Out { data: y.at((start + pixel) * output), stride: output, accumulate: false };
                gemm::<V>(rows, output, depth, a, Right::Packed(packed.as_ptr()), c);
                pixel += rows;
                walk.advance::<V>(pixel, pixel == pixels);
            }
        }
    }
}

kernel! {
    /// # Safety
    /// As for [`Form::backward`].
    unsafe fn backward<V>(
        call: &Backward<'_>, chunk: usize, share: &mut [f32], sink: Option<ChunkSink<'_>>, scratch: &mut [f32],
    ) {
        let Backward { shape, x, packed, gradient } = call;
        let share = share.as_mut_ptr();
        let (input, output, depth) = (shape.input, shape.output, depth(shape));
        let (area, out_area) = (shape.height * shape.width, shape.out_area());
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * out_area, images.len() * out_area);
        let (x_pitch, g_pitch) = (tile_pitch(depth), tile_pitch(output));
        let (x_tile, rest) = scratch.split_at_mut(TILE * x_pitch);
        let (p_tile, g_tile) = rest.split_at_mut(TILE * x_pitch);
        let (x_tile, p_tile, g_tile) = (x_tile.as_mut_ptr(), p_tile.as_mut_ptr(), g_tile.as_mut_ptr());
        let first = images.start * area;
        let mut pixel = 0;
        // SAFETY: the scratch is three tiles; pixels are the chunk's own, in and out, and so is the share.
        unsafe {
            // Patches overlap, so that their gradients are added to what is there.
            if let Some(sink) = &sink {
                std::ptr::write_bytes(sink.out.at(first * input), 0, images.len() * area * input);
            }
            while pixel < pixels {
                let rows = TILE.min(pixels - pixel);
                load_patches::<V>(shape, x, start + pixel, rows, x_tile, x_pitch);
                load_gradient::<V>(gradient, start + pixel, rows, output, g_tile, g_pitch);
                let turned = Left { data: g_tile, row: 1, step: g_pitch };
                let to = Out { data: share, stride: depth, accumulate: pixel > 0 };
                gemm::<V>(output, depth, rows, turned, Right::Rows(x_tile, x_pitch), to);
                if let Some(sink) = &sink {
                    let a = Left { data: g_tile, row: g_pitch, step: 1 };
                    let c = Out { data: p_tile, stride: x_pitch, accumulate: false };
                    gemm::<V>(rows, depth, output, a, Right::Packed(packed.as_ptr()), c);
                    add_patches::<V>(shape, p_tile, x_pitch, start + pixel, rows, sink.out);
                }
                pixel += rows;
            }
            if let Some(sink) = sink {
                SinkWalk::new(sink, input, first).advance::<V>(images.len() * area, true);
            }
        }
    }
}

/// The taps of output `at` of the whole batch that are not padding, by rows of the kernel: the first of a row, how many, and
/// the pixel that the first reads. A row's taps follow each other in the patch as their pixels do in the map.
///
/// Not a function that takes a closure: one that is not inlined would lose the instruction set.
#[inline(always)]
fn runs(shape: &ConvShape, at: usize) -> impl Iterator<Item = (usize, usize, usize)> + Clone {
    let ConvShape { height, width, kernel, stride, .. } = *shape;
    let (above, before) = (shape.above(), shape.left());
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let image = at / (out_height * out_width);
    let (top, left) = (at / out_width % out_height * stride, at % out_width * stride);
    let rows = above.saturating_sub(top)..kernel.min(height + above - top);
    let columns = before.saturating_sub(left)..kernel.min(width + before - left);
    rows.map(move |row| {
        let pixel = (image * height + top + row - above) * width + left + columns.start - before;
        (row * kernel + columns.start, columns.len(), pixel)
    })
}

/// Fills `rows` rows of a tile with what outputs `first..` of the whole batch read: [tap, input] each.
///
/// # Safety
/// The operand was checked and holds the maps; `to` has `rows` rows of `pitch` floats, each as long as a patch at least.
#[inline(always)]
unsafe fn load_patches<V: Lanes>(
    shape: &ConvShape,
    x: &Operand<'_>,
    first: usize,
    rows: usize,
    to: *mut f32,
    pitch: usize,
) {
    for row in 0..rows {
        let runs = runs(shape, first + row);
        let inside: usize = runs.clone().map(|(_, taps, _)| taps).sum();
        // SAFETY: a row of the tile, and places of taps in it; exactly their channels are written.
        unsafe {
            let to = to.add(row * pitch);
            if inside < shape.kernel * shape.kernel {
                std::ptr::write_bytes(to, 0, depth(shape));
            }
            for (tap, taps, pixel) in runs {
                load_exactly::<V>(x, pixel, taps, shape.input, to.add(tap * shape.input));
            }
        }
    }
}

/// The reverse of [`load_patches`]: adds each tap's gradient to the pixel that it read.
///
/// # Safety
/// As there; the pixels that the outputs read are this task's in `out`.
#[inline(always)]
unsafe fn add_patches<V: Lanes>(
    shape: &ConvShape,
    from: *const f32,
    pitch: usize,
    first: usize,
    rows: usize,
    out: Shared<f32>,
) {
    let input = shape.input;
    for row in 0..rows {
        for (tap, taps, pixel) in runs(shape, first + row) {
            let mut at = 0;
            while at < taps * input {
                let n = (taps * input - at).min(V::N);
                // SAFETY: channels of the taps in the row, and of their pixels.
                unsafe {
                    let (from, to) = (from.add(row * pitch + tap * input + at), out.at(pixel * input + at));
                    V::load_first(to, n).add(V::load_first(from, n)).store_first(to, n);
                }
                at += V::N;
            }
        }
    }
}
