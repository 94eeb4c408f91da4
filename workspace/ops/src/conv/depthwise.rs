//! Depthwise convolutions: rows of pixels through a window.
//!
//! A lane is a channel, and each has a filter of its own, so that weights are packed [tap, channel]. Channels are padded to
//! whole vectors in scratch and in the packed weights, never in maps.
//!
//! The backward of stride 1 is the forward with the filter turned round: the gradient of pixel p sums over the outputs that
//! read it, of which tap k is the one at p - k. One window over the gradient then serves both the input and the weights.

use std::ops::Range;

use super::ring::Ring;
use super::rows::{convolve, correlate, gather};
use super::{Backward, Form, Forward, pitch};
use crate::ConvShape;
use crate::lanes::{Lanes, kernel};
use crate::map::{ChunkSink, SinkWalk, load_gradient, load_operand};
use crate::scratch::Shared;

pub(super) static FORM: Form = Form {
    packed_len: |shape| (taps_len(shape), taps_len(shape)),
    pack_forward: |_, shape, weights, to| taps_first(weights, shape, to, |tap| tap),
    pack_backward: |_, shape, weights, to| taps_first(weights, shape, to, |tap| turned(shape, tap)),
    scratch: |shape| {
        let ring = Ring::len(shape);
        let pixels = if shape.stride == 1 { shape.width } else { shape.out_area() };
        (ring, ring + pixels * pitch(shape.output))
    },
    forward,
    backward,
    share_len: taps_len,
    add_shares: |_, shape, shares, to| {
        let (taps, pitch) = (shape.kernel * shape.kernel, pitch(shape.output));
        for (at, sum) in to.iter_mut().enumerate() {
            let (c, tap) = (at / taps, at % taps);
            let place = turned(shape, tap) * pitch + c;
            *sum = shares.chunks_exact(taps * pitch).map(|share| share[place]).fold(0.0, |a, b| a + b);
        }
    },
};

/// Weights, or their gradient: [taps, pitch].
fn taps_len(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * pitch(shape.output)
}

/// The place of a tap where the filter is turned round, as it is for the backward of stride 1.
fn turned(shape: &ConvShape, tap: usize) -> usize {
    if shape.stride == 1 { shape.kernel * shape.kernel - 1 - tap } else { tap }
}

/// [channels, taps] to [taps, pitch], zeros beyond the last channel.
fn taps_first(weights: &[f32], shape: &ConvShape, to: &mut [f32], place: impl Fn(usize) -> usize) {
    let (taps, pitch) = (shape.kernel * shape.kernel, pitch(shape.output));
    to.fill(0.0);
    for (c, filter) in weights.chunks_exact(taps).enumerate() {
        for (tap, weight) in filter.iter().enumerate() {
            to[place(tap) * pitch + c] = *weight;
        }
    }
}

kernel! {
    /// # Safety
    /// As for [`Form::forward`].
    unsafe fn forward<V>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        // SAFETY: the caller's; `check_filter` lets no other kernel or stride pass.
        unsafe {
            match (call.shape.kernel, call.shape.stride) {
                (3, 1) => forward_of::<V, 3, 1>(call, chunk, scratch),
                (3, _) => forward_of::<V, 3, 2>(call, chunk, scratch),
                (_, 1) => forward_of::<V, 5, 1>(call, chunk, scratch),
                _ => forward_of::<V, 5, 2>(call, chunk, scratch),
            }
        }
    }
}

