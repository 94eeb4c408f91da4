//! A contrast: the sum of some rows' values less that of others, for every value of an axis and every seed.

use std::collections::BTreeMap;

use sandglass_ledger::stats::{Interval, McNemar, bootstrap, interpolate, mean, percentiles, pooled};
use sandglass_ledger::{Row, Status, read_predictions};
use serde::Deserialize;

use super::count::{Count, find};
use super::printed::Printed;
use crate::Project;

/// Axes of rows by value; `part` is the row's part.
pub type Selector = BTreeMap<String, String>;

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// The scale that decides.
    pub profile: String,
    /// Scales that stand beside it.
    #[serde(default)]
    pub beside: Vec<String>,
    pub metric: String,
    pub plus: Vec<Selector>,
    pub minus: Vec<Selector>,
    /// An axis, such as the width: each of its values is compared with itself, and counts once.
    pub over: String,
    /// A count, such as multiply-adds: what is taken off is read from the lines through its points, at the same count.
    #[serde(default)]
    pub at_equal: Option<String>,
    /// Of a metric that is no mean over images, the metric whose samples are its values on images that are drawn anew, the
    /// same for all cells; for intervals over images.
    #[serde(default)]
    pub drawn: Option<String>,
    /// What the rows' `n` counts.
    #[serde(default = "images")]
    pub counted: String,
    #[serde(default)]
    pub own_best: Option<OwnBest>,
    #[serde(default)]
    pub paper: Option<Printed>,
}

/// Where each family is trained by its own best recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBest {
    pub profile: String,
    /// By what it was the best, in words.
    pub chosen: String,
}

fn images() -> String {
    "images".to_owned()
}

/// A row as a study sees it: borrowed rows are seen under the borrower's profile.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub study: &'a str,
    pub profile: &'a str,
    pub row: &'a Row,
}

/// One value of the axis at one seed: rows with their factors.
struct Unit<'a> {
    at: String,
    seed: u64,
    terms: Vec<(f64, &'a Row)>,
}

/// The seeds of one value of the axis.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub at: String,
    /// Seeds and their differences.
    pub differences: Vec<(u64, f64)>,
    /// Over seeds, by Student's t; None for one seed.
    pub interval: Option<Interval>,
    /// The first seed's two networks on the same images, where the contrast is of two.
    pub mcnemar: Option<McNemar>,
    pub rows: Vec<String>,
}

/// What a contrast comes to at one scale.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub groups: Vec<Group>,
    /// What decides: over seeds, or over images where no group has two seeds.
    pub interval: Option<Interval>,
    /// Over seeds and images at once.
    pub crossed: Option<Interval>,
    pub one_seed: bool,
    pub images: u64,
    pub synthetic: bool,
    /// Values of the axis and seeds of which some rows are not there, or not sound, so that they do not count.
    pub incomplete: Vec<(String, u64)>,
}

/// What a contrast can be made of.
struct Found<'a> {
    units: Vec<Unit<'a>>,
    incomplete: Vec<(String, u64)>,
}

impl Contrast {
    pub(crate) fn check(&self) -> Result<(), String> {
        match (self.plus.is_empty() || self.minus.is_empty(), &self.at_equal) {
            (true, _) => Err("plus and minus need a line each".into()),
            (_, Some(_)) if self.plus.len() + self.minus.len() > 2 => Err("at_equal compares one with one".into()),
            _ => Ok(()),
        }
    }

