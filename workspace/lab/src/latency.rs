//! What an inference of one image takes: networks side by side, in one interleaved run.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandglass_files::{sha256, sha256_file};
use sandglass_ledger::stats::rank_correlation;
use sandglass_ops::{Runtime, int8};
use sandglass_study::{
    Again, Artefact, Axes, CellError, CellResult, Facts, Headline, Measurement, Project, StudyError, Value,
};
use serde::{Deserialize, Serialize};

use crate::Subject;
use crate::peer::OnnxRuntime;
use crate::subject::{Compiled, pixel};

/// The control may differ by so much before a run is called unquiet.
pub const CONTROL: f64 = 0.02;

/// Logits of two engines in f32 may differ by so much of the largest before no time is told.
const TOLERANCE: f32 = 1e-4;

/// In 8 bits, where each engine rounds in its own way, the two must order the classes as alike as this.
const CORRELATION: f64 = 0.95;

/// What spins after its work stops spinning within this.
const PAUSE: Duration = Duration::from_millis(5);

/// Networks whose inferences of one image are timed, taking turns: the cell of studies of latency. As JSON it is what its
/// hash is made of.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Ratios are to the first.
    pub subjects: Vec<Subject>,
    /// Height and width of the image.
    pub input: usize,
    pub threads: usize,
    /// How often each has its turn.
    pub rounds: usize,
    /// How long a turn is, about.
    pub turn_ms: u64,
    /// Whether ONNX Runtime runs the same weights in the same rounds.
    pub onnxruntime: bool,
}

/// `[profile.setup.latency]`: a cell for each number of threads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySetup {
    pub input: usize,
    pub threads: Vec<usize>,
    pub rounds: usize,
    pub turn_ms: u64,
    #[serde(default)]
    pub onnxruntime: bool,
}

impl LatencySetup {
    /// # Errors
    /// Nothing to time, or no time for it; a network that there is not or that does not take the image; a scheme that no plan
    /// runs.
    pub fn cells(&self, subjects: &[Subject]) -> Result<Vec<Latency>, StudyError> {
        let Self { input, threads, rounds, turn_ms, onnxruntime } = self;
        if subjects.is_empty() || threads.is_empty() || threads.contains(&0) || *rounds == 0 || *turn_ms == 0 {
            return Err(StudyError::refused("latency: needs networks, threads, rounds and turn_ms, from 1 on"));
        }
        for (at, subject) in subjects.iter().enumerate() {
            let refused = |error: &dyn fmt::Display| StudyError::refused(format!("{subject}: {error}"));
            if subjects.iter().take(at).any(|other| other == subject) {
                return Err(refused(&"is listed twice"));
            }
            subject.check(*input).map_err(|error| refused(&error))?;
        }
        let cell = |&threads: &usize| Latency {
            subjects: subjects.to_vec(),
            input: *input,
            threads,
            rounds: *rounds,
            turn_ms: *turn_ms,
            onnxruntime: *onnxruntime,
        };
        Ok(threads.iter().map(cell).collect())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "latency-t{}", self.threads)
    }
}

impl Axes for Latency {
    fn axes(&self) -> Vec<(&'static str, String)> {
        vec![("threads", self.threads.to_string()), ("input", self.input.to_string())]
    }

    fn dataset(&self) -> String {
        "one image of a pattern".to_owned()
    }
}

impl Latency {
    /// The ratio of the control, a second copy of the first network, to it: what of a difference is the machine's.
    pub const HEADLINE: Headline = Headline { metric: "control", title: "A/A control", counted: "rounds" };

