//! The ten classes of the embedded data set.

pub(crate) const SHAPES: [&str; 10] =
    ["disc", "ring", "square", "triangle", "plus", "star", "crescent", "bars", "horseshoe", "bow tie"];

/// Whether the shape covers (u, v); it lies within the unit circle, and its upright side is v = -1.
pub(crate) fn inside(shape: usize, u: f64, v: f64) -> bool {
    let radius = (u * u + v * v).sqrt();
    let (across, down) = (u.abs(), v.abs());
    match SHAPES[shape] {
        "disc" => radius < 0.8,
        "ring" => (0.45..0.85).contains(&radius),
        "square" => across.max(down) < 0.7,
        "triangle" => v < 0.5 && across < (v + 1.0) * 0.6,
        "plus" => across.min(down) < 0.25 && across.max(down) < 0.9,
        "star" => star(u, v, radius),
        "crescent" => radius < 0.9 && (u - 0.4) * (u - 0.4) + v * v > 0.5,
        "bars" => across < 0.8 && (0.25..0.7).contains(&down),
        "horseshoe" => across.max(down) < 0.8 && !(across < 0.35 && v < 0.3),
        _ => across < 0.85 && down < 0.15 + 0.65 * across,
    }
}

/// Five points: within each fifth of the turn, left of the line from a tip to the next notch.
fn star(u: f64, v: f64, radius: f64) -> bool {
    const FIFTH: f64 = std::f64::consts::TAU / 5.0;
    const TIP: f64 = 1.0;
    const NOTCH: f64 = 0.42;
    let turn = libm::atan2(u, -v) / FIFTH;
    let from_tip = (turn - turn.round()).abs() * FIFTH;
    let (sin, cos) = libm::sincos(from_tip);
    let (notch_sin, notch_cos) = libm::sincos(FIFTH / 2.0);
    let (x, y) = (radius * cos, radius * sin);
    let (dx, dy) = (NOTCH * notch_cos - TIP, NOTCH * notch_sin);
    dx * y - dy * (x - TIP) > 0.0
}
