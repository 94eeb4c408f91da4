//! Rounding and 8-bit scales; all decisions in f64, as the golden cases define them.

use sandglass_models::Activation;

use crate::net::clamp;

/// Rounds half away from zero.
pub fn round(x: f64) -> f64 {
    x.round()
}

/// How real numbers of a map are kept in 8 bits: `x = (q - zero_point) * scale`, q from -128 to 127.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Above 0.
    pub scale: f32,
    /// What 0 is, from -128 to 127.
    pub zero_point: i32,
}

impl Affine {
    /// For numbers from `low` to `high`; 0 is always among them, and kept exactly.
    pub fn of_range(low: f64, high: f64) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0) as f32;
        // A range of nothing, or of less than f32 can divide by.
        if scale == 0.0 {
            return Self { scale: 1.0, zero_point: 0 };
        }
        let zero_point = round(-128.0 - low / f64::from(scale)).clamp(-128.0, 127.0) as i32;
        Self { scale, zero_point }
    }

    /// Half away from zero, spelt out: `f64::round` is a call where the CPU's baseline lacks it.
    #[inline]
    pub fn quantise(self, x: f32) -> i8 {
        // Zero points lie within 8 bits, so what is beyond 300 steps is clamped anyway.
        let steps = (f64::from(x) / f64::from(self.scale)).clamp(-300.0, 300.0);
        let whole = steps as i32;
        let rest = steps - f64::from(whole);
        let rounded = whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5);
        (rounded + self.zero_point).clamp(-128, 127) as i8
    }

    /// The lowest and the highest step that an activation leaves, where it is a clamp.
    pub fn bounds(self, activation: Activation) -> (i8, i8) {
        let (low, high) = clamp(activation).unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let bound = |real: f32, otherwise| if real.is_finite() { self.quantise(real) } else { otherwise };
        (bound(low, i8::MIN), bound(high, i8::MAX))
    }

    /// The real number that `q` stands for, in f64 until the end.
    #[inline]
    pub fn dequantise(self, q: i8) -> f32 {
        (f64::from(i32::from(q) - self.zero_point) * f64::from(self.scale)) as f32
    }
}

/// The scale of symmetric weights; 1 where all are 0.
pub fn weight_scale(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0f64, |largest, weight| largest.max(f64::from(weight.abs())));
    match (largest / 127.0) as f32 {
        0.0 => 1.0,
        scale => scale,
    }
}

/// A weight in -127..=127.
pub fn quantise_weight(weight: f32, scale: f32) -> i8 {
    round(f64::from(weight) / f64::from(scale)).clamp(-127.0, 127.0) as i8
}

/// A bias as it is added to accumulators of this scale.
pub fn quantise_bias(bias: f32, scale: f64) -> i32 {
    // The cast saturates.
    round(f64::from(bias) / scale) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_f32_cannot_divide_are_empty() {
        let none = Affine { scale: 1.0, zero_point: 0 };
        assert_eq!([(0.0, 0.0), (0.0, 1e-46)].map(|(low, high)| Affine::of_range(low, high)), [none; 2]);
        assert_eq!(Affine::of_range(5.0, 10.0), Affine::of_range(0.0, 10.0));
        assert_eq!(Affine::of_range(-3.0, -1.0).quantise(0.0), 127);
    }
}
