//! Convolutions, forward and backward, on NHWC maps: pointwise, depthwise, and dense ones of any kernel.
//!
//! Work is cut into chunks of images by shape alone. A chunk sums its share of the weights' gradient and of batch
//! norm's statistics; the shares are added in the order of the chunks. See [`crate::map`] for what is fused into the
//! reading of a map, and [`After`] for what is fused into its writing.
//!
//! Kernels read and write without bounds. What they rely on is checked once, here: each slice is as long as its shape says
//! (`check` of shapes, operands and sinks), and lengths do not wrap. All other lengths (packed weights,
//! scratch, shares) are products of fewer or smaller sizes, times small constants, than those that slices proved to have.

mod chain;
mod dense;
mod depthwise;
mod direct;
mod pointwise;
mod ring;
mod rows;
mod shape;

use std::ops::Range;

use direct::{Direct, Epilogue};
use shape::part;

pub use chain::{Chain, Stage};
pub use shape::ConvShape;

use crate::lanes::Lanes;
use crate::map::{Affine, ChunkSink, Finish, FinishWalk, Gradient, MomentWalk, Operand, Sink, SinkPart, Skip, Sums};
use crate::scratch::{self, Shared};
use crate::{Activation, Buffer, Isa, OpError, Runtime};

/// Floats between pixels in scratch: whole vectors on every instruction set.
fn pitch(channels: usize) -> usize {
    channels.next_multiple_of(16)
}

/// As [`pitch`], but an odd number of cache lines, for tiles that are read down their columns: with an even number, the
/// lines of a column would share few sets of the cache.
fn tile_pitch(channels: usize) -> usize {
    (channels.div_ceil(16) | 1) * 16
}

/// Sums of a map's values and of their squares, per channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    pub sum: Vec<f64>,
    pub square: Vec<f64>,
}

/// What happens to a convolution's output while it is written.
#[derive(Debug)]
pub enum After<'a> {
    /// It stays as it is.
    Raw,
    /// It stays as it is, and its sums are taken for the batch norm that follows.
    Moments(&'a mut Moments),
    /// `activation(affine(raw) + skip)`: a folded batch norm or a bias, and perhaps a block's shortcut. The same bits as
    /// [`map::write`](crate::map::write) makes of a raw output.
    Finish { affine: Affine<'a>, skip: Option<Skip<'a>>, activation: Activation },
}

/// Adds chunk totals ([chunks, 2, channels]) in order.
pub(crate) fn add_chunks(totals: &[f64], to: [&mut [f64]; 2]) {
    let [first, second] = to;
    let channels = first.len();
    first.fill(0.0);
    second.fill(0.0);
    for chunk in totals.chunks_exact(2 * channels) {
        for c in 0..channels {
            first[c] += chunk[c];
            second[c] += chunk[channels + c];
        }
    }
}

/// How one kind of convolution does its work, for a shape that was checked. Pairs are for the forward and the backward
/// pass.
struct Form {
    /// Floats that the packed weights take.
    packed_len: fn(&ConvShape) -> (usize, usize),
    /// Packs weights as in a state dict.
    ///
    /// # Safety
    /// The weights are as long as the shape says, where they go as `packed_len`, and the CPU has the instructions.
    pack_forward: unsafe fn(Isa, &ConvShape, &[f32], &mut [f32]),
    /// # Safety
    /// As for `pack_forward`.
    pack_backward: unsafe fn(Isa, &ConvShape, &[f32], &mut [f32]),
    /// Floats of scratch that a task takes.
    scratch: fn(&ConvShape) -> (usize, usize),
    /// One chunk, below the call's `chunks`, with scratch.
    ///
    /// # Safety
    /// The call's lengths are those of its shape, the scratch is as long as asked for, no other task has the chunk, and the
    /// CPU has the instructions.
    forward: unsafe fn(Isa, &Forward<'_>, usize, &mut [f32]),
    /// # Safety
    /// As for `forward`, and the share is `share_len` long.
    backward: BackwardChunk,
    /// Floats of a chunk's share of the weights' gradient.
    share_len: fn(&ConvShape) -> usize,
    /// Adds the chunks' shares, in order, into the layout of the weights.
    add_shares: fn(&Runtime, &ConvShape, &[f32], &mut [f32]),
}

/// One chunk, below the shape's `chunks`: the first slice is overwritten with the chunk's share of the weights' gradient, the
/// last is scratch.
type BackwardChunk = unsafe fn(Isa, &Backward<'_>, usize, &mut [f32], Option<ChunkSink<'_>>, &mut [f32]);

/// What the chunks of a forward share.
struct Forward<'a> {
    shape: &'a ConvShape,
    chunks: usize,
    x: Operand<'a>,
    packed: &'a [f32],
    y: Shared<f32>,
    after: ChunkAfter<'a>,
}

