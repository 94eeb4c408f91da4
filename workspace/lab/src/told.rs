//! How trials are told: columns of accuracy, tables of times.

use sandglass_ledger::{ReadError, Status, predictions_path, read_predictions};
use sandglass_study::{CellResult, DASH, Entry, Experiment, Lost, Mark, Outcome, Project, Results, Scale, Table};

use crate::{CONTROL, Latency, Subject, Times, Trial, TrialSetup, Variant};

/// Top-1 accuracy of every network at one scale.
pub struct Accuracy {
    /// Heads the column.
    pub heading: String,
    /// What a reader of it has to know.
    pub note: String,
    /// Parallel to the networks.
    pub outcomes: Vec<Outcome>,
}

/// A column for each scale at which there are rows, and notes on what is not done.
pub fn accuracies<E>(results: &Results<'_, E>, networks: &[Variant]) -> (Vec<Accuracy>, Vec<String>)
where
    E: Experiment<Cell = Trial, Setup = TrialSetup>,
{
    let columns = results.scales.iter().filter_map(|scale| accuracy(scale, networks));
    let open = results.scales.iter().filter_map(|scale| {
        let (open, all) = scale.open();
        (open > 0).then(|| format!("Not done: {open} of {all} cells of profile {}.", scale.profile.name))
    });
    (columns.collect(), open.collect())
}

fn accuracy<E>(scale: &Scale<'_, E>, networks: &[Variant]) -> Option<Accuracy>
where
    E: Experiment<Cell = Trial, Setup = TrialSetup>,
{
    let trained = || scale.cells.iter().filter_map(|result| Some((result, result.cell.trained()?)));
    let rows = || trained().filter_map(|(result, _)| result.row("top1"));
    let row = rows().find(|row| row.status == Status::Ok).or(rows().next())?;
    let (_, cell) = trained().next()?;
    let of = |variant: &Variant| {
        let cells = trained().filter(|(_, cell)| cell.network.to_string() == variant.network);
        Outcome::of("top1", cells.map(|(result, _)| result))
    };
    let (profile, synthetic) = (scale.profile, if scale.profile.synthetic { " (synthetic)" } else { "" });
    let heading = format!("top-1, ours, {}, {1}x{1} (%)", profile.title, cell.input);
    let facts = format!("data set {}{synthetic}, {} classes, {} images.", row.dataset, cell.network.classes, row.n);
    let note = format!("Ours, {}: {facts} {}", profile.title, profile.note).trim_end().to_owned();
    Some(Accuracy { heading, note, outcomes: networks.iter().map(of).collect() })
}

/// For each image whether a cell's network names it right.
///
/// # Errors
/// Predictions that are not there, or cannot be read.
pub fn right<C>(project: &Project, result: &CellResult<'_, C>) -> Result<Vec<bool>, ReadError> {
    let place = result.row("top1").map_or([""; 3], |row| [&*row.study, &*row.profile, &*row.cell]);
    Ok(read_predictions(&project.predictions(), place)?.right())
}

/// Rows whose predictions cannot be used, so that nothing is paired with them.
pub fn unreadable<E: Experiment>(project: &Project, results: &Results<'_, E>) -> Vec<String> {
    let measured = |result: &&CellResult<'_, E::Cell>| result.row("top1").is_some_and(|row| row.status == Status::Ok);
    let cells = results.scales.iter().flat_map(|scale| &scale.cells).filter(measured);
    let problem = |result: &CellResult<'_, E::Cell>| {
        let (row, error) = (result.row("top1")?, right(project, result).err()?);
        // The oldest rows are from before predictions were kept.
        let place = [&*row.study, &*row.profile, &*row.cell];
        let is_old = row.made_from.is_none() && row.engine.is_none();
        let is_told = !is_old || predictions_path(&project.predictions(), place).exists();
        is_told.then(|| format!("{}: its predictions cannot be used: {error}", row.id()))
    };
    cells.filter_map(problem).collect()
}

/// A cell of times with its rows.
pub struct Timing<'a, C> {
    pub latency: &'a Latency,
    pub result: &'a CellResult<'a, C>,
}

