//! Depthwise convolutions: rows of pixels through a window.

use super::ring::Ring;
use super::rows::{convolve, correlate, gather};
use super::{Backward, ChunkSink, Form, Forward, pitch};
use crate::lanes::{Lanes, kernel};
use crate::map::{MomentWalk, SinkWalk, load_gradient, load_operand};
use crate::{ConvShape, Isa, Runtime};

pub(super) struct Depthwise;

/// Weights, or their gradient: [taps, pitch].
fn taps_len(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * pitch(shape.output)
}

/// A convolution whose backward is one with the filter turned round.
fn is_same(shape: &ConvShape) -> bool {
    shape.stride == 1 && 2 * shape.padding + 1 == shape.kernel
}

impl Form for Depthwise {
    fn packed(&self, shape: &ConvShape) -> (usize, usize) {
        (taps_len(shape), taps_len(shape))
    }

    fn pack_forward(&self, _isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        taps_first(weights, shape, to, |tap| tap);
    }

    fn pack_backward(&self, _isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        let taps = shape.kernel * shape.kernel;
        if is_same(shape) {
            taps_first(weights, shape, to, |tap| taps - 1 - tap);
        } else {
            taps_first(weights, shape, to, |tap| tap);
        }
    }

    fn scratch(&self, shape: &ConvShape) -> (usize, usize) {
        let ring = Ring::len(shape);
        let pixels = if is_same(shape) { shape.width } else { shape.out_height() * shape.out_width() };
        (ring, ring + pixels * pitch(shape.output))
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
        taps_len(shape)
    }

    fn add_shares(&self, _runtime: &Runtime, shape: &ConvShape, shares: &[f32], to: &mut [f32]) {
        let (taps, pitch) = (shape.kernel * shape.kernel, pitch(shape.output));
        for (at, sum) in to.iter_mut().enumerate() {
            let (c, tap) = (at / taps, at % taps);
            let place = if is_same(shape) { taps - 1 - tap } else { tap } * pitch + c;
            *sum = shares.chunks_exact(taps * pitch).map(|share| share[place]).fold(0.0, |a, b| a + b);
        }
    }
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
    fn forward<V>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
        match (call.shape.kernel, call.shape.stride) {
            (3, 1) => forward_of::<V, 3, 1>(call, chunk, scratch),
            (3, _) => forward_of::<V, 3, 2>(call, chunk, scratch),
            (_, 1) => forward_of::<V, 5, 1>(call, chunk, scratch),
            _ => forward_of::<V, 5, 2>(call, chunk, scratch),
        }
    }
}

#[inline(always)]
unsafe fn forward_of<V: Lanes, const K: usize, const S: usize>(call: &Forward<'_>, chunk: usize, scratch: &mut [f32]) {
    unsafe {
        let Forward { shape, x, packed: taps, y, .. } = call;
        let totals = call.totals(chunk);
        let channels = shape.input;
        let pitch = pitch(channels);
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        let images = shape.chunk(chunk);
        let start = images.start * out_height * out_width;
        let mut walk = totals.map(|totals| MomentWalk::new(y.at(start * channels), channels, totals));
        let mut ring = Ring::new(scratch.as_mut_ptr(), K, shape.height, shape.width, shape.padding, pitch);
        let mut written = 0;
        for image in images.clone() {
            ring.restart();
            for oy in 0..out_height {
                let rows = ring.window::<K>(oy * S, |row, to| {
                    let first = (image * shape.height + row) * shape.width;
                    load_operand::<V>(x, first, shape.width, channels, to, pitch);
                });
                let to = y.at((start + written) * channels);
                convolve::<V, K, S>(&rows, taps.as_ptr(), pitch, channels, out_width, to);
                written += out_width;
                if let Some(walk) = &mut walk {
                    walk.advance::<V>(written, written == images.len() * out_height * out_width);
                }
            }
        }
    }
}

kernel! {
    fn backward<V>(
        call: &Backward<'_>, chunk: usize, share: &mut [f32], sink: ChunkSink<'_>, scratch: &mut [f32],
    ) {
        let share = share.as_mut_ptr();
        match (call.shape.kernel, call.shape.stride, is_same(call.shape)) {
            (3, 1, true) => same_backward::<V, 3>(call, chunk, share, sink, scratch),
            (_, 1, true) => same_backward::<V, 5>(call, chunk, share, sink, scratch),
            (3, 1, _) => strided_backward::<V, 3, 1>(call, chunk, share, sink, scratch),
            (_, 1, _) => strided_backward::<V, 5, 1>(call, chunk, share, sink, scratch),
            (3, ..) => strided_backward::<V, 3, 2>(call, chunk, share, sink, scratch),
            _ => strided_backward::<V, 5, 2>(call, chunk, share, sink, scratch),
        }
    }
}

