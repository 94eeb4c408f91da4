//! The report on made-up rows: complete, escaped, and the same bytes for the same rows.

use std::path::Path;

use sandglass_ledger::{Row, Status, write_cell};
use sandglass_report::{Report, ReportError, build, write};
use sandglass_study::{cell, verbs::Opened};

const STUDY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/width/study.toml");

/// A project with the width study and rows that nobody measured.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let experiment = folder.path().join("experiments/width");
    std::fs::create_dir_all(&experiment).unwrap();
    std::fs::copy(STUDY, experiment.join("study.toml")).unwrap();
    let rows = folder.path().join("results/rows");
    std::fs::create_dir_all(&rows).unwrap();
    let study = open(folder.path()).study;
    for (profile, seeds) in [("smoke", 1), ("tiny-imagenet", 3)] {
        let profile = study.profile(Some(profile)).unwrap();
        for cell in cell::cells(&study, profile).unwrap() {
            let value = 60.0 + 10.0 * cell.network.width + cell.seed as f64;
            let broken = profile.name == "smoke" && cell.id == "mobilenext-w1.4-s0";
            let row = Row {
                study: study.name.clone(),
                profile: profile.name.clone(),
                cell: cell.id.clone(),
                variant: cell.network.to_string(),
                width: cell.network.width,
                dataset: cell.data.clone(),
                synthetic: profile.synthetic,
                scale: cell.scale(),
                seed: cell.seed,
                metric: "top1".into(),
                value: (!broken).then_some(value),
                unit: "%".into(),
                n: 1000 * seeds,
                status: if broken { Status::Failed } else { Status::Ok },
                error: broken.then(|| "loss is NaN | <b>at step 7</b>\nstopped".into()),
                samples: vec![],
                commit: "0123456789abcdef0123456789abcdef01234567".into(),
                dirty: cell.seed == 1,
                command: format!("sandglass run width --profile {} --cell {}", profile.name, cell.id),
                recipe_hash: cell.hash(),
                data_hash: "feedfacefeedface".into(),
                checkpoint_hash: Some("c0ffee00c0ffee00".into()),
                machine: "A CPU".into(),
                isa: "avx2".into(),
                threads: 2,
                versions: "sandglass 0.1.0".into(),
                started: "2026-01-31T12:00:00Z".into(),
                seconds: 12.5,
            };
            write_cell(&rows, &[row]).unwrap();
        }
    }
    folder
}

fn open(root: &Path) -> Opened {
    Opened::find(root.join("experiments/width").to_str().unwrap()).unwrap()
}

fn report(root: &Path) -> Report {
    build(&[open(root)]).unwrap()
}

#[test]
fn same_rows_same_bytes() {
    let (one, other) = (project(), project());
    let (first, second) = (report(one.path()), report(other.path()));
    assert_eq!(first.markdown, second.markdown);
    assert_eq!(first.html, second.html);
    assert_eq!(first.figures, second.figures);
    if let Some(folder) = std::env::var_os("SANDGLASS_KEEP_REPORT") {
        std::fs::write(Path::new(&folder).join("index.html"), &first.html).unwrap();
        std::fs::write(Path::new(&folder).join("report.md"), &first.markdown).unwrap();
    }
}

#[test]
fn every_network_has_paper_costs_and_ours() {
    let folder = project();
    let report = report(folder.path());
    let line = |start: &str| report.markdown.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let cells: Vec<String> = line("| MobileNetV2 | 0.35").split('|').map(|cell| cell.trim().to_owned()).collect();
    let expected = [
        "MobileNetV2",
        "0.35",
        "1.7\u{2020}",
        "1,677,128",
        "59\u{2020}",
        "59,285,808",
        "60.3\u{2020}",
        "63.50 (n=1)",
        "64.50 \u{b1} 1.00 (n=3)",
    ];
    assert_eq!(cells[1..10], expected);
    assert!(line("| MobileNeXt  | 1.4").contains("| failed"));
    assert!(line("| MobileNetV2 | 1.4").contains("| ? "), "an unknown value is not a number");
    assert!(line("| network").contains("ours, synthetic, 32x32"), "synthetic data is labelled in the header");
    assert!(report.markdown.contains("Not done: 1 of 10 cells of profile smoke"));
}

