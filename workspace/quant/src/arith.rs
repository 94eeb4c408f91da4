//! Rounding, fixed-point multipliers and 8-bit scales; all decisions in f64, as the golden cases define them.

/// Rounds half away from zero.
pub fn round(x: f64) -> f64 {
    x.round()
}

/// A real factor as `q / 2^31 * 2^shift`, with q of 31 bits: gemmlowp's and TensorFlow Lite's fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    pub q: i32,
    pub shift: i32,
}

impl Multiplier {
    /// Of a number from 0 on; 0 gives (0, 0).
    pub fn of(real: f64) -> Self {
        if real <= 0.0 || !real.is_finite() {
            return Self { q: 0, shift: 0 };
        }
        let (mut fraction, mut shift) = (real, 0);
        while fraction >= 1.0 {
            fraction /= 2.0;
            shift += 1;
        }
        while fraction < 0.5 {
            fraction *= 2.0;
            shift -= 1;
        }
        match round(fraction * (1u64 << 31) as f64) as i64 {
            q if q == 1 << 31 => Self { q: 1 << 30, shift: shift + 1 },
            q => Self { q: q as i32, shift },
        }
    }

    /// `x` times the factor, rounded twice: by a doubling high multiplication, and by a shift to the right.
    #[inline]
    pub fn apply(self, x: i32) -> i32 {
        let left = i64::from(x) << self.shift.clamp(0, 31);
        // What does not fit 32 bits would be clamped to 8 anyway.
        let left = left.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        let product = left * i64::from(self.q);
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = (product + nudge) / (1 << 31);
        let shift = (-self.shift).clamp(0, 62);
        let half = (1i64 << shift) >> 1;
        // Half away from zero: an arithmetic shift alone would round halves of negative numbers up.
        let rounded = if high >= 0 { (high + half) >> shift } else { -((-high + half) >> shift) };
        rounded as i32
    }
}

/// How real numbers of a map are kept in 8 bits: `x = (q - zero_point) * scale`, q from -128 to 127.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    pub scale: f32,
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

    pub fn quantise(self, x: f32) -> i8 {
        let q = round(f64::from(x) / f64::from(self.scale)) + f64::from(self.zero_point);
        q.clamp(-128.0, 127.0) as i8
    }

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