/// # Safety
/// As for [`Form::forward`], of a kernel `K` and a stride `S`.
#[inline(always)]
unsafe fn forward_of<V: Lanes, const K: usize, const S: usize>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
    let Forward { shape, x, packed: taps, y, .. } = call;
    let channels = shape.input;
    let pitch = pitch(channels);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let images = call.images(chunk);
    let start = images.start * out_height * out_width;
    let pixels = images.len() * out_height * out_width;
    let mut written = 0;
    // SAFETY: the scratch is one ring; pixels are the chunk's own.
    unsafe {
        let mut walk = call.walk(chunk);
        let mut ring = Ring::new(scratch.as_mut_ptr(), shape);
        for image in images {
            ring.restart();
            for oy in 0..out_height {
                while let Some((row, to)) = ring.wanted(oy * S) {
                    let first = (image * shape.height + row) * shape.width;
                    load_operand::<V>(x, first, shape.width, channels, to, pitch);
                }
                let rows = ring.window::<K>(oy * S);
                let to = y.at((start + written) * channels);
                convolve::<V, K, S>(&rows, taps.as_ptr(), pitch, channels, out_width, to);
                written += out_width;
                walk.advance::<V>(written, written == pixels);
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
        let shape = call.shape;
        let images = shape.chunk(chunk);
        let start = images.start * shape.height * shape.width;
        let sink = sink.map(|sink| (SinkWalk::new(sink, shape.input, start), sink.out));
        share.fill(0.0);
        let share = share.as_mut_ptr();
        let (ring, rest) = scratch.split_at_mut(Ring::len(shape));
        let rest = rest.as_mut_ptr();
        // SAFETY: the caller's; the scratch is a ring and more; `check_filter` lets no other kernel, stride or padding pass.
        unsafe {
            let ring = Ring::new(ring.as_mut_ptr(), shape);
            match (shape.kernel, shape.stride) {
                (3, 1) => same_backward::<V, 3>(call, images, share, sink, ring, rest),
                (_, 1) => same_backward::<V, 5>(call, images, share, sink, ring, rest),
                (3, _) => strided_backward::<V, 3, 2>(call, images, share, sink, ring, rest),
                _ => strided_backward::<V, 5, 2>(call, images, share, sink, ring, rest),
            }
        }
    }
}

/// Stride 1, as many rows out as in: one window over the gradient serves both the input and the weights. `share` is zero,
/// `row` has room for one row.
///
/// # Safety
/// As for [`Form::backward`], of a kernel `K`, stride 1 and a padding of `K / 2`; the images are the chunk's.
#[inline(always)]
unsafe fn same_backward<V: Lanes, const K: usize>(
    call: &Backward<'_>,
    images: Range<usize>,
    share: *mut f32,
    mut sink: Option<(SinkWalk<'_>, Shared<f32>)>,
    mut ring: Ring,
    row: *mut f32,
) {
    let Backward { shape, x, packed: turned, gradient } = call;
    let channels = shape.input;
    let pitch = pitch(channels);
    let (height, width) = (shape.height, shape.width);
    let pixels = images.len() * height * width;
    let mut written = 0;
    // SAFETY: pixels are the chunk's own, and so is the share.
    unsafe {
        for image in images {
            ring.restart();
            for y in 0..height {
                let first = (image * height + y) * width;
                while let Some((row, to)) = ring.wanted(y) {
                    load_gradient::<V>(gradient, (image * height + row) * width, width, channels, to, pitch);
                }
                let rows = ring.window::<K>(y);
                load_operand::<V>(x, first, width, channels, row, pitch);
                correlate::<V, K, 1>(&rows, row, pitch, channels, width, share);
                written += width;
                if let Some((walk, out)) = &mut sink {
                    convolve::<V, K, 1>(&rows, turned.as_ptr(), pitch, channels, width, out.at(first * channels));
                    walk.advance::<V>(written, written == pixels);
                }
            }
        }
    }
}

/// Stride 2: the weights by windows over the input; the input pixel by pixel, since which taps reach one depends on its
/// place. `share` is zero, `map` has room for an image's gradient.
///
/// # Safety
/// As for [`Form::backward`], of a kernel `K` and a stride `S`; the images are the chunk's.
#[inline(always)]
unsafe fn strided_backward<V: Lanes, const K: usize, const S: usize>(
    call: &Backward<'_>,
    images: Range<usize>,
    share: *mut f32,
    mut sink: Option<(SinkWalk<'_>, Shared<f32>)>,
    mut ring: Ring,
    map: *mut f32,
) {
    let Backward { shape, x, packed: taps, gradient } = call;
    let channels = shape.input;
    let pitch = pitch(channels);
    let (height, width) = (shape.height, shape.width);
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let pixels = images.len() * height * width;
    let mut written = 0;
    // SAFETY: pixels are the chunk's own, and so is the share.
    unsafe {
        for image in images {
            let area = out_height * out_width;
            load_gradient::<V>(gradient, image * area, area, channels, map, pitch);
            ring.restart();
            for oy in 0..out_height {
                while let Some((row, to)) = ring.wanted(oy * S) {
                    load_operand::<V>(x, (image * height + row) * width, width, channels, to, pitch);
                }
                let rows = ring.window::<K>(oy * S);
                correlate::<V, K, S>(&rows, map.add(oy * out_width * pitch), pitch, channels, out_width, share);
            }
            let Some((walk, out)) = &mut sink else { continue };
            for iy in 0..height {
                for ix in 0..width {
                    // Room for every tap of the largest kernel.
                    let mut terms = [(std::ptr::null(), std::ptr::null()); 25];
                    let mut count = 0;
                    for ky in 0..K {
                        let Some(oy) = output_of(iy + shape.above(), ky, S, out_height) else { continue };
                        for kx in 0..K {
                            let Some(ox) = output_of(ix + shape.left(), kx, S, out_width) else { continue };
                            let value = map.add((oy * out_width + ox) * pitch).cast_const();
                            terms[count] = (value, taps.as_ptr().add((ky * K + kx) * pitch));
                            count += 1;
                        }
                    }
                    let to = out.at(((image * height + iy) * width + ix) * channels);
                    gather::<V>(&terms[..count], channels, to);
                }
                written += width;
                walk.advance::<V>(written, written == pixels);
            }
        }
    }
}

/// The output whose tap `k` reads the padded place `at`.
#[inline(always)]
fn output_of(at: usize, k: usize, stride: usize, outputs: usize) -> Option<usize> {
    let offset = at.checked_sub(k)?;
    (offset % stride == 0 && offset / stride < outputs).then_some(offset / stride)
}
