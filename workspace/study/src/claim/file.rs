//! `experiments/claims.toml`.

use serde::Deserialize;

use super::contrast::{Contrast, Selector};
use super::count::Comparison;
use super::printed::Printed;
use crate::file::read_toml;
use crate::paper::Confidence;
use crate::{Project, StudyError};

/// All claims, in the papers' order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    #[serde(default)]
    pub claim: Vec<Claim>,
}

/// A sentence that rows can bear out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Names it in links and in prose.
    pub id: String,
    pub says: String,
    pub paper: String,
    pub origin: Origin,
    /// Where the paper has it, and where we have that from.
    pub source: String,
    pub confidence: Confidence,
    /// Whose rows decide.
    pub study: String,
    /// What to know before the verdict is leaned on.
    #[serde(default)]
    pub caution: String,
    #[serde(default)]
    pub test: Option<Test>,
    /// Why there is no test.
    #[serde(default)]
    pub untested: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The paper says so.
    Stated,
    /// It follows from what the paper shows, and is ours to say.
    Derived,
}

impl Origin {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Stated => "the paper states it",
            Self::Derived => "derived from what the paper shows",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The effect lies on the paper's side.
    Lead(Contrast),
    /// No more than a point is lost.
    NoLoss(Contrast),
    /// The effect grows from halving to halving of the axis.
    Trend(Contrast),
    /// Time is saved, or none is lost.
    Time(Time),
    /// Counts compare so.
    Count(Vec<Comparison>),
}

/// What a ratio of times is to show.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    pub ratio: Ratio,
    /// That nothing is lost, in place of that something is saved.
    #[serde(default)]
    pub no_loss: bool,
    #[serde(default)]
    pub paper: Option<Printed>,
    /// The same measured elsewhere, which decides nothing.
    #[serde(default)]
    pub beside: Vec<Beside>,
}

/// A ratio of times within one run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    pub profile: String,
    pub metric: String,
    pub row: Selector,
    /// The metric of a second copy of the first network, as a ratio to it.
    pub control: String,
}

/// A ratio of another study.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    pub study: String,
    pub ratio: Ratio,
}

impl Claims {
    /// None where the project states no claims.
    ///
    /// # Errors
    /// A file that cannot be read, or a claim that contradicts itself.
    pub fn read(project: &Project) -> Result<Self, StudyError> {
        let path = project.root().join("experiments/claims.toml");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let claims: Self = read_toml(&path)?;
        claims.check().map_err(|message| StudyError::Invalid { path, message })?;
        Ok(claims)
    }

    fn check(&self) -> Result<(), String> {
        for (at, claim) in self.claim.iter().enumerate() {
            let id = &claim.id;
            if !sandglass_ledger::is_plain_name(id) {
                return Err(format!("claim {id:?}: use letters, digits, '-', '_' and '.'"));
            }
            if self.claim.iter().take(at).any(|other| other.id == *id) {
                return Err(format!("claim {id} occurs twice"));
            }
            if claim.test.is_some() != claim.untested.is_empty() {
                return Err(format!("claim {id}: needs either a test or the reason why there is none"));
            }
            match &claim.test {
                Some(Test::Lead(contrast) | Test::NoLoss(contrast) | Test::Trend(contrast)) => contrast.check(),
                _ => Ok(()),
            }
            .map_err(|message| format!("claim {id}: {message}"))?;
        }
        Ok(())
    }
}
