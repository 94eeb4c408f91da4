//! How the study is laid out: the comparison, the question at equal width, and the tables beside them.

use sandglass_lab::{Classifier, Variant};
use sandglass_ledger::stats::{self, Interval};
use sandglass_ledger::{Summary, smallest_effect};
use sandglass_study::claim::Count;
use sandglass_study::paper::LEGEND;
use sandglass_study::{CellResult, DASH, Entry, Outcome, Part, Results, Scale, Section, StudyError, Table, grouped};

use crate::Width;
use crate::comparison::{Comparison, Line, PAPER_INPUT};
use crate::drawing::drawings;
use crate::figures::{curves, figures, resolutions};

pub(crate) fn section(results: &Results<'_, Width>) -> Result<Section, StudyError> {
    let comparison = Comparison::of(results)?;
    let mut parts = vec![Part::Table(overview(&comparison)), Part::Notes(notes(&comparison))];
    if let Some((heading, table)) = gaps(&comparison, Scales::All) {
        parts.extend([Part::Heading(heading), Part::Table(table)]);
    }
    for at in 0..comparison.scales.len() {
        parts.extend(resolving_power(&comparison, at));
    }
    parts.extend(beside(results));
    parts.push(Part::Prose(results.head.analysis.clone()));
    parts.extend(drawings(results)?.into_iter().map(Part::Drawing));
    parts.extend(figures(&comparison).into_iter().map(Part::Figure));
    parts.extend(resolutions(results).into_iter().chain(curves(results)).map(Part::Figure));
    let data = serde_json::to_value(&comparison).map_err(StudyError::Unwritable)?;
    // The protocol adds the problems that every study can have.
    let own = |problem: &String| problem.contains("was measured on other images");
    let problems = comparison.problems.iter().filter(|problem| own(problem)).cloned().collect();
    let headline = gaps(&comparison, Scales::Real).map(|(_, table)| table);
    Ok(Section { parts, headline, counts: counts(&comparison), problems, data, ..Section::default() })
}

fn counts(comparison: &Comparison) -> Vec<Count> {
    let of_line = |line: &Line| {
        let axes =
            vec![("network".to_owned(), line.network.clone()), ("width".to_owned(), format!("{:?}", line.width))];
        let count = |what: &str, value| Count { what: what.to_owned(), axes: axes.clone(), value };
        [count("parameters", line.cost.params), count("multiply-adds", line.cost.madds_total)]
    };
    comparison.lines.iter().flat_map(of_line).collect()
}

/// Every network at every scale.
fn overview(comparison: &Comparison) -> Table {
    let fixed = [
        ("network", false),
        ("width", true),
        ("params, paper (M)", true),
        ("params, exact", true),
        ("multiply-adds, paper (M)", true),
        ("multiply-adds, exact", true),
        ("top-1, paper (%)", true),
    ];
    let columns = fixed.map(|(heading, right)| (heading.to_owned(), right)).into_iter();
    let scales = comparison.scales.iter().map(|scale| (format!("top-1, ours, {} (%)", scale.title), true));
    let mut table = Table::new(columns.chain(scales));
    for line in &comparison.lines {
        let printed = |column: &str, round: bool| match line.printed(column) {
            Some(value) if round => paper(value.to_string(), line),
            Some(value) => paper(format!("{value:?}"), line),
            None => Entry::unknown(),
        };
        let fixed: [Entry; 7] = [
            line.model.clone().into(),
            format!("{:?}", line.width).into(),
            printed("params_m", false),
            grouped(line.cost.params).into(),
            printed("madds_m", true),
            grouped(line.cost.madds_total).into(),
            printed("top1_pct", false),
        ];
        table.push(fixed.into_iter().chain(line.results.iter().map(Outcome::entry)));
    }
    table
}

/// A value that the paper prints, with the mark of how sure we are of it.
fn paper(text: String, line: &Line) -> Entry {
    Entry::printed(text, line.confidence, line.stands.clone())
}

/// What a reader of the table has to know.
fn notes(comparison: &Comparison) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Costs are for {PAPER_INPUT} x {PAPER_INPUT} pixels and 1000 classes, counted from the networks' tables. \
             {LEGEND} ? not known."
        ),
        "Ours: mean \u{b1} sample standard deviation over n seeds, on the checkpoint file as kept.".to_owned(),
    ];
    notes.extend(comparison.scales.iter().map(|scale| format!("Ours, {}: {}", scale.title, scale.note)));
    for (profile, open, all) in &comparison.open {
        notes.push(format!("Not done: {open} of {all} cells of profile {profile}."));
    }
    notes
}

/// Which scales a table shows.
#[derive(Clone, Copy, PartialEq)]
enum Scales {
    All,
    /// Without images drawn by code, which say nothing beside the paper's.
    Real,
}

