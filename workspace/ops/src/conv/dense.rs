//! Convolutions of any kernel over all channels: patches of the input as rows of a matrix product.

use super::{Backward, ChunkSink, Form, Forward, tile_pitch};
use crate::gemm::{self, Left, Out, Right, gemm};
use crate::lanes::{Lanes, kernel};
use crate::map::{MomentWalk, Operand, SinkWalk, TILE, load_gradient};
use crate::scratch::Shared;
use crate::{ConvShape, Isa, Runtime};

pub(super) struct Dense;

/// Elements that one output reads.
fn depth(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * shape.input
}

impl Form for Dense {
    fn packed(&self, shape: &ConvShape) -> (usize, usize) {
        (gemm::packed_len(depth(shape), shape.output), gemm::packed_len(shape.output, depth(shape)))
    }

    fn pack_forward(&self, isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        unsafe { gemm::pack_columns(isa, &dense_rows(shape, weights), depth(shape), shape.output, to) };
    }

    fn pack_backward(&self, isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        unsafe { gemm::pack_rows(isa, &dense_rows(shape, weights), shape.output, depth(shape), to) };
    }

    fn scratch(&self, shape: &ConvShape) -> (usize, usize) {
        let (patch, output) = (tile_pitch(depth(shape)), tile_pitch(shape.output));
        (TILE * patch, TILE * (2 * patch + output))
    }

    unsafe fn forward(&self, isa: Isa, call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        unsafe { forward(isa, call, chunk, scratch) }
    }

    unsafe fn backward(
        &self,
        isa: Isa,
        call: &Backward<'_>,
        chunk: usize,
        share: &mut [f32],
        sink: ChunkSink<'_>,
        scratch: &mut [f32],
    ) {
        unsafe { backward(isa, call, chunk, share, sink, scratch) }
    }

    fn share_len(&self, shape: &ConvShape) -> usize {
        shape.weight_len()
    }

    fn add_shares(&self, _runtime: &Runtime, shape: &ConvShape, shares: &[f32], to: &mut [f32]) {
        let (taps, input, len) = (shape.kernel * shape.kernel, shape.input, to.len());
        for (at, sum) in to.iter_mut().enumerate() {
            let (o, i, tap) = (at / (taps * input), at / taps % input, at % taps);
            let place = (o * taps + tap) * input + i;
            *sum = shares.chunks_exact(len).map(|share| share[place]).fold(0.0, |a, b| a + b);
        }
    }
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
    fn forward<V>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        let Forward { shape, x, packed, y, .. } = call;
        let totals = call.totals(chunk);
        let (depth, output) = (depth(shape), shape.output);
        let area = shape.out_height() * shape.out_width();
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let mut walk = totals.map(|totals| MomentWalk::new(y.at(start * output), output, totals));
        let pitch = tile_pitch(depth);
        let mut pixel = 0;
        while pixel < pixels {
            let rows = TILE.min(pixels - pixel);
            load_patches::<V>(shape, x, start + pixel, rows, scratch.as_mut_ptr(), pitch);
            let a = Left { data: scratch.as_ptr(), row: pitch, step: 1 };
            let c = Out { data: y.at((start + pixel) * output), stride: output, accumulate: false };
            gemm::<V>(rows, output, depth, a, Right::Packed(packed.as_ptr()), c);
            pixel += rows;
            if let Some(walk) = &mut walk {
                walk.advance::<V>(pixel, pixel == pixels);
            }
        }
    }
}

kernel! {
    fn backward<V>(
        call: &Backward<'_>, chunk: usize, share: &mut [f32], sink: ChunkSink<'_>, scratch: &mut [f32],
    ) {
        let Backward { shape, x, packed, gradient, .. } = call;
        let share = share.as_mut_ptr();
        let (input, output, depth) = (shape.input, shape.output, depth(shape));
        let (area, out_area) = (shape.height * shape.width, shape.out_height() * shape.out_width());
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * out_area, images.len() * out_area);
        let (x_pitch, g_pitch) = (tile_pitch(depth), tile_pitch(output));
        let (x_tile, rest) = scratch.split_at_mut(TILE * x_pitch);
        let (p_tile, g_tile) = rest.split_at_mut(TILE * x_pitch);
        let (x_tile, p_tile, g_tile) = (x_tile.as_mut_ptr(), p_tile.as_mut_ptr(), g_tile.as_mut_ptr());
        let first = images.start * area;
        if let Some((_, out, _)) = &sink {
            std::ptr::write_bytes(out.at(first * input), 0, images.len() * area * input);
        }
        let mut pixel = 0;
        while pixel < pixels {
            let rows = TILE.min(pixels - pixel);
            load_patches::<V>(shape, x, start + pixel, rows, x_tile, x_pitch);
            load_gradient::<V>(gradient, start + pixel, rows, output, g_tile, g_pitch);
            let turned = Left { data: g_tile, row: 1, step: g_pitch };
            let to = Out { data: share, stride: depth, accumulate: pixel > 0 };
            gemm::<V>(output, depth, rows, turned, Right::Rows(x_tile, x_pitch), to);
            if let Some((_, out, _)) = &sink {
                let a = Left { data: g_tile, row: g_pitch, step: 1 };
                let c = Out { data: p_tile, stride: x_pitch, accumulate: false };
                gemm::<V>(rows, depth, output, a, Right::Packed(packed.as_ptr()), c);
                add_patches::<V>(shape, p_tile, x_pitch, start + pixel, rows, *out);
            }
            pixel += rows;
        }
        if let Some((part, out, totals)) = sink {
            SinkWalk::new(part, out, input, first, totals).advance::<V>(images.len() * area, true);
        }
    }
}

