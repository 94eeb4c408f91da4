//! Layers in stock candle, mended where it errs.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::{BatchNorm, Conv2d, Module, ModuleT};
use sandglass_models::{Activation, Window};

/// Mean over height and width: N x C x H x W -> N x C.
///
/// # Errors
/// A tensor of another shape; here as below, what candle itself refuses.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.mean(D::Minus1)
}

/// The first `channels` of `x` added to those of `branch`; the others of `branch` pass through.
///
/// # Errors
/// Maps of which one has fewer channels, or that differ in size.
pub fn residual_add(x: &Tensor, branch: &Tensor, channels: usize) -> Result<Tensor> {
    let all = branch.dim(1)?;
    if channels == 0 {
        return Ok(branch.clone());
    }
    let sum = (x.narrow(1, 0, channels)? + branch.narrow(1, 0, channels)?)?;
    if channels == all { Ok(sum) } else { Tensor::cat(&[&sum, &branch.narrow(1, channels, all - channels)?], 1) }
}

/// Zero gradient at 0 and at 6, as in PyTorch; candle's `clamp` has a half there.
///
/// # Errors
/// What candle itself refuses.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    let inside = (x.gt(0.0)? * x.lt(6.0)?)?;
    inside.where_cond(x, &x.detach().clamp(0.0, 6.0)?)
}

/// Each value through `activation`.
///
/// # Errors
/// What candle itself refuses.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x.clone()),
        // candle's own has gradient 1 at 0.
        Activation::Relu => x.gt(0.0)?.where_cond(x, &x.zeros_like()?),
        Activation::Relu6 => relu6(x),
        Activation::Silu => x.silu(),
        Activation::Sigmoid => candle_nn::ops::sigmoid(x),
    }
}

/// `conv`, which has no padding of its own, over `window`.
///
/// candle's backward takes the width's remainder at stride 2 to be the height's: a row or column of zeros more, which no
/// tap reaches, makes them equal.
///
/// # Errors
/// A window that does not fit on the map, or channels that are not the convolution's.
pub fn conv2d(conv: &Conv2d, x: &Tensor, window: Window) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let Some((rows, columns)) = window.padding(height).zip(window.padding(width)) else {
        bail!("{window:?} does not fit on {height} x {width}")
    };
    let rest = |(before, after): (usize, usize), side| (before + side + after - window.kernel) % window.stride;
    let (below, right) = (rest(rows, height), rest(columns, width));
    let x = x.pad_with_zeros(2, rows.0, rows.1 + right.saturating_sub(below))?;
    conv.forward(&x.pad_with_zeros(3, columns.0, columns.1 + below.saturating_sub(right))?)
}

/// candle's own, but for one value per channel in training, of which candle makes the variance NaN.
///
/// # Errors
/// Such a map, or channels that are not the norm's.
pub fn batch_norm(norm: &BatchNorm, x: &Tensor, train: bool) -> Result<Tensor> {
    if train && x.elem_count() <= x.dim(1)? {
        bail!("batch norm in training needs more than one value per channel")
    }
    norm.forward_t(x, train)
}

/// `x` with the least of numbers before and after it along `dim`.
fn pad_with_least(x: &Tensor, dim: usize, (before, after): (usize, usize)) -> Result<Tensor> {
    let least = |count: usize| -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        shape[dim] = count;
        Tensor::full(f32::MIN, shape, x.device())?.to_dtype(x.dtype())
    };
    match (before, after) {
        (0, 0) => Ok(x.clone()),
        _ => Tensor::cat(&[&least(before)?, x, &least(after)?], dim),
    }
}

/// The largest of the shifted maps. candle's own has neither padding nor, for overlapping windows, a gradient.
/// What pads it never wins.
///
/// # Errors
/// A window that does not fit on the map.
pub fn max_pool(x: &Tensor, window: Window) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let fits = |side| window.padding(side).zip(window.output_size(side));
    let Some(((rows, out_height), (columns, out_width))) = fits(height).zip(fits(width)) else {
        bail!("{window:?} does not fit on {height} x {width}")
    };
    let x = pad_with_least(&pad_with_least(x, 2, rows)?, 3, columns)?;
    let places = |first: usize, count: usize| -> Result<Tensor> {
        let places: Vec<u32> = (0..count).map(|place| (place * window.stride + first) as u32).collect();
        Tensor::new(places, x.device())
    };
    let mut largest: Option<Tensor> = None;
    for dy in 0..window.kernel {
        let rows = x.index_select(&places(dy, out_height)?, 2)?;
        for dx in 0..window.kernel {
            let shifted = rows.index_select(&places(dx, out_width)?, 3)?;
            largest = Some(match largest {
                Some(largest) => largest.maximum(&shifted)?,
                None => shifted,
            });
        }
    }
    largest.map_or_else(|| bail!("a max pool of kernel 0"), Ok)
}
