//! The study's own file, and what its section says of rows and predictions.

use std::path::Path;

use sandglass_efficientnet::{EfficientNet, STUDY};
use sandglass_lab::{Trial, Trials};
use sandglass_ledger::{Axis, Prediction, Predictions, Row, Status, write_cell, write_predictions};
use sandglass_study::{Axes, Build, Experiment, Project, Shelf, StudyFile, hash};

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

type Method = Trials<EfficientNet>;

fn cells(profile: &str) -> Vec<Trial> {
    type File = StudyFile<<Method as Experiment>::Design, <Method as Experiment>::Setup>;
    let file = File::read(&Path::new(EXPERIMENTS).join("efficientnet/study.toml")).unwrap();
    let setup = &file.profile(Some(profile)).unwrap().setup;
    Method::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

/// A project with this study and the one that it borrows from.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for study in ["efficientnet", "width"] {
        let to = folder.path().join("experiments").join(study);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(Path::new(EXPERIMENTS).join(study).join("study.toml"), to.join("study.toml")).unwrap();
    }
    folder
}

fn section(root: &Path) -> (String, serde_json::Value) {
    let shelf = Shelf::new(&[sandglass_width::STUDY, STUDY], Build::new("c0ffee", b"lock"), Some(1));
    let section = shelf.find(root.join("experiments/efficientnet").to_str().unwrap()).unwrap().section().unwrap();
    (serde_json::to_string(&section.parts).unwrap(), section.data)
}

/// A row of a cell that nobody measured, and its predictions of ten images of which the first `right` are right.
fn write(root: &Path, study: &str, cell: &Trial, right: u32) {
    let axes = cell.axes().into_iter().map(|(name, value)| Axis { name: name.into(), value });
    let place = [study, "imagewoof", &cell.to_string()];
    let row = Row {
        study: study.into(),
        profile: "imagewoof".into(),
        cell: cell.to_string(),
        axes: axes.collect(),
        dataset: cell.dataset(),
        synthetic: false,
        seed: cell.seed(),
        metric: "top1".into(),
        part: None,
        value: Some(f64::from(right) * 10.0),
        unit: "%".into(),
        n: 10,
        status: Status::Ok,
        error: None,
        samples: vec![],
        samples_at: vec![],
        once: false,
        engine: None,
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        dirty: false,
        made_by: vec![],
        made_from: None,
        command: "sandglass run".into(),
        cell_hash: hash(cell).unwrap(),
        data_hash: "feedfacefeedface".into(),
        checkpoint_hash: Some("c0ffee00c0ffee00".into()),
        machine: "A CPU".into(),
        isa: "avx2".into(),
        threads: 2,
        versions: "sandglass 0.1.0".into(),
        started: "2026-01-31T12:00:00Z".into(),
        seconds: 12.5,
    };
    let items =
        (0..10).map(|at| Prediction { name: format!("{at}.JPEG"), label: 1, prediction: u32::from(at < right) });
    let predictions = Predictions { checkpoint: "c0ffee00c0ffee00".into(), items: items.collect() };
    write_predictions(&root.join("results/predictions"), place, &predictions).unwrap();
    write_cell(&root.join("results/rows"), &[row]).unwrap();
}

#[test]
fn every_scale_has_its_cells() {
    let ids = |profile| cells(profile).iter().map(ToString::to_string).collect::<Vec<_>>();
    // The large network comes last of its seed, and once.
    assert_eq!(
        ids("imagewoof"),
        [
            "mobilenetv2-w1.0-s0",
            "mobilenext-w1.0-s0",
            "efficientnet_b0-w1.0-s0",
            "mobilenext_se_s-w1.0-s0",
            "mobilenext_se_l-w1.0-s0",
            "mobilenetv2-w1.0-s1",
            "mobilenext-w1.0-s1",
            "efficientnet_b0-w1.0-s1",
            "mobilenext_se_s-w1.0-s1",
        ]
    );
    assert_eq!(ids("smoke").len(), 5);
    assert_eq!(ids("imagenet-subset"), ["efficientnet_lite0-w1.0-imagenet_val_910"]);
    let search = ids("imagewoof-search");
    assert!(search.len() == 6 && search.iter().all(|id| id.starts_with("efficientnet") || id.contains("_se_s")));
}

/// What the width study trains is not trained again: by its definition a cell is the same.
#[test]
fn plain_networks_are_the_width_studys() {
    let own = cells("imagewoof");
    let file = sandglass_study::StudyFile::<
        <sandglass_width::Width as Experiment>::Design,
        <sandglass_width::Width as Experiment>::Setup,
    >::read(&Path::new(EXPERIMENTS).join("width/study.toml"))
    .unwrap();
    let setup = &file.profile(Some("imagewoof")).unwrap().setup;
    let width = sandglass_width::Width::new(
        Some(1),
        &Build::new("c0ffee", b"lock"),
        &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap(),
    )
    .unwrap();
    let theirs: Vec<String> =
        width.cells(&file.design, setup).unwrap().iter().map(|cell| hash(cell).unwrap()).collect();
    let borrowed = own.iter().filter(|cell| theirs.contains(&hash(*cell).unwrap())).map(ToString::to_string);
    let plain = ["mobilenetv2-w1.0-s0", "mobilenext-w1.0-s0", "mobilenetv2-w1.0-s1", "mobilenext-w1.0-s1"];
    assert_eq!(borrowed.collect::<Vec<_>>(), plain);
}

#[test]
fn the_table_is_the_papers_with_exact_counts_where_a_network_is_built() {
    let folder = project();
    let (text, data) = section(folder.path());
    let line = |network: &str| {
        let lines = data["lines"].as_array().unwrap();
        lines.iter().find(|line| line["network"] == network).unwrap().clone()
    };
    // costs.csv's counts.
    assert_eq!(line("EfficientNet-b0, gated")["cost"]["params"], 5_288_548);
    assert_eq!(line("MobileNeXt-1.0, gated")["cost"]["params"], 3_937_011);
    assert_eq!(line("MobileNeXt-1.1, gated")["paper"]["madds_m"], 420.0);
    assert!(line("GhostNet-1.3")["cost"].is_null());
    assert_eq!(line("efficientnet_lite0")["cost"]["madds_total"], 385_187_552);
    assert!(text.contains("75.07 %") && text.contains("Not done: 9 of 9 cells of profile imagewoof"), "{text}");
}

#[test]
fn block_frame_and_their_interaction_are_told_image_by_image() {
    let folder = project();
    // MobileNetV2, MobileNeXt, b0, the small sandglass: 5, 6, 7 and 9 of ten images.
    for (cell, right) in cells("imagewoof").iter().zip([5, 6, 7, 9]) {
        let study = if right < 7 { "width" } else { "efficientnet" };
        write(folder.path(), study, cell, right);
    }
    let (text, data) = section(folder.path());
    let effects = &data["contrasts"][0]["effects"];
    let effect = |at: usize| effects[at]["interval"]["effect"].as_f64().unwrap();
    let near = |found: f64, wanted: f64| (found - wanted).abs() < 1e-9;
    assert!(near(effect(0), 10.0) && near(effect(1), 20.0) && near(effect(2), 20.0) && near(effect(3), 30.0));
    assert!(near(effect(4), 10.0) && effects[4]["seeds"] == 1 && effects[4]["images"] == 10, "{effects}");
    assert!(effects[4]["interval"]["low"].as_f64().unwrap() < 10.0, "{effects}");
    assert!(text.contains("images; one seed"), "{text}");
}
