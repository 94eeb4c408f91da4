//! The study's own file, its smoke scale in a project of its own, and what its section says of rows.

use std::path::Path;

use sandglass_identity::{Identity, STUDY};
use sandglass_lab::{Trial, Trials};
use sandglass_ledger::{Ledger, Row, Status};
use sandglass_models::NetworkConfig;
use sandglass_study::{Axes, Build, Experiment, Project, RunArgs, Shelf, Study, StudyFile};

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

type Method = Trials<Identity>;
type File = StudyFile<<Method as Experiment>::Design, <Method as Experiment>::Setup>;

fn cells(profile: &str) -> Vec<Trial> {
    let file = File::read(&Path::new(EXPERIMENTS).join("identity/study.toml")).unwrap();
    let setup = &file.profile(Some(profile)).unwrap().setup;
    Method::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

/// A project with this study and the one that it borrows from.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for study in ["identity", "width"] {
        let to = folder.path().join("experiments").join(study);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(Path::new(EXPERIMENTS).join(study).join("study.toml"), to.join("study.toml")).unwrap();
    }
    folder
}

fn study(root: &Path) -> Box<dyn Study> {
    let shelf = Shelf::new(&[sandglass_width::STUDY, STUDY], Build::new("c0ffee", b"lock"), Some(2));
    shelf.find(root.join("experiments/identity").to_str().unwrap()).unwrap()
}

fn run(root: &Path, profile: &str, cell: &str) {
    let (profile, cell) = (Some(profile.to_owned()), Some(cell.to_owned()));
    study(root).run(&RunArgs { profile, cell, again: false, threads: None }).unwrap();
}

fn rows(root: &Path, profile: &str, cell: &str) -> Vec<Row> {
    Ledger::read(&root.join("results/rows")).cell("identity", profile, cell).cloned().collect()
}

fn text(root: &Path) -> String {
    serde_json::to_string(&study(root).section().unwrap().parts).unwrap()
}

#[test]
fn every_scale_has_its_cells() {
    let ids = |profile| cells(profile).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        ids("smoke"),
        [
            "mobilenext-w1.0-s0",
            "mobilenext_div2-w1.0-s0",
            "mobilenext_div3-w1.0-s0",
            "mobilenext_div6-w1.0-s0",
            "latency-t1"
        ]
    );
    assert_eq!(ids("latency"), ["latency-t1", "latency-t2"]);
    assert_eq!(ids("imagewoof").len(), 4 * 3);
    assert!(cells("latency").iter().all(|cell| cell.dataset() == "one image of a pattern"));
}

/// The whole identity is the width study's network: its row is read there.
#[test]
fn multiplier_1_is_borrowed() {
    let folder = project();
    let width = folder.path().join("results/rows/width/smoke");
    std::fs::create_dir_all(&width).unwrap();
    let of_width = "../results/rows/width/smoke/mobilenext-w1.0-s0.parquet";
    std::fs::copy(Path::new(EXPERIMENTS).join(of_width), width.join("mobilenext-w1.0-s0.parquet")).unwrap();
    let row = Ledger::read(&folder.path().join("results/rows")).rows.into_iter().find(|row| row.metric == "top1");
    let top1 = format!("{:.2} (n=1)", row.unwrap().value.unwrap());
    assert!(text(folder.path()).contains(&top1));
}

#[test]
fn times_are_of_one_run_and_never_compared() {
    let folder = project();
    run(folder.path(), "smoke", "latency-t1");
    let rows = rows(folder.path(), "smoke", "latency-t1");
    assert!(rows.iter().all(|row| row.status == Status::Ok && row.threads == 1 && row.synthetic), "{rows:?}");
    let row = |metric: &str, part: Option<&str>| {
        rows.iter().find(|row| row.metric == metric && row.part.as_deref() == part).unwrap()
    };
    for part in ["mobilenext-w1.0", "mobilenext_div2-w1.0", "mobilenext_div3-w1.0", "mobilenext_div6-w1.0"] {
        let latency = row("latency", Some(part));
        assert!(latency.once && latency.samples.len() == 5 && latency.value.unwrap() > 0.0);
        // Fewer additions need no other memory; they read less.
        assert_eq!(row("arena", Some(part)).value, row("arena", Some("mobilenext-w1.0")).value);
        assert!(!row("arena", Some(part)).once);
    }
    assert_eq!(row("ratio", Some("mobilenext-w1.0")).samples, [1.0; 5]);
    // What is not added is not read: four bytes each.
    let adds = |network: &str| {
        let graph = network.parse::<NetworkConfig>().unwrap().build().unwrap();
        graph.cost(64, 64).unwrap().residual_adds as f64
    };
    let moved = |network: &str| row("bytes_moved", Some(&format!("{network}-w1.0"))).value.unwrap();
    assert_eq!(moved("mobilenext") - moved("mobilenext_div6"), 4.0 * (adds("mobilenext") - adds("mobilenext_div6")));
    assert_eq!(row("control", None).n, 5);
    let text = text(folder.path());
    assert!(text.contains("Latency, synthetic") && text.contains("a second copy of the first network took"), "{text}");
    // The paper's values stand beside, and nothing is said of the claim by drawn images.
    assert!(text.contains("74.09") && text.contains("196") && !text.contains("Half of the identity,"), "{text}");
}

#[test]
fn without_onnx_runtime_the_cell_is_skipped_and_says_what_to_do() {
    let folder = project();
    run(folder.path(), "latency", "latency-t1");
    let rows = rows(folder.path(), "latency", "latency-t1");
    let error = rows[0].error.as_deref().unwrap();
    assert!(rows[0].status == Status::Skipped && error.contains("make peers"), "{error}");
    assert!(text(folder.path()).contains("skipped"));
}