/// [`After`], as chunks see it.
enum ChunkAfter<'a> {
    Raw,
    /// Totals of all chunks, [chunks, 2, channels].
    Moments(Shared<f64>),
    Finish(Finish<'a>),
}

/// What is done to a chunk's pixels once they are written.
enum AfterWalk<'a> {
    Raw,
    Moments(MomentWalk),
    Finish(FinishWalk<'a>),
}

impl<'a> Forward<'a> {
    fn images(&self, chunk: usize) -> Range<usize> {
        part(self.shape.images, self.chunks, chunk)
    }

    /// # Safety
    /// No other task has the chunk.
    unsafe fn walk(&self, chunk: usize) -> AfterWalk<'a> {
        let channels = self.shape.output;
        let start = self.images(chunk).start * self.shape.out_area();
        // SAFETY: inside the output, which is as long as its shape says.
        let data = unsafe { self.y.at(start * channels) };
        match &self.after {
            ChunkAfter::Raw => AfterWalk::Raw,
            ChunkAfter::Moments(totals) => {
                // SAFETY: a chunk's own totals.
                let totals = unsafe { totals.at(chunk * 2 * channels) };
                AfterWalk::Moments(MomentWalk::new(data, channels, totals))
            }
            ChunkAfter::Finish(finish) => AfterWalk::Finish(FinishWalk::new(*finish, data, start)),
        }
    }
}

impl AfterWalk<'_> {
    /// `written` pixels of the chunk are there, `last`: all of them.
    ///
    /// # Safety
    /// They are, and the CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn advance<V: Lanes>(&mut self, written: usize, last: bool) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Raw => (),
                Self::Moments(walk) => walk.advance::<V>(written, last),
                Self::Finish(walk) => walk.advance::<V>(written),
            }
        }
    }
}

/// What the chunks of a backward share.
struct Backward<'a> {
    shape: &'a ConvShape,
    x: Operand<'a>,
    packed: &'a [f32],
    gradient: Gradient<'a>,
}

/// Weights in the order in which a forward reads them, for maps of any size: packed once, run many times.
pub struct Packed {
    filter: ConvShape,
    isa: Isa,
    data: Buffer,
}

