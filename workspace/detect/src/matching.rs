//! Which prior learns which object (`assign_priors` of the official code).

use crate::boxes::{area, shared};
use crate::{DetectError, corners};

/// Added to the union, as the official code does.
const EPSILON: f64 = 1e-5;

/// For each prior the object that it learns, by its place among `boxes`, or none where it is background.
///
/// A prior takes the box that it overlaps most, from an IoU of `threshold` on; besides, each box takes the prior that
/// overlaps it most, whatever the IoU, and of several boxes on one prior the last. Among equals the first prior and the
/// first box count.
///
/// # Errors
/// A box without area.
pub fn match_priors(
    priors: &[[f32; 4]],
    boxes: &[[f32; 4]],
    threshold: f64,
) -> Result<Vec<Option<usize>>, DetectError> {
    // Of a box whose numbers are none the area is none either.
    if let Some(bad) = boxes.iter().find(|of| area(**of, 0.0).is_nan() || area(**of, 0.0) <= 0.0) {
        return Err(DetectError::NoArea(*bad));
    }
    let mut best = vec![(f64::NEG_INFINITY, 0); priors.len()];
    let mut claims = vec![(f64::NEG_INFINITY, 0); boxes.len()];
    for (index, (prior, best)) in priors.iter().zip(&mut best).enumerate() {
        let prior = corners(*prior);
        for ((object, of), claim) in boxes.iter().enumerate().zip(&mut claims) {
            let both = shared(*of, prior, 0.0);
            let iou = both / (area(*of, 0.0) + area(prior, 0.0) - both + EPSILON);
            if iou > best.0 {
                *best = (iou, object);
            }
            if iou > claim.0 {
                *claim = (iou, index);
            }
        }
    }
    let mut matches: Vec<_> = best.into_iter().map(|(iou, object)| (iou >= threshold).then_some(object)).collect();
    for (object, (_, prior)) in claims.into_iter().enumerate() {
        if let Some(matched) = matches.get_mut(prior) {
            *matched = Some(object);
        }
    }
    Ok(matches)
}