    /// The weights that are timed, exported, and a list of the files with their SHA-256, as `sha256sum -c` takes it.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn prepare(&self, folder: &Path) -> Result<Artefact, CellError> {
        let mut list = String::new();
        for subject in &self.subjects {
            let (name, path) = (subject.file(), folder.join(subject.file()));
            if list.contains(&name) {
                continue;
            }
            let failed = |error: &dyn fmt::Display| CellError::Failed(format!("{}: {error}", path.display()));
            let file = subject.onnx(self.input).map_err(|error| failed(&error))?;
            sandglass_files::write(&path, &file).map_err(|error| failed(&error))?;
            let hash = sha256_file(&path).map_err(|error| failed(&error))?;
            list += &format!("{hash}  {name}\n");
        }
        let path = folder.join("networks.sha256");
        sandglass_files::write(&path, list.as_bytes())
            .map_err(|error| CellError::Failed(format!("{}: {error}", path.display())))?;
        Ok(Artefact::found(path))
    }

    /// Times of every network, and what its plan takes. `file` is the list that [`Latency::prepare`] wrote.
    ///
    /// # Errors
    /// `Skipped` where ONNX Runtime is wanted and not at hand; engines that do not agree on the image.
    pub fn measure(
        &self,
        isa: sandglass_ops::Isa,
        project: &Project,
        file: &Artefact,
    ) -> Result<Measurement, CellError> {
        let load = load();
        let folder = file.path.parent().unwrap_or(Path::new("."));
        let runtime = Arc::new(Runtime::with_isa(self.threads, isa).map_err(CellError::failed)?);
        let image: Vec<f32> = (0..self.input * self.input * 3).map(|i| pixel(i, self.input)).collect();
        let compile = |subject: &Subject| {
            let compiled = subject.compile(runtime.clone(), self.input);
            compiled.map_err(|error| CellError::Failed(format!("{subject}: {error}")))
        };
        let first = self.subjects.first().ok_or_else(|| CellError::Failed("nothing to time".into()))?;
        let plans = self.subjects.iter().chain([first]).map(compile);
        let mut sides = plans.map(|plan| plan.map(Side::Ours)).collect::<Result<Vec<_>, _>>()?;
        let mut version = None;
        if self.onnxruntime {
            for (at, subject) in self.subjects.iter().enumerate() {
                let peer = OnnxRuntime::start(project, &folder.join(subject.file()), self.input, self.threads)?;
                let Some(Side::Ours(plan)) = sides.get_mut(at) else { continue };
                let logits = plan.logits(&image).map_err(CellError::failed)?;
                let agreed = if subject.scheme.is_some() { agree_in_8_bits } else { agree }(&logits, peer.logits());
                agreed.map_err(|reason| CellError::Failed(format!("{subject}: {reason}")))?;
                version = Some(peer.version().to_owned());
                sides.push(Side::Peer(peer));
            }
        }
        let turns = self.take_turns(&mut sides, &image)?;
        let (ours, theirs) = turns.split_at(self.subjects.len() + 1);
        let mut values = Vec::new();
        for (at, subject) in self.subjects.iter().enumerate() {
            let part = Some(subject.to_string());
            let timed = |metric, unit, samples: Vec<f64>| timed(metric, unit, part.clone(), samples);
            let float = self.subjects.iter().position(|of| subject.scheme.is_some() && *of == subject.float());
            values.push(timed("latency", "ms", ours[at].clone()));
            values.push(timed("ratio", "", ratios(&ours[at], &ours[0])));
            values.extend(float.map(|float| timed("to_f32", "", ratios(&ours[at], &ours[float]))));
            if let (Some(peer), Some(of_first)) = (theirs.get(at), theirs.first()) {
                values.push(timed("onnxruntime_latency", "ms", peer.clone()));
                values.push(timed("onnxruntime_ratio", "", ratios(peer, of_first)));
                values.extend(float.map(|float| timed("onnxruntime_to_f32", "", ratios(peer, &theirs[float]))));
                values.push(timed("to_onnxruntime", "", ratios(&ours[at], peer)));
            }
            if let Some(Side::Ours(plan)) = sides.get(at) {
                let bytes: u64 = plan.lines().iter().map(|line| line.bytes).sum();
                let exact = |metric, value| Value { part: part.clone(), ..Value::exact(metric, "bytes", value, 1) };
                values.push(exact("arena", plan.arena_bytes() as f64));
                values.push(exact("bytes_moved", bytes as f64));
            }
        }
        let bytes: Vec<u8> = image.iter().flat_map(|value| value.to_le_bytes()).collect();
        let control = ratios(&ours[self.subjects.len()], &ours[0]);
        values.push(timed(Self::HEADLINE.metric, "", None, control.clone()));
        values.extend(load.map(|load| timed("load", "processes", None, vec![load])));
        let mut engine = "infer".to_owned();
        if self.subjects.iter().any(|subject| subject.scheme.is_some()) {
            // A runtime's instruction set does not tell whether the CPU has VNNI.
            engine += &format!(" (8 bits by {})", int8::Path::of(isa).name());
        }
        engine += &version.map_or_else(String::new, |version| format!(", onnxruntime {version}"));
        Ok(Measurement {
            data: Facts { hash: sha256(&bytes), synthetic: true },
            engine: Some(engine),
            values,
            predictions: Vec::new(),
            boxes: None,
            summary: format!("{} networks timed, A/A control {:.3}", self.subjects.len(), median(&control)),
        })
    }

    /// Per side the milliseconds of an inference in each round: the median of its turn. Each round begins with another
    /// side, so that what else the machine does meets all.
    fn take_turns(&self, sides: &mut [Side], image: &[f32]) -> Result<Vec<Vec<f64>>, CellError> {
        let mut counts = Vec::new();
        for side in sides.iter_mut() {
            side.run(image, 3)?;
            let once = median(&side.run(image, 5)?).max(1e-3);
            counts.push(((self.turn_ms as f64 / once) as usize).max(3));
        }
        let mut turns = vec![Vec::new(); sides.len()];
        let count = sides.len();
        for round in 0..self.rounds {
            for at in (0..count).map(|at| (at + round) % count) {
                std::thread::sleep(PAUSE);
                turns[at].push(median(&sides[at].run(image, counts[at])?));
            }
        }
        Ok(turns)
    }
}

