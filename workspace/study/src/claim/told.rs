//! Claims as a section: the answer in one screen, the rule, then how each verdict came about.

use sandglass_ledger::Summary;
use sandglass_ledger::stats::Interval;

use super::contrast::Effect;
use super::count::Compared;
use super::file::Claim;
use super::judge::{Judged, SLOPE, Slopes, TIME, Timed};
use super::printed::PrintedEffect;
use super::rule::{RULE, Verdict};
use crate::paper::LEGEND;
use crate::{Entry, Mark, Part, Section, Table};

/// Names the section, in links.
pub const NAME: &str = "claims";

/// The section on all claims; None where there are none. `studies`: those that the page tells of.
pub fn section(judged: &[Judged<'_>], studies: &[&str]) -> Option<Section> {
    if judged.is_empty() {
        return None;
    }
    let mut table = Table::new([
        ("claim", false),
        ("verdict", false),
        ("paper", true),
        ("ours (95 % interval)", true),
        ("on", false),
    ]);
    for of in judged {
        table.push(line(of));
    }
    let mut parts = vec![Part::Table(table.clone()), Part::Notes(vec![tally(judged), LEGEND.to_owned()])];
    parts.push(Part::Heading("The rule".to_owned()));
    parts.push(Part::Notes(RULE.iter().map(|line| (*line).to_owned()).collect()));
    for of in judged {
        let claim = of.claim;
        let study = studies.contains(&&*claim.study).then(|| claim.study.clone());
        parts.push(Part::Claim { id: claim.id.clone(), says: claim.says.clone(), study });
        parts.push(Part::Prose(format!("{}. {}", verdict_words(of), stands(claim))));
        if !claim.caution.is_empty() {
            parts.push(Part::Prose(format!("To know before: {}", claim.caution)));
        }
        parts.extend(of.parts.iter().cloned());
    }
    Some(Section {
        name: NAME.to_owned(),
        title: "What the papers claim, and what is found here".to_owned(),
        question: String::new(),
        parts,
        headline: Some(table),
        ..Section::default()
    })
}

/// Where the papers have a claim.
fn stands(claim: &Claim) -> String {
    let Claim { paper, origin, source, confidence, .. } = claim;
    format!("{paper}: {}. Source: {source}; {}.", origin.words(), confidence.words())
}

fn line(of: &Judged<'_>) -> [Entry; 5] {
    let paper = match &of.paper {
        Some((words, confidence)) => Entry::printed(words, *confidence, stands(of.claim)),
        None => Entry::from(String::new()),
    };
    let ours = if of.verdict == Verdict::NotTested { Mark::Missing } else { Mark::Ours };
    [
        Entry { link: Some(anchor(&of.claim.id)), ..Entry::from(of.claim.says.clone()) },
        Entry::new(verdict_words(of), Mark::Verdict(of.verdict), Vec::new()),
        paper,
        Entry::new(of.ours.clone(), ours, of.rows.clone()),
        of.on.clone().into(),
    ]
}

/// Where a claim is told at length.
fn anchor(id: &str) -> String {
    format!("{NAME}.{id}")
}

fn verdict_words(of: &Judged<'_>) -> String {
    let mut words = format!("{} {}", of.verdict.sign(), of.verdict.words());
    for note in &of.notes {
        words += &format!(", {note}");
    }
    words
}

fn tally(judged: &[Judged<'_>]) -> String {
    let count = |verdict: Verdict| judged.iter().filter(|of| of.verdict == verdict).count();
    let counts = Verdict::ALL.into_iter().map(|verdict| (count(verdict), verdict.words()));
    let counts: Vec<String> =
        counts.filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect();
    format!("{} claims: {}.", judged.len(), counts.join(", "))
}

/// Such as `+1.88 (+0.72 to +3.04) points`.
pub(crate) fn interval(of: Interval, unit: &str) -> String {
    interval_of(of, &format!(" {unit}"), 2)
}

pub(crate) fn interval_of(Interval { effect, low, high }: Interval, unit: &str, digits: usize) -> String {
    let [effect, low, high] = [effect, low, high].map(|value| signed(value, digits));
    format!("{effect} ({low} to {high}){unit}")
}

/// With its sign, but for what is rounded to 0.
fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:+.digits$}");
    if text.contains(|digit: char| matches!(digit, '1'..='9')) { text } else { text.replace(['+', '-'], "") }
}

