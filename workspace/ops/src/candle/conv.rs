//! Convolution and the fully connected layer.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{Dims, Ops, tensor, to_vec, values};
use crate::conv::After;
use crate::map::{Gradient, Operand, Sink};
use crate::{ConvShape, Runtime, conv};

impl Ops {
    /// A convolution with square kernel, stride and padding: `x` [n, c, h, w], `weight` [out, c / groups, k, k].
    ///
    /// `groups` is 1, or c = out (depthwise: k 3 or 5, stride 1 or 2, padding k / 2), both in one op; others are sliced.
    ///
    /// # Errors
    /// Groups that do not divide the channels, weights that do not fit them, a kernel that does not fit the map, or tensors
    /// that are not f32 on the CPU.
    pub fn conv2d(&self, x: &Tensor, weight: &Tensor, stride: usize, padding: usize, groups: usize) -> Result<Tensor> {
        let (input, output) = (x.dim(1)?, weight.dim(0)?);
        let kernel = weight.dim(2)?;
        let built = matches!(kernel, 3 | 5) && matches!(stride, 1 | 2) && padding == kernel / 2;
        let depthwise = built && groups == input && groups == output;
        if groups == 1 || depthwise {
            let op = Conv { runtime: self.runtime.clone(), stride, padding, depthwise };
            return x.contiguous()?.apply_op2(&weight.contiguous()?, op);
        }
        if groups == 0 || input % groups != 0 || output % groups != 0 {
            candle_core::bail!("{groups} groups do not divide {input} input and {output} output channels");
        }
        let (x, weight) = (x.chunk(groups, 1)?, weight.chunk(groups, 0)?);
        let parts = x.iter().zip(&weight).map(|(x, weight)| self.conv2d(x, weight, stride, padding, 1));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
    }

    /// `x weight^T + bias`: `x` [n, in], `weight` [out, in], `bias` of length out.
    ///
    /// # Errors
    /// Lengths that do not fit, or tensors that are not f32 on the CPU.
    pub fn linear(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let map = x.reshape((x.dim(0)?, x.dim(1)?, 1, 1))?;
        let weight = weight.reshape((weight.dim(0)?, weight.dim(1)?, 1, 1))?;
        self.conv2d(&map, &weight, 1, 0, 1)?.flatten_from(1)?.broadcast_add(bias)
    }
}

struct Conv {
    runtime: Arc<Runtime>,
    stride: usize,
    padding: usize,
    depthwise: bool,
}

impl Conv {
    fn shape(&self, x: Dims, weight: &Shape) -> Result<ConvShape> {
        let (output, group, kernel, columns) = weight.dims4()?;
        let expected = if self.depthwise { 1 } else { x.channels };
        if group != expected || kernel != columns {
            candle_core::bail!("weights {weight:?} do not fit an input of {} channels", x.channels);
        }
        let shape = ConvShape {
            images: x.images,
            height: x.height,
            width: x.width,
            input: x.channels,
            output,
            kernel,
            stride: self.stride,
            padding: self.padding,
            fewer: [0; 2],
            depthwise: self.depthwise,
        };
        if shape.output_len() == 0 || shape.output_len() == usize::MAX {
            candle_core::bail!("a {kernel}x{kernel} kernel does not fit a {}x{} map", x.height, x.width);
        }
        Ok(shape)
    }
}

fn output(shape: &ConvShape) -> Dims {
    Dims { images: shape.images, channels: shape.output, height: shape.out_height(), width: shape.out_width() }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "sandglass-conv2d"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = Dims::of(l1.shape())?;
        let shape = self.shape(dims, l2.shape())?;
        let x = dims.to_nhwc(&self.runtime, values(s1, l1)?);
        let mut y = vec![0.0; shape.output_len()];
        conv::forward(&self.runtime, &shape, Operand::plain(&x), values(s2, l2)?, &mut y, After::Raw)?;
        let out = output(&shape);
        Ok((CpuStorage::F32(out.to_nchw(&self.runtime, &y)), out.shape().into()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let runtime = &*self.runtime;
        let dims = Dims::of(x.shape())?;
        let shape = self.shape(dims, weight.shape())?;
        let (map, w) = (dims.to_nhwc(runtime, &to_vec(x)?), to_vec(weight)?);
        let dy = output(&shape).to_nhwc(runtime, &to_vec(dy)?);
        let mut dw = vec![0.0; w.len()];
        let mut dx = x.track_op().then(|| vec![0.0; map.len()]);
        let sink = dx.as_mut().map(|out| Sink::plain(out));
        let gradient = Gradient { data: &dy, norm: None };
        conv::backward(runtime, &shape, Operand::plain(&map), &w, gradient, &mut dw, sink)?;
        let dx = dx.map(|dx| tensor(dims.to_nchw(runtime, &dx), x.shape().clone())).transpose()?;
        Ok((dx, Some(tensor(dw, weight.shape().clone())?)))
    }
}