    /// At one scale; None without a pair.
    ///
    /// # Errors
    /// Rows of which it cannot be told which is meant, or that were measured on other images.
    pub(crate) fn effect(
        &self,
        (study, profile): (&str, &str),
        evidence: &[Evidence<'_>],
        counts: &[Count],
        project: &Project,
    ) -> Result<Option<Effect>, String> {
        let here = evidence.iter().filter(|of| of.study == study && of.profile == profile).map(|of| of.row);
        let here: Vec<&Row> = here.filter(|row| row.status == Status::Ok).collect();
        let of = |metric: &str| here.iter().filter(|row| row.metric == metric).copied().collect::<Vec<&Row>>();
        let rows = of(&self.metric);
        let Found { units, incomplete } = match &self.at_equal {
            None => self.units(&rows)?,
            Some(count) => Found { units: self.units_at_equal(&rows, count, counts)?, incomplete: Vec::new() },
        };
        for unit in &units {
            unit.check()?;
        }
        let over_images = match &self.drawn {
            None => Images::Predicted(project),
            Some(metric) => Images::Drawn(of(metric)),
        };
        Ok(effect(&units, &over_images).map(|effect| Effect { incomplete, ..effect }))
    }

    fn units<'a>(&self, rows: &[&'a Row]) -> Result<Found<'a>, String> {
        let terms = self.plus.iter().map(|line| (1.0, line)).chain(self.minus.iter().map(|line| (-1.0, line)));
        let terms: Vec<(f64, &Selector)> = terms.collect();
        let lines: Vec<&Selector> = terms.iter().map(|(_, line)| *line).collect();
        let (mut units, mut incomplete) = (Vec::new(), Vec::new());
        for (at, seed) in self.places(rows, &lines) {
            let found = terms.iter().map(|(factor, line)| Ok((*factor, self.one(rows, line, &at, seed)?)));
            let found = found.collect::<Result<Vec<_>, String>>()?;
            let found: Option<Vec<(f64, &Row)>> = found.into_iter().map(|(factor, row)| Some((factor, row?))).collect();
            match found {
                Some(terms) => units.push(Unit { at, seed, terms }),
                None => incomplete.push((at, seed)),
            }
        }
        // A seed of which nothing is complete is not run yet, and no loss.
        incomplete.retain(|(_, seed)| units.iter().any(|unit| unit.seed == *seed));
        Ok(Found { units, incomplete })
    }

    fn units_at_equal<'a>(&self, rows: &[&'a Row], what: &str, counts: &[Count]) -> Result<Vec<Unit<'a>>, String> {
        let (Some(plus), Some(minus)) = (self.plus.first(), self.minus.first()) else { return Ok(Vec::new()) };
        let places = self.places(rows, &[plus]);
        let mut units = Vec::new();
        for (at, seed) in &places {
            let Some(row) = self.one(rows, plus, at, *seed)? else { continue };
            let Some(cost) = find(counts, what, row) else { continue };
            let mut line: Vec<(f64, &Row)> = Vec::new();
            for at in places.iter().filter(|(_, other)| other == seed).map(|(at, _)| at) {
                let reference = self.one(rows, minus, at, *seed)?;
                line.extend(reference.and_then(|row| Some((find(counts, what, row)?, row))));
            }
            // A straight line weighs the two rows that it joins, so each row's factor is what it adds to the value.
            let factors = (0..line.len()).map(|of| {
                let unit: Vec<(f64, f64)> =
                    line.iter().enumerate().map(|(at, (cost, _))| (*cost, f64::from(u8::from(at == of)))).collect();
                interpolate(&unit, cost)
            });
            let Some(factors) = factors.collect::<Option<Vec<f64>>>().filter(|factors| !factors.is_empty()) else {
                continue;
            };
            let taken = factors.into_iter().zip(&line).filter(|(factor, _)| *factor > 0.0);
            let terms = std::iter::once((1.0, row)).chain(taken.map(|(factor, (_, row))| (-factor, *row)));
            units.push(Unit { at: at.clone(), seed: *seed, terms: terms.collect() });
        }
        Ok(units)
    }

    /// Values of the axis and seeds at which any of the lines has a row, from the largest value down.
    fn places(&self, rows: &[&Row], lines: &[&Selector]) -> Vec<(String, u64)> {
        let mut places: Vec<(String, u64)> = Vec::new();
        for row in rows.iter().filter(|row| lines.iter().any(|line| matches(row, line))) {
            let place = (row.axis(&self.over).unwrap_or_default().to_owned(), row.seed);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let value = |at: &str| at.parse::<f64>().unwrap_or_default();
        places.sort_by(|(a, x), (b, y)| value(b).total_cmp(&value(a)).then(x.cmp(y)));
        places
    }

    fn one<'a>(&self, rows: &[&'a Row], line: &Selector, at: &str, seed: u64) -> Result<Option<&'a Row>, String> {
        let is_here =
            |row: &&&Row| matches(row, line) && row.seed == seed && row.axis(&self.over).unwrap_or_default() == at;
        let found: Vec<&Row> = rows.iter().filter(is_here).copied().collect();
        match found[..] {
            [] => Ok(None),
            [row] => Ok(Some(row)),
            [first, second, ..] => Err(format!("{} and {} are both meant: name another axis", first.id(), second.id())),
        }
    }
}

pub(crate) fn matches(row: &Row, line: &Selector) -> bool {
    let part = line.get("part");
    part.map(String::as_str) == row.part.as_deref()
        && line.iter().filter(|(axis, _)| *axis != "part").all(|(axis, value)| row.axis(axis) == Some(value))
}

impl Unit<'_> {
    fn difference(&self) -> f64 {
        self.terms.iter().map(|(factor, row)| factor * row.value.unwrap_or(f64::NAN)).sum()
    }

    fn check(&self) -> Result<(), String> {
        let Some((_, first)) = self.terms.first() else { return Ok(()) };
        match self.terms.iter().find(|(_, row)| (&row.data_hash, row.n) != (&first.data_hash, first.n)) {
            Some((_, other)) => Err(format!("{} was measured on other images than {}", other.id(), first.id())),
            None => Ok(()),
        }
    }

    /// The difference image by image, in the metric's unit; None unless the metric is the share of items that are answered
    /// right, and the predictions are those of the rows.
    fn images(&self, project: &Project) -> Option<Vec<f64>> {
        let mut sum: Vec<f64> = Vec::new();
        for (factor, row) in &self.terms {
            let right = right(row, project)?;
            sum.resize(right.len(), 0.0);
            sum.iter_mut().zip(right).for_each(|(sum, right)| *sum += factor * if right { 100.0 } else { 0.0 });
        }
        Some(sum)
    }

    /// The difference on each draw of images; None where the cells have no such rows, or were drawn otherwise.
    fn drawn(&self, rows: &[&Row]) -> Option<Vec<f64>> {
        let mut sum: Vec<f64> = Vec::new();
        let mut draws: Option<(&String, &Vec<f64>)> = None;
        for (factor, row) in &self.terms {
            let is_its = |of: &&&Row| {
                (&of.study, &of.profile, &of.cell, &of.part) == (&row.study, &row.profile, &row.cell, &row.part)
            };
            let of = rows.iter().find(is_its)?;
            if *draws.get_or_insert((&of.data_hash, &of.samples_at)) != (&of.data_hash, &of.samples_at) {
                return None;
            }
            sum.resize(of.samples.len(), 0.0);
            sum.iter_mut().zip(&of.samples).for_each(|(sum, value)| *sum += factor * value);
        }
        Some(sum)
    }

    fn mcnemar(&self, project: &Project) -> Option<McNemar> {
        let [(_, second), (_, first)] = self.terms[..] else { return None };
        McNemar::of(&right(first, project)?, &right(second, project)?)
    }
}

