//! Claims on made-up rows: what is paired, what decides, what the verdict says, and what prose may lean on.

use std::path::Path;

use sandglass_ledger::{Axis, Prediction, Predictions, Row, Status, write_predictions};
use sandglass_study::claim::{Claims, Count, Evidence, Judged, Prose, Unsupported, Verdict, judge, section};
use sandglass_study::{Mark, Part, Project, Section, Shown, StudyError};

const CLAIMS: &str = r#"
[[claim]]
id = "lead"
says = "B is better than A"
paper = "P"
origin = "stated"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.lead]
profile = "real"
beside = ["drawn"]
metric = "top1"
over = "width"
plus = [{ network = "b" }]
minus = [{ network = "a" }]
own_best = { profile = "own", chosen = "of a search" }
[claim.test.lead.paper]
table = "mnext_width"
column = "top1_pct"
over = "width"
plus = [{ model = "MobileNeXt" }]
minus = [{ model = "MobileNetV2" }]

[[claim]]
id = "equal-cost"
says = "B is better at A's cost"
paper = "P"
origin = "derived"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.lead]
profile = "real"
metric = "top1"
over = "width"
at_equal = "cost"
plus = [{ network = "b" }]
minus = [{ network = "a" }]

[[claim]]
id = "precision"
says = "B is more precise"
paper = "P"
origin = "derived"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.lead]
profile = "precise"
metric = "map"
drawn = "map_drawn"
over = "width"
counted = "scenes"
plus = [{ network = "b" }]
minus = [{ network = "a" }]

[[claim]]
id = "margin"
says = "More is found than asked"
paper = "P"
origin = "derived"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.lead]
profile = "precise"
metric = "share"
drawn = "share_drawn"
over = "width"
plus = [{ network = "b", part = "found" }]
minus = [{ network = "b", part = "asked" }]

[[claim]]
id = "half"
says = "Half of a second's time is saved"
paper = "P"
origin = "stated"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.time.ratio]
profile = "times"
metric = "ratio"
control = "control"
row = { part = "b" }
[[claim.test.time.beside]]
study = "s"
ratio = { profile = "elsewhere", metric = "ratio", control = "control", row = { part = "b" } }

[[claim]]
id = "trend"
says = "B's lead grows as networks get narrower"
paper = "P"
origin = "derived"
source = "a table"
confidence = "seen"
study = "s"
[claim.test.trend]
profile = "real"
metric = "top1"
over = "width"
plus = [{ network = "b" }]
minus = [{ network = "a" }]

[[claim]]
id = "cheap"
says = "B is cheaper"
paper = "P"
origin = "stated"
source = "a table"
confidence = "seen"
study = "s"
[[claim.test.count]]
what = "cost"
is = "less"
over = "width"
of = { network = "b" }
than = { network = "a" }

[[claim]]
id = "open"
says = "C is better still"
paper = "P"
origin = "stated"
source = "a table"
confidence = "seen"
study = "t"
untested = "Nobody has built C."
"#;

fn row(profile: &str, network: &str, width: &str, seed: u64, value: f64) -> Row {
    let axis = |name: &str, value: &str| Axis { name: name.into(), value: value.into() };
    Row {
        study: "s".into(),
        profile: profile.into(),
        cell: format!("{network}-w{width}-s{seed}"),
        axes: vec![axis("network", network), axis("width", width)],
        dataset: "set".into(),
        synthetic: profile == "drawn",
        seed,
        metric: "top1".into(),
        part: None,
        value: Some(value),
        unit: "%".into(),
        n: 100,
        status: Status::Ok,
        error: None,
        samples: Vec::new(),
        samples_at: Vec::new(),
        once: false,
        engine: None,
        commit: "c".into(),
        dirty: false,
        made_by: Vec::new(),
        made_from: None,
        command: "sandglass run s".into(),
        cell_hash: "h".into(),
        data_hash: "d".into(),
        checkpoint_hash: Some(format!("{network}{width}{seed}")),
        machine: "m".into(),
        isa: "i".into(),
        threads: 1,
        versions: "v".into(),
        started: "2026-01-31T12:00:00Z".into(),
        seconds: 1.0,
    }
}

