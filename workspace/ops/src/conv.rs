//! Convolutions, forward and backward, on NHWC maps: pointwise, depthwise, and dense ones of any kernel.
//!
//! Work is cut into chunks of images by shape alone. A chunk sums its share of the weights' gradient and of batch
//! norm's statistics; the shares are added in the order of the chunks. See [`crate::map`] for what is fused.

use crate::depthwise::{convolve, correlate, gather};
use crate::gemm::{self, Left, Out, Right, gemm};
use crate::lanes::kernel;
use crate::map::{
    Gradient, MomentWalk, Operand, Sink, SinkPart, SinkWalk, TILE, load_gradient, load_operand,
};
use crate::scratch::{self, Shared};
use crate::{OpError, Runtime};

/// A convolution of `images` maps [height, width, input] with zero padding on all sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// A filter per channel (`input == output`), else every output reads every input.
    pub depthwise: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Pointwise,
    Dense,
    Depthwise,
}

impl ConvShape {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn input_len(&self) -> usize {
        self.images * self.height * self.width * self.input
    }

    pub fn output_len(&self) -> usize {
        self.images * self.out_height() * self.out_width() * self.output
    }

    /// Elements of the weights [output, input per group, kernel, kernel].
    pub fn weight_len(&self) -> usize {
        let group = if self.depthwise { 1 } else { self.input };
        self.output * group * self.kernel * self.kernel
    }

    fn kind(&self) -> Kind {
        match self {
            Self { depthwise: true, .. } => Kind::Depthwise,
            Self { kernel: 1, stride: 1, padding: 0, .. } => Kind::Pointwise,
            _ => Kind::Dense,
        }
    }

    fn check(&self) -> Result<(), OpError> {
        let Self { images, height, width, input, output, kernel, stride, padding, depthwise } = *self;
        let known = !depthwise || (matches!(kernel, 3 | 5) && matches!(stride, 1 | 2) && input == output);
        let sizes = [images, height, width, input, output, kernel, stride];
        let fits = sizes.iter().all(|size| (1..1 << 24).contains(size))
            && height + 2 * padding >= kernel
            && width + 2 * padding >= kernel
            && padding < kernel;
        if known && fits { Ok(()) } else { Err(OpError::Convolution(*self)) }
    }

    /// Chunks of images, fewer where each one's share of the weights' gradient is large.
    fn chunks(&self) -> usize {
        let most = match self.weight_len() {
            0..=16384 => 16,
            16385..=65536 => 8,
            _ => 4,
        };
        most.min(self.images)
    }

    fn chunk(&self, index: usize) -> std::ops::Range<usize> {
        let chunks = self.chunks();
        index * self.images / chunks..(index + 1) * self.images / chunks
    }

    /// Elements that one output reads, for the matrix product.
    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.input
    }
}

/// Floats between pixels in scratch: whole vectors on every instruction set.
fn pitch(channels: usize) -> usize {
    channels.next_multiple_of(16)
}

/// As [`pitch`], but an odd number of cache lines, for tiles that are read down their columns.
fn tile_pitch(channels: usize) -> usize {
    (channels.div_ceil(16) | 1) * 16
}

/// Sums of a map's values and of their squares, per channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    pub sum: Vec<f64>,
    pub square: Vec<f64>,
}

/// Adds chunk totals ([chunks, 2, channels]) in order.
pub(crate) fn add_chunks(totals: &[f64], channels: usize, sum: &mut [f64], square: &mut [f64]) {
    sum.fill(0.0);
    square.fill(0.0);
    for chunk in totals.chunks_exact(2 * channels) {
        for c in 0..channels {
            sum[c] += chunk[c];
            square[c] += chunk[channels + c];
        }
    }
}

