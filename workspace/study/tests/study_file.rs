//! `study.toml`: the repository's own is sound, and mistakes are answered with line and near-miss.

use sandglass_study::paper::PaperTable;
use sandglass_study::{Comparison, Study, cell};

const MICRO: &str = include_str!("common/micro.toml");

fn error(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("study.toml");
    std::fs::write(&path, text).unwrap();
    let error = Study::open(&path).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn unknown_keys_are_refused_with_line_and_near_miss() {
    let message = error(&MICRO.replace("seeds =", "seed ="));
    assert!(message.starts_with("study.toml:21: unknown field `seed`"), "{message}");
    assert!(message.ends_with("did you mean `seeds`?"), "{message}");
    let message = error(&MICRO.replace("momentum = 0.9", "momentun = 0.9"));
    assert!(message.starts_with("study.toml:46: "), "{message}");
    assert!(message.contains("momentun") && message.contains("momentum"), "{message}");
    let message = error(&format!("question2 = 1\n{MICRO}"));
    assert!(message.starts_with("study.toml:1: unknown field `question2`"), "{message}");
}

#[test]
fn contradictions_are_named() {
    let message = error(&MICRO.replace("recipe = \"micro\"", "recipe = \"macro\""));
    assert!(message.contains("profile tiny: no recipe \"macro\"; there are smoke"), "{message}");
    let message = error(&MICRO.replace("name = \"given\"", "name = \"tiny\""));
    assert!(message.contains("profile tiny occurs twice"), "{message}");
    let message = error(&MICRO.replace("seeds = [0, 1]", ""));
    assert!(message.contains("profile tiny needs either data, recipe and seeds, or given checkpoints"), "{message}");
    assert!(error("name = = 1").starts_with("study.toml:1: "));
}

#[test]
fn the_width_study_has_its_ten_networks_at_every_scale() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/width/study.toml");
    let (study, _) = Study::open(path.as_ref()).unwrap();
    let counts: Vec<(&str, usize)> = study
        .profile
        .iter()
        .map(|profile| (profile.name.as_str(), cell::cells(&study, profile).unwrap().len()))
        .collect();
    assert_eq!(
        counts,
        [("smoke", 10), ("cifar10", 10), ("tiny-imagenet", 30), ("imagenet", 10), ("imagenet-subset", 2)]
    );
}

/// Every network of the table has the paper's row, and costs what was counted from the official code.
#[test]
fn paper_and_counted_costs_stand_beside_every_network() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/width/study.toml");
    let (study, _) = Study::open(path.as_ref()).unwrap();
    let comparison = Comparison::of(&study, &sandglass_ledger::Ledger::default(), None).unwrap();
    let counted = PaperTable::find("mnext_width_counted").unwrap();
    assert_eq!(comparison.lines.len(), 10);
    for line in &comparison.lines {
        assert!(line.paper.as_ref().and_then(|row| row.top1_pct).is_some(), "{} {}", line.model, line.width);
        let row = counted.row(&line.model, line.width).unwrap();
        assert_eq!(row.madds_m.unwrap(), line.cost.madds_total as f64 / 1e6, "{} {}", line.model, line.width);
    }
}
