//! Anchors of TensorFlow's SSDLite (`ssd_anchor_generator` with the lowest layer reduced): equal to the table that its
//! frozen graph carries.

/// Scale of each level's anchors, and one more for the last level's larger square.
const SCALES: [f64; 7] = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0];

/// As the configuration writes it, so that a third is none.
const THIRD: f64 = 0.3333;

/// Scale and ratio of a place's anchors.
fn shapes(level: usize) -> Vec<(f64, f64)> {
    let scale = |level: usize| SCALES[level.min(SCALES.len() - 1)];
    let own = scale(level);
    if level == 0 {
        return vec![(0.1, 1.0), (own, 2.0), (own, 0.5)];
    }
    let larger = (own * scale(level + 1)).sqrt();
    vec![(own, 1.0), (own, 2.0), (own, 0.5), (own, 3.0), (own, THIRD), (larger, 1.0)]
}

/// As `[centre x, centre y, width, height]` on maps of these rows and columns, in the order of [`priors`](crate::priors()); never
/// clipped.
pub fn tf_anchors(grids: &[(usize, usize)]) -> Vec<[f32; 4]> {
    let mut anchors = Vec::new();
    for (level, &(rows, columns)) in grids.iter().enumerate() {
        let shapes = shapes(level);
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let (x, y) = ((column as f64 + 0.5) / columns as f64, (row as f64 + 0.5) / rows as f64);
            let anchor = |&(scale, ratio): &(f64, f64)| [x, y, scale * ratio.sqrt(), scale / ratio.sqrt()];
            anchors.extend(shapes.iter().map(|shape| anchor(shape).map(|value| value as f32)));
        }
    }
    anchors
}