/// `y = conv(x, weights)`, raw; with `moments`, its batch norm's sums. `weights` as in a state dict: OIHW.
pub fn forward(
    runtime: &Runtime,
    shape: &ConvShape,
    x: Operand<'_>,
    weights: &[f32],
    y: &mut [f32],
    moments: Option<&mut Moments>,
) -> Result<(), OpError> {
    shape.check()?;
    OpError::length("input", shape.input_len(), x.data.len())?;
    OpError::length("weights", shape.weight_len(), weights.len())?;
    OpError::length("output", shape.output_len(), y.len())?;
    let chunks = shape.chunks();
    let mut totals = vec![0f64; chunks * 2 * shape.output];
    let (out, sums) = (Shared::new(y), Shared::new(&mut totals));
    let wanted = moments.is_some();
    let isa = runtime.isa();
    let packed = match shape.kind() {
        Kind::Depthwise => shape.kernel * shape.kernel * pitch(shape.output),
        _ => gemm::packed_len(shape.depth(), shape.output),
    };
    scratch::for_call(packed, |packed| {
        unsafe { pack_forward(isa, shape, weights, packed) };
        let packed = &*packed;
        runtime.run(chunks, &|chunk| {
            let totals = unsafe { sums.at(chunk * 2 * shape.output) };
            let totals = wanted.then_some(totals);
            scratch::for_task(forward_scratch(shape), |scratch| unsafe {
                match shape.kind() {
                    Kind::Pointwise => pointwise_forward(isa, shape, chunk, &x, packed, out, totals, scratch),
                    Kind::Dense => dense_forward(isa, shape, chunk, &x, packed, out, totals, scratch),
                    Kind::Depthwise => depthwise_forward(isa, shape, chunk, &x, packed, out, totals, scratch),
                }
            });
        });
    });
    if let Some(moments) = moments {
        moments.sum.resize(shape.output, 0.0);
        moments.square.resize(shape.output, 0.0);
        add_chunks(&totals, shape.output, &mut moments.sum, &mut moments.square);
    }
    Ok(())
}

fn forward_scratch(shape: &ConvShape) -> usize {
    match shape.kind() {
        Kind::Pointwise | Kind::Dense => TILE * tile_pitch(shape.depth()),
        Kind::Depthwise => ring_len(shape),
    }
}

/// A ring of padded input rows, and a row of zeros.
fn ring_len(shape: &ConvShape) -> usize {
    (shape.kernel + 1) * (shape.width + 2 * shape.padding) * pitch(shape.input)
}

