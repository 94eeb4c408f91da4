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
        let left = match self.shift {
            // What does not fit 32 bits would be clamped to 8 anyway.
            1.. => (i64::from(x) << self.shift.min(31)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => i64::from(x),
        };
        // Towards zero with a nudge by sign, or half up: the two are the same.
        let high = (left * i64::from(self.q) + (1 << 30)) >> 31;
        let shift = (-self.shift).clamp(0, 62);
        // Half away from zero: below zero, one less than a half goes on top.
        let half = (1i64 << shift) >> 1;
        let below = if high < 0 && shift > 0 { 1 } else { 0 };
        ((high + half - below) >> shift) as i32
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

    /// gemmlowp's text: a doubling high multiplication with a nudge by sign, then a rounding shift by its remainder.
    fn slow(Multiplier { q, shift }: Multiplier, x: i32) -> i32 {
        let left = i128::from(x) << shift.max(0);
        let left = left.clamp(i32::MIN.into(), i32::MAX.into());
        let product = left * i128::from(q);
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = (product + nudge) / (1 << 31);
        let right = (-shift).max(0);
        let mask = (1i128 << right) - 1;
        let (remainder, threshold) = (high & mask, (mask >> 1) + i128::from(high < 0));
        ((high >> right) + i128::from(remainder > threshold)) as i32
    }

    #[test]
    fn the_two_roundings_are_gemmlowps() {
        let reals = [3e-12, 7.3e-6, 0.0003921, 0.25, 0.3, 0.5, 0.75, 0.999_999_999_9, 1.0, 1.7, 3.999, 700.0, 3e9];
        let edges = (0..32)
            .flat_map(|bit| [-1i64, 0, 1].map(|by| ((1i64 << bit) + by) as i32))
            .flat_map(|x| [x, x.wrapping_neg()]);
        let mixed = (0..2000u32).map(|at| at.wrapping_mul(0x9E37_79B9).cast_signed() >> (at % 31));
        for x in edges.chain(mixed) {
            for real in reals {
                let multiplier = Multiplier::of(real);
                assert_eq!(multiplier.apply(x), slow(multiplier, x), "{x} times {real}");
            }
        }
        assert_eq!(Multiplier::of(0.0).apply(i32::MAX), 0);
    }

    #[test]
    fn ranges_that_f32_cannot_divide_are_empty() {
        let none = Affine { scale: 1.0, zero_point: 0 };
        assert_eq!([(0.0, 0.0), (0.0, 1e-46)].map(|(low, high)| Affine::of_range(low, high)), [none; 2]);
        assert_eq!(Affine::of_range(5.0, 10.0), Affine::of_range(0.0, 10.0));
        assert_eq!(Affine::of_range(-3.0, -1.0).quantise(0.0), 127);
    }
}
