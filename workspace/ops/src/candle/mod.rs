//! The kernels as candle ops with gradients, on candle's own NCHW tensors.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use sandglass_ops::{Runtime, candle::Ops};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ops = Ops::new(Runtime::new(2)?);
//! let values = |len: usize| (0..len).map(|i| (i % 7) as f32).collect::<Vec<_>>();
//! let x = Tensor::from_vec(values(2 * 32 * 8 * 8), (2, 32, 8, 8), &Device::Cpu)?;
//! // A trainable depthwise 3x3: one filter for each of 32 channels.
//! let weight = Var::from_vec(values(32 * 9), (32, 1, 3, 3), &Device::Cpu)?;
//! let y = ops.conv2d(&x, &weight, 1, 1, 32)?;
//! let loss = ops.relu6(&y)?.sum_all()?;
//! let gradients = loss.backward()?;
//! assert_eq!(gradients.get(&weight).ok_or("no gradient")?.dims(), [32, 1, 3, 3]);
//! # Ok(())
//! # }
//! ```
//!
//! Tensors are f32 on the CPU, of any strides; anything else is an error. Results do not depend on the number of
//! threads or the instruction set. Each op converts to NHWC and back, which costs a pass each way: code that trains
//! whole networks keeps NHWC throughout, with [`crate::conv`] and [`crate::map`].

mod conv;
mod loss;
mod norm;
mod plain;

use std::sync::Arc;

use candle_core::{CpuStorage, Device, Error, Layout, Result, Shape, Tensor};

use crate::scratch::Shared;
use crate::{MapShape, OpError, Runtime};

/// Candle ops on one [`Runtime`].
#[derive(Clone)]
pub struct Ops {
    runtime: Arc<Runtime>,
}

/// What [`Ops::batch_norm`] returns in training mode.
pub struct BatchNorm {
    pub output: Tensor,
    /// The running statistics after this batch; no gradient flows through them.
    pub running_mean: Tensor,
    pub running_var: Tensor,
}

impl Ops {
    /// Of a runtime of its own, or of one that is shared.
    pub fn new(runtime: impl Into<Arc<Runtime>>) -> Self {
        Self { runtime: runtime.into() }
    }
}

impl From<OpError> for Error {
    fn from(error: OpError) -> Self {
        Error::wrap(error)
    }
}

/// The f32 values of a contiguous CPU tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else { candle_core::bail!("f32 expected, {:?} found", storage_type(storage)) };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!("a contiguous tensor expected"),
    }
}

fn storage_type(storage: &CpuStorage) -> candle_core::DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// The values of a tensor that is not an op's argument.
fn to_vec(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}

/// [planes, rows, columns] to [planes, columns, rows]: NCHW to NHWC, or back with `rows` and `columns` exchanged.
fn transpose(runtime: &Runtime, x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    // A block of both fits the first cache.
    const BLOCK: usize = 32;
    let mut y = vec![0.0; x.len()];
    let plane = rows * columns;
    if plane == 0 {
        return y;
    }
    let out = Shared::new(&mut y);
    runtime.run(x.len() / plane, &|index| {
        let x = &x[index * plane..][..plane];
        // SAFETY: planes are disjoint, and as many as in `x`.
        let y = unsafe { std::slice::from_raw_parts_mut(out.at(index * plane), plane) };
        for row in (0..rows).step_by(BLOCK) {
            for column in (0..columns).step_by(BLOCK) {
                for r in row..rows.min(row + BLOCK) {
                    for c in column..columns.min(column + BLOCK) {
                        y[c * rows + r] = x[r * columns + c];
                    }
                }
            }
        }
    });
    y
}

/// An NCHW tensor's sizes.
#[derive(Clone, Copy)]
struct Dims {
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Dims {
    fn of(shape: &Shape) -> Result<Self> {
        let (images, channels, height, width) = shape.dims4()?;
        Ok(Self { images, channels, height, width })
    }

    fn area(&self) -> usize {
        self.height * self.width
    }

    fn map(&self) -> MapShape {
        MapShape { images: self.images, area: self.area(), channels: self.channels }
    }

    fn shape(&self) -> (usize, usize, usize, usize) {
        (self.images, self.channels, self.height, self.width)
    }

    fn to_nhwc(self, runtime: &Runtime, x: &[f32]) -> Vec<f32> {
        transpose(runtime, x, self.channels, self.area())
    }

    fn to_nchw(self, runtime: &Runtime, x: &[f32]) -> Vec<f32> {
        transpose(runtime, x, self.area(), self.channels)
    }
}
