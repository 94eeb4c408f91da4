//! Exact counts, and claims on them.

use sandglass_ledger::Row;
use serde::{Deserialize, Serialize};

use super::contrast::Selector;
use super::printed::PrintedCount;
use super::rule::Verdict;
use crate::paper::Confidence;
use crate::{StudyError, grouped};

/// Something that is counted and not measured, of the subject with these axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Count {
    pub what: String,
    pub axes: Vec<(String, String)>,
    pub value: u64,
}

/// Two counts, or a count and what is printed of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    pub what: String,
    pub of: Selector,
    pub is: Relation,
    #[serde(default)]
    pub than: Option<Selector>,
    /// What is compared with is multiplied by this.
    #[serde(default = "one")]
    pub times: f64,
    /// An axis whose every value is compared with itself.
    #[serde(default)]
    pub over: Option<String>,
    #[serde(default)]
    pub printed: Option<PrintedCount>,
}

fn one() -> f64 {
    1.0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    Equal,
    AtMost,
    Less,
    More,
}

impl Relation {
    fn of(self, first: f64, second: f64) -> bool {
        match self {
            Self::Equal => first == second,
            Self::AtMost => first <= second,
            Self::Less => first < second,
            Self::More => first > second,
        }
    }

    pub const fn words(self) -> &'static str {
        match self {
            Self::Equal => "equal to",
            Self::AtMost => "at most",
            Self::Less => "less than",
            Self::More => "more than",
        }
    }
}

/// One comparison that was made.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub subject: String,
    pub what: String,
    pub counted: String,
    pub with: String,
    /// How sure we are of what is printed, and where it stands; None where two counts were compared.
    pub printed: Option<(Confidence, String)>,
    pub holds: bool,
}

/// The count of what a row is of: all of the count's axes are the row's.
pub(crate) fn find(counts: &[Count], what: &str, row: &Row) -> Option<f64> {
    let is_of = |count: &&Count| {
        count.what == what && count.axes.iter().all(|(name, value)| row.axis(name) == Some(value.as_str()))
    };
    counts.iter().find(is_of).map(|count| count.value as f64)
}

impl Count {
    fn axis(&self, name: &str) -> Option<&str> {
        self.axes.iter().find(|(axis, _)| axis == name).map(|(_, value)| value.as_str())
    }

    fn is(&self, line: &Selector) -> bool {
        line.iter().all(|(axis, value)| self.axis(axis) == Some(value))
    }

    fn subject(&self) -> String {
        self.axes.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
    }
}

impl Comparison {
    /// # Errors
    /// What is not counted, or not printed.
    pub(crate) fn compare(&self, counts: &[Count]) -> Result<Vec<Compared>, StudyError> {
        let found: Vec<&Count> = counts.iter().filter(|count| count.what == self.what && count.is(&self.of)).collect();
        if found.is_empty() {
            return Err(StudyError::refused(format!("{} of {:?} is not counted", self.what, self.of)));
        }
        let compared: Vec<Option<Compared>> =
            found.into_iter().map(|count| self.compare_one(count, counts)).collect::<Result<_, _>>()?;
        let compared: Vec<Compared> = compared.into_iter().flatten().collect();
        match compared.is_empty() {
            true => Err(StudyError::refused(format!("{} of {:?}: nothing is printed of it", self.what, self.of))),
            false => Ok(compared),
        }
    }

    /// None where the paper prints none of this value of the axis.
    fn compare_one(&self, count: &Count, counts: &[Count]) -> Result<Option<Compared>, StudyError> {
        let compared = |counted: String, with: String, printed, holds| Compared {
            subject: count.subject(),
            what: self.what.clone(),
            counted,
            with,
            printed,
            holds,
        };
        let over = self.over.as_deref().and_then(|over| Some((over, count.axis(over)?)));
        if let Some(printed) = &self.printed {
            let at = over.and_then(|(over, value)| Some((over, value.parse().ok()?)));
            let Some((value, confidence, stands)) = printed.value(at)? else { return Ok(None) };
            let (counted, digits) = (count.value as f64 / printed.unit, printed.digits);
            let step = printed.step(value);
            let holds = (counted / step).round() == (value / step).round();
            let more = digits + 2;
            let (ours, paper) = (format!("{counted:.more$}"), format!("{value:.digits$}"));
            return Ok(Some(compared(ours, paper, Some((confidence, stands)), holds)));
        }
        let than = self.than.as_ref().ok_or_else(|| StudyError::refused("a count needs `than` or `printed`"))?;
        let is_same = |other: &&Count| {
            other.what == self.what
                && other.is(than)
                && over.is_none_or(|(axis, value)| other.axis(axis) == Some(value))
        };
        let missing = || StudyError::refused(format!("{} of {than:?} is not counted", self.what));
        let other = counts.iter().find(is_same).ok_or_else(missing)?;
        let holds = self.is.of(count.value as f64, other.value as f64 * self.times);
        let times = if self.times == 1.0 { String::new() } else { format!("{:.3} of ", self.times) };
        let with = format!("{} {times}{} ({})", self.is.words(), grouped(other.value), other.subject());
        Ok(Some(compared(grouped(count.value), with, None, holds)))
    }
}

/// Of a claim on counts: equal or not where they are printed.
pub(crate) fn verdict(comparisons: &[Comparison], compared: &[Compared]) -> Verdict {
    let printed = comparisons.iter().any(|comparison| comparison.printed.is_some());
    match (compared.iter().all(|compared| compared.holds), printed) {
        (true, true) => Verdict::Equal,
        (false, true) => Verdict::NotEqual,
        (true, false) => Verdict::Reproduced,
        (false, false) => Verdict::Contradicted,
    }
}
