//! The study's smoke scale in a project of its own.

use std::path::Path;

use sandglass_ledger::Ledger;
use sandglass_memory::STUDY;
use sandglass_study::{Build, RunArgs, Shelf};

#[test]
fn groups_save_memory_where_there_is_a_wide_map_inside_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("experiments/memory");
    std::fs::create_dir_all(&to).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("study.toml");
    std::fs::copy(from, to.join("study.toml")).unwrap();
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(1));
    let study = || shelf.find(to.to_str().unwrap()).unwrap();
    let (profile, cell) = (Some("smoke".to_owned()), Some("latency-t1".to_owned()));
    study().run(&RunArgs { profile, cell, again: false, threads: None }).unwrap();
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let arena = |part: &str| {
        let row = ledger.rows.iter().find(|row| row.metric == "arena" && row.part.as_deref() == Some(part));
        row.unwrap().value.unwrap()
    };
    assert!(arena("mobilenetv2-w1.0-g6") <= arena("mobilenetv2-w1.0-g2"));
    assert!(arena("mobilenetv2-w1.0-g2") < arena("mobilenetv2-w1.0"));
    assert_eq!(arena("mobilenext-w1.0-g6"), arena("mobilenext-w1.0"));
    let text = serde_json::to_string(&study().section().unwrap().parts).unwrap();
    // The paper's 16 channels at 112 x 112, and the stem's 32 by the rule.
    assert!(text.contains("16 / 400") && text.contains("32 / 803") && text.contains("144 / 903"), "{text}");
}
