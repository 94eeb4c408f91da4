//! Convolutions, forward and backward, on NHWC maps: pointwise, depthwise, and dense ones of any kernel.
//!
//! Work is cut into chunks of images by shape alone. A chunk sums its share of the weights' gradient and of batch
//! norm's statistics; the shares are added in the order of the chunks. See [`crate::map`] for what is fused.

mod dense;
mod depthwise;
mod pointwise;
mod ring;
mod rows;

use crate::map::{Gradient, Operand, Sink, SinkPart};
use crate::scratch::{self, Shared};
use crate::{Isa, OpError, Runtime};

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

    fn form(&self) -> &'static dyn Form {
        match self {
            Self { depthwise: true, .. } => &depthwise::Depthwise,
            Self { kernel: 1, stride: 1, padding: 0, .. } => &pointwise::Pointwise,
            _ => &dense::Dense,
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

/// How one kind of convolution does its work. Pairs are for the forward and the backward pass.
trait Form: Sync {
    /// Floats that the packed weights take.
    fn packed(&self, shape: &ConvShape) -> (usize, usize);
    fn pack_forward(&self, isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]);
    fn pack_backward(&self, isa: Isa, shape: &ConvShape, weights: &[f32], to: &mut [f32]);
    /// Floats of scratch that a task takes.
    fn scratch(&self, shape: &ConvShape) -> (usize, usize);
    /// # Safety
    /// The call's lengths are those of its shape, and the CPU has the instructions.
    unsafe fn forward(&self, isa: Isa, call: &Forward<'_>, chunk: usize, scratch: &mut [f32]);
    /// # Safety
    /// As for `forward`.
    unsafe fn backward(
        &self,
        isa: Isa,
        call: &Backward<'_>,
        chunk: usize,
        share: &mut [f32],
        sink: ChunkSink<'_>,
        scratch: &mut [f32],
    );
    /// Floats of a chunk's share of the weights' gradient.
    fn share_len(&self, shape: &ConvShape) -> usize;
    /// Adds the chunks' shares, in order, into the layout of the weights.
    fn add_shares(&self, runtime: &Runtime, shape: &ConvShape, shares: &[f32], to: &mut [f32]);
}

/// What the chunks of a forward share.
struct Forward<'a> {
    shape: &'a ConvShape,
    x: Operand<'a>,
    packed: &'a [f32],
    y: Shared<f32>,
    totals: Option<Shared<f64>>,
}

impl Forward<'_> {
    /// Where a chunk's moments go.
    unsafe fn totals(&self, chunk: usize) -> Option<*mut f64> {
        self.totals.map(|totals| unsafe { totals.at(chunk * 2 * self.shape.output) })
    }
}

/// What the chunks of a backward share.
struct Backward<'a> {
    shape: &'a ConvShape,
    x: Operand<'a>,
    packed: &'a [f32],
    gradient: Gradient<'a>,
}

/// Where a chunk's gradient of the input goes, and its sums.
type ChunkSink<'a> = Option<(SinkPart<'a>, Shared<f32>, *mut f64)>;

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
    x.check(shape.input)?;
    let (form, isa, chunks) = (shape.form(), runtime.isa(), shape.chunks());
    let mut totals = vec![0f64; chunks * 2 * shape.output];
    scratch::for_call(form.packed(shape).0, |packed| {
        form.pack_forward(isa, shape, weights, packed);
        let totals = moments.is_some().then(|| Shared::new(&mut totals));
        let call = Forward { shape, x, packed, y: Shared::new(y), totals };
        runtime.run(chunks, &|chunk| {
            scratch::for_task(form.scratch(shape).0, |scratch| unsafe { form.forward(isa, &call, chunk, scratch) });
        });
    });
    if let Some(moments) = moments {
        moments.sum.resize(shape.output, 0.0);
        moments.square.resize(shape.output, 0.0);
        add_chunks(&totals, shape.output, &mut moments.sum, &mut moments.square);
    }
    Ok(())
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
    x.check(shape.input)?;
    gradient.check(shape.output)?;
    if let Some(sink) = &sink {
        sink.check(shape.input_len(), shape.input)?;
    }
    let (form, isa, chunks) = (shape.form(), runtime.isa(), shape.chunks());
    let mut totals = vec![0f64; chunks * 2 * shape.input];
    let (packed_len, share_len) = (form.packed(shape).1, form.share_len(shape));
    let (sink, sums) = match sink {
        Some(Sink { out, skip, producer, sums }) => {
            (Some((SinkPart { skip, producer }, Shared::new(out))), producer.map(|_| sums))
        }
        None => (None, None),
    };
    scratch::for_call(packed_len + chunks * share_len, |call| {
        let (packed, shares) = call.split_at_mut(packed_len);
        form.pack_backward(isa, shape, weights, packed);
        let call = Backward { shape, x, packed, gradient };
        let (parts, totals) = (Shared::new(shares), Shared::new(&mut totals));
        runtime.run(chunks, &|chunk| {
            scratch::for_task(form.scratch(shape).1, |scratch| unsafe {
                let share = std::slice::from_raw_parts_mut(parts.at(chunk * share_len), share_len);
                let totals = totals.at(chunk * 2 * shape.input);
                let sink = sink.map(|(part, out)| (part, out, totals));
                form.backward(isa, &call, chunk, share, sink, scratch);
            });
        });
        form.add_shares(runtime, shape, shares, weights_gradient);
    });
    if let Some((sum, product)) = sums {
        add_chunks(&totals, shape.input, sum, product);
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
