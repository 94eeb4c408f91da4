//! Claims set against rows and counts.

use sandglass_ledger::stats::{Interval, median, slope};
use sandglass_ledger::{Row, Status};

use super::contrast::{Contrast, Effect, Evidence, matches};
use super::count::{Comparison, Count, verdict};
use super::file::{Claim, Claims, Ratio, Test, Time};
use super::printed::{Printed, PrintedEffect};
use super::rule::{LOSS_POINTS, LOSS_TIME, Verdict, direction, no_loss};
use super::told;
use crate::paper::Confidence;
use crate::{Part, Project, Section, StudyError};

/// What all studies of a project bring forward.
pub(crate) struct Facts<'a> {
    pub project: &'a Project,
    pub evidence: &'a [Evidence<'a>],
    pub sections: &'a [Section],
}

impl<'a> Facts<'a> {
    /// What a study counted; None where it is not here.
    fn counts(&self, study: &str) -> Option<&'a [Count]> {
        self.sections.iter().find(|section| section.name == study).map(|section| section.counts.as_slice())
    }
}

/// A claim and what rows say of it.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    pub claim: &'a Claim,
    pub verdict: Verdict,
    /// What limits the verdict, such as `one seed`.
    pub notes: Vec<String>,
    /// What the paper shows, and what was found, in words of one unit.
    pub paper: Option<(String, Confidence)>,
    pub ours: String,
    /// Seeds, images, rounds.
    pub on: String,
    /// Ids of the rows behind it.
    pub rows: Vec<String>,
    /// How it came about.
    pub parts: Vec<Part>,
}

/// Judges every claim, in their order.
///
/// # Errors
/// A claim whose rows cannot be told apart, or that names what no table has.
pub fn judge<'a>(
    claims: &'a Claims,
    project: &Project,
    evidence: &[Evidence<'_>],
    sections: &[Section],
) -> Result<Vec<Judged<'a>>, StudyError> {
    let facts = Facts { project, evidence, sections };
    let of = |claim: &'a Claim| {
        let judged = match &claim.test {
            None => Ok(Judged::not_tested(claim, &claim.untested)),
            Some(Test::Lead(contrast)) => trained(claim, contrast, &facts, Kind::Lead),
            Some(Test::NoLoss(contrast)) => trained(claim, contrast, &facts, Kind::NoLoss),
            Some(Test::Trend(contrast)) => trained(claim, contrast, &facts, Kind::Trend),
            Some(Test::Time(time)) => timed(claim, time, &facts),
            Some(Test::Count(comparisons)) => counted(claim, comparisons, &facts),
        };
        judged.map_err(|message| StudyError::refused(format!("claim {}: {message}", claim.id)))
    };
    claims.claim.iter().map(of).collect()
}