kernel! {
    /// Weights to what the forward kernels read: [taps, pitch] for depthwise, else panels over outputs.
    fn pack_forward<V>(shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        match shape.kind() {
            Kind::Depthwise => taps_first(weights, shape, to, |tap| tap),
            Kind::Pointwise => gemm::pack::<V>(weights.as_ptr(), 1, shape.input, shape.input, shape.output, to.as_mut_ptr()),
            Kind::Dense => {
                let rows = dense_rows(shape, weights);
                gemm::pack::<V>(rows.as_ptr(), 1, shape.depth(), shape.depth(), shape.output, to.as_mut_ptr());
            }
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
    fn pointwise_forward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, packed: &[f32], y: Shared<f32>,
        totals: Option<*mut f64>, scratch: &mut [f32],
    ) {
        let (input, output) = (shape.input, shape.output);
        let area = shape.height * shape.width;
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let mut walk = totals.map(|totals| MomentWalk::new(y.at(start * output), output, totals));
        let pitch = tile_pitch(input);
        let mut pixel = 0;
        while pixel < pixels {
            let rows = TILE.min(pixels - pixel);
            load_operand::<V>(x, start + pixel, rows, input, scratch.as_mut_ptr(), pitch);
            let a = Left { data: scratch.as_ptr(), row: pitch, step: 1 };
            let c = Out { data: y.at((start + pixel) * output), stride: output, accumulate: false };
            gemm::<V>(rows, output, input, a, Right::Packed(packed.as_ptr()), c);
            pixel += rows;
            if let Some(walk) = &mut walk {
                walk.advance::<V>(pixel, pixel == pixels);
            }
        }
    }
}

/// Fills `rows` rows of a tile with what outputs `first..` of the whole batch read: [tap, input] each.
#[inline(always)]
unsafe fn load_patches<V: crate::lanes::Lanes>(
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
unsafe fn copy_pixel<V: crate::lanes::Lanes>(x: &Operand<'_>, pixel: usize, channels: usize, to: *mut f32) {
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

kernel! {
    fn dense_forward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, packed: &[f32], y: Shared<f32>,
        totals: Option<*mut f64>, scratch: &mut [f32],
    ) {
        let (depth, output) = (shape.depth(), shape.output);
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

/// The rows of one padded map that a kernel's window covers, kept in a ring of scratch rows.
struct Ring {
    data: *mut f32,
    kernel: usize,
    /// Floats of a padded row, and where its first pixel lies.
    row: usize,
    lead: usize,
    height: usize,
    padding: usize,
    /// The next row to load.
    next: usize,
}

impl Ring {
    /// `data`: `kernel + 1` rows of `width + 2 * padding` pixels; all become zero.
    unsafe fn new(data: *mut f32, kernel: usize, height: usize, width: usize, padding: usize, pitch: usize) -> Self {
        let row = (width + 2 * padding) * pitch;
        unsafe { std::ptr::write_bytes(data, 0, (kernel + 1) * row) };
        Self { data, kernel, row, lead: padding * pitch, height, padding, next: 0 }
    }

    /// Rows `top..top + K` of the padded map; `load(row, to)` writes those that are new.
    #[inline(always)]
    unsafe fn window<const K: usize>(&mut self, top: usize, mut load: impl FnMut(usize, *mut f32)) -> [*const f32; K] {
        let end = (top + K).saturating_sub(self.padding).min(self.height);
        self.next = self.next.max(top.saturating_sub(self.padding));
        while self.next < end {
            load(self.next, unsafe { self.data.add(self.next % self.kernel * self.row + self.lead) });
            self.next += 1;
        }
        std::array::from_fn(|ky| {
            let padded = top + ky;
            let inside = (self.padding..self.height + self.padding).contains(&padded);
            let slot = if inside { (padded - self.padding) % self.kernel } else { self.kernel };
            unsafe { self.data.add(slot * self.row).cast_const() }
        })
    }

    fn restart(&mut self) {
        self.next = 0;
    }
}

kernel! {
    fn depthwise_forward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, taps: &[f32], y: Shared<f32>,
        totals: Option<*mut f64>, scratch: &mut [f32],
    ) {
        match (shape.kernel, shape.stride) {
            (3, 1) => depthwise_forward_of::<V, 3, 1>(shape, chunk, x, taps, y, totals, scratch),
            (3, _) => depthwise_forward_of::<V, 3, 2>(shape, chunk, x, taps, y, totals, scratch),
            (_, 1) => depthwise_forward_of::<V, 5, 1>(shape, chunk, x, taps, y, totals, scratch),
            _ => depthwise_forward_of::<V, 5, 2>(shape, chunk, x, taps, y, totals, scratch),
        }
    }
}

#[inline(always)]
unsafe fn depthwise_forward_of<V: crate::lanes::Lanes, const K: usize, const S: usize>(
    shape: &ConvShape,
    chunk: usize,
    x: &Operand<'_>,
    taps: &[f32],
    y: Shared<f32>,
    totals: Option<*mut f64>,
    scratch: &mut [f32],
) {
    unsafe {
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

/// The gradients of a convolution: `weights_gradient` (overwritten) and, with a sink, that of `x`.
pub fn backward(
    runtime: &Runtime,
    shape: &ConvShape,
    x: Operand<'_>,
    weights: &[f32],
    gradient: Gradient<'_>,
    weights_gradient: &mut [f32],
    sink: Option<Sink<'_>>,
) -> Result<(), OpError> {
    shape.check()?;
    OpError::length("input", shape.input_len(), x.data.len())?;
    OpError::length("weights", shape.weight_len(), weights.len())?;
    OpError::length("gradient", shape.output_len(), gradient.data.len())?;
    OpError::length("weights' gradient", shape.weight_len(), weights_gradient.len())?;
    let isa = runtime.isa();
    let chunks = shape.chunks();
    let (part, out, mut sums) = match sink {
        Some(Sink { out, skip, producer, sums }) => {
            OpError::length("input's gradient", shape.input_len(), out.len())?;
            (Some(SinkPart { skip, producer }), Some(Shared::new(out)), Some(sums))
        }
        None => (None, None, None),
    };
    let mut totals = vec![0f64; chunks * 2 * shape.input];
    let shared_totals = Shared::new(&mut totals);
    let packed_len = match shape.kind() {
        Kind::Depthwise => shape.kernel * shape.kernel * pitch(shape.output),
        _ => gemm::packed_len(shape.output, shape.depth()),
    };
    let partial_len = match shape.kind() {
        Kind::Depthwise => shape.kernel * shape.kernel * pitch(shape.output),
        _ => shape.weight_len(),
    };
    scratch::for_call(packed_len + chunks * partial_len, |call| {
        let (packed, partials) = call.split_at_mut(packed_len);
        unsafe { pack_backward(isa, shape, weights, packed) };
        let packed = &*packed;
        let shares = Shared::new(partials);
        runtime.run(chunks, &|chunk| {
            scratch::for_task(backward_scratch(shape), |scratch| unsafe {
                let share = shares.at(chunk * partial_len);
                let totals = shared_totals.at(chunk * 2 * shape.input);
                let sink = part.as_ref().zip(out).map(|(part, out)| (*part, out, totals));
                match shape.kind() {
                    Kind::Pointwise => pointwise_backward(isa, shape, chunk, &x, packed, &gradient, share, sink, scratch),
                    Kind::Dense => dense_backward(isa, shape, chunk, &x, packed, &gradient, share, sink, scratch),
                    Kind::Depthwise => depthwise_backward(isa, shape, chunk, &x, packed, &gradient, share, sink, scratch),
                }
            });
        });
        add_shares(runtime, shape, partials, weights_gradient);
    });
    if let (Some((sum, product)), Some(SinkPart { producer: Some(_), .. })) = (&mut sums, &part) {
        OpError::length("sums", shape.input, sum.len())?;
        OpError::length("sums", shape.input, product.len())?;
        add_chunks(&totals, shape.input, sum, product);
    }
    Ok(())
}

/// Adds the chunks' shares of the weights' gradient, in order, into the layout of the weights.
fn add_shares(runtime: &Runtime, shape: &ConvShape, partials: &[f32], to: &mut [f32]) {
    let chunks = shape.chunks();
    let taps = shape.kernel * shape.kernel;
    match shape.kind() {
        Kind::Pointwise => {
            const PART: usize = 1 << 14;
            let len = to.len();
            let to = Shared::new(to);
            runtime.run(len.div_ceil(PART), &|task| {
                let range = task * PART..len.min((task + 1) * PART);
                let to = unsafe { std::slice::from_raw_parts_mut(to.at(range.start), range.len()) };
                to.copy_from_slice(&partials[range.clone()]);
                for chunk in 1..chunks {
                    let share = &partials[chunk * len + range.start..chunk * len + range.end];
                    to.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
                }
            });
        }
        Kind::Dense => {
            for (at, sum) in to.iter_mut().enumerate() {
                let (o, i, tap) = (at / (taps * shape.input), at / taps % shape.input, at % taps);
                let place = (o * taps + tap) * shape.input + i;
                *sum = (0..chunks).map(|chunk| partials[chunk * shape.weight_len() + place]).fold(0.0, |a, b| a + b);
            }
        }
        Kind::Depthwise => {
            let pitch = pitch(shape.output);
            let flipped = is_same(shape);
            for (at, sum) in to.iter_mut().enumerate() {
                let (c, tap) = (at / taps, at % taps);
                let place = if flipped { taps - 1 - tap } else { tap } * pitch + c;
                *sum = (0..chunks).map(|chunk| partials[chunk * taps * pitch + place]).fold(0.0, |a, b| a + b);
            }
        }
    }
}

/// A depthwise convolution whose backward is one with the filter turned round.
fn is_same(shape: &ConvShape) -> bool {
    shape.depthwise && shape.stride == 1 && 2 * shape.padding + 1 == shape.kernel
}

fn backward_scratch(shape: &ConvShape) -> usize {
    let (depth, output) = (shape.depth(), shape.output);
    match shape.kind() {
        Kind::Pointwise => TILE * (tile_pitch(depth) + tile_pitch(output)),
        Kind::Dense => TILE * (2 * tile_pitch(depth) + tile_pitch(output)),
        Kind::Depthwise if is_same(shape) => ring_len(shape) + shape.width * pitch(output),
        Kind::Depthwise => ring_len(shape) + shape.out_height() * shape.out_width() * pitch(output),
    }
}

kernel! {
    /// Weights to what the backward kernels read: [taps, pitch] for depthwise, else panels over inputs.
    fn pack_backward<V>(shape: &ConvShape, weights: &[f32], to: &mut [f32]) {
        let taps = shape.kernel * shape.kernel;
        match shape.kind() {
            Kind::Depthwise if is_same(shape) => taps_first(weights, shape, to, |tap| taps - 1 - tap),
            Kind::Depthwise => taps_first(weights, shape, to, |tap| tap),
            Kind::Pointwise => gemm::pack::<V>(weights.as_ptr(), shape.input, 1, shape.output, shape.input, to.as_mut_ptr()),
            Kind::Dense => {
                let rows = dense_rows(shape, weights);
                gemm::pack::<V>(rows.as_ptr(), shape.depth(), 1, shape.output, shape.depth(), to.as_mut_ptr());
            }
        }
    }
}

/// What a chunk writes the input's gradient to.
type ChunkSink<'a> = Option<(SinkPart<'a>, Shared<f32>, *mut f64)>;

kernel! {
    fn pointwise_backward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, packed: &[f32], gradient: &Gradient<'_>,
        share: *mut f32, sink: ChunkSink<'_>, scratch: &mut [f32],
    ) {
        let (input, output) = (shape.input, shape.output);
        let area = shape.height * shape.width;
        let images = shape.chunk(chunk);
        let (start, pixels) = (images.start * area, images.len() * area);
        let (x_pitch, g_pitch) = (tile_pitch(input), tile_pitch(output));
        let (x_tile, g_tile) = scratch.split_at_mut(TILE * x_pitch);
        let (x_tile, g_tile) = (x_tile.as_mut_ptr(), g_tile.as_mut_ptr());
        let mut walk = sink.map(|(part, out, totals)| (SinkWalk::new(part, out, input, start, totals), out));
        let mut pixel = 0;
        while pixel < pixels {
            let rows = TILE.min(pixels - pixel);
            load_operand::<V>(x, start + pixel, rows, input, x_tile, x_pitch);
            load_gradient::<V>(gradient, start + pixel, rows, output, g_tile, g_pitch);
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

kernel! {
    fn dense_backward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, packed: &[f32], gradient: &Gradient<'_>,
        share: *mut f32, sink: ChunkSink<'_>, scratch: &mut [f32],
    ) {
        let (input, output, depth) = (shape.input, shape.output, shape.depth());
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

/// The reverse of [`load_patches`]: adds each tap's gradient to the pixel that it read.
#[inline(always)]
unsafe fn add_patches<V: crate::lanes::Lanes>(
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

kernel! {
    fn depthwise_backward<V>(
        shape: &ConvShape, chunk: usize, x: &Operand<'_>, taps: &[f32], gradient: &Gradient<'_>,
        share: *mut f32, sink: ChunkSink<'_>, scratch: &mut [f32],
    ) {
        match (shape.kernel, shape.stride, is_same(shape)) {
            (3, 1, true) => same_backward::<V, 3>(shape, chunk, x, taps, gradient, share, sink, scratch),
            (_, 1, true) => same_backward::<V, 5>(shape, chunk, x, taps, gradient, share, sink, scratch),
            (3, 1, _) => strided_backward::<V, 3, 1>(shape, chunk, x, taps, gradient, share, sink, scratch),
            (_, 1, _) => strided_backward::<V, 5, 1>(shape, chunk, x, taps, gradient, share, sink, scratch),
            (3, ..) => strided_backward::<V, 3, 2>(shape, chunk, x, taps, gradient, share, sink, scratch),
            _ => strided_backward::<V, 5, 2>(shape, chunk, x, taps, gradient, share, sink, scratch),
        }
    }
}

/// Stride 1, as many rows out as in: one window over the gradient serves both the input and the weights.
#[inline(always)]
unsafe fn same_backward<V: crate::lanes::Lanes, const K: usize>(
    shape: &ConvShape,
    chunk: usize,
    x: &Operand<'_>,
    turned: &[f32],
    gradient: &Gradient<'_>,
    share: *mut f32,
    sink: ChunkSink<'_>,
    scratch: &mut [f32],
) {
    unsafe {
        let channels = shape.input;
        let pitch = pitch(channels);
        let (height, width) = (shape.height, shape.width);
        let images = shape.chunk(chunk);
        let start = images.start * height * width;
        let pixels = images.len() * height * width;
        let (ring, row) = scratch.split_at_mut(ring_len(shape));
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
unsafe fn strided_backward<V: crate::lanes::Lanes, const K: usize, const S: usize>(
    shape: &ConvShape,
    chunk: usize,
    x: &Operand<'_>,
    taps: &[f32],
    gradient: &Gradient<'_>,
    share: *mut f32,
    sink: ChunkSink<'_>,
    scratch: &mut [f32],
) {
    unsafe {
        let channels = shape.input;
        let pitch = pitch(channels);
        let (height, width, padding) = (shape.height, shape.width, shape.padding);
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        let images = shape.chunk(chunk);
        let start = images.start * height * width;
        let (ring, maps) = scratch.split_at_mut(ring_len(shape));
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
