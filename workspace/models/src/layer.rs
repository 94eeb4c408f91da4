//! The layers that a graph's nodes hold. Nothing is executed here.

use serde::{Deserialize, Serialize};

/// What is done to each value of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    Relu6,
    /// x * sigmoid(x).
    Silu,
    Sigmoid,
}

/// What lies around a map where a window reaches over its border: zeros, or places that never win in a max-pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// So many places on every side, as in PyTorch.
    Symmetric(usize),
    /// TensorFlow's SAME: as many as make the size shrink by the stride, rounded up; an odd one comes last.
    Same,
    /// So many before and after a map of any size.
    Unequal(usize, usize),
}

/// How a whole network pads its maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingRule {
    /// Half a kernel on every side: PyTorch's reference code.
    #[default]
    Symmetric,
    /// [`Padding::Same`]: TensorFlow's networks.
    Same,
}

/// A square window that slides over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side, in pixels.
    pub kernel: usize,
    pub stride: usize,
    pub padding: Padding,
}

impl Window {
    /// With `kernel / 2` places on every side, as in all of PyTorch's reference code: a map of odd or even size shrinks
    /// by the stride, rounded up.
    pub const fn centred(kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, padding: Padding::Symmetric(kernel / 2) }
    }

    /// Height or width after this window; none where it does not fit.
    pub fn output_size(&self, size: usize) -> Option<usize> {
        if self.kernel == 0 || size == 0 {
            return None;
        }
        match self.padding {
            Padding::Symmetric(places) => self.steps(size, places, places),
            Padding::Unequal(before, after) => self.steps(size, before, after),
            Padding::Same => (self.stride > 0).then(|| size.div_ceil(self.stride)),
        }
    }

    fn steps(&self, size: usize, before: usize, after: usize) -> Option<usize> {
        let padded = before.checked_add(after)?.checked_add(size)?;
        padded.checked_sub(self.kernel)?.checked_div(self.stride)?.checked_add(1)
    }

    /// Padding before and after a map of this height or width; none where the window does not fit.
    pub fn padding(&self, size: usize) -> Option<(usize, usize)> {
        let output = self.output_size(size)?;
        match self.padding {
            Padding::Symmetric(places) => Some((places, places)),
            Padding::Unequal(before, after) => Some((before, after)),
            Padding::Same => {
                let reach = (output - 1).checked_mul(self.stride)?.checked_add(self.kernel)?;
                let places = reach.saturating_sub(size);
                Some((places / 2, places - places / 2))
            }
        }
    }
}

/// A convolution's channels and window. Each of `groups` equal parts of the output reads its part of the input: one
/// group is dense, as many as there are channels is depthwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    pub input: usize,
    pub output: usize,
    pub groups: usize,
    pub window: Window,
}

impl Conv {
    /// A `kernel` x `kernel` convolution over all channels.
    pub const fn dense(input: usize, output: usize, kernel: usize, stride: usize) -> Self {
        Self { input, output, groups: 1, window: Window::centred(kernel, stride) }
    }

    /// A 1x1 convolution over all channels.
    pub const fn pointwise(input: usize, output: usize) -> Self {
        Self::dense(input, output, 1, 1)
    }

    /// A `kernel` x `kernel` filter for each channel.
    pub const fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { input: channels, output: channels, groups: channels, window: Window::centred(kernel, stride) }
    }

    /// One filter a channel. A 1x1 convolution of a single channel counts as pointwise.
    pub const fn is_depthwise(&self) -> bool {
        self.groups == self.input && self.groups == self.output && (self.groups > 1 || self.window.kernel > 1)
    }

    /// As in a state dict: output, input per group, height, width.
    pub fn weight_shape(&self) -> [usize; 4] {
        let per_group = self.input.checked_div(self.groups).unwrap_or(0);
        [self.output, per_group, self.window.kernel, self.window.kernel]
    }
}

/// Normalises each channel, then scales and shifts it.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Place in a state dict, without `.weight` and so on.
    pub name: String,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the new value in the running statistics.
    pub momentum: f32,
}

/// What shifts the output of a convolution.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    Norm(BatchNorm),
    /// The convolution's own bias.
    Bias,
    /// Its own bias, then a batch norm, as official SSDLite heads have it; in training the one undoes the other.
    BiasNorm(BatchNorm),
}

/// Convolution, batch norm or bias or both, activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    pub conv: Conv,
    /// Place of the convolution in a state dict, without `.weight`.
    pub name: String,
    pub after: After,
    pub activation: Activation,
}

/// What becomes of the pixels below a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The greatest value of each window.
    Max(Window),
    /// The mean over the whole map, which becomes one pixel.
    GlobalAverage,
}

/// Fully connected, with bias, on maps of one pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Place in a state dict, without `.weight`.
    pub name: String,
    pub input: usize,
    pub output: usize,
}