impl<'a> Judged<'a> {
    pub(crate) fn not_tested(claim: &'a Claim, why: &str) -> Self {
        Self {
            claim,
            verdict: Verdict::NotTested,
            notes: Vec::new(),
            paper: None,
            ours: "not run".to_owned(),
            on: String::new(),
            rows: Vec::new(),
            parts: vec![Part::Prose(why.to_owned())],
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lead,
    NoLoss,
    Trend,
}

fn trained<'a>(claim: &'a Claim, contrast: &Contrast, facts: &Facts<'_>, kind: Kind) -> Result<Judged<'a>, String> {
    let at_scale = |profile: &str| {
        let counts = facts.counts(&claim.study).unwrap_or_default();
        contrast.effect((&claim.study, profile), facts.evidence, counts, facts.project)
    };
    let printed = printed(contrast.paper.as_ref())?;
    let decisive = at_scale(&contrast.profile)?.filter(|effect| !effect.synthetic);
    let mut beside = Vec::new();
    for profile in &contrast.beside {
        beside.extend(at_scale(profile)?.map(|effect| (profile.clone(), effect)));
    }
    let mut judged = match &decisive {
        None => {
            let why = format!(
                "Not run: no pair of rows of study {}, profile {}. `sandglass run {0} --profile {1}` makes them.",
                claim.study, contrast.profile
            );
            let mut judged = Judged::not_tested(claim, &why);
            judged.paper = paper_words(kind, &printed, None);
            judged
        }
        Some(effect) => of_effect(claim, contrast, kind, effect, &printed),
    };
    if let (Some(own), Kind::Lead) = (&contrast.own_best, kind) {
        own_best(&mut judged, &own.chosen, at_scale(&own.profile)?.as_ref());
    }
    let beside: Vec<(String, Effect)> = beside;
    judged.parts.extend(told::scales(&beside, &contrast.counted));
    Ok(judged)
}

fn of_effect<'a>(
    claim: &'a Claim,
    contrast: &Contrast,
    kind: Kind,
    effect: &Effect,
    printed: &[PrintedEffect],
) -> Judged<'a> {
    let places: Vec<f64> = effect.groups.iter().filter_map(|group| group.at.parse().ok()).collect();
    let here: Vec<PrintedEffect> =
        printed.iter().filter(|of| of.at.is_none_or(|at| places.contains(&at))).cloned().collect();
    let paper = number(kind, &here);
    let slopes = (kind == Kind::Trend).then(|| Slopes::of(effect));
    let (interval, differences) = match &slopes {
        Some(slopes) => (slopes.all, slopes.by_seed.iter().map(|(_, slope)| *slope).collect()),
        None => (effect.interval, effect.differences()),
    };
    let verdict = match (interval, kind) {
        (None, _) => Verdict::TooFew,
        (Some(interval), Kind::NoLoss) => no_loss(interval, LOSS_POINTS),
        (Some(interval), _) => direction(interval, paper, &differences),
    };
    let mut notes = Vec::new();
    if effect.one_seed {
        notes.push("one seed".to_owned());
    }
    let all = printed.iter().filter(|of| of.at.is_some()).count();
    if all > here.len() {
        notes.push(format!("so far {} of {all} {}s", here.len(), contrast.over));
    }
    if !effect.incomplete.is_empty() {
        notes.push(format!("{} of its pairs incomplete", effect.incomplete.len()));
    }
    let unit = if slopes.is_some() { SLOPE } else { "points" };
    Judged {
        claim,
        verdict: if effect.one_seed { verdict.of_one_seed() } else { verdict },
        notes,
        paper: paper_words(kind, printed, Some(&here)),
        ours: interval.map_or_else(|| told::signed_mean(&differences, unit), |interval| told::interval(interval, unit)),
        on: format!("{}, {} {}", told::seeds(effect), effect.images, contrast.counted),
        rows: effect.rows(),
        parts: told::widths(&contrast.over, effect, printed, slopes.as_ref()),
    }
}

/// The unit of a slope over halvings of an axis.
pub(crate) const SLOPE: &str = "points a halving";

/// The slope of the differences over halvings of the axis.
pub(crate) struct Slopes {
    pub all: Option<Interval>,
    /// That of each seed alone.
    pub by_seed: Vec<(u64, f64)>,
    /// With each value of the axis left out in turn.
    pub without: Vec<(String, f64)>,
}