/// Whoever has turns.
enum Side {
    Ours(Compiled),
    Peer(OnnxRuntime),
}

impl Side {
    /// Milliseconds of each of so many inferences.
    fn run(&mut self, image: &[f32], count: usize) -> Result<Vec<f64>, CellError> {
        let seconds = match self {
            Self::Peer(peer) => peer.run(count)?,
            Self::Ours(plan) => {
                let mut seconds = Vec::with_capacity(count);
                for _ in 0..count {
                    let began = Instant::now();
                    plan.run(image).map_err(CellError::failed)?;
                    seconds.push(began.elapsed().as_secs_f64());
                }
                seconds
            }
        };
        Ok(seconds.into_iter().map(|seconds| 1e3 * seconds).collect())
    }
}

/// What the rows of a cell say of one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    pub rows: Vec<String>,
    /// Milliseconds: the median of the rounds.
    pub latency: f64,
    /// To the first subject, round by round: 10th percentile, median, 90th percentile.
    pub ratio: [f64; 3],
    /// To the same network in f32, where this is one in 8 bits and that was timed too.
    pub to_f32: Option<[f64; 3]>,
    /// The same of ONNX Runtime, and ours to its; None where it was not timed.
    pub onnxruntime: Option<PeerTimes>,
    pub arena: f64,
    pub bytes_moved: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerTimes {
    pub latency: f64,
    pub ratio: [f64; 3],
    pub to_f32: Option<[f64; 3]>,
    pub ours_to_it: [f64; 3],
}

impl Times {
    /// None where the cell has no such rows.
    pub fn of<C>(cell: &CellResult<'_, C>, part: &str) -> Option<Self> {
        let row = |metric: &str| cell.row_of(metric, Some(part));
        let spread = |metric: &str| {
            let row = row(metric)?;
            Some([tenths(&row.samples, 1)?, row.value?, tenths(&row.samples, 9)?])
        };
        let peer = || {
            let latency = row("onnxruntime_latency")?.value?;
            let (ratio, to_f32) = (spread("onnxruntime_ratio")?, spread("onnxruntime_to_f32"));
            Some(PeerTimes { latency, ratio, to_f32, ours_to_it: spread("to_onnxruntime")? })
        };
        Some(Self {
            rows: vec![row("latency")?.id()],
            latency: row("latency")?.value?,
            ratio: spread("ratio")?,
            to_f32: spread("to_f32"),
            onnxruntime: peer(),
            arena: row("arena")?.value?,
            bytes_moved: row("bytes_moved")?.value?,
        })
    }
}

fn timed(metric: &'static str, unit: &'static str, part: Option<String>, samples: Vec<f64>) -> Value {
    let samples_at = samples.iter().enumerate().map(|(at, &sample)| (at as f64 + 1.0, sample)).collect();
    let (value, n) = (median(&samples), samples.len() as u64);
    Value { part, samples: samples_at, again: Again::Once, ..Value::exact(metric, unit, value, n) }
}

/// Round by round.
fn ratios(side: &[f64], to: &[f64]) -> Vec<f64> {
    side.iter().zip(to).map(|(side, to)| side / to).collect()
}

/// Of a few values; NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(sorted.len() / 2) + at(sorted.len().saturating_sub(1) / 2)) / 2.0
}

/// The nearest of the values to so many tenths of the way from the least to the most.
fn tenths(values: &[f64], tenths: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().checked_sub(1)? * tenths + 5) / 10).copied()
}

