//! Convolutions in 8 bits, exact: maps are bytes `q + 128`, NHWC; weights lie in -127..=127; sums have 32 bits and wrap.
//!
//! What is computed are integers, so that the result is the same on every path and for any number of threads.
//!
//! Kernels read and write without bounds. What they rely on is checked once, in [`Conv::run`] and [`Conv::sums`]: each slice is
//! as long as its shape says.

mod dense;
mod depthwise;
mod factors;
mod finish;
mod lanes;
mod look_up;
mod steps;
mod sum;

pub use factors::Multiplier;
pub use finish::Finish;
pub use lanes::Path;
pub use steps::{Rescale, add, average, gate, look_up, max_pool, quantise};
pub use sum::Sum;

use crate::scratch::{self, Shared};
use crate::shape::product;
use crate::{ConvShape, OpError, Runtime};
use finish::{LANES, To};
use lanes::{ByteLanes, Portable, channel};

/// A convolution, packed for a path.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Without the sizes of maps.
    filter: ConvShape,
    path: Path,
    words: Vec<i32>,
    /// What sums begin with: biases less the share of the map's zero point, as lanes lie.
    start: Vec<i32>,
    /// The map's zero point, a byte.
    zero: u8,
    largest: i64,
}

/// The scale and the zero point, a byte, of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub scale: f32,
    pub zero: u8,
}

/// A block's shortcut: its map [pixels, channels], and how it is added.
#[derive(Clone, Copy, Debug)]
pub struct Skip<'a> {
    pub map: &'a [u8],
    pub channels: usize,
    pub sum: &'a Sum,
}

/// What a task needs to know.
pub(crate) struct Call<'a> {
    conv: &'a Conv,
    shape: &'a ConvShape,
    x: &'a [u8],
    to: To<'a>,
}

impl Conv {
    /// `weights` [output, input per group, kernel, kernel] and `bias`, for maps whose zero point is the byte `zero`.
    ///
    /// # Errors
    /// A filter that is not built, or another number of weights or biases.
    pub fn new(path: Path, shape: &ConvShape, weights: &[i8], bias: &[i32], zero: u8) -> Result<Self, OpError> {
        let filter = shape.filter();
        filter.check_filter()?;
        OpError::length("weights", shape.weight_len(), weights.len())?;
        OpError::length("biases", shape.output, bias.len())?;
        let reach = i64::from(zero.max(255 - zero));
        let mut start = vec![0; shape.output.next_multiple_of(LANES)];
        let mut largest = 0;
        for ((start, bias), of_output) in
            start.iter_mut().zip(bias).zip(weights.chunks_exact(weights.len() / bias.len()))
        {
            let sum: i64 = of_output.iter().map(|&w| i64::from(w)).sum();
            let sizes: i64 = of_output.iter().map(|&w| i64::from(w.unsigned_abs())).sum();
            *start = bias.wrapping_sub(i32::from(zero).wrapping_mul(sum as i32));
            largest = largest.max(i64::from(bias.unsigned_abs()) + reach * sizes);
        }
        let (words, start) = match path {
            #[cfg(target_arch = "x86_64")]
            Path::Vnni => pack::<lanes::Vnni>(&filter, weights, &start),
            #[cfg(target_arch = "x86_64")]
            Path::Vnni256 => pack::<lanes::Vnni256>(&filter, weights, &start),
            #[cfg(test)]
            Path::Quads => pack::<quads::Quads>(&filter, weights, &start),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => pack::<lanes::Avx2>(&filter, weights, &start),
            _ => pack::<Portable>(&filter, weights, &start),
        };
        Ok(Self { filter, path, words, start, zero, largest })
    }