impl Slopes {
    fn of(effect: &Effect) -> Self {
        let mut points: Vec<(&str, u64, (f64, f64))> = Vec::new();
        for group in &effect.groups {
            let Some(x) = group.at.parse::<f64>().ok().filter(|at| *at > 0.0).map(|at| -at.log2()) else { continue };
            points.extend(group.differences.iter().map(|(seed, difference)| (&*group.at, *seed, (x, *difference))));
        }
        let of = |wanted: &dyn Fn(&str, u64) -> bool| {
            let points = points.iter().filter(|(at, seed, _)| wanted(at, *seed)).map(|(_, _, point)| *point);
            slope(&points.collect::<Vec<_>>())
        };
        let mut seeds: Vec<u64> = points.iter().map(|(_, seed, _)| *seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let by_seed = seeds.into_iter().filter_map(|seed| Some((seed, of(&|_, other| other == seed)?.effect)));
        let without = effect.groups.iter().filter_map(|group| {
            let slope = of(&|at, _| at != group.at)?;
            Some((group.at.clone(), slope.effect))
        });
        Self { all: of(&|_, _| true), by_seed: by_seed.collect(), without: without.collect() }
    }
}

/// Whether a lead outlives the recipe for all.
fn own_best(judged: &mut Judged<'_>, chosen: &str, own: Option<&Effect>) {
    if judged.verdict == Verdict::NotTested {
        return;
    }
    let found = own.and_then(|own| Some((own, own.interval?)));
    let Some((own, interval)) = found else {
        judged.parts.push(Part::Prose(format!("Each family at its own best recipe ({chosen}): not run.")));
        return;
    };
    let words = told::interval(interval, "points");
    let at = own.groups.iter().map(|group| group.at.as_str()).collect::<Vec<_>>().join(", ");
    judged.parts.push(Part::Prose(format!(
        "Each family at its own best recipe ({chosen}), at {at} alone, on {}: {words}.",
        told::seeds(own)
    )));
    let leads = matches!(judged.verdict, Verdict::Reproduced | Verdict::SameDirection);
    if leads && interval.low <= 0.0 {
        judged.notes.push(format!("only under the recipe for all; each at its own best: {words}"));
    }
}

fn printed(paper: Option<&Printed>) -> Result<Vec<PrintedEffect>, String> {
    paper.map_or(Ok(Vec::new()), |printed| printed.effects().map_err(|error| error.to_string()))
}

/// The paper's effect in one number: the mean over the axis, or the slope over its halvings.
fn number(kind: Kind, printed: &[PrintedEffect]) -> Option<f64> {
    match kind {
        Kind::Trend => {
            let points = printed.iter().filter_map(|of| Some((-of.at.filter(|at| *at > 0.0)?.log2(), of.effect)));
            slope(&points.collect::<Vec<_>>()).map(|slope| slope.effect)
        }
        _ => sandglass_ledger::Summary::of(&printed.iter().map(|of| of.effect).collect::<Vec<_>>())
            .map(|summary| summary.mean),
    }
}

/// The paper's number; where rows cover a part of the axis, that of the part as well.
fn paper_words(kind: Kind, printed: &[PrintedEffect], here: Option<&[PrintedEffect]>) -> Option<(String, Confidence)> {
    let confidence = printed.iter().map(|of| of.confidence).max()?;
    let all = number(kind, printed)?;
    let words = match here.filter(|here| here.len() < printed.len()).and_then(|here| number(kind, here)) {
        Some(here) => format!("{here:+.2} here, {all:+.2} over all"),
        None => format!("{all:+.2}"),
    };
    Some((words, confidence))
}

fn timed<'a>(claim: &'a Claim, time: &Time, facts: &Facts<'_>) -> Result<Judged<'a>, String> {
    let printed = printed(time.paper.as_ref())?;
    let paper = printed.first().map(|of| (format!("{:+.1} %", of.effect), of.confidence));
    let Some(timed) = Timed::find(&claim.study, &time.ratio, facts)? else {
        let why = format!(
            "Not run: `sandglass run {} --profile {}` on a quiet machine makes the rows.",
            claim.study, time.ratio.profile
        );
        return Ok(Judged { paper, ..Judged::not_tested(claim, &why) });
    };
    let verdict = match time.no_loss {
        true => no_loss(timed.saved, LOSS_TIME),
        false => direction(timed.saved, printed.first().map(|of| of.effect), &timed.rounds()),
    };
    let mut parts = vec![Part::Prose(timed.words())];
    let beside = time.beside.iter().map(|beside| Timed::find(&beside.study, &beside.ratio, facts));
    let beside: Vec<Timed<'_>> = beside.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    parts.extend(told::times(&beside));
    Ok(Judged {
        claim,
        verdict,
        notes: Vec::new(),
        paper,
        ours: told::interval_of(timed.saved, TIME, 1),
        on: format!("{} rounds", timed.row.samples.len()),
        rows: vec![timed.row.id()],
        parts,
    })
}

/// The unit of what is saved of a time.
pub(crate) const TIME: &str = " % of time";

/// A ratio of times that was measured.
pub(crate) struct Timed<'a> {
    pub row: &'a Row,
    /// In percent of the first network's time, with the median's interval, widened by what the machine does to a copy.
    pub saved: Interval,
    ratio: f64,
    /// The ratio of the first network's second copy to it.
    control: Option<f64>,
}