/// Two families at two widths, three seeds each; `lead` is what the second has more at every seed, but for a little spread.
fn rows(profile: &str, lead: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for width in ["1.0", "0.5"] {
        for seed in 0..3 {
            let base = 60.0 + seed as f64;
            rows.push(row(profile, "a", width, seed, base));
            rows.push(row(profile, "b", width, seed, base + lead + [-0.2, 0.0, 0.2][seed as usize]));
        }
    }
    rows
}

struct Bench {
    folder: tempfile::TempDir,
    claims: Claims,
    project: Project,
    counts: Vec<Section>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("experiments")).unwrap();
        std::fs::write(folder.path().join("experiments/claims.toml"), CLAIMS).unwrap();
        let project = Project::around(folder.path()).unwrap();
        let claims = Claims::read(&project).unwrap();
        let count = |network: &str, width: &str, value| Count {
            what: "cost".into(),
            axes: vec![("network".into(), network.into()), ("width".into(), width.into())],
            value,
        };
        let counts =
            vec![count("a", "1.0", 300), count("a", "0.5", 100), count("b", "1.0", 310), count("b", "0.5", 150)];
        let counts = vec![Section { name: "s".into(), counts, ..Section::default() }];
        Self { folder, claims, project, counts }
    }

    fn judge(&self, rows: &[Row]) -> Result<Vec<Judged<'_>>, StudyError> {
        let evidence: Vec<Evidence<'_>> =
            rows.iter().map(|row| Evidence { study: "s", profile: &row.profile, row }).collect();
        judge(&self.claims, &self.project, &evidence, &self.counts)
    }

    fn verdict(&self, rows: &[Row], id: &str) -> (Verdict, String) {
        let judged = self.judge(rows).unwrap();
        let of = judged.iter().find(|of| of.claim.id == id).unwrap();
        (of.verdict, of.notes.join(", "))
    }
}

#[test]
fn a_lead_is_paired_over_seeds_and_pooled_over_widths() {
    let bench = Bench::new();
    assert_eq!(bench.verdict(&rows("real", 2.0), "lead").0, Verdict::Reproduced);
    assert_eq!(bench.verdict(&rows("real", -2.0), "lead").0, Verdict::Contradicted);
    // The paper's effect at these widths is 2.01, half of it 1.005: an interval around 0.1 holds 0 and not that.
    assert_eq!(bench.verdict(&rows("real", 0.1), "lead").0, Verdict::NotReproduced);
    let judged = bench.judge(&rows("real", 2.0)).unwrap();
    // By hand: sd 0.2 within each width, 4 degrees of freedom, t 2.776; half 2.776 * 0.2 * sqrt(2/3) / 2 = 0.227.
    assert_eq!(judged[0].ours, "+2.00 (+1.77 to +2.23) points");
    assert_eq!(judged[0].paper.as_ref().unwrap().0, "+2.01 here, +2.34 over all");
    assert!(judged[0].notes.contains(&"so far 2 of 5 widths".to_owned()));
    assert_eq!(judged[0].rows.len(), 12);
}

#[test]
fn images_drawn_by_code_decide_nothing() {
    let bench = Bench::new();
    let drawn = rows("drawn", 2.0);
    assert_eq!(bench.verdict(&drawn, "lead").0, Verdict::NotTested);
    let drawn: Vec<Row> = rows("real", 2.0).into_iter().map(|row| Row { synthetic: true, ..row }).collect();
    assert_eq!(bench.verdict(&drawn, "lead").0, Verdict::NotTested);
}

