//! The study's own file, its smoke scale in a project of its own, and what its section says of rows.

use std::collections::BTreeMap;
use std::path::Path;

use sandglass_ledger::{Ledger, Row, Status};
use sandglass_quant_study::{Cell, Quant, STUDY};
use sandglass_study::{Axes, Build, Experiment, Part, Project, RunArgs, Shelf, Study, StudyFile, Verify};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/study.toml");
/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

type File = StudyFile<<Quant as Experiment>::Design, <Quant as Experiment>::Setup>;

fn cells(profile: &str) -> Vec<Cell> {
    let file = File::read(Path::new(FILE)).unwrap();
    let setup = &file.profile(Some(profile)).unwrap().setup;
    Quant::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

fn study(root: &Path) -> Box<dyn Study> {
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(2));
    shelf.find(root.join("experiments/quant").to_str().unwrap()).unwrap()
}

/// A project with the study, as it stands or changed, and the width study's kept checkpoints with their rows.
fn project(change: impl Fn(String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    for network in ["mobilenetv2", "mobilenext"] {
        for file in [
            format!("checkpoints/width/smoke/{network}-w0.35-s0.safetensors"),
            format!("rows/width/smoke/{network}-w0.35-s0.parquet"),
        ] {
            copy(&Path::new(ROOT).join("results").join(&file), &format!("results/{file}"));
        }
    }
    let text = change(std::fs::read_to_string(FILE).unwrap());
    std::fs::create_dir_all(folder.path().join("experiments/quant")).unwrap();
    std::fs::write(folder.path().join("experiments/quant/study.toml"), text).unwrap();
    folder
}

fn text(study: &dyn Study) -> String {
    serde_json::to_string(&study.section().unwrap().parts).unwrap()
}

#[test]
fn every_scale_has_its_cells() {
    // f32, eleven schemes, four observers, two schemes on fewer images: 22 of each network at the first seed.
    assert_eq!(cells("smoke").len(), 2 * 22 + 1);
    assert_eq!(cells("imagenet-subset").len(), 3 * 22);
    // Further seeds: f32 and two schemes; four of two widths, two of two.
    assert_eq!(cells("imagewoof").len(), 2 * (5 * 22 + (2 * 4 + 2 * 2) * 3));
    let woof = cells("imagewoof");
    assert_eq!(woof[0].to_string(), "mobilenetv2-w0.35-s0-f32");
    let scored = |cell: &'_ Cell| cell.scored().cloned();
    assert!(woof.iter().filter_map(scored).all(|cell| cell.input == 128 && cell.network.stem_stride == 2));
    let looked_at = woof.iter().filter_map(scored).filter(|cell| cell.leave_one_out);
    let looked_at: Vec<String> = looked_at.map(|cell| cell.to_string()).collect();
    assert_eq!(
        looked_at,
        [
            "mobilenetv2-w0.35-s0-per-tensor",
            "mobilenext-w0.35-s0-per-tensor",
            "mobilenetv2-w1.0-s0-per-tensor",
            "mobilenext-w1.0-s0-per-tensor"
        ]
    );
    let given = &cells("imagenet-subset")[22];
    let of = given.scored().unwrap();
    assert!(of.same_padding && of.evaluation.std == [0.5; 3], "{given}");
    assert!(given.axes().contains(&("checkpoint", "tensorflow".to_owned())));
    let latency = cells("latency");
    assert_eq!(latency.iter().map(ToString::to_string).collect::<Vec<_>>(), ["latency-t1", "latency-t2"]);
    let parts: Vec<String> = latency[0].timed().unwrap().subjects.iter().map(ToString::to_string).collect();
    assert_eq!(
        parts[..5],
        [
            "mobilenetv2-w1.0",
            "mobilenetv2-w1.0-per-channel",
            "mobilenetv2-w1.0-per-tensor",
            "mobilenetv2-w1.0-per-tensor-equalised",
            "mobilenetv2-w0.5"
        ]
    );
    assert_eq!(parts.len(), 2 * 2 * 4);
}

/// What decides a number is in the hash; committed rows rest on these.
#[test]
fn hashes_of_definitions_are_pinned() {
    let rows = Ledger::read(&Path::new(ROOT).join("results/rows"));
    let mut seen = 0;
    let file = File::read(Path::new(FILE)).unwrap();
    for profile in file.profile.iter().map(|profile| profile.name.as_str()) {
        let hashes: BTreeMap<String, String> =
            cells(profile).iter().map(|cell| (cell.to_string(), sandglass_study::hash(cell).unwrap())).collect();
        for row in rows.of("quant", profile).filter(|row| row.status == Status::Ok) {
            assert_eq!(hashes.get(&row.cell), Some(&row.cell_hash), "{}", row.id());
            seen += 1;
        }
    }
    assert!(seen > 44 * 4, "{seen}");
}

#[test]
fn two_cells_run_are_told_and_measured_again() {
    let few = |text: String| {
        let text =
            text.replace("calibration = 512", "calibration = 16").replace("noise_images = 256", "noise_images = 8");
        text.replace("leave_one_out = [0.35]", "leave_one_out = []")
    };
    let folder = project(few);
    let run = |cell: &str| {
        let (profile, cell) = (Some("smoke".to_owned()), Some(cell.to_owned()));
        study(folder.path()).run(&RunArgs { profile, cell, again: false, threads: None }).unwrap();
    };
    let before = text(study(folder.path()).as_ref());
    assert!(before.contains("not measured on real images yet") && before.contains("of imagewoof"), "{before}");
    for network in ["mobilenetv2", "mobilenext"] {
        run(&format!("{network}-w0.35-s0-f32"));
        run(&format!("{network}-w0.35-s0-per-channel"));
    }
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let row = |cell: &str, metric: &str, part: Option<&str>| {
        let mut rows = ledger.cell("quant", "smoke", cell);
        rows.find(|row| row.metric == metric && row.part.as_deref() == part).and_then(|row| row.value)
    };
    // As the engine that trains counts them.
    let trained = ledger.cell("width", "smoke", "mobilenetv2-w0.35-s0").find(|row| row.metric == "top1").unwrap();
    let [float, int8] = ["f32", "per-channel"].map(|scheme| format!("mobilenetv2-w0.35-s0-{scheme}"));
    assert_eq!(row(&float, "top1", None), trained.value);
    assert!((row(&int8, "top1", None).unwrap() - trained.value.unwrap()).abs() < 2.0);
    assert!(row(&int8, "bytes", None).unwrap() < 500_000.0);
    assert!(row(&int8, "sqnr", Some("images")).unwrap() > 40.0);
    assert!(row(&int8, "saturated_pairs", Some("features.0.0")).is_some());

    let study = study(folder.path());
    study.verify(Verify::All).unwrap();
    let after = text(study.as_ref());
    assert!(after.contains("synthetic (drawn by code)") && after.contains("Not decided"), "{after}");
    // Noise is drawn in the network's order, and not in that of its layers' names.
    let section = study.section().unwrap();
    let mut figures = section.parts.iter().filter_map(|part| match part {
        Part::Figure(figure) => Some(figure),
        _ => None,
    });
    let points = &figures.find(|figure| figure.name == "quant-noise").unwrap().charts[0].series[0].points;
    let drawn = |at: usize| (points[at].x, Some(points[at].y));
    assert_eq!(drawn(0), (0.0, row(&int8, "sqnr", Some("images"))));
    assert_eq!(drawn(1).1, row(&int8, "sqnr", Some("features.0.0")));
    assert_eq!(drawn(points.len() - 1), (100.0, row(&int8, "sqnr", Some("classifier.1"))));
}

#[test]
fn what_is_not_trained_yet_is_skipped_and_says_how() {
    let folder = project(|text| text);
    let cell = "mobilenext-w0.35-s1-per-channel";
    let (profile, name) = (Some("imagewoof".to_owned()), Some(cell.to_owned()));
    study(folder.path()).run(&RunArgs { profile, cell: name, again: false, threads: None }).unwrap();
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let row = ledger.cell("quant", "imagewoof", cell).next().unwrap();
    assert_eq!(row.status, Status::Skipped);
    let reason = row.error.as_deref().unwrap();
    assert!(reason.contains("sandglass run width --profile imagewoof --cell mobilenext-w0.35-s1"), "{reason}");

    // A file that is another than its row's is no checkpoint.
    let file = folder.path().join("results/checkpoints/width/smoke/mobilenext-w0.35-s0.safetensors");
    std::fs::write(&file, "changed").unwrap();
    let (profile, name) = (Some("smoke".to_owned()), Some("mobilenext-w0.35-s0-f32".to_owned()));
    study(folder.path()).run(&RunArgs { profile, cell: name, again: false, threads: None }).unwrap();
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let row = ledger.cell("quant", "smoke", "mobilenext-w0.35-s0-f32").next().unwrap();
    assert!(row.error.as_deref().unwrap().contains("SHA-256"));
}

fn run_latency(root: &Path, profile: &str) -> Vec<Row> {
    let (profile, cell) = (profile.to_owned(), Some("latency-t1".to_owned()));
    study(root).run(&RunArgs { profile: Some(profile.clone()), cell, again: false, threads: None }).unwrap();
    Ledger::read(&root.join("results/rows")).cell("quant", &profile, "latency-t1").cloned().collect()
}

#[test]
fn schemes_are_timed_beside_f32_in_the_same_rounds() {
    let folder = project(|text| text);
    let published = text(study(folder.path()).as_ref());
    assert!(published.contains("80.3") && !published.contains("latency by scheme"), "{published}");
    let rows = run_latency(folder.path(), "smoke");
    assert!(rows.iter().all(|row| row.status == Status::Ok && row.threads == 1), "{rows:?}");
    assert!(rows.iter().all(|row| row.engine.as_deref().is_some_and(|engine| engine.starts_with("infer (8 bits by "))));
    let row =
        |metric: &str, part: &str| rows.iter().find(|row| row.metric == metric && row.part.as_deref() == Some(part));
    for network in ["mobilenetv2-w0.35", "mobilenext-w0.35"] {
        let float = row("latency", network).unwrap();
        assert!(row("to_f32", network).is_none());
        for scheme in ["per-channel", "per-tensor", "per-tensor-equalised"] {
            let part = format!("{network}-{scheme}");
            let (latency, to_f32) = (row("latency", &part).unwrap(), row("to_f32", &part).unwrap());
            assert!(latency.once && to_f32.once && latency.samples.len() == 5);
            let ratios: Vec<f64> = latency.samples.iter().zip(&float.samples).map(|(own, of)| own / of).collect();
            assert_eq!(to_f32.samples, ratios);
            // A byte for four, and packed weights a byte or two: the plan that runs is that of the integers.
            let bytes = |part: &str| row("bytes_moved", part).unwrap().value.unwrap();
            assert!(bytes(&part) < 0.6 * bytes(network) && bytes(&part) == bytes(&format!("{network}-per-channel")));
        }
    }
    let after = text(study(folder.path()).as_ref());
    assert!(after.contains("synthetic: latency by scheme") && after.contains("a second copy of the first"), "{after}");
    // A time is no score: the first lines tell what is left of the scoring alone.
    assert!(after.contains("of imagewoof") && !after.contains("cells of latency)"), "{after}");
}

#[test]
fn without_onnx_runtime_times_are_skipped_and_say_what_to_do() {
    let folder = project(|text| text.replace("input = 224\nthreads = [1, 2]", "input = 32\nthreads = [1]"));
    let rows = run_latency(folder.path(), "latency");
    let error = rows[0].error.as_deref().unwrap();
    assert!(rows[0].status == Status::Skipped && error.contains("make peers"), "{error}");
    assert!(text(study(folder.path()).as_ref()).contains("skipped"));
}

#[test]
fn what_is_not_timed_is_refused() {
    let refused = |from: &str, to: &str| {
        let folder = project(|text| {
            assert!(text.contains(from));
            text.replace(from, to)
        });
        let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(2));
        let found = shelf.find(folder.path().join("experiments/quant").to_str().unwrap());
        found.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let timed = "timed = [\"per-channel\", ";
    assert!(refused(timed, "timed = [\"per-channel-avx2\", ").contains("emulated"));
    assert!(refused(timed, "timed = [\"int4\", ").contains("none is called \"int4\""));
    assert!(refused("timed = [1.0, 0.5]", "timed = []").contains("needs networks"));
}
