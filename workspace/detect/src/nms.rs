//! Non-maximum suppression: of boxes that overlap, the one that scores best.

use crate::boxes::iou;

/// Indices of the boxes that stay, by falling score; among equal scores the first box comes first. A box goes where it
/// overlaps one that stays by more than `threshold`; an IoU of exactly `threshold` does no harm. `most` boxes stay at most.
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], threshold: f64, most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len().min(scores.len())).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in order {
        if kept.len() == most {
            break;
        }
        if kept.iter().all(|&stays| iou(boxes[stays], boxes[candidate], 0.0) <= threshold) {
            kept.push(candidate);
        }
    }
    kept
}