    /// What no sum exceeds, for [`Finish::new`].
    pub fn largest(&self) -> i64 {
        self.largest
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice()) + size_of_val(self.start.as_slice())
    }

    /// `out`, a map: sums of `x`, brought to its scale, with what a shortcut adds.
    ///
    /// # Errors
    /// Maps, or a finish, that do not fit the shape; a shape of another filter, or a runtime of another path.
    pub fn run(
        &self,
        runtime: &Runtime,
        shape: &ConvShape,
        x: &[u8],
        finish: &Finish,
        skip: Option<Skip<'_>>,
        out: &mut [u8],
    ) -> Result<(), OpError> {
        OpError::length("output", shape.output_len(), out.len())?;
        OpError::length("factors", shape.output, finish.channels())?;
        if let Some(Skip { map, channels, sum }) = skip {
            let pixels = product([shape.images, shape.out_height(), shape.out_width()]);
            OpError::length("shortcut", product([pixels, channels]), map.len())?;
            OpError::length("channels of the shortcut", sum.added().max(channels), channels)?;
        }
        if finish.is_fast() && skip.is_none_or(|skip| skip.sum.is_fast()) {
            return self.call(runtime, shape, x, To::Bytes(Shared::new(out), finish, skip));
        }
        if finish.is_fast() {
            self.call(runtime, shape, x, To::Bytes(Shared::new(out), finish, None))?;
        } else {
            // Factors that no trained layer has: value by value.
            let mut sums = vec![0; out.len()];
            self.sums(runtime, shape, x, &mut sums)?;
            for (at, (out, &sum)) in out.iter_mut().zip(&sums).enumerate() {
                *out = finish.apply(sum, at % shape.output);
            }
        }
        if let Some(Skip { map, channels, sum }) = skip {
            steps::add_to(runtime, (out, shape.output), (map, channels), sum);
        }
        Ok(())
    }

    /// `out` [pixels, outputs]: the sums themselves.
    ///
    /// # Errors
    /// As for [`Conv::run`].
    pub fn sums(&self, runtime: &Runtime, shape: &ConvShape, x: &[u8], out: &mut [i32]) -> Result<(), OpError> {
        OpError::length("output", shape.output_len(), out.len())?;
        self.call(runtime, shape, x, To::Sums(Shared::new(out)))
    }

    fn call(&self, runtime: &Runtime, shape: &ConvShape, x: &[u8], to: To<'_>) -> Result<(), OpError> {
        shape.check()?;
        OpError::length("input", shape.input_len(), x.len())?;
        if shape.filter() != self.filter || !Path::served(runtime.isa()).any(|path| path == self.path) {
            return Err(OpError::Packed { packed: self.filter, isa: runtime.isa() });
        }
        let call = Call { conv: self, shape, x, to };
        let (tasks, scratch) = match self.path {
            #[cfg(target_arch = "x86_64")]
            Path::Vnni => needs::<lanes::Vnni>(shape),
            #[cfg(target_arch = "x86_64")]
            Path::Vnni256 => needs::<lanes::Vnni256>(shape),
            #[cfg(test)]
            Path::Quads => needs::<quads::Quads>(shape),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => needs::<lanes::Avx2>(shape),
            _ => needs::<Portable>(shape),
        };
        runtime.run(tasks, &|task| {
            scratch::words_for_task(scratch, |scratch| {
                // SAFETY: lengths are checked above; the packed weights are the filter's; a task has its own outputs and
                // scratch; and a runtime is only made where the CPU has its instructions.
                unsafe {
                    match shape.depthwise {
                        true => depthwise::forward(self.path, &call, task, scratch),
                        false => dense::forward(self.path, &call, task, scratch),
                    }
                }
            });
        });
        Ok(())
    }
}

/// Words of the weights, and what sums begin with, as the lanes of a path lie.
fn pack<V: ByteLanes>(filter: &ConvShape, weights: &[i8], start: &[i32]) -> (Vec<i32>, Vec<i32>) {
    let words = match filter.depthwise {
        true => depthwise::pack::<V>(filter, weights),
        false => dense::pack::<V>(filter, weights),
    };
    let first =
        |block| if filter.depthwise { depthwise::first_of::<V>(filter.output, block) } else { block * 2 * V::N };
    let blocks = 0..filter.output.div_ceil(2 * V::N);
    let start =
        blocks.flat_map(|block| channels::<V>(filter, first(block))).map(|c| c.map_or(0, |c| start[c])).collect();
    (words, start)
}

/// The outputs in the lanes of the block that begins with output `first`; none beyond the last. A block is a pair of vectors,
/// but for the last of a dense convolution where one holds what is left.
fn channels<V: ByteLanes>(filter: &ConvShape, first: usize) -> impl Iterator<Item = Option<usize>> {
    let left = filter.output.saturating_sub(first);
    let is_pair = filter.depthwise || left > V::N;
    (0..2 * V::N).map(move |lane| {
        let c = if is_pair { channel(lane, V::N) } else { lane };
        (c < left).then_some(first + c)
    })
}

/// Tasks of a call, and words of scratch of each.
fn needs<V: ByteLanes>(shape: &ConvShape) -> (usize, usize) {
    if shape.depthwise {
        return (depthwise::Cut::new::<V>(shape).tasks(), depthwise::scratch::<V>(shape));
    }
    let cut = dense::Cut::new::<V>(shape);
    (cut.tasks(), cut.scratch::<V>(shape))
}

#[cfg(test)]
mod quads;
#[cfg(test)]
mod tests;