/// Without an interval.
pub(crate) fn signed_mean(values: &[f64], unit: &str) -> String {
    Summary::of(values).map_or_else(|| "no slope yet".to_owned(), |of| format!("{:+.2} {unit}", of.mean))
}

/// A line for each value of the axis, and one for all.
pub(crate) fn widths(over: &str, effect: &Effect, printed: &[PrintedEffect], slopes: Option<&Slopes>) -> Vec<Part> {
    let mut table = Table::new([
        (over, true),
        ("paper (points)", true),
        ("ours (points)", true),
        ("95 % interval over seeds", true),
        ("seed by seed", false),
        ("first seed: right by one alone", true),
        ("McNemar's p", true),
    ]);
    for group in &effect.groups {
        let at: Option<f64> = group.at.parse().ok();
        // What the paper has without such an axis is of one network, and not of each value.
        let is_of_all = |of: &&PrintedEffect| of.at.is_none() && effect.groups.len() == 1;
        let paper = printed.iter().find(|of| of.at == at && at.is_some()).or_else(|| printed.iter().find(is_of_all));
        let paper = paper.map_or_else(Entry::unknown, |of| {
            Entry::printed(format_args!("{:+.2}", of.effect), of.confidence, of.stands.clone())
        });
        let differences: Vec<f64> = group.differences.iter().map(|(_, difference)| *difference).collect();
        let mean = Summary::of(&differences).map_or_else(String::new, |of| format!("{:+.2} (n={})", of.mean, of.n));
        let seeds = group.differences.iter().map(|(seed, difference)| format!("{seed}: {difference:+.2}"));
        let test = group.mcnemar;
        table.push([
            group.at.clone().into(),
            paper,
            Entry::new(mean, Mark::Ours, group.rows.clone()),
            group.interval.map_or_else(|| "one seed".to_owned(), range).into(),
            seeds.collect::<Vec<_>>().join(", ").into(),
            test.map_or_else(String::new, |of| format!("{} lost, {} won", of.lost, of.won)).into(),
            test.map_or_else(String::new, |of| p_value(of.p)).into(),
        ]);
    }
    let mut notes = Vec::new();
    if let Some(of) = printed.iter().find(|of| of.at.is_none() && effect.groups.len() > 1) {
        notes.push(format!("The paper has {:+.2}, and does not tell it {over} by {over}.", of.effect));
    }
    if !effect.incomplete.is_empty() {
        let places = effect.incomplete.iter().map(|(at, seed)| format!("{at} (seed {seed})"));
        let places = places.collect::<Vec<_>>().join(", ");
        notes.push(format!("Not counted, for one of its rows is not there, stale or damaged: {over} {places}."));
    }
    match (slopes, effect.interval) {
        (Some(slopes), _) => notes.extend(slope_notes(over, slopes)),
        (None, interval) => notes.extend(mean_notes(over, effect, interval)),
    }
    vec![Part::Table(table), Part::Notes(notes)]
}

/// The slope, seed by seed, and how far one value of the axis carries it.
fn slope_notes(over: &str, slopes: &Slopes) -> Vec<String> {
    let Some(all) = slopes.all else { return vec![format!("Fewer than three points have no slope over the {over}.")] };
    let each = |slopes: &mut dyn Iterator<Item = (String, f64)>| {
        slopes.map(|(of, slope)| format!("{of}: {slope:+.2}")).collect::<Vec<_>>().join(", ")
    };
    let by_seed = each(&mut slopes.by_seed.iter().map(|(seed, slope)| (seed.to_string(), *slope)));
    let mut notes = vec![
        format!(
            "Slope of the difference over halvings of the {over}, all points: {}. This decides.",
            interval(all, SLOPE)
        ),
        format!("Slope seed by seed: {by_seed}."),
    ];
    if !slopes.without.is_empty() {
        notes.push(format!("Slope without one {over}: {}.", each(&mut slopes.without.iter().cloned())));
    }
    notes
}

