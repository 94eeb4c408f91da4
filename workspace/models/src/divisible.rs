//! The rounding of channel numbers that all of these networks share.

/// `value` rounded to a multiple of `divisor`, at least `divisor`, and never by more than 10 % down.
/// TensorFlow's `_make_divisible`, which torchvision and the official MobileNeXt code copy.
pub(crate) fn make_divisible(value: f64, divisor: usize) -> usize {
    // Truncation to an integer comes before the floor division, as in the Python.
    let rounded = (value + divisor as f64 / 2.0) as usize / divisor * divisor;
    let rounded = rounded.max(divisor);
    if (rounded as f64) < 0.9 * value { rounded + divisor } else { rounded }
}
