//! What a unit does to its normalised output, and to the gradient on its way back.

use crate::lanes::Lanes;

/// An activation, and by it its derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    None,
    /// `x` where it is above 0, else 0.
    Relu,
    /// `x` clamped to 0..=6.
    Relu6,
    /// `x sigmoid(x)`, also called Swish.
    Silu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl Activation {
    /// True if the derivative follows from the activation's output alone: all but SiLU, which takes many a value twice.
    pub fn is_known_by_output(self) -> bool {
        self != Self::Silu
    }

    /// True if it is more than clamping. What clamps, nothing included, is two instructions in the middle of a loop; what
    /// does not has loops of its own.
    pub(crate) fn is_smooth(self) -> bool {
        matches!(self, Self::Silu | Self::Sigmoid)
    }

    /// Borders of what clamps.
    #[inline(always)]
    pub(crate) fn range(self) -> (f32, f32) {
        match self {
            Self::Relu => (0.0, f32::INFINITY),
            Self::Relu6 => (0.0, 6.0),
            Self::None | Self::Silu | Self::Sigmoid => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// As [`Activation::range`], for `high.min(low.max(x))`, which keeps a NaN and the sign of a zero.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    pub(crate) unsafe fn bounds<V: Lanes>(self) -> (V, V) {
        let (low, high) = self.range();
        // SAFETY: the caller's.
        unsafe { (V::splat(low), V::splat(high)) }
    }

    /// The activation of `x`.
    ///
    /// # Safety
    /// As for [`Activation::bounds`].
    #[inline(always)]
    pub(crate) unsafe fn apply<V: Lanes>(self, x: V) -> V {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Silu => x.mul(sigmoid(x)),
                Self::Sigmoid => sigmoid(x),
                _ => {
                    let (low, high) = self.bounds::<V>();
                    high.min(low.max(x))
                }
            }
        }
    }

    /// The gradient of `x`, whose activation has the gradient `g`. At a border of ReLU and ReLU6 it is 0, as in PyTorch.
    ///
    /// # Safety
    /// As for [`Activation::bounds`].
    #[inline(always)]
    pub(crate) unsafe fn backward<V: Lanes>(self, x: V, g: V) -> V {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::None => g,
                Self::Relu | Self::Relu6 => {
                    let (low, high) = self.bounds::<V>();
                    x.open(low, high, g)
                }
                Self::Silu => {
                    let (one, s) = (V::splat(1.0), sigmoid(x));
                    g.mul(s.mul(x.fma(one.sub(s), one)))
                }
                Self::Sigmoid => self.backward_by_output(sigmoid(x), g),
            }
        }
    }

    /// As [`Activation::backward`], where the activation's output `y` is what is known: see `is_known_by_output`.
    ///
    /// # Safety
    /// As for [`Activation::bounds`].
    #[inline(always)]
    pub(crate) unsafe fn backward_by_output<V: Lanes>(self, y: V, g: V) -> V {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Sigmoid => g.mul(y.mul(V::splat(1.0).sub(y))),
                // What clamps is between its borders exactly where its input is.
                _ => self.backward(y, g),
            }
        }
    }
}

/// `1 / (1 + e^-x)`.
///
/// # Safety
/// As for [`Activation::bounds`].
#[inline(always)]
unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(V::splat(0.0).sub(x))))
    }
}

/// `e^x` by a polynomial on -ln 2 / 2 ..= ln 2 / 2 and a power of two; `x` is clamped to -87..=88, where both are normal.
///
/// # Safety
/// As for [`Activation::bounds`].
#[inline(always)]
unsafe fn exp<V: Lanes>(x: V) -> V {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first times a whole number up to 127 is exact.
    const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    // 1 / n!, n from 7 to 0: what is left out is below half a unit in the last place.
    const TAYLOR: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // SAFETY: the caller's.
    unsafe {
        let x = V::splat(88.0).min(V::splat(-87.0).max(x));
        let power = x.fma(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND)).sub(V::splat(ROUND));
        let rest = power.fma(V::splat(-LN2.1), power.fma(V::splat(-LN2.0), x));
        let mut sum = V::splat(TAYLOR[0]);
        for coefficient in &TAYLOR[1..] {
            sum = sum.fma(rest, V::splat(*coefficient));
        }
        sum.mul(power.pow2())
    }
}