impl<C> Timing<'_, C> {
    pub fn of(&self, subject: &Subject) -> Option<Times> {
        Times::of(self.result, &subject.to_string())
    }

    /// Such as `2 threads`.
    pub fn threads(&self) -> String {
        match self.latency.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        }
    }

    /// Stands where there are no times.
    pub fn missing(&self) -> Entry {
        let (text, mark) = match self.result.reason() {
            Some((Status::Skipped, _)) => ("skipped", Mark::Skipped),
            Some(_) => ("failed", Mark::Failed),
            None => match &self.result.lost {
                Some(Lost::Damaged(_)) => ("damaged", Mark::Damaged),
                Some(Lost::Gone) => ("gone", Mark::Gone),
                None => ("not run", Mark::Missing),
            },
        };
        Entry::new(text, mark, Vec::new())
    }

    /// Where and how it was measured: each of these has its own machine, so that no column mixes two.
    pub fn note(&self) -> String {
        let threads = self.threads();
        let Some(row) = self.result.row(Latency::HEADLINE.metric) else {
            return format!("{threads}: not run.");
        };
        if let Some((status, reason)) = self.result.reason() {
            return format!("{threads}: {}: {reason}.", status.word());
        }
        let control = row.value.unwrap_or(f64::NAN);
        let load = self.result.value("load").map_or_else(String::new, |load| format!(", load at the start {load:.2}"));
        let quiet =
            if (control - 1.0).abs() <= CONTROL { "" } else { ": not quiet, differences of this size say nothing" };
        format!(
            "{threads}: {} ({}), engines {}, {} rounds{load}; a second copy of the first network took {control:.3} of its time{quiet}.",
            row.machine,
            row.isa,
            row.engine.as_deref().unwrap_or("unknown"),
            row.n
        )
    }
}

/// A line for each network: `fixed` columns first, then what every cell measured, then what the plan takes.
pub fn times<C>(fixed: Vec<(String, bool)>, lines: &[(Subject, Vec<Entry>)], timings: &[Timing<'_, C>]) -> Table {
    let mut columns = fixed;
    for timing in timings {
        let threads = timing.threads();
        columns.push((format!("ours, {threads} (ms)"), true));
        columns.push((format!("ours, {threads}, to the first"), true));
        if timing.latency.onnxruntime {
            columns.push((format!("ONNX Runtime, {threads} (ms)"), true));
            columns.push((format!("ONNX Runtime, {threads}, to the first"), true));
        }
    }
    columns.extend(["plan reads and writes (MB)", "plan holds at once (MB)"].map(|heading| (heading.to_owned(), true)));
    let mut table = Table::new(columns);
    for (subject, fixed) in lines {
        let mut entries = fixed.clone();
        for timing in timings {
            entries.extend(measured(timing, subject));
        }
        let times = timings.iter().find_map(|timing| timing.of(subject));
        for bytes in [times.as_ref().map(|times| times.bytes_moved), times.as_ref().map(|times| times.arena)] {
            entries.push(bytes.map_or_else(|| DASH.to_owned(), |bytes| format!("{:.2}", bytes / 1e6)).into());
        }
        table.push(entries);
    }
    table
}

fn measured<C>(timing: &Timing<'_, C>, subject: &Subject) -> Vec<Entry> {
    let columns = if timing.latency.onnxruntime { 4 } else { 2 };
    let Some(times) = timing.of(subject) else {
        return vec![timing.missing(); columns];
    };
    let entry = |text: String| Entry::new(text, Mark::Ours, times.rows.clone());
    let mut entries = vec![entry(format!("{:.2}", times.latency)), entry(ratio(times.ratio))];
    if timing.latency.onnxruntime {
        let peer = times.onnxruntime;
        entries.push(entry(peer.map_or_else(|| DASH.to_owned(), |peer| format!("{:.2}", peer.latency))));
        entries.push(entry(peer.map_or_else(|| DASH.to_owned(), |peer| ratio(peer.ratio))));
    }
    entries
}

/// Such as `0.984 (0.971 to 0.990)`: the median of the rounds, and their 10th and 90th percentiles.
pub fn ratio([least, median, most]: [f64; 3]) -> String {
    format!("{median:.3} ({least:.3} to {most:.3})")
}
