//! ReLU6, SiLU, the residual addition with identity multiplier, and global average pooling.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Dims, Ops, tensor, to_vec, values};
use crate::map::{Operand, Sink};
use crate::{Runtime, pool};

impl Ops {
    /// `x` clamped to 0..=6. Its gradient is 0 at both borders, as PyTorch's (candle's `clamp` gives one half).
    ///
    /// # Errors
    /// A tensor that is not f32 on the CPU.
    pub fn relu6(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Relu6)
    }

    /// `x sigmoid(x)`, also called Swish.
    ///
    /// # Errors
    /// As for [`Ops::relu6`].
    pub fn silu(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Silu)
    }

    /// `branch` with the first `channels` channels of `identity` added; both [n, c, h, w].
    ///
    /// # Errors
    /// Shapes that differ, fewer channels than `channels`, or tensors that are not f32 on the CPU.
    pub fn residual_add(&self, branch: &Tensor, identity: &Tensor, channels: usize) -> Result<Tensor> {
        branch.contiguous()?.apply_op2(&identity.contiguous()?, ResidualAdd { channels })
    }

    /// Mean over height and width: [n, c, h, w] to [n, c].
    ///
    /// # Errors
    /// A map of no pixels, or one that is not f32 on the CPU.
    pub fn global_avg_pool(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(GlobalAvgPool { runtime: self.runtime.clone() })
    }
}

struct Relu6;

impl CustomOp1 for Relu6 {
    fn name(&self) -> &'static str {
        "sandglass-relu6"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // NaN passes, as in the kernels.
        let clamp = |x: f32| {
            if 0.0 > x {
                0.0
            } else if 6.0 < x {
                6.0
            } else {
                x
            }
        };
        let y = values(storage, layout)?.iter().map(|x| clamp(*x)).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let pairs = to_vec(x)?.into_iter().zip(to_vec(dy)?);
        let dx = pairs.map(|(x, dy)| if 0.0 < x && x < 6.0 { dy } else { 0.0 }).collect();
        Ok(Some(tensor(dx, x.shape().clone())?))
    }
}

struct Silu;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

impl CustomOp1 for Silu {
    fn name(&self) -> &'static str {
        "sandglass-silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let silu = |x: f64| (x * sigmoid(x)) as f32;
        let y = values(storage, layout)?.iter().map(|x| silu(f64::from(*x))).collect();
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let slope = |x: f64| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
        let pairs = to_vec(x)?.into_iter().zip(to_vec(dy)?);
        let dx = pairs.map(|(x, dy)| (slope(f64::from(x)) * f64::from(dy)) as f32).collect();
        Ok(Some(tensor(dx, x.shape().clone())?))
    }
}

struct ResidualAdd {
    channels: usize,
}

impl ResidualAdd {
    /// Elements of an image that the identity reaches, and all of them.
    fn split(&self, shape: &Shape) -> Result<(usize, usize)> {
        let dims = Dims::of(shape)?;
        if self.channels > dims.channels {
            candle_core::bail!("{} identity channels of a map of {}", self.channels, dims.channels);
        }
        Ok((self.channels * dims.area(), dims.channels * dims.area()))
    }
}

impl CustomOp2 for ResidualAdd {
    fn name(&self) -> &'static str {
        "sandglass-residual-add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        if l1.shape() != l2.shape() {
            candle_core::bail!("a branch {:?} and an identity {:?} differ", l1.shape(), l2.shape());
        }
        let (reached, image) = self.split(l1.shape())?;
        let mut y = values(s1, l1)?.to_vec();
        for (y, x) in y.chunks_exact_mut(image.max(1)).zip(values(s2, l2)?.chunks_exact(image.max(1))) {
            y[..reached].iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, branch: &Tensor, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (reached, image) = self.split(branch.shape())?;
        let mut dx = to_vec(dy)?;
        dx.chunks_exact_mut(image.max(1)).for_each(|image| image[reached..].fill(0.0));
        Ok((Some(dy.clone()), Some(tensor(dx, branch.shape().clone())?)))
    }
}

struct GlobalAvgPool {
    runtime: Arc<Runtime>,
}

impl CustomOp1 for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "sandglass-global-avg-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = Dims::of(layout.shape())?;
        let x = dims.to_nhwc(&self.runtime, values(storage, layout)?);
        let mut y = vec![0.0; dims.images * dims.channels];
        pool::average(&self.runtime, Operand::plain(&x), dims.map(), &mut y)?;
        Ok((CpuStorage::F32(y), (dims.images, dims.channels).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dims = Dims::of(x.shape())?;
        let mut dx = vec![0.0; x.elem_count()];
        pool::average_backward(&self.runtime, &to_vec(dy)?, dims.map(), Sink::plain(&mut dx))?;
        Ok(Some(tensor(dims.to_nchw(&self.runtime, &dx), x.shape().clone())?))
    }
}
