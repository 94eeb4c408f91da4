//! The verdict rule: the words that stand on the page, and the functions that they describe.

use sandglass_ledger::stats::Interval;
use serde::Serialize;

/// What is counted as a loss, in points and in percent of time.
pub(crate) const LOSS_POINTS: f64 = 1.0;
pub(crate) const LOSS_TIME: f64 = 5.0;

/// The rule as the page tells it.
pub const RULE: [&str; 8] = [
    "Counts are equal to what is printed, at its precision (a whole number that ends in 0: to tens), or not; a claim on counts without a printed value is reproduced or \
     contradicted.",
    "A claim on trained networks is one of direction, at the scale that decides; other scales stand beside it and decide \
     nothing, nor do images that were drawn by code. Let I be the 95 % interval of the effect, and h half of the paper's \
     effect, both signed so that the paper's side is above 0.",
    "I above 0: reproduced. I below 0: contradicted. I holds 0 but not h: not reproduced. I holds 0 and h: same direction where \
     the difference of every seed lies on the paper's side, else too few to tell. No rows: not tested.",
    "A claim of no loss is reproduced where I excludes a loss of 1 point (of time: 5 %), contradicted where all of I lies \
     beyond it, else too few to tell.",
    "I is the t interval of paired differences over seeds; over several widths each width counts once and their spread within \
     widths is pooled. With one seed I is over images, the verdict says \u{201c}one seed\u{201d} and is at most same direction.",
    "Times are compared as ratios within one run on one machine; their I is that of the median over rounds, widened by as much \
     as a second copy of the same network differed from the first.",
    "Where a lead holds under the recipe for all and not with each family at its own best recipe, the verdict says so.",
    "Nothing is corrected for the number of claims: of twenty claims without any effect, one would be expected to be called \
     reproduced or contradicted by chance.",
];

/// What rows say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Equal,
    Reproduced,
    SameDirection,
    TooFew,
    NotReproduced,
    Contradicted,
    NotEqual,
    NotTested,
}

impl Verdict {
    pub const ALL: [Self; 8] = [
        Self::Equal,
        Self::Reproduced,
        Self::SameDirection,
        Self::TooFew,
        Self::NotReproduced,
        Self::Contradicted,
        Self::NotEqual,
        Self::NotTested,
    ];

    pub const fn words(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Reproduced => "reproduced",
            Self::SameDirection => "same direction",
            Self::TooFew => "too few to tell",
            Self::NotReproduced => "not reproduced",
            Self::Contradicted => "contradicted",
            Self::NotEqual => "not equal",
            Self::NotTested => "not tested",
        }
    }

    /// Readable without colour.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal | Self::Reproduced => "\u{2713}",
            Self::SameDirection => "\u{2197}",
            Self::TooFew => "?",
            Self::NotReproduced => "\u{2260}",
            Self::Contradicted | Self::NotEqual => "\u{2717}",
            Self::NotTested => "\u{2013}",
        }
    }

    /// One seed bears out a direction and no more.
    #[must_use]
    pub fn of_one_seed(self) -> Self {
        if self == Self::Reproduced { Self::SameDirection } else { self }
    }
}

/// Of a direction: the interval of the effect, the paper's effect where it is known, and every seed's difference.
pub(crate) fn direction(interval: Interval, paper: Option<f64>, differences: &[f64]) -> Verdict {
    let turned = paper.is_some_and(|effect| effect < 0.0);
    let interval = if turned { interval.negated() } else { interval };
    let on_side = |difference: &f64| if turned { *difference < 0.0 } else { *difference > 0.0 };
    let holds_half = paper.is_none_or(|effect| interval.holds(effect.abs() / 2.0));
    match interval {
        Interval { low, .. } if low > 0.0 => Verdict::Reproduced,
        Interval { high, .. } if high < 0.0 => Verdict::Contradicted,
        _ if !holds_half => Verdict::NotReproduced,
        _ if differences.iter().all(on_side) => Verdict::SameDirection,
        _ => Verdict::TooFew,
    }
}