fn agree(ours: &[f32], theirs: &[f32]) -> Result<(), String> {
    let largest = theirs.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let errors = || ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    let error = errors().fold(0.0f32, f32::max);
    // Not `error`: a maximum passes over what is no number.
    match ours.len() == theirs.len() && errors().all(|error| error <= TOLERANCE * largest) {
        true => Ok(()),
        false => Err(format!(
            "its logits differ by {error} from ONNX Runtime's, of which the largest is {largest}: no times"
        )),
    }
}

/// Two engines round differently, and what differs grows from layer to layer: values part, the order of classes hardly does.
fn agree_in_8_bits(ours: &[f32], theirs: &[f32]) -> Result<(), String> {
    let pairs: Vec<(f64, f64)> = ours.iter().zip(theirs).map(|(&a, &b)| (a.into(), b.into())).collect();
    let alike = rank_correlation(&pairs).filter(|_| ours.len() == theirs.len());
    match alike {
        Some(alike) if alike >= CORRELATION => Ok(()),
        _ => Err(format!(
            "its logits order the classes otherwise than ONNX Runtime's (rank correlation {}): no times",
            alike.map_or_else(|| "unknown".to_owned(), |alike| format!("{alike:.3}"))
        )),
    }
}

/// Processes that run or wait to, over the last minute; None where the system does not tell.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NamedScheme;

    #[test]
    fn medians_and_ratios_are_of_rounds() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        let eleven: Vec<f64> = (0..11).rev().map(f64::from).collect();
        assert_eq!([1, 5, 9].map(|at| tenths(&eleven, at)), [Some(1.0), Some(5.0), Some(9.0)]);
        assert_eq!(tenths(&[], 9), None);
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    }

    #[test]
    fn engines_must_agree_before_any_time_is_told() {
        assert!(agree(&[1.0, -20.0], &[1.001, -20.0]).is_ok());
        assert!(agree(&[1.0, -20.0], &[1.003, -20.0]).unwrap_err().contains("no times"));
        assert!(agree(&[1.0], &[1.0, 2.0]).is_err());
        assert!(agree(&[f32::NAN], &[f32::NAN]).is_err());
        let ours: Vec<f32> = (0..20u8).map(f32::from).collect();
        let mut theirs: Vec<f32> = ours.iter().map(|logit| 2.0 * logit - 1.0).collect();
        theirs.swap(3, 4);
        assert!(agree_in_8_bits(&ours, &theirs).is_ok());
        theirs.swap(0, 12);
        assert!(agree_in_8_bits(&ours, &theirs).unwrap_err().contains("no times"));
        assert!(agree_in_8_bits(&ours, &ours[1..]).is_err());
        assert!(agree_in_8_bits(&ours, &[1.0; 20]).is_err());
    }

    #[test]
    fn what_cannot_be_timed_is_refused() {
        let setup = LatencySetup { input: 32, threads: vec![1, 2], rounds: 2, turn_ms: 1, onnxruntime: false };
        let twice = [Subject::new("mobilenext", 0.35), Subject::new("mobilenext", 0.35)];
        let once = &twice[..1];
        assert_eq!(setup.cells(once).unwrap().len(), 2);
        assert!(setup.cells(&twice).unwrap_err().to_string().contains("twice"));
        assert!(setup.cells(&[Subject::new("mobilenext", 0.0)]).is_err());
        assert!(setup.cells(&[]).is_err());
        let by = |name: &str| {
            let scheme = NamedScheme::try_from(name.to_owned()).unwrap();
            Subject { scheme: Some(scheme), ..Subject::new("mobilenext", 0.35) }
        };
        let refused = |subject: Subject| setup.cells(&[subject]).unwrap_err().to_string();
        assert_eq!(setup.cells(&[once[0].clone(), by("per-channel"), by("per-tensor")]).unwrap().len(), 2);
        assert!(refused(by("per-channel-avx2")).contains("mobilenext-w0.35-per-channel-avx2: its scheme is emulated"));
        assert!(refused(by("activations-only")).contains("emulated"));
        assert!(refused(Subject { memory_groups: 2, ..by("per-channel") }).contains("memory_groups"));
        assert!(NamedScheme::try_from("int4".to_owned()).unwrap_err().to_string().contains("per-channel"));
        assert!(LatencySetup { threads: vec![0], ..setup.clone() }.cells(once).is_err());
        assert!(LatencySetup { input: 0, ..setup }.cells(once).is_err());
    }
}