/// The question itself: second network minus first, width by width; the paper's difference, and ours seed by seed.
/// None unless two networks are compared.
fn gaps(comparison: &Comparison, shown: Scales) -> Option<(String, Table)> {
    let pairs = pairs(comparison);
    let (first, second) = pairs.first().map(|(a, b)| (a.model.as_str(), b.model.as_str()))?;
    let measured = |line: &Line, at: usize| line.results.get(at).is_some_and(|outcome| !outcome.measured.is_empty());
    let both = |at: &usize| pairs.iter().any(|(a, b)| measured(a, *at) && measured(b, *at));
    let is_shown =
        |at: &usize| shown == Scales::All || comparison.scales.get(*at).is_some_and(|scale| !scale.synthetic);
    let scales: Vec<usize> = (0..comparison.scales.len()).filter(both).filter(is_shown).collect();
    let fixed = [
        ("width".to_owned(), true),
        (format!("multiply-adds, {second} / {first}"), true),
        ("top-1, paper (points)".to_owned(), true),
    ];
    let titles = scales.iter().filter_map(|&at| comparison.scales.get(at)).map(|scale| &scale.title);
    let ours = titles.map(|title| (format!("top-1, ours, {title} (points)"), true));
    let mut table = Table::new(fixed.into_iter().chain(ours));
    for (a, b) in &pairs {
        table.push(gap(a, b, &scales));
    }
    Some((format!("{second} minus {first}, at equal width"), table))
}

fn gap(first: &Line, second: &Line, scales: &[usize]) -> Vec<Entry> {
    let paper = match (first.printed("top1_pct"), second.printed("top1_pct")) {
        (Some(a), Some(b)) => {
            // A difference is as sure as the less sure of its two values.
            let confidence = first.confidence.max(second.confidence);
            let stands = format!("The difference of two values. {} {}", first.stands, second.stands);
            Entry::printed(format_args!("{:+.2}", b - a), confidence, stands)
        }
        _ => Entry::unknown(),
    };
    let ratio = second.cost.madds_total as f64 / first.cost.madds_total as f64;
    let mut entries = vec![format!("{:?}", first.width).into(), format!("{ratio:.3}").into(), paper];
    entries.extend(scales.iter().filter_map(|&at| Some(first.results.get(at)?.difference(second.results.get(at)?))));
    entries
}

/// What the seeds of a scale can show: per width and pooled over widths. None where no width has two pairs.
fn resolving_power(comparison: &Comparison, at: usize) -> Vec<Part> {
    let pairs = pairs(comparison);
    let differences: Vec<(f64, Vec<f64>)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((a.width, a.results.get(at)?.differences(b.results.get(at)?))))
        .filter(|(_, differences)| !differences.is_empty())
        .collect();
    let groups: Vec<&Vec<f64>> = differences.iter().map(|(_, differences)| differences).collect();
    let Some(all) = stats::pooled(&groups) else { return Vec::new() };
    let mut table = Table::new([
        ("width", true),
        ("pairs of seeds", true),
        ("mean difference (points)", true),
        ("95 % interval", true),
        ("smallest effect that shows (points)", true),
    ]);
    let line = |name: String, n: usize, effect: f64, interval: Option<Interval>, smallest: Option<f64>| {
        let dash = || DASH.to_owned();
        let range = interval.map_or_else(dash, |Interval { low, high, .. }| format!("{low:+.2} to {high:+.2}"));
        let smallest = smallest.map_or_else(dash, |smallest| format!("{smallest:.2}"));
        [name, n.to_string(), format!("{effect:+.2}"), range, smallest]
    };
    for (width, differences) in &differences {
        let Some(Summary { n, mean, sd }) = Summary::of(differences) else { continue };
        let smallest = sd.and_then(|sd| smallest_effect(sd, n, n - 1));
        table.push(line(format!("{width:?}"), n, mean, stats::mean(differences), smallest));
    }
    let n = groups.iter().map(|group| group.len()).sum();
    table.push(line("all, each width once".to_owned(), n, all.effect, Some(all), stats::smallest_pooled(&groups)));
    let title = comparison.scales.get(at).map_or_else(String::new, |scale| scale.title.clone());
    let note = "The smallest true difference that so many pairs of seeds show in four of five repetitions (two-sided t test at \
                5 %). For all, each width counts once and the spread is that within widths."
        .to_owned();
    vec![Part::Heading(format!("What the seeds can show: {title}")), Part::Table(table), Part::Notes(vec![note])]
}

/// Lines of the first network with those of the second at the same width; none unless two networks are compared.
fn pairs(comparison: &Comparison) -> Vec<(&Line, &Line)> {
    let mut names: Vec<&str> = comparison.lines.iter().map(|line| line.model.as_str()).collect();
    names.dedup();
    let [first, second] = names[..] else { return Vec::new() };
    let of_second = |width: f64| comparison.lines.iter().find(|other| other.model == second && other.width == width);
    let lines = comparison.lines.iter().filter(|line| line.model == first);
    lines.filter_map(|line| Some((line, of_second(line.width)?))).collect()
}

