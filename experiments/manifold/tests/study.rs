//! The study's own file, its smoke scale in a project of its own, and what its section says of rows.

use std::path::Path;

use sandglass_ledger::{Ledger, Status};
use sandglass_manifold::{Cell, Manifold, STUDY};
use sandglass_study::{Build, Experiment, Project, RunArgs, Shelf, Study, StudyFile, Verify};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/study.toml");
/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

type File = StudyFile<<Manifold as Experiment>::Design, <Manifold as Experiment>::Setup>;

fn cells_of(text: &str, profile: &str) -> Result<Vec<Cell>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.toml");
    std::fs::write(&path, text).unwrap();
    let file = File::read(&path).unwrap();
    let setup = &file.profile(Some(profile)).unwrap().setup;
    let study = Manifold::new(
        Some(1),
        &Build::new("c0ffee", b"lock"),
        &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap(),
    )
    .unwrap();
    study.cells(&file.design, setup).map_err(|error| error.to_string())
}

fn file() -> String {
    std::fs::read_to_string(FILE).unwrap()
}

fn study(root: &Path, threads: usize) -> Box<dyn Study> {
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(threads));
    shelf.find(root.join("experiments/manifold").to_str().unwrap()).unwrap()
}

/// A project with the study and the width study's kept checkpoints of embedded images, with their rows.
fn project() -> tempfile::TempDir {
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
    copy(Path::new(FILE), "experiments/manifold/study.toml");
    folder
}

fn run(root: &Path, profile: &str, cell: Option<&str>, threads: usize) {
    let (profile, cell) = (Some(profile.to_owned()), cell.map(str::to_owned));
    study(root, threads).run(&RunArgs { profile, cell, again: false, threads: None }).unwrap();
}

fn text(study: &dyn Study) -> String {
    serde_json::to_string(&study.section().unwrap().parts).unwrap()
}

#[test]
fn every_scale_has_its_cells() {
    let names = |profile: &str| cells_of(&file(), profile).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    let planes = ["plane-s0", "plane-s1", "plane-s2"];
    let networks = ["mobilenetv2", "mobilenext"].map(|name| format!("{name}-w0.35-s0"));
    let both = networks.iter().flat_map(|name| [format!("{name}-initial"), name.clone()]);
    assert_eq!(names("smoke"), planes.map(str::to_owned).into_iter().chain(both).collect::<Vec<_>>());
    assert_eq!(names("plane").len(), 10);
    let woof = names("imagewoof");
    let ends = (woof.len(), woof[0].as_str(), woof[19].as_str());
    assert_eq!(ends, (20, "mobilenetv2-w1.4-s0-initial", "mobilenext-w0.35-s0"));
    for (from, to, reason) in [
        ("dimensions = [2, 3, 5, 15, 30]", "dimensions = [2, 0]", "each from 1"),
        ("dimensions = [2, 3, 5, 15, 30]", "dimensions = []", "each from 1"),
        ("layers = 200\n", "layers = 9223372036854775807\n", "at most"),
        ("images = 32\n", "images = 0\n", "images = 0"),
        ("\"width/smoke\"", "\"width\"", "study/profile"),
    ] {
        let text = file();
        assert!(text.contains(from), "{from}");
        let message = cells_of(&text.replace(from, to), "smoke").unwrap_err();
        assert!(message.contains(reason), "{message}");
    }
}

/// What decides a number is in the hash; committed rows rest on these.
#[test]
fn hashes_of_definitions_are_those_of_committed_rows() {
    let rows = Ledger::read(&Path::new(ROOT).join("results/rows"));
    let mut seen = 0;
    for row in rows.rows.iter().filter(|row| row.study == "manifold" && row.status == Status::Ok) {
        let cells = cells_of(&file(), &row.profile).unwrap();
        let cell = cells.into_iter().find(|cell| cell.to_string() == row.cell).unwrap();
        assert_eq!(row.cell_hash, sandglass_study::hash(&cell).unwrap(), "{}", row.id());
        seen += 1;
    }
    assert!(seen >= 10 * 11, "{seen}");
}

/// Layers are a function of the seed, to the bit, and so is what they collapse.
#[test]
fn the_smoke_scale_runs_is_told_and_is_measured_again() {
    let folder = project();
    let root = folder.path();
    let before = text(study(root, 1).as_ref());
    assert!(before.contains("Not done: 10 of 10 cells of profile plane"), "{before}");
    run(root, "smoke", None, 2);
    let ledger = Ledger::read(&root.join("results/rows"));
    let row = |cell: &str, metric: &str, part: Option<&str>| {
        let mut rows = ledger.cell("manifold", "smoke", cell);
        let found = rows.find(|row| row.metric == metric && row.part.as_deref() == part);
        found.unwrap_or_else(|| panic!("{cell} {metric} {part:?}")).clone()
    };
    let layers = row("plane-s0", "off", None);
    assert_eq!(layers.checkpoint_hash.as_deref(), Some(LAYERS));
    // 200 layers: a standard error of 1.8 points where it is largest.
    for (outputs, exact, within) in [("2", 75.0, 6.0), ("3", 50.0, 6.0), ("5", 18.75, 6.0), ("15", 0.05, 0.3)] {
        let found = row("plane-s1", "collapsed", Some(outputs)).value.unwrap();
        assert!((found - exact).abs() < within, "{outputs}: {found}");
    }
    assert_eq!(row("plane-s1", "collapsing", Some("2")).value, Some(200.0));
    assert_eq!(row("plane-s1", "collapsed", Some("30")).value, Some(0.0));

    let sixth = row("mobilenetv2-w0.35-s0", "needed", Some("features.2.conv.0.0")).value.unwrap();
    assert!((sixth - 100.0 / 6.0).abs() < 1e-9, "{sixth}");
    for name in ["mobilenetv2-w0.35-s0", "mobilenext-w0.35-s0"] {
        // The output of a convolution lies on either side of the mean that a batch norm takes off.
        let initial = row(&format!("{name}-initial"), "channels", Some("positive"));
        assert!((40.0..60.0).contains(&initial.value.unwrap()), "{initial:?}");
        assert!(initial.made_from.is_some() && initial.checkpoint_hash != row(name, "kept", None).checkpoint_hash);
        let kept = row(name, "kept", None);
        assert_eq!((kept.n, kept.samples.len(), kept.synthetic), (32, 32, true));
        let positive = row(name, "channels", Some("positive")).value.unwrap();
        assert!((10.0..90.0).contains(&positive), "{name}: {positive}");
        assert_eq!(row(name, "channels_drawn", Some("needed")).samples.len(), 1000);
    }

    // On another number of threads.
    study(root, 1).verify(Verify::All).unwrap();
    let after = text(study(root, 1).as_ref());
    for expected in
        ["Random layers, synthetic", "holds the exact share", "difference (points)", "initial", "Images drawn by code"]
    {
        assert!(after.contains(expected), "{expected}: {after}");
    }
}

/// SHA-256 of the smoke scale's layers of seed 0.
const LAYERS: &str = "f283478aed7dc57407bda8791cba3e9a8bae360768159b7bf94a8dfc7a81ab8b";

#[test]
fn what_is_not_trained_is_not_run_and_says_how() {
    let folder = project();
    let cell = "mobilenext-w0.35-s0";
    run(folder.path(), "imagewoof", Some(cell), 1);
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let row = ledger.cell("manifold", "imagewoof", cell).next().unwrap();
    assert_eq!(row.status, Status::Skipped);
    let reason = row.error.as_deref().unwrap();
    assert!(reason.contains("sandglass run width --profile imagewoof --cell mobilenext-w0.35-s0"), "{reason}");
}
