//! The project's claims on the width study's cells: their lines name axes that rows have, and more rows than today render.

mod common;

use std::fs;
use std::path::Path;

use common::{File, STUDY, cells, project, row, study, write};
use sandglass_ledger::{Prediction, Predictions, Row, predictions_path, write_predictions};
use sandglass_report::{Content, Report};
use sandglass_study::claim::{Claims, Verdict, judge, section};
use sandglass_study::{Project, Record, Shown};

const CLAIMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../claims.toml");

/// The decisive scale in full: MobileNeXt leads by a point at width 1.4 and by one more with each width below.
fn measured() -> tempfile::TempDir {
    let folder = project(&fs::read_to_string(STUDY).unwrap());
    fs::copy(CLAIMS, folder.path().join("experiments/claims.toml")).unwrap();
    let file = File::read(&folder.path().join("experiments/width/study.toml")).unwrap();
    for cell in cells(&file, "imagewoof") {
        let place = [1.4, 1.0, 0.75, 0.5, 0.35].iter().position(|width| *width == cell.network.width).unwrap();
        let lead = if cell.network.to_string() == "mobilenext" { 1 + place as u32 } else { 0 };
        let right = 60 + lead + (cell.seed as u32 + lead) % 2;
        let row = Row { n: 100, ..row("imagewoof", &cell, Ok(f64::from(right))) };
        let item = |at: u32| Prediction { name: at.to_string(), label: 1, prediction: u32::from(at < right) };
        let checkpoint = row.checkpoint_hash.clone().unwrap();
        let predictions = Predictions { checkpoint, items: (0..100).map(item).collect() };
        let root = folder.path().join("results/predictions");
        write_predictions(&root, ["width", "imagewoof", &row.cell], &predictions).unwrap();
        assert!(predictions_path(&root, ["width", "imagewoof", &row.cell]).is_file());
        write(folder.path(), row);
    }
    folder
}

/// Verdicts by id, and the report.
fn judged(root: &Path) -> (Shown, Report) {
    let (study, project) = (study(root), Project::around(root).unwrap());
    let claims = Claims::read(&project).unwrap();
    let mut sections = vec![study.section().unwrap()];
    let judged = judge(&claims, &project, &study.evidence(), &sections).unwrap();
    sections.splice(0..0, section(&judged, &[study.name()]));
    let records = study.rows().iter().map(|row| (row.id(), Record::of(row))).collect();
    let content = Content { title: "More rows", sections: &sections, problems: &[], records: &records };
    let report = sandglass_report::build(&content).unwrap();
    (Shown::now(&project, study.rows(), &judged).unwrap(), report)
}

#[test]
fn a_full_scale_is_judged_and_rendered() {
    let folder = measured();
    let (shown, report) = judged(folder.path());
    let verdict = |id: &str| shown.claims.get(id).map(String::as_str);
    for id in ["width-lead", "width-lead-1.0", "width-trend"] {
        assert_eq!(verdict(id), Some(Verdict::Reproduced.words()), "{id}");
    }
    assert_ne!(verdict("width-lead-equal-cost"), Some(Verdict::NotTested.words()));
    assert_eq!(verdict("width-no-more-cost"), Some(Verdict::Contradicted.words()));
    assert_eq!(verdict("v2-counts"), Some(Verdict::NotEqual.words()));
    // Of another study, which is not here.
    assert_eq!(verdict("quant-lead"), Some(Verdict::NotTested.words()));
    assert!(report.markdown.contains("Seeds and images drawn anew at once"), "predictions are read");
    assert!(report.headline.contains("up to 5 seeds, 100 images"), "{}", report.headline);
    assert!(report.html.len() < 3_000_000);
}

/// A row that is taken away is missed by the claim that leaned on it, and marked in the table.
#[test]
fn what_is_taken_away_is_marked_and_missed() {
    let folder = measured();
    let project = Project::around(folder.path()).unwrap();
    let (before, _) = judged(folder.path());
    fs::create_dir_all(folder.path().join("report/out")).unwrap();
    fs::write(Shown::path(&project), before.text()).unwrap();
    assert_eq!(Shown::read(&project).unwrap(), before);
    let rows = folder.path().join("results/rows/width/imagewoof");
    fs::remove_file(rows.join("mobilenext-w1.4-s0.parquet")).unwrap();
    fs::remove_file(rows.join("mobilenext-w1.4-s1.parquet")).unwrap();
    fs::write(rows.join("mobilenetv2-w1.4-s1.parquet"), b"PAR1PAR1").unwrap();
    let (after, report) = judged(folder.path());
    let line = |network: &str| {
        let start = format!("| {network} | 1.4 ");
        report.markdown.lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
    };
    assert!(line("MobileNeXt ").contains("| gone"), "{}", line("MobileNeXt "));
    assert!(line("MobileNetV2").contains("(n=1), 1 damaged"), "{}", line("MobileNetV2"));
    let missed = before.missed(&after);
    let of = |what: &str| missed.iter().filter(|missed| missed.ends_with(what)).count();
    assert_eq!((of("its rows are gone"), of("its predictions are gone"), missed.len()), (3, 3, 6), "{missed:?}");
    for entry in fs::read_dir(&rows).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let (after, _) = judged(folder.path());
    let gone = "claim width-lead: was reproduced, and its rows are gone";
    assert!(before.missed(&after).iter().any(|missed| missed == gone));
}