/// With one seed the interval is over images: 20 of 100 are won and none lost, so that it lies above 0.
#[test]
fn one_seed_is_judged_over_images_and_says_so() {
    let bench = Bench::new();
    let rows = vec![row("real", "a", "0.5", 0, 60.0), row("real", "b", "0.5", 0, 80.0)];
    assert_eq!(bench.verdict(&rows, "lead").0, Verdict::TooFew, "no predictions, no interval");
    for (row, right) in rows.iter().zip([60, 80]) {
        let item = |at: u32| Prediction { name: at.to_string(), label: 1, prediction: u32::from(at < right) };
        let checkpoint = row.checkpoint_hash.clone().unwrap();
        let predictions = Predictions { checkpoint, items: (0..100).map(item).collect() };
        write_predictions(&bench.project.predictions(), ["s", "real", &row.cell], &predictions).unwrap();
    }
    let (verdict, notes) = bench.verdict(&rows, "lead");
    assert_eq!((verdict, notes.as_str()), (Verdict::SameDirection, "one seed, so far 1 of 5 widths"));
    // Predictions of another checkpoint are not these rows'.
    let other: Vec<Row> =
        rows.iter().map(|row| Row { checkpoint_hash: Some("another".into()), ..row.clone() }).collect();
    assert_eq!(bench.verdict(&other, "lead").0, Verdict::TooFew);
    assert!(bench.folder.path().join("results/predictions/s/real").is_dir());
}

/// Of a metric that is no mean over images: 39 of 40 draws lie between the quantiles, so that they are the second and the
/// last but one.
#[test]
fn one_seed_of_a_precision_is_judged_over_images_drawn_anew() {
    let bench = Bench::new();
    let leads: Vec<f64> = (0..41).map(|at| 1.0 + 0.1 * f64::from(at)).collect();
    let of = |network: &str, metric: &str, value: f64, samples: Vec<f64>| Row {
        metric: metric.into(),
        samples_at: (0..samples.len()).map(|at| at as f64).collect(),
        samples,
        ..row("precise", network, "1.0", 0, value)
    };
    let a: Vec<f64> = (0..41).map(|at| 40.0 + f64::from(at * at % 7)).collect();
    let b: Vec<f64> = a.iter().zip(&leads).map(|(a, lead)| a + lead).collect();
    let mut rows = vec![of("a", "map", 42.0, vec![]), of("b", "map", 45.0, vec![])];
    assert_eq!(bench.verdict(&rows, "precision").0, Verdict::TooFew, "no draws, no interval");
    rows.extend([of("a", "map_drawn", 42.0, a), of("b", "map_drawn", 45.0, b)]);
    let judged = bench.judge(&rows).unwrap();
    let precision = judged.iter().find(|of| of.claim.id == "precision").unwrap();
    assert_eq!(precision.ours, "+3.00 (+1.10 to +4.90) points");
    assert!(precision.on.starts_with("1 seed, ") && precision.on.ends_with(" scenes"), "{}", precision.on);
    assert_eq!((precision.verdict, precision.notes.join(", ").as_str()), (Verdict::SameDirection, "one seed"));
    // Draws of other images pair nothing.
    rows[3].data_hash = "other".into();
    assert_eq!(bench.verdict(&rows, "precision").0, Verdict::TooFew);
}

/// Two parts of one cell each have draws of their own.
#[test]
fn parts_of_a_cell_are_drawn_apart() {
    let bench = Bench::new();
    let of = |part: &str, metric: &str, value: f64, samples: Vec<f64>| Row {
        metric: metric.into(),
        part: Some(part.into()),
        samples_at: (0..samples.len()).map(|at| at as f64).collect(),
        samples,
        ..row("precise", "b", "1.0", 0, value)
    };
    let found: Vec<f64> = (0..41).map(|at| 20.0 + 0.1 * f64::from(at)).collect();
    let rows = [
        of("found", "share", 22.0, vec![]),
        of("asked", "share", 10.0, vec![]),
        of("found", "share_drawn", 22.0, found),
        of("asked", "share_drawn", 10.0, vec![10.0; 41]),
    ];
    let judged = bench.judge(&rows).unwrap();
    let margin = judged.iter().find(|of| of.claim.id == "margin").unwrap();
    assert_eq!(margin.ours, "+12.00 (+10.10 to +13.90) points");
}

#[test]
fn a_lead_under_the_recipe_for_all_alone_says_so() {
    let bench = Bench::new();
    let mut all = rows("real", 2.0);
    all.extend(rows("own", -0.5));
    let (verdict, notes) = bench.verdict(&all, "lead");
    assert_eq!(verdict, Verdict::Reproduced);
    assert!(notes.contains("only under the recipe for all; each at its own best: -0.50"), "{notes}");
    all.truncate(12);
    all.extend(rows("own", 1.0));
    assert!(!bench.verdict(&all, "lead").1.contains("only under"));
}

