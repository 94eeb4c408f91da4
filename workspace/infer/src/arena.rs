//! Where maps lie while they are needed: places in one arena, used again when their map is read no more.

use std::ops::Range;

/// What places begin at multiples of: the bytes of a cache line, or as many floats.
const LINE: usize = 64;

/// A map's floats or bytes, and the steps from the first that writes it to the last that reads it.
#[derive(Clone, Debug)]
pub struct Life {
    pub len: usize,
    pub steps: Range<usize>,
}

/// Where each map begins, and how long the arena is; none if that overflows. Maps that are needed at the same time do not
/// overlap.
///
/// The largest is placed first, each as low as it fits: simple, and for these networks the result is what the step with the
/// most memory needs, or little more.
pub fn place(lives: &[Life]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(lives[at].len));
    let mut placed: Vec<(Range<usize>, &Range<usize>)> = Vec::new();
    let (mut starts, mut peak) = (vec![0; lives.len()], 0);
    for at in order {
        let Life { len, steps } = &lives[at];
        let len = len.checked_next_multiple_of(LINE)?;
        let mut start: usize = 0;
        // Sorted by place: each one in the way moves the start behind it.
        for (taken, _) in placed.iter().filter(|(_, of)| of.start < steps.end && steps.start < of.end) {
            if start.checked_add(len)? > taken.start && start < taken.end {
                start = taken.end;
            }
        }
        let end = start.checked_add(len)?;
        let before = placed.partition_point(|(taken, _)| taken.start < start);
        placed.insert(before, (start..end, steps));
        (starts[at], peak) = (start, peak.max(end));
    }
    Some((starts, peak))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_live_together_lie_apart_and_others_share() {
        // A chain with a shortcut from the first map to the fourth step, and an output that lives on.
        let life = |len, start, end| Life { len, steps: start..end };
        let lives = [life(40, 0, 5), life(100, 1, 3), life(100, 2, 4), life(40, 3, 5), life(7, 4, 9)];
        let (starts, peak) = place(&lives).unwrap();
        for (i, a) in lives.iter().enumerate() {
            assert!(starts[i] % LINE == 0 && starts[i] + a.len <= peak);
            for (j, b) in lives.iter().enumerate().filter(|(j, _)| *j != i) {
                let together = a.steps.start < b.steps.end && b.steps.start < a.steps.end;
                let apart = starts[i] + a.len <= starts[j] || starts[j] + b.len <= starts[i];
                assert!(!together || apart, "{i} and {j}");
            }
        }
        // The third step needs 128 + 128 + 64 floats, and nothing needs more.
        assert_eq!(peak, 320);
        assert_eq!(place(&[life(usize::MAX - 3, 0, 1)]), None);
        assert_eq!(place(&[life(usize::MAX - 63, 0, 1), life(64, 0, 1)]), None);
    }
}