fn right(row: &Row, project: &Project) -> Option<Vec<bool>> {
    let kept = read_predictions(&project.predictions(), [&row.study, &row.profile, &row.cell]).ok()?;
    let is_of_row = row.checkpoint_hash.as_ref() == Some(&kept.checkpoint) && kept.are_of(row.value, row.n);
    is_of_row.then(|| kept.right())
}

/// What is known image by image.
enum Images<'a> {
    /// Which are named right.
    Predicted(&'a Project),
    /// The metric on images drawn anew.
    Drawn(Vec<&'a Row>),
}

impl Images<'_> {
    /// The interval over images, and over seeds at once where images are known one by one.
    fn interval(&self, groups: &[Vec<&Unit<'_>>]) -> Option<Interval> {
        match self {
            Self::Predicted(project) => {
                let images = groups.iter().map(|group| group.iter().map(|unit| unit.images(project)).collect());
                bootstrap(&images.collect::<Option<Vec<Vec<Vec<f64>>>>>()?)
            }
            Self::Drawn(rows) => {
                let drawn = groups.iter().map(|group| group.iter().map(|unit| unit.drawn(rows)).collect());
                let drawn: Vec<Vec<Vec<f64>>> = drawn.collect::<Option<_>>()?;
                let replicates = drawn.first()?.first()?.len();
                if drawn.iter().flatten().any(|unit| unit.len() != replicates) {
                    return None;
                }
                let over_groups =
                    |of: &dyn Fn(&Vec<f64>) -> f64| average(drawn.iter().map(|group| average(group.iter().map(of))));
                let of_replicate = |at: usize| over_groups(&|unit| unit.get(at).copied().unwrap_or(f64::NAN));
                let differences = groups.iter().map(|group| average(group.iter().map(|unit| unit.difference())));
                percentiles(average(differences), (0..replicates).map(of_replicate).collect())
            }
        }
    }

    fn mcnemar(&self, unit: &Unit<'_>) -> Option<McNemar> {
        match self {
            Self::Predicted(project) => unit.mcnemar(project),
            Self::Drawn(_) => None,
        }
    }
}

fn average(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

fn effect(units: &[Unit<'_>], images: &Images<'_>) -> Option<Effect> {
    let (_, row) = units.first()?.terms.first()?;
    let mut groups: Vec<Vec<&Unit>> = Vec::new();
    for unit in units {
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.at == unit.at)) {
            Some(group) => group.push(unit),
            None => groups.push(vec![unit]),
        }
    }
    let values = |group: &Vec<&Unit>| group.iter().map(|unit| unit.difference()).collect::<Vec<_>>();
    let over_seeds: Vec<Vec<f64>> = groups.iter().map(values).collect();
    let crossed = images.interval(&groups);
    let one_seed = groups.iter().all(|group| group.len() == 1);
    let of_group = |group: &Vec<&Unit>| Group {
        at: group.first().map(|unit| unit.at.clone()).unwrap_or_default(),
        differences: group.iter().map(|unit| (unit.seed, unit.difference())).collect(),
        interval: mean(&values(group)),
        mcnemar: group.first().and_then(|unit| images.mcnemar(unit)),
        rows: group.iter().flat_map(|unit| unit.terms.iter().map(|(_, row)| row.id())).collect(),
    };
    Some(Effect {
        groups: groups.iter().map(of_group).collect(),
        interval: if one_seed { crossed } else { pooled(&over_seeds) },
        crossed,
        one_seed,
        images: row.n,
        synthetic: units.iter().flat_map(|unit| &unit.terms).any(|(_, row)| row.synthetic),
        incomplete: Vec::new(),
    })
}

impl Effect {
    pub fn differences(&self) -> Vec<f64> {
        self.groups.iter().flat_map(|group| group.differences.iter().map(|(_, difference)| *difference)).collect()
    }

    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for row in self.groups.iter().flat_map(|group| &group.rows) {
            if !rows.contains(row) {
                rows.push(row.clone());
            }
        }
        rows
    }

    /// Most seeds of a group.
    pub fn seeds(&self) -> usize {
        self.groups.iter().map(|group| group.differences.len()).max().unwrap_or(0)
    }
}