/// A row that is gone or stale takes its partner with it, and the verdict says that a pair is missing.
#[test]
fn a_pair_of_which_one_row_is_missing_is_said() {
    let bench = Bench::new();
    for gone in ["a-w0.5-s1", "b-w0.5-s1"] {
        let kept: Vec<Row> = rows("real", 2.0).into_iter().filter(|row| row.cell != gone).collect();
        let judged = bench.judge(&kept).unwrap();
        assert!(judged[0].notes.contains(&"1 of its pairs incomplete".to_owned()), "{gone}: {:?}", judged[0].notes);
        assert!(format!("{:?}", judged[0].parts).contains("stale or damaged: width 0.5 (seed 1)"));
    }
}

/// Leads of 1, 2 and 4.5 at widths 1, 1/2 and 1/4: by hand the least-squares slope is 1.75, and between any two of them 1, 2.5
/// and 1.75; the second seed has half a point less at the narrowest.
#[test]
fn a_trend_tells_its_slope_seed_by_seed_and_without_each_width() {
    let bench = Bench::new();
    let mut all = Vec::new();
    for (width, leads) in [("1.0", [1.0, 1.0]), ("0.5", [2.0, 2.0]), ("0.25", [4.5, 4.0])] {
        for (seed, lead) in (0..).zip(leads) {
            all.extend([row("real", "a", width, seed, 60.0), row("real", "b", width, seed, 60.0 + lead)]);
        }
    }
    let judged = bench.judge(&all).unwrap();
    let trend = judged.iter().find(|of| of.claim.id == "trend").unwrap();
    let told = format!("{:?}", trend.parts);
    assert!(trend.ours.starts_with("+1.62 (") && trend.ours.ends_with("points a halving"), "{}", trend.ours);
    assert!(told.contains("Slope seed by seed: 0: +1.75, 1: +1.50."), "{told}");
    assert!(told.contains("Slope without one width: 1.0: +2.25, 0.5: +1.62, 0.25: +1.00."), "{told}");
}

/// A's line from (100, 60) to (300, 80): at B's cost of 150 it has 65, and B has 60 there, or 64.
#[test]
fn at_equal_cost_the_other_family_is_read_from_its_line() {
    let bench = Bench::new();
    let mut all = Vec::new();
    for seed in 0..3 {
        let spread = [-0.2, 0.0, 0.2][seed as usize];
        all.push(row("real", "a", "1.0", seed, 80.0));
        all.push(row("real", "a", "0.5", seed, 60.0));
        all.push(row("real", "b", "1.0", seed, 82.0));
        all.push(row("real", "b", "0.5", seed, 64.0 + spread));
    }
    let judged = bench.judge(&all).unwrap();
    let of = judged.iter().find(|of| of.claim.id == "equal-cost").unwrap();
    // B at 1.0 costs more than any of A: nothing is extrapolated.
    assert!(of.ours.starts_with("-1.00 ("), "{}", of.ours);
    assert_eq!(of.verdict, Verdict::Contradicted);
    assert_eq!(judged[0].verdict, Verdict::Reproduced);
}

#[test]
fn a_ratio_of_times_is_widened_by_its_control() {
    let bench = Bench::new();
    let timed = |metric: &str, part: Option<&str>, samples: &[f64], value: f64| Row {
        metric: metric.into(),
        part: part.map(str::to_owned),
        samples: samples.to_vec(),
        value: Some(value),
        cell: "t1".into(),
        ..row("times", "a", "1.0", 0, 0.0)
    };
    let samples = [0.90, 0.91, 0.92, 0.90, 0.91, 0.92];
    let quiet = vec![timed("ratio", Some("b"), &samples, 0.91), timed("control", None, &[], 1.01)];
    assert_eq!(bench.verdict(&quiet, "half").0, Verdict::Reproduced);
    // The same elsewhere stands beside it and decides nothing.
    let elsewhere = Row { profile: "elsewhere".into(), ..timed("ratio", Some("b"), &[1.5; 6], 1.5) };
    let both: Vec<Row> = quiet.iter().cloned().chain([elsewhere]).collect();
    assert_eq!(bench.verdict(&both, "half").0, Verdict::Reproduced);
    let judged = bench.judge(&both).unwrap();
    let told = format!("{:?}", judged.iter().find(|of| of.claim.id == "half").unwrap().parts);
    assert!(
        told.contains("b took 0.910 of the first network's time") && told.contains("-50.0 (-50.0 to -50.0)"),
        "{told}"
    );
    let unquiet = vec![timed("ratio", Some("b"), &samples, 0.91), timed("control", None, &[], 1.12)];
    assert_eq!(bench.verdict(&unquiet, "half").0, Verdict::SameDirection);
    let few = vec![timed("ratio", Some("b"), &samples[..3], 0.91)];
    assert_eq!(bench.verdict(&few, "half").0, Verdict::NotTested);
}

