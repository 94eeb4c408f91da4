//! The width study in a project of its own.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;

use sandglass_ledger::{Axis, Row, Status, write_cell};
use sandglass_report::{Content, Report};
use sandglass_study::{Axes, Build, Experiment, Project, Record, Section, Shelf, Study, StudyFile, hash};
use sandglass_width::Width;

pub const STUDY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/study.toml");

pub fn study(root: &Path) -> Box<dyn Study> {
    shelf(1).find(root.join("experiments/width").to_str().unwrap()).unwrap()
}

pub fn shelf(threads: usize) -> Shelf<'static> {
    Shelf::new(&[sandglass_width::STUDY], Build::new("c0ffee", b"lock"), Some(threads))
}

pub fn report(root: &Path) -> (Section, Report) {
    let study = study(root);
    let section = study.section().unwrap();
    let problems: Vec<String> = study.problems().iter().map(ToString::to_string).collect();
    let title = "Sandglass: MobileNeXt and MobileNetV2 reproduced";
    let report = sandglass_report::build(&Content {
        title,
        sections: std::slice::from_ref(&section),
        problems: &problems,
        records: &study.rows().iter().map(|row| (row.id(), Record::of(row))).collect(),
    })
    .unwrap();
    (section, report)
}

/// A project with this study.toml and no rows.
pub fn project(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let experiment = folder.path().join("experiments/width");
    std::fs::create_dir_all(&experiment).unwrap();
    std::fs::create_dir_all(folder.path().join("results/rows")).unwrap();
    std::fs::write(experiment.join("study.toml"), text).unwrap();
    folder
}

pub type File = StudyFile<<Width as Experiment>::Design, <Width as Experiment>::Setup>;

pub fn cells(file: &File, profile: &str) -> Vec<<Width as Experiment>::Cell> {
    let setup = &file.profile(Some(profile)).unwrap().setup;
    Width::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

/// A row of a cell that nobody measured.
pub fn row(profile: &str, cell: &<Width as Experiment>::Cell, value: Result<f64, (Status, &str)>) -> Row {
    let axes = cell.axes().into_iter().map(|(name, value)| Axis { name: name.into(), value });
    Row {
        study: "width".into(),
        profile: profile.into(),
        cell: cell.to_string(),
        axes: axes.collect(),
        dataset: cell.dataset(),
        synthetic: cell.data == "embedded",
        seed: cell.seed,
        metric: "top1".into(),
        part: None,
        value: value.ok(),
        unit: "%".into(),
        n: 1000,
        status: value.err().map_or(Status::Ok, |(status, _)| status),
        error: value.err().map(|(_, error)| error.to_owned()),
        samples: vec![],
        samples_at: vec![],
        once: false,
        engine: None,
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        dirty: false,
        made_by: vec![],
        made_from: None,
        command: format!("sandglass run width --profile {profile} --cell {cell}"),
        cell_hash: hash(cell).unwrap(),
        data_hash: "feedfacefeedface".into(),
        checkpoint_hash: Some("c0ffee00c0ffee00".into()),
        machine: "A CPU".into(),
        isa: "avx2".into(),
        threads: 2,
        versions: "sandglass 0.1.0".into(),
        started: "2026-01-31T12:00:00Z".into(),
        seconds: 12.5,
    }
}

pub fn write(root: &Path, row: Row) {
    write_cell(&root.join("results/rows"), &[row]).unwrap();
}