/// Of a claim that nothing is lost: an effect below 0 is a loss, of which less than `margin` is none.
pub(crate) fn no_loss(interval: Interval, margin: f64) -> Verdict {
    match interval {
        Interval { low, .. } if low > -margin => Verdict::Reproduced,
        Interval { high, .. } if high < -margin => Verdict::Contradicted,
        _ => Verdict::TooFew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Interval {
        Interval { effect: (low + high) / 2.0, low, high }
    }

    /// Each sentence of the rule once, with the paper's effect at 4 points, so that h is 2.
    #[test]
    fn directions_follow_the_rule() {
        let of = |low, high, differences: &[f64]| direction(interval(low, high), Some(4.0), differences);
        assert_eq!(of(0.1, 1.0, &[-1.0]), Verdict::Reproduced, "I above 0, however small");
        assert_eq!(of(-3.0, -0.1, &[1.0]), Verdict::Contradicted);
        assert_eq!(of(-1.0, 1.9, &[0.4, 0.5]), Verdict::NotReproduced, "h lies outside");
        assert_eq!(of(-1.0, 2.1, &[0.4, 0.5]), Verdict::SameDirection);
        assert_eq!(of(-1.0, 2.1, &[0.4, -0.1]), Verdict::TooFew);
        assert_eq!(of(-1.0, 2.1, &[0.4, 0.0]), Verdict::TooFew, "no difference lies on no side");
        assert_eq!(of(0.0, 3.0, &[1.0]), Verdict::SameDirection, "0 itself is held");
    }

    #[test]
    fn a_claim_of_less_is_the_mirror_of_one_of_more() {
        for (low, high) in [(0.1, 1.0), (-3.0, -0.1), (-1.0, 1.9), (-1.0, 2.1), (-2.1, 1.0)] {
            for differences in [[0.4, 0.5], [0.4, -0.1]] {
                let mirrored = differences.map(|difference| -difference);
                assert_eq!(
                    direction(interval(low, high), Some(4.0), &differences),
                    direction(interval(-high, -low), Some(-4.0), &mirrored)
                );
            }
        }
    }

    /// Without the paper's effect nothing can be called too small.
    #[test]
    fn an_effect_that_is_not_known_has_no_half() {
        assert_eq!(direction(interval(-1.0, 0.1), None, &[0.1]), Verdict::SameDirection);
        assert_eq!(direction(interval(-1.0, 0.1), None, &[-0.1]), Verdict::TooFew);
    }

    #[test]
    fn a_loss_below_the_margin_is_none() {
        assert_eq!(no_loss(interval(-0.9, 0.2), LOSS_POINTS), Verdict::Reproduced);
        assert_eq!(no_loss(interval(-3.0, -1.1), LOSS_POINTS), Verdict::Contradicted);
        assert_eq!(no_loss(interval(-1.1, 0.2), LOSS_POINTS), Verdict::TooFew);
        assert_eq!(no_loss(interval(-4.9, -1.0), LOSS_TIME), Verdict::Reproduced);
    }

    #[test]
    fn one_seed_is_at_most_a_direction() {
        for verdict in Verdict::ALL {
            assert_ne!(verdict.of_one_seed(), Verdict::Reproduced);
            if verdict != Verdict::Reproduced {
                assert_eq!(verdict.of_one_seed(), verdict);
            }
        }
    }

    proptest::proptest! {
        /// An interval that moves to the paper's side never moves the verdict away from it.
        #[test]
        fn more_of_the_papers_effect_is_no_worse(low in -5.0f64..5.0, length in 0.0f64..6.0, by in 0.0f64..5.0) {
            let place = |verdict| match verdict {
                Verdict::Contradicted => 0,
                Verdict::NotReproduced | Verdict::TooFew | Verdict::SameDirection => 1,
                _ => 2,
            };
            let of = |low: f64| place(direction(interval(low, low + length), Some(3.0), &[low]));
            proptest::prop_assert!(of(low) <= of(low + by));
            let of = |low: f64| match no_loss(interval(low, low + length), 1.0) {
                Verdict::Contradicted => 0,
                Verdict::TooFew => 1,
                _ => 2,
            };
            proptest::prop_assert!(of(low) <= of(low + by));
        }
    }
}
