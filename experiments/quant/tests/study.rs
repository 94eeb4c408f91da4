//! The study's own file, its smoke scale in a project of its own, and what its section says of rows.

use std::collections::BTreeMap;
use std::path::Path;

use sandglass_ledger::{Ledger, Status};
use sandglass_quant_study::{Quant, STUDY};
use sandglass_study::{Axes, Build, Experiment, Part, Project, RunArgs, Shelf, Study, StudyFile, Verify};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/study.toml");
/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

type File = StudyFile<<Quant as Experiment>::Design, <Quant as Experiment>::Setup>;

fn cells(profile: &str) -> Vec<<Quant as Experiment>::Cell> {
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
    assert_eq!(cells("smoke").len(), 2 * 22);
    assert_eq!(cells("imagenet-subset").len(), 3 * 22);
    // Further seeds: f32 and two schemes; four of two widths, two of two.
    assert_eq!(cells("imagewoof").len(), 2 * (5 * 22 + (2 * 4 + 2 * 2) * 3));
    let woof = cells("imagewoof");
    assert_eq!(woof[0].to_string(), "mobilenetv2-w0.35-s0-f32");
    assert!(woof.iter().all(|cell| cell.input == 128 && cell.network.stem_stride == 2));
    let looked_at: Vec<String> = woof.iter().filter(|cell| cell.leave_one_out).map(ToString::to_string).collect();
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
    assert!(given.same_padding && given.evaluation.std == [0.5; 3], "{given}");
    assert!(given.axes().contains(&("checkpoint", "tensorflow".to_owned())));
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
