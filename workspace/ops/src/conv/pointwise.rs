//! 1x1 convolutions of stride 1: a matrix product over pixels.
//!
//! A tile of pixels is loaded into scratch, batch norm and activation applied, and stays in the second cache while every
//! column of weights passes over it. The tile is that of the sums ([`TILE`]), so that what is fused finds its pixels there.

use super::{Backward, Form, Forward, add_in_order, tile_pitch};
use crate::ConvShape;
use crate::gemm::{self, Left, Out, Right, gemm};
use crate::lanes::kernel;
use crate::map::{ChunkSink, SinkWalk, TILE, load_gradient, load_operand};

// SAFETY of both packings: the caller's, as `Form` says.
pub(super) static FORM: Form = Form {
    packed_len: |shape| (gemm::packed_len(shape.input, shape.output), gemm::packed_len(shape.output, shape.input)),
    pack_forward: |isa, shape, weights, to| unsafe { gemm::pack_columns(isa, weights, shape.input, shape.output, to) },
    pack_backward: |isa, shape, weights, to| unsafe { gemm::pack_rows(isa, weights, shape.output, shape.input, to) },
    scratch: |shape| {
        let (input, output) = (tile_pitch(shape.input), tile_pitch(shape.output));
        (TILE * input, TILE * (input + output))
    },
    forward,
    backward,
    share_len: ConvShape::weight_len,
    add_shares: |runtime, _, shares, to| add_in_order(runtime, shares, to),
};

kernel! {
    /// # Safety
    /// As for [`Form::forward`].
    unsafe fn forward<V>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        let Forward { shape, x, packed, y, .. } = call;
        let (input, output) = (shape.input, shape.output);
        let area = shape.out_area();
        let images = call.images(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let (tile, pitch) = (scratch.as_mut_ptr(), tile_pitch(input));
        let mut pixel = 0;
        // SAFETY: the scratch is one tile; pixels are the chunk's own.
        unsafe {
            let mut walk = call.walk(chunk);
            while pixel < pixels {
                let rows = TILE.min(pixels - pixel);
                load_operand::<V>(x, start + pixel, rows, input, tile, pitch);
                let a = Left { data: tile, row: pitch, step: 1 };
                let c = Out { data: y.at((start + pixel) * output), stride: output, accumulate: false };
                gemm::<V>(rows, output, input, a, Right::Packed(packed.as_ptr()), c);
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
        let (input, output) = (shape.input, shape.output);
        let area = shape.out_area();
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let (x_pitch, g_pitch) = (tile_pitch(input), tile_pitch(output));
        let (x_tile, g_tile) = scratch.split_at_mut(TILE * x_pitch);
        let (x_tile, g_tile) = (x_tile.as_mut_ptr(), g_tile.as_mut_ptr());
        let mut walk = sink.map(|sink| (SinkWalk::new(sink, input, start), sink.out));
        let mut pixel = 0;
        // SAFETY: the scratch is two tiles; pixels are the chunk's own, and so is the share.
        unsafe {
            while pixel < pixels {
                let rows = TILE.min(pixels - pixel);
                load_operand::<V>(x, start + pixel, rows, input, x_tile, x_pitch);
                load_gradient::<V>(gradient, start + pixel, rows, output, g_tile, g_pitch);
                // The weights' gradient: the sum runs over pixels, down the columns of the gradient's tile.
                let turned = Left { data: g_tile, row: 1, step: g_pitch };
                let to = Out { data: share, stride: input, accumulate: pixel > 0 };
                gemm::<V>(output, input, rows, turned, Right::Rows(x_tile, x_pitch), to);
                pixel += rows;
                if let Some((walk, out)) = &mut walk {
                    let a = Left { data: g_tile, row: g_pitch, step: 1 };
                    let c = Out { data: out.at((start + pixel - rows) * input), stride: input, accumulate: false };
                    gemm::<V>(rows, input, output, a, Right::Packed(packed.as_ptr()), c);
                    walk.advance::<V>(pixel, pixel == pixels);
                }
            }
        }
    }
}