#[test]
fn counts_and_untested_claims_need_no_rows() {
    let bench = Bench::new();
    assert_eq!(bench.verdict(&[], "cheap").0, Verdict::Contradicted);
    assert_eq!(bench.verdict(&[], "open").0, Verdict::NotTested);
    let judged = bench.judge(&[]).unwrap();
    let Some(Part::Table(table)) = section(&judged, &[]).unwrap().parts.into_iter().next() else { panic!("no table") };
    assert_eq!(table.rows.len(), judged.len(), "one line a claim");
    assert_eq!(table.rows[0][1].mark, Mark::Verdict(Verdict::NotTested));
}

#[test]
fn what_cannot_be_told_apart_or_compared_is_an_error() {
    let bench = Bench::new();
    let mut twice = rows("real", 2.0);
    let copy = Row { cell: "b-again".into(), ..twice[1].clone() };
    twice.push(copy);
    assert!(bench.judge(&twice).unwrap_err().to_string().contains("are both meant"));
    let mut other = rows("real", 2.0);
    other[1].data_hash = "other images".into();
    assert!(bench.judge(&other).unwrap_err().to_string().contains("on other images"));
}

#[test]
fn prose_may_lean_on_what_rows_say() {
    let bench = Bench::new();
    let (good, bad) = (rows("real", 2.0), rows("real", -2.0));
    let text = "B leads {claim lead: reproduced}, and more.";
    let judged = bench.judge(&good).unwrap();
    assert_eq!(Prose(&judged).resolve("here", text).unwrap(), "B leads (lead: reproduced), and more.");
    assert!(matches!(Prose(&judged).resolve("here", "{claim leed: reproduced}"), Err(Unsupported::Unknown { .. })));
    assert!(matches!(Prose(&judged).resolve("here", "{claim lead"), Err(Unsupported::Open { .. })));
    let judged = bench.judge(&bad).unwrap();
    let error = Prose(&judged).resolve("study s", text).unwrap_err();
    assert_eq!(error.to_string(), "study s: says that claim lead is \"reproduced\"; rows say \"contradicted\"");
}

#[test]
fn a_claim_whose_rows_are_gone_is_missed() {
    let bench = Bench::new();
    let rows = rows("real", 2.0);
    let before = Shown::now(&bench.project, &[], &bench.judge(&rows).unwrap()).unwrap();
    let after = Shown::now(&bench.project, &[], &bench.judge(&[]).unwrap()).unwrap();
    let missed = before.missed(&after);
    assert!(missed.contains(&"claim lead: was reproduced, and its rows are gone".to_owned()), "{missed:?}");
    assert!(after.missed(&before).is_empty() && before.missed(&before).is_empty());
}

#[test]
fn mistakes_in_the_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("experiments")).unwrap();
    let project = Project::around(folder.path()).unwrap();
    let read = |text: &str| {
        std::fs::write(Path::new(folder.path()).join("experiments/claims.toml"), text).unwrap();
        Claims::read(&project).unwrap_err().to_string()
    };
    assert!(read(&CLAIMS.replace("id = \"half\"", "id = \"lead\"")).contains("claim lead occurs twice"));
    assert!(
        read(&CLAIMS.replace("untested = \"Nobody has built C.\"", "")).contains("claim open: needs either a test")
    );
    assert!(read(&CLAIMS.replace("own_best", "own_bets")).contains("own_bets"));
    assert!(read(&CLAIMS.replacen("minus = [{ network = \"a\" }]", "minus = []", 1)).contains("plus and minus"));
}