impl Packed {
    /// Of `weights` as in a state dict: OIHW. The size of the maps in `shape` plays no part.
    ///
    /// # Errors
    /// A filter that is not built, or another number of weights.
    pub fn new(runtime: &Runtime, shape: &ConvShape, weights: &[f32]) -> Result<Self, OpError> {
        let (filter, isa) = (shape.filter(), runtime.isa());
        filter.check_filter()?;
        OpError::length("weights", filter.weight_len(), weights.len())?;
        let form = filter.form();
        let mut data = Buffer::zeros((form.packed_len)(&filter).0);
        // SAFETY: lengths are checked, and the runtime has its instructions.
        unsafe { (form.pack_forward)(isa, &filter, weights, &mut data) };
        Ok(Self { filter, isa, data })
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    fn check(&self, runtime: &Runtime, shape: &ConvShape) -> Result<(), OpError> {
        if shape.filter() == self.filter && runtime.isa() == self.isa {
            return Ok(());
        }
        Err(OpError::Packed { packed: self.filter, isa: self.isa })
    }
}

/// `y = after(conv(x, weights))`, the weights packed for this call. `weights` as in a state dict: OIHW.
///
/// # Errors
/// A convolution that is not built, or lengths that do not fit its shape.
pub fn forward(
    runtime: &Runtime,
    shape: &ConvShape,
    x: Operand<'_>,
    weights: &[f32],
    y: &mut [f32],
    after: After<'_>,
) -> Result<(), OpError> {
    shape.check()?;
    OpError::length("weights", shape.weight_len(), weights.len())?;
    let form = shape.form();
    scratch::for_call((form.packed_len)(shape).0, |packed| {
        // SAFETY: lengths are checked, and the runtime has its instructions.
        unsafe { (form.pack_forward)(runtime.isa(), shape, weights, packed) };
        run(runtime, shape, x, packed, y, after)
    })
}

/// As [`forward`], with weights that were packed before.
///
/// # Errors
/// As for [`forward`]; weights packed for another filter or another instruction set.
pub fn forward_packed(
    runtime: &Runtime,
    shape: &ConvShape,
    x: Operand<'_>,
    weights: &Packed,
    y: &mut [f32],
    after: After<'_>,
) -> Result<(), OpError> {
    shape.check()?;
    weights.check(runtime, shape)?;
    run(runtime, shape, x, &weights.data, y, after)
}

/// As [`forward_packed`] of a stored map, but `y` holds the sums so far: to the bit what one convolution over all inputs
/// gives, where `y` holds that over the inputs before these.
///
/// # Errors
/// As for [`forward_packed`]; moments, a depthwise convolution, or a shortcut that is not read as it is stored.
pub fn go_on(
    runtime: &Runtime,
    shape: &ConvShape,
    x: &[f32],
    weights: &Packed,
    y: &mut [f32],
    after: After<'_>,
) -> Result<(), OpError> {
    shape.check()?;
    weights.check(runtime, shape)?;
    OpError::length("input", shape.input_len(), x.len())?;
    OpError::length("output", shape.output_len(), y.len())?;
    let after = match after {
        After::Raw => Some(Epilogue::raw()),
        After::Moments(_) => None,
        After::Finish { affine, skip, activation } => {
            let finish = Finish::of(shape.output, affine, skip, activation);
            finish.check(y.len())?;
            Epilogue::of(&finish)
        }
    };
    let after = after.filter(|_| !shape.depthwise).ok_or(OpError::Convolution(*shape))?;
    Direct { shape: *shape, x: x.as_ptr(), packed: &weights.data, y: y.as_mut_ptr(), onto: true, after }.run(runtime);
    Ok(())
}

/// Of a checked shape, with weights packed for it.
fn run(
    runtime: &Runtime,
    shape: &ConvShape,
    x: Operand<'_>,
    packed: &[f32],
    y: &mut [f32],
    after: After<'_>,
) -> Result<(), OpError> {
    OpError::length("input", shape.input_len(), x.data.len())?;
    OpError::length("output", shape.output_len(), y.len())?;
    x.check(shape.input)?;
    let (form, isa, channels) = (shape.form(), runtime.isa(), shape.output);
    let run = |y: &mut [f32], after| {
        let chunks = if matches!(after, ChunkAfter::Moments(_)) { shape.chunks() } else { shape.small_chunks() };
        let call = Forward { shape, chunks, x, packed, y: Shared::new(y), after };
        runtime.run(chunks, &|chunk| {
            // SAFETY: lengths are checked, and the runtime has its instructions.
            scratch::for_task((form.scratch)(shape).0, |scratch| unsafe { (form.forward)(isa, &call, chunk, scratch) });
        });
    };
    let direct = |y: &mut [f32], after| {
        Direct { shape: *shape, x: x.data.as_ptr(), packed, y: y.as_mut_ptr(), onto: false, after }.run(runtime);
    };
    match after {
        After::Raw if x.is_plain() => direct(y, Epilogue::raw()),
        After::Raw => run(y, ChunkAfter::Raw),
        After::Moments(Moments { sum, square }) => {
            let mut totals = vec![0f64; shape.chunks() * 2 * channels];
            run(y, ChunkAfter::Moments(Shared::new(&mut totals)));
            sum.resize(channels, 0.0);
            square.resize(channels, 0.0);
            add_chunks(&totals, [sum, square]);
        }
        After::Finish { affine, skip, activation } => {
            let finish = Finish::of(channels, affine, skip, activation);
            finish.check(y.len())?;
            match Epilogue::of(&finish).filter(|_| x.is_plain()) {
                Some(after) => direct(y, after),
                None => run(y, ChunkAfter::Finish(finish)),
            }
        }
    }
    Ok(())
}

/// The gradients of a convolution: `weights_gradient` (overwritten) and, with a sink, that of `x`.
///
/// # Errors
/// A convolution that is not built, or lengths that do not fit its shape.
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
    x.check(shape.input)?;
    gradient.check(shape.output)?;
    if let Some(sink) = &sink {
        sink.check(shape.input_len(), shape.input)?;
    }
    let (form, isa, chunks) = (shape.form(), runtime.isa(), shape.chunks());
    let mut totals = vec![0f64; chunks * 2 * shape.input];
    let (packed_len, share_len) = ((form.packed_len)(shape).1, (form.share_len)(shape));
    let (sink, sums) = match sink {
        Some(Sink { out, skip, producer }) => {
            let (producer, sums) = producer.unzip();
            (Some((SinkPart { skip, producer }, Shared::new(out))), sums)
        }
        None => (None, None),
    };
    scratch::for_call(packed_len + chunks * share_len, |call| {
        let (packed, shares) = call.split_at_mut(packed_len);
        // SAFETY: lengths are checked, and the runtime has its instructions.
        unsafe { (form.pack_backward)(isa, shape, weights, packed) };
        let call = Backward { shape, x, packed, gradient };
        let (parts, totals) = (Shared::new(shares), Shared::new(&mut totals));
        runtime.run(chunks, &|chunk| {
            // SAFETY: as above; a chunk has its own share and its own totals.
            scratch::for_task((form.scratch)(shape).1, |scratch| unsafe {
                let share = std::slice::from_raw_parts_mut(parts.at(chunk * share_len), share_len);
                let totals = totals.at(chunk * 2 * shape.input);
                let sink = sink.map(|(part, out)| ChunkSink { part, out, totals });
                (form.backward)(isa, &call, chunk, share, sink, scratch);
            });
        });
        (form.add_shares)(runtime, shape, shares, weights_gradient);
    });
    if let Some(Sums { gradient, product }) = sums {
        add_chunks(&totals, [gradient, product]);
    }
    Ok(())
}

/// `to` = the sum of the shares, each as long as `to`, in order.
fn add_in_order(runtime: &Runtime, shares: &[f32], to: &mut [f32]) {
    const PART: usize = 1 << 14;
    let len = to.len();
    let to = Shared::new(to);
    runtime.run(len.div_ceil(PART), &|task| {
        let range = task * PART..len.min((task + 1) * PART);
        // SAFETY: parts are disjoint and inside `to`.
        let to = unsafe { std::slice::from_raw_parts_mut(to.at(range.start), range.len()) };
        for (index, share) in shares.chunks_exact(len).enumerate() {
            let share = &share[range.clone()];
            match index {
                0 => to.copy_from_slice(share),
                _ => to.iter_mut().zip(share).for_each(|(sum, share)| *sum += share),
            }
        }
    });
}
