//! Boxes in both of their forms, and how far two of them are one.

/// `[centre x, centre y, width, height]` as `[xmin, ymin, xmax, ymax]`.
pub fn corners([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// `[xmin, ymin, xmax, ymax]` as `[centre x, centre y, width, height]`.
pub fn centred([left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

/// Of a box whose sides are as much longer as `extra` says: 1 for boxes of inclusive pixels, else 0. Nothing for a box
/// whose corners are in the wrong order.
pub fn area(of: [f32; 4], extra: f64) -> f64 {
    let [left, top, right, bottom] = of.map(f64::from);
    (right - left + extra).max(0.0) * (bottom - top + extra).max(0.0)
}

/// Intersection over union; 0 of two boxes without area. `extra` as for [`area`].
pub fn iou(a: [f32; 4], b: [f32; 4], extra: f64) -> f64 {
    let shared = shared(a, b, extra);
    let all = area(a, extra) + area(b, extra) - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

/// Area of the intersection.
pub(crate) fn shared(a: [f32; 4], b: [f32; 4], extra: f64) -> f64 {
    area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])], extra)
}