/// Tables of the profiles that stand beside the comparison: recipes, own best recipes, resolutions.
fn beside(results: &Results<'_, Width>) -> Vec<Part> {
    let mut parts = Vec::new();
    for scale in results.scales.iter().filter(|scale| scale.cells.iter().any(|cell| !cell.rows.is_empty())) {
        let setup = &scale.profile.setup;
        let by = if !setup.vary.is_empty() {
            "recipe"
        } else if !setup.inputs.is_empty() {
            "input"
        } else if !setup.own_recipe.is_empty() {
            "width"
        } else {
            continue;
        };
        let (heading, table) = by_axis(results, scale, by);
        parts.extend([Part::Heading(heading), Part::Table(table)]);
        if !scale.profile.note.is_empty() {
            parts.push(Part::Notes(vec![scale.profile.note.clone()]));
        }
    }
    parts
}

/// A line for each value of an axis and each width: every network, and the difference of two. Recipes that are compared at
/// several widths also have a line of the mean over these: it is what decides.
fn by_axis(results: &Results<'_, Width>, scale: &Scale<'_, Width>, by: &str) -> (String, Table) {
    let lines = Lines { networks: &results.design.networks, scale, by };
    let mut table = Table::new(lines.columns());
    let places = lines_of(scale, by);
    for (value, width) in &places {
        table.push(lines.of(value, *width));
    }
    let recipes = &scale.profile.setup.vary;
    if places.len() > recipes.len() {
        for recipe in recipes {
            let widths = places.iter().filter(|(value, _)| *value == recipe.name).map(|(_, width)| *width);
            table.push(lines.mean(&recipe.name, &widths.collect::<Vec<_>>()));
        }
    }
    let (open, all) = scale.open();
    let missing = if open > 0 { format!(" ({open} of {all} cells not done)") } else { String::new() };
    (format!("{}{missing}", scale.profile.title), table)
}

/// Lines of a table by an axis.
struct Lines<'a> {
    networks: &'a [Variant],
    scale: &'a Scale<'a, Width>,
    by: &'a str,
}

impl Lines<'_> {
    fn is_of_recipes(&self) -> bool {
        self.by == "recipe"
    }

    fn columns(&self) -> Vec<(String, bool)> {
        let mut columns = vec![(self.by.to_owned(), !self.is_of_recipes())];
        if self.by != "width" {
            columns.push(("width".to_owned(), true));
        }
        columns.extend(self.networks.iter().map(|variant| (format!("{}, top-1 (%)", variant.paper), true)));
        if let [first, second] = self.networks {
            columns.push((format!("{} minus {} (points)", second.paper, first.paper), true));
            if self.is_of_recipes() {
                columns.push(("mean of both (%)".to_owned(), true));
            }
        }
        columns
    }

    fn outcome(&self, value: &str, width: f64, variant: &Variant) -> Outcome {
        let cells = self.scale.cells.iter().filter(|cell| {
            let network = &cell.cell.network;
            network.to_string() == variant.network && network.width == width && axis(cell, self.by) == value
        });
        Outcome::of("top1", cells)
    }

    fn of(&self, value: &str, width: f64) -> Vec<Entry> {
        let outcomes: Vec<Outcome> = self.networks.iter().map(|variant| self.outcome(value, width, variant)).collect();
        let mut entries: Vec<Entry> = vec![value.to_owned().into()];
        if self.by != "width" {
            entries.push(format!("{width:?}").into());
        }
        entries.extend(outcomes.iter().map(Outcome::entry));
        if let [first, second] = &outcomes[..] {
            entries.push(first.difference(second));
            if self.is_of_recipes() {
                let means = outcomes.iter().map(|outcome| Some(outcome.summary()?.mean));
                entries.push(points(mean(means)).into());
            }
        }
        entries
    }

    /// Of a recipe over its widths.
    fn mean(&self, recipe: &str, widths: &[f64]) -> Vec<Entry> {
        let of_network = |variant: &Variant| {
            mean(widths.iter().map(|width| Some(self.outcome(recipe, *width, variant).summary()?.mean)))
        };
        let means: Vec<Option<f64>> = self.networks.iter().map(of_network).collect();
        let mut entries: Vec<Entry> = vec![recipe.to_owned().into(), "mean".to_owned().into()];
        entries.extend(means.iter().map(|mean| points(*mean).into()));
        if let [first, second] = means[..] {
            let difference = first.zip(second).map(|(first, second)| format!("{:+.2}", second - first));
            entries.push(difference.unwrap_or_else(|| points(None)).into());
            entries.push(points(mean(means.into_iter())).into());
        }
        entries
    }
}

/// None where one of the values is missing.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    Some(Summary::of(&values.collect::<Option<Vec<f64>>>()?)?.mean)
}

fn points(value: Option<f64>) -> String {
    value.map_or_else(|| DASH.to_owned(), |value| format!("{value:.2}"))
}

/// Values of an axis with the widths at which there are cells, in the order of the cells.
fn lines_of(scale: &Scale<'_, Width>, by: &str) -> Vec<(String, f64)> {
    let mut lines: Vec<(String, f64)> = Vec::new();
    for cell in &scale.cells {
        let line = (axis(cell, by), cell.cell.network.width);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn axis(cell: &CellResult<'_, Classifier>, by: &str) -> String {
    match by {
        "recipe" => cell.cell.shown.recipe.clone().unwrap_or_default(),
        "input" => cell.cell.input.to_string(),
        _ => format!("{:?}", cell.cell.network.width),
    }
}