/// Stride 1, as many rows out as in: one window over the gradient serves both the input and the weights.
#[inline(always)]
unsafe fn same_backward<V: Lanes, const K: usize>(
    call: &Backward<'_>,
    chunk: usize,
    share: *mut f32,
    sink: ChunkSink<'_>,
    scratch: &mut [f32],
) {
    unsafe {
        let Backward { shape, x, packed: turned, gradient, .. } = call;
        let channels = shape.input;
        let pitch = pitch(channels);
        let (height, width) = (shape.height, shape.width);
        let images = shape.chunk(chunk);
        let start = images.start * height * width;
        let pixels = images.len() * height * width;
        let (ring, row) = scratch.split_at_mut(Ring::len(shape));
        let row = row.as_mut_ptr();
        let mut ring = Ring::new(ring.as_mut_ptr(), K, height, width, shape.padding, pitch);
        std::ptr::write_bytes(share, 0, K * K * pitch);
        let mut walk = sink.map(|(part, out, totals)| (SinkWalk::new(part, out, channels, start, totals), out));
        let mut written = 0;
        for image in images {
            ring.restart();
            for y in 0..height {
                let first = (image * height + y) * width;
                let rows = ring.window::<K>(y, |row, to| {
                    load_gradient::<V>(gradient, (image * height + row) * width, width, channels, to, pitch);
                });
                load_operand::<V>(x, first, width, channels, row, pitch);
                correlate::<V, K, 1>(&rows, row, pitch, channels, width, share);
                written += width;
                if let Some((walk, out)) = &mut walk {
                    convolve::<V, K, 1>(&rows, turned.as_ptr(), pitch, channels, width, out.at(first * channels));
                    walk.advance::<V>(written, written == pixels);
                }
            }
        }
    }
}

/// Any other: the weights by windows over the input, the input pixel by pixel.
#[inline(always)]
unsafe fn strided_backward<V: Lanes, const K: usize, const S: usize>(
    call: &Backward<'_>,
    chunk: usize,
    share: *mut f32,
    sink: ChunkSink<'_>,
    scratch: &mut [f32],
) {
    unsafe {
        let Backward { shape, x, packed: taps, gradient, .. } = call;
        let channels = shape.input;
        let pitch = pitch(channels);
        let (height, width, padding) = (shape.height, shape.width, shape.padding);
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        let images = shape.chunk(chunk);
        let start = images.start * height * width;
        let (ring, maps) = scratch.split_at_mut(Ring::len(shape));
        let map = maps.as_mut_ptr();
        let mut ring = Ring::new(ring.as_mut_ptr(), K, height, width, padding, pitch);
        std::ptr::write_bytes(share, 0, K * K * pitch);
        let mut walk = sink.map(|(part, out, totals)| (SinkWalk::new(part, out, channels, start, totals), out));
        let mut written = 0;
        for image in images.clone() {
            let area = out_height * out_width;
            load_gradient::<V>(gradient, image * area, area, channels, map, pitch);
            ring.restart();
            for oy in 0..out_height {
                let rows = ring.window::<K>(oy * S, |row, to| {
                    load_operand::<V>(x, (image * height + row) * width, width, channels, to, pitch);
                });
                correlate::<V, K, S>(&rows, map.add(oy * out_width * pitch), pitch, channels, out_width, share);
            }
            let Some((walk, out)) = &mut walk else { continue };
            for iy in 0..height {
                for ix in 0..width {
                    let mut terms = [(std::ptr::null(), std::ptr::null()); 25];
                    let mut count = 0;
                    for ky in 0..K {
                        let Some(oy) = output_of(iy + padding, ky, S, out_height) else { continue };
                        for kx in 0..K {
                            let Some(ox) = output_of(ix + padding, kx, S, out_width) else { continue };
                            let value = map.add((oy * out_width + ox) * pitch).cast_const();
                            terms[count] = (value, taps.as_ptr().add((ky * K + kx) * pitch));
                            count += 1;
                        }
                    }
                    let to = out.at(((image * height + iy) * width + ix) * channels);
                    gather::<V>(&terms[..count], channels, to);
                }
                written += width;
                walk.advance::<V>(written, written == images.len() * height * width);
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