impl<'a> Timed<'a> {
    fn find(study: &str, time: &Ratio, facts: &Facts<'a>) -> Result<Option<Self>, String> {
        let here = facts.evidence.iter().filter(|of| of.study == study && of.profile == time.profile);
        let rows: Vec<&Row> = here.map(|of| of.row).filter(|row| row.status == Status::Ok).collect();
        let mut found = rows.iter().filter(|row| row.metric == time.metric && matches(row, &time.row));
        let (row, next) = (found.next().copied(), found.next());
        if let (Some(row), Some(next)) = (row, next) {
            return Err(format!("{} and {} are both meant: name another axis", row.id(), next.id()));
        }
        let Some((row, whole)) = row.and_then(|row| Some((row, median(&row.samples)?))) else { return Ok(None) };
        let control = rows.iter().find(|other| other.metric == time.control && other.cell == row.cell);
        let control = control.and_then(|row| row.value);
        let machine = control.map_or(0.0, |control| (control - 1.0).abs());
        let saved = Interval {
            effect: percent(whole.effect),
            low: percent(whole.high + machine),
            high: percent(whole.low - machine),
        };
        Ok(Some(Self { row, saved, ratio: whole.effect, control }))
    }

    /// What each round saved.
    fn rounds(&self) -> Vec<f64> {
        self.row.samples.iter().map(|ratio| percent(*ratio)).collect()
    }

    fn words(&self) -> String {
        let row = self.row;
        let engine = row.engine.as_deref().unwrap_or("unknown engine");
        let part = row.part.as_deref().unwrap_or_default();
        let copy = match self.control {
            Some(control) => format!(
                "A second copy of the first network took {control:.3} of its time in the same run: the interval is {:.1} points \
                 wider on both sides for it.",
                100.0 * (control - 1.0).abs()
            ),
            None => "There was no second copy of the first network to compare the machine with.".to_owned(),
        };
        format!(
            "{part} took {:.3} of the first network's time ({}, the median of {} rounds): {} ({}), threads: {}, {engine}. {copy}",
            self.ratio,
            row.metric,
            row.samples.len(),
            row.machine,
            row.isa,
            row.threads
        )
    }
}

/// What a ratio of times saves.
fn percent(ratio: f64) -> f64 {
    100.0 * (1.0 - ratio)
}

fn counted<'a>(claim: &'a Claim, comparisons: &[Comparison], facts: &Facts<'_>) -> Result<Judged<'a>, String> {
    let Some(counts) = facts.counts(&claim.study) else {
        return Ok(Judged::not_tested(claim, "The study that counts it is not here."));
    };
    let mut all = Vec::new();
    for comparison in comparisons {
        all.extend(comparison.compare(counts).map_err(|error| error.to_string())?);
    }
    let holding = all.iter().filter(|compared| compared.holds).count();
    let printed = all.iter().filter_map(|compared| Some(compared.printed.as_ref()?.0)).max();
    let ours = match &all[..] {
        [one] => format!("{} {}", one.counted, one.what),
        _ => format!("{holding} of {} hold", all.len()),
    };
    Ok(Judged {
        claim,
        verdict: verdict(comparisons, &all),
        notes: Vec::new(),
        paper: printed.map(|confidence| ("printed".to_owned(), confidence)),
        ours,
        on: "counted".to_owned(),
        rows: Vec::new(),
        parts: told::counts(&all),
    })
}
