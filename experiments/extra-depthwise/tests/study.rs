//! The study's own file and what its section says without rows.

use std::path::Path;

use sandglass_extra_depthwise::STUDY;
use sandglass_study::{Build, Shelf};

#[test]
fn every_line_has_its_costs_and_the_papers_value() {
    let folder = tempfile::tempdir().unwrap();
    for study in ["extra-depthwise", "width"] {
        let to = folder.path().join("experiments").join(study);
        std::fs::create_dir_all(&to).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(study).join("study.toml");
        std::fs::copy(from, to.join("study.toml")).unwrap();
    }
    let shelf = Shelf::new(&[sandglass_width::STUDY, STUDY], Build::new("c0ffee", b"lock"), Some(1));
    let study = shelf.find(folder.path().join("experiments/extra-depthwise").to_str().unwrap()).unwrap();
    let section = study.section().unwrap();
    let lines = section.data["lines"].as_array().unwrap();
    let of = |line: &serde_json::Value| {
        let network = line["network"].as_str().unwrap().to_owned();
        (network, line["cost"]["params"].as_u64().unwrap(), line["cost"]["madds_total"].as_u64().unwrap())
    };
    // Counted from the official code; the stride is in the first of two, and after the first at the thin ends.
    assert_eq!(
        lines.iter().map(of).collect::<Vec<_>>(),
        [
            ("mobilenetv2".to_owned(), 3_504_872, 300_774_272),
            ("mobilenetv2_extra_dw_dw_dw".to_owned(), 3_583_368, 321_490_688),
            ("mobilenetv2_extra_dw_ends".to_owned(), 3_456_296, 347_118_080),
            ("mobilenext".to_owned(), 3_535_416, 311_342_592)
        ]
    );
    let paper: Vec<_> = lines.iter().map(|line| line["paper"]["top1_pct"].as_f64()).collect();
    assert_eq!(paper, [Some(72.3), Some(73.0), None, Some(74.02)]);
}
