//! The study's own file, and its table without rows.

use std::path::Path;

use sandglass_lab::{Trial, Trials};
use sandglass_study::{Build, Experiment, Project, Shelf, StudyFile};
use sandglass_width_resolution::{STUDY, WidthResolution};

const EXPERIMENT: &str = env!("CARGO_MANIFEST_DIR");

type Method = Trials<WidthResolution>;

fn cells() -> Vec<Trial> {
    type File = StudyFile<<Method as Experiment>::Design, <Method as Experiment>::Setup>;
    let file = File::read(&Path::new(EXPERIMENT).join("study.toml")).unwrap();
    let setup = &file.profile(None).unwrap().setup;
    Method::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

/// Each checkpoint at each input, whose short side is resized as 256 is to 224.
#[test]
fn checkpoints_are_scored_at_every_input() {
    let cells = cells();
    let ids: Vec<String> = cells.iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), 15);
    assert_eq!(ids[..2], ["mobilenetv2-w1.0-imagenet_val_910", "mobilenetv2-w1.0-i192-imagenet_val_910"]);
    let resize = |cell: &Trial| cell.trained().unwrap().evaluation.resize;
    assert_eq!(cells[..5].iter().map(resize).collect::<Vec<_>>(), [256, 219, 182, 146, 109].map(Some));
}

#[test]
fn costs_stand_beside_published_accuracies() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("experiments/width-resolution");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(Path::new(EXPERIMENT).join("study.toml"), to.join("study.toml")).unwrap();
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(1));
    let section = shelf.find(to.to_str().unwrap()).unwrap().section().unwrap();
    let lines = section.data["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 25);
    // PAPER.md's sweep at width 1.0: 102.5 million at 128 pixels.
    let line = lines.iter().find(|line| line["width"] == 1.0 && line["input"] == 128).unwrap();
    let madds = line["cost"]["madds_total"].as_f64().unwrap() / 1e6;
    let text = serde_json::to_string(&section.parts).unwrap();
    assert!(madds > 90.0 && madds < 110.0, "{madds}");
    // The authors' 65.3 % and others' 66.0 and 63.6 at 128 pixels.
    assert!(text.contains("\"65.3\"") && text.contains("\"66.0\"") && text.contains("\"63.6\""), "{text}");
    assert!(text.contains("Not done: 15 of 15 cells"), "{text}");
}