fn mean_notes(over: &str, effect: &Effect, found: Option<Interval>) -> Vec<String> {
    let mut notes = Vec::new();
    match (effect.one_seed, found) {
        (true, Some(of)) => notes.push(format!("Over images, for there is one seed: {}.", interval(of, "points"))),
        (false, Some(of)) => {
            notes.push(format!("All, each {over} once, by seeds: {}. This decides.", interval(of, "points")));
            notes.extend(
                effect
                    .crossed
                    .map(|of| format!("Seeds and images drawn anew at once (bootstrap): {}.", interval(of, "points"))),
            );
        }
        (_, None) => notes.push("There are neither two seeds nor predictions to give an interval.".to_owned()),
    }
    notes
}

/// How many seeds an effect is over, in words.
pub(crate) fn seeds(effect: &Effect) -> String {
    match effect.seeds() {
        1 => "1 seed".to_owned(),
        seeds => format!("up to {seeds} seeds"),
    }
}

/// The same ratio measured elsewhere.
pub(crate) fn times(beside: &[Timed<'_>]) -> Vec<Part> {
    if beside.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new([
        ("beside it, deciding nothing", false),
        ("ratio", false),
        ("threads", true),
        ("ours (95 % interval)", true),
        ("machine", false),
    ]);
    for of in beside {
        let row = of.row;
        table.push([
            format!("{}/{}", row.study, row.profile).into(),
            row.metric.clone().into(),
            row.threads.to_string().into(),
            Entry::new(interval_of(of.saved, TIME, 1), Mark::Ours, vec![row.id()]),
            format!("{} ({})", row.machine, row.isa).into(),
        ]);
    }
    vec![Part::Table(table)]
}

fn range(Interval { low, high, .. }: Interval) -> String {
    format!("{low:+.2} to {high:+.2}")
}

fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// Scales that stand beside the one that decides; `counted` is what a row's `n` counts.
pub(crate) fn scales(beside: &[(String, Effect)], counted: &str) -> Vec<Part> {
    if beside.is_empty() {
        return Vec::new();
    }
    let mut table =
        Table::new([("beside it, deciding nothing", false), ("ours, with its interval", true), ("on", false)]);
    for (profile, effect) in beside {
        let ours = effect.interval.map_or_else(
            || signed_mean(&effect.differences(), "points, no interval"),
            |of| interval(of, if effect.one_seed { "points, over images" } else { "points" }),
        );
        let synthetic = if effect.synthetic { " (drawn by code)" } else { "" };
        let on = seeds(effect);
        table.push([
            format!("{profile}{synthetic}").into(),
            Entry::new(ours, Mark::Ours, effect.rows()),
            format!("{on}, {} {counted}", effect.images).into(),
        ]);
    }
    vec![Part::Table(table)]
}

/// Every comparison of a claim on counts.
pub(crate) fn counts(all: &[Compared]) -> Vec<Part> {
    let mut table = Table::new([("of", false), ("count", false), ("ours", true), ("against", true), ("holds", false)]);
    for of in all {
        let with = match &of.printed {
            Some((confidence, stands)) => {
                Entry::printed(format_args!("{} printed", of.with), *confidence, stands.clone())
            }
            None => of.with.clone().into(),
        };
        let holds = if of.holds { "yes" } else { "no" };
        table.push([
            of.subject.clone().into(),
            of.what.clone().into(),
            of.counted.clone().into(),
            with,
            holds.to_owned().into(),
        ]);
    }
    vec![Part::Table(table)]
}