/// Fills `rows` rows of a tile with what outputs `first..` of the whole batch read: [tap, input] each.
#[inline(always)]
unsafe fn load_patches<V: Lanes>(
    shape: &ConvShape,
    x: &Operand<'_>,
    first: usize,
    rows: usize,
    to: *mut f32,
    tile: usize,
) {
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let input = shape.input;
    // A tap of few channels is written as a whole vector: from the last tap to the first, so that what spills
    // over is overwritten; the tile's rows leave room behind the last one.
    for row in 0..rows {
        let at = first + row;
        let (image, oy, ox) = (at / (out_height * out_width), at / out_width % out_height, at % out_width);
        unsafe {
            let to = to.add(row * tile);
            for tap in 0..shape.kernel * shape.kernel {
                let (iy, ix) = (oy * shape.stride + tap / shape.kernel, ox * shape.stride + tap % shape.kernel);
                let to = to.add(tap * input);
                let inside = (shape.padding..shape.height + shape.padding).contains(&iy)
                    && (shape.padding..shape.width + shape.padding).contains(&ix);
                if inside {
                    let pixel = (image * shape.height + iy - shape.padding) * shape.width + ix - shape.padding;
                    copy_pixel::<V>(x, pixel, input, to);
                } else {
                    for i in 0..input {
                        *to.add(i) = 0.0;
                    }
                }
            }
        }
    }
}

/// One pixel of an operand, no float beyond its channels.
#[inline(always)]
unsafe fn copy_pixel<V: Lanes>(x: &Operand<'_>, pixel: usize, channels: usize, to: *mut f32) {
    unsafe {
        let from = x.data.as_ptr().add(pixel * channels);
        let mut c = 0;
        if channels < 4 && x.affine.is_none() {
            while c < channels {
                *to.add(c) = *from.add(c);
                c += 1;
            }
            return;
        }
        while c < channels {
            let n = (channels - c).min(V::N);
            let mut value = V::load_first(from.add(c), n);
            if let Some(affine) = &x.affine {
                let scale = V::load_first(affine.scale.as_ptr().add(c), n);
                let shift = V::load_first(affine.shift.as_ptr().add(c), n);
                value = V::splat(affine.high).min(V::splat(affine.low).max(value.fma(scale, shift)));
            }
            value.store_first(to.add(c), n);
            c += V::N;
        }
    }
}

/// The reverse of [`load_patches`]: adds each tap's gradient to the pixel that it read.
#[inline(always)]
unsafe fn add_patches<V: Lanes>(
    shape: &ConvShape,
    from: *const f32,
    tile: usize,
    first: usize,
    rows: usize,
    out: Shared<f32>,
) {
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let input = shape.input;
    for row in 0..rows {
        let at = first + row;
        let (image, oy, ox) = (at / (out_height * out_width), at / out_width % out_height, at % out_width);
        for tap in 0..shape.kernel * shape.kernel {
            let (iy, ix) = (oy * shape.stride + tap / shape.kernel, ox * shape.stride + tap % shape.kernel);
            let inside = (shape.padding..shape.height + shape.padding).contains(&iy)
                && (shape.padding..shape.width + shape.padding).contains(&ix);
            if !inside {
                continue;
            }
            let pixel = (image * shape.height + iy - shape.padding) * shape.width + ix - shape.padding;
            unsafe {
                let from = from.add(row * tile + tap * input);
                let to = out.at(pixel * input);
                let mut c = 0;
                while c < input {
                    let n = (input - c).min(V::N);
                    let sum = V::load_first(to.add(c), n).add(V::load_first(from.add(c), n));
                    sum.store_first(to.add(c), n);
                    c += V::N;
                }
            }
        }
    }
}