#[test]
fn differences_at_equal_width_answer_the_question() {
    let folder = project();
    let report = report(folder.path());
    let (_, gaps) = report.markdown.split_once("### MobileNeXt minus MobileNetV2, at equal width").unwrap();
    let row = |start: &str| gaps.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let cells: Vec<String> = row("| 0.35 ").split('|').map(|cell| cell.trim().to_owned()).collect();
    assert_eq!(cells[1..6], ["0.35", "1.267", "+4.40\u{2020}", "+0.00 (n=1)", "+0.00 \u{b1} 0.00 (n=3)"]);
    let failed: Vec<String> = row("| 1.4 ").split('|').map(|cell| cell.trim().to_owned()).collect();
    assert_eq!(failed[3..5], ["+1.20\u{2020}", "\u{2013}"]);
}

#[test]
fn text_from_rows_is_escaped() {
    let folder = project();
    let report = report(folder.path());
    assert!(report.markdown.contains("failed: loss is NaN \\| &lt;b>at step 7&lt;/b> stopped"));
    assert!(!report.html.contains("<b>at step 7"));
    assert!(report.html.contains("at step 7"));
}

#[test]
fn the_page_stands_alone_and_speaks() {
    let folder = project();
    let report = report(folder.path());
    for outside in ["src=", "<link", "@import", "url(", "<script"] {
        assert!(!report.html.contains(outside), "{outside}");
    }
    assert_eq!(report.html.matches("<div role=\"img\" aria-label=\"").count(), 6);
    assert_eq!((report.html.matches("<figure>").count(), report.html.matches("<svg").count()), (2, 6));
    assert_eq!(report.figures.len(), 6);
    assert!(report.figures[2].1.contains("ours, Tiny-ImageNet"));
    assert!(report.html.contains("aria-label=\"paper, ImageNet: top-1 accuracy against multiply-adds"));
    for family in ["MobileNetV2", "MobileNeXt"] {
        assert!(report.figures.iter().all(|(_, svg)| svg.contains(family)), "every panel has its legend");
    }
    let markers: Vec<usize> = report.figures.iter().map(|(_, svg)| svg.matches("<polygon").count()).collect();
    assert_eq!(markers, [12, 11, 12, 12, 11, 12], "ten networks and two in the legend; one cell failed");
    assert!(!report.html.contains("NaN\""), "no coordinate is missing");
}

#[test]
fn bad_files_are_named_and_counted() {
    let folder = project();
    let clean = report(folder.path());
    assert!(clean.markdown.contains("Every row file that was found is sound and used."));
    let path = folder.path().join("results/rows/width/smoke/mobilenext-w0.5-s0.parquet");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let report = report(folder.path());
    for text in [&report.markdown, &report.html] {
        assert!(text.contains("1 row file or row is not used:"));
        assert!(text.contains("width/smoke/mobilenext-w0.5-s0.parquet: is cut or was changed"));
    }
}

#[test]
fn files_are_written_and_the_readme_spliced() {
    let folder = project();
    let readme = folder.path().join("README.md");
    let report = report(folder.path());
    std::fs::write(&readme, "# Sandglass\n").unwrap();
    assert!(matches!(write(folder.path(), &report), Err(ReportError::Markers { .. })));
    std::fs::write(&readme, "# Sandglass\n<!-- BEGIN: headline -->\n<!-- END: headline -->\nmore\n").unwrap();
    write(folder.path(), &report).unwrap();
    let text = std::fs::read_to_string(&readme).unwrap();
    assert!(text.contains("| MobileNeXt  | 0.35") && text.ends_with("<!-- END: headline -->\nmore\n"));
    for file in ["report.md", "index.html", "width-madds-0.svg", "width-params-2.svg"] {
        assert!(folder.path().join("report/out").join(file).is_file(), "{file}");
    }
    let before = std::fs::metadata(&readme).unwrap().modified().unwrap();
    write(folder.path(), &report).unwrap();
    assert_eq!(std::fs::metadata(&readme).unwrap().modified().unwrap(), before, "what has not changed is not written");
}
