//! The study's section: the bytes of the foundation's report from its rows, and every kind of cell.

mod common;

use std::fs;
use std::path::Path;

use common::{File, STUDY, cells, project, report, row, write};
use sandglass_ledger::Status;
use sandglass_report::Report;

/// The rows of the foundation, in schema 1, and the markdown and pictures that are made of them.
#[test]
fn the_foundations_rows_give_its_report_byte_for_byte() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/foundation"));
    let (section, report) = report(folder);
    assert_eq!(section.problems, [""; 0]);
    let expected = |name: &str| fs::read_to_string(folder.join("report").join(name)).unwrap();
    assert_eq!(report.markdown, expected("report.md"));
    assert_eq!(report.figures.len(), 6);
    for (name, svg) in &report.figures {
        assert_eq!(*svg, expected(name), "{name}");
    }
}

fn text() -> String {
    fs::read_to_string(STUDY).unwrap()
}

/// Smoke with one failure, Tiny-ImageNet with three seeds of which one failed and one was skipped.
fn measured() -> (tempfile::TempDir, Report) {
    let folder = project(&text().replacen(
        "seeds = [0]\nrecipe = \"tiny-imagenet\"",
        "seeds = [0, 1, 2]\nrecipe = \"tiny-imagenet\"",
        1,
    ));
    let file = File::read(&folder.path().join("experiments/width/study.toml")).unwrap();
    for profile in ["smoke", "tiny-imagenet"] {
        for cell in cells(&file, profile) {
            let value = Ok(60.0 + 10.0 * cell.network.width + cell.seed as f64);
            let value = match (profile, cell.to_string().as_str()) {
                ("smoke", "mobilenext-w1.4-s0") => Err((Status::Failed, "loss is NaN | <b>at step 7</b>\nstopped")),
                ("tiny-imagenet", "mobilenext-w1.4-s1") => Err((Status::Failed, "out of memory")),
                ("tiny-imagenet", "mobilenext-w1.0-s0" | "mobilenext-w1.0-s1" | "mobilenext-w1.0-s2") => {
                    Err((Status::Skipped, "no data"))
                }
                _ => value,
            };
            write(folder.path(), row(profile, &cell, value));
        }
    }
    let (_, report) = report(folder.path());
    (folder, report)
}

fn line(report: &Report, start: &str) -> Vec<String> {
    let line = report.markdown.lines().find(|line| line.starts_with(start)).unwrap();
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn every_network_has_paper_costs_and_ours() {
    let (_folder, report) = measured();
    let expected = [
        "MobileNetV2",
        "0.35",
        "1.7\u{2020}",
        "1,677,128",
        "59\u{2020}",
        "59,285,808",
        "60.3\u{2020}",
        "64.50 \u{b1} 1.00 (n=3)",
        "63.50 (n=1)",
    ];
    assert_eq!(line(&report, "| MobileNetV2 | 0.35")[1..10], expected);
    // What is not there says why, and a mean says what it leaves out.
    assert_eq!(line(&report, "| MobileNeXt  | 1.4")[8..10], ["75.00 \u{b1} 1.41 (n=2), 1 failed", "failed"]);
    assert_eq!(line(&report, "| MobileNeXt  | 1.0")[8..10], ["skipped", "70.00 (n=1)"]);
    assert_eq!(line(&report, "| MobileNetV2 | 1.4")[5], "?", "an unknown value is not a number");
    assert!(report.markdown.contains("top-1, ours, synthetic, 32x32"), "synthetic data is labelled in the header");
    assert!(report.markdown.contains("Not done: 1 of 10 cells of profile smoke"));
    assert!(report.markdown.contains("Not done: 4 of 30 cells of profile tiny-imagenet"));
    assert!(report.markdown.contains("failed: loss is NaN \\| &lt;b>at step 7&lt;/b> stopped"));
}

#[test]
fn differences_at_equal_width_answer_the_question() {
    let (_folder, report) = measured();
    let (_, gaps) = report.markdown.split_once("### MobileNeXt minus MobileNetV2, at equal width").unwrap();
    let row = |start: &str| -> Vec<String> {
        let line = gaps.lines().find(|line| line.starts_with(start)).unwrap();
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let expected = ["0.35", "1.267", "+4.40\u{2020}", "+0.00 \u{b1} 0.00 (n=3)", "+0.00 (n=1)"];
    assert_eq!(row("| 0.35 ")[1..6], expected);
    assert_eq!(row("| 1.4 ")[3..6], ["+1.20\u{2020}", "+0.00 \u{b1} 0.00 (n=2)", "\u{2013}"]);
}

#[test]
fn bad_files_are_named_and_counted() {
    let (folder, clean) = measured();
    assert!(clean.markdown.contains("Every row file that was found is sound and used."));
    let path = folder.path().join("results/rows/width/smoke/mobilenext-w0.5-s0.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (_, report) = report(folder.path());
    for text in [&report.markdown, &report.html] {
        assert!(text.contains("1 row file or row is not used:"));
        assert!(text.contains("width/smoke/mobilenext-w0.5-s0.parquet: is cut or was changed"));
    }
}

/// Profiles that vary the recipe have a table of their own, and no column beside the paper's.
#[test]
fn the_search_has_a_table_of_its_own() {
    let folder = project(&text());
    let file = File::read(&folder.path().join("experiments/width/study.toml")).unwrap();
    for cell in cells(&file, "imagewoof-search") {
        let better =
            f64::from(cell.network.to_string() == "mobilenext") + f64::from(cell.to_string().ends_with("dropout"));
        write(folder.path(), row("imagewoof-search", &cell, Ok(50.0 + better)));
    }
    let (_, report) = report(folder.path());
    assert_eq!(
        line(&report, "| dropout ")[1..7],
        ["dropout", "0.35", "51.00 (n=1)", "52.00 (n=1)", "+1.00 (n=1)", "51.50"]
    );
    assert!(!report.markdown.lines().any(|line| line.starts_with("| network") && line.contains("Recipe search")));
    assert!(report.markdown.contains("Every row file that was found is sound and used."), "no two recipes are one");
}

/// At several widths the mean over them is shown, and only where each of them is in.
#[test]
fn recipes_at_several_widths_are_also_shown_in_the_mean() {
    let search = "recipe = \"imagewoof-search\"\nwidths = [0.35]";
    assert!(text().contains(search));
    let folder = project(&text().replace(search, &search.replace("[0.35]", "[0.5, 0.35]")));
    let file = File::read(&folder.path().join("experiments/width/study.toml")).unwrap();
    for cell in cells(&file, "imagewoof-search") {
        let (name, width) = (cell.to_string(), cell.network.width);
        let missing = name.ends_with("middle") && cell.network.to_string() == "mobilenext" && width == 0.5;
        let better = f64::from(cell.network.to_string() == "mobilenext") + 4.0 * f64::from(width == 0.5);
        if !missing {
            write(folder.path(), row("imagewoof-search", &cell, Ok(50.0 + better)));
        }
    }
    let (_, report) = report(folder.path());
    assert_eq!(
        line(&report, "| dropout             | mean ")[1..7],
        ["dropout", "mean", "52.00", "53.00", "+1.00", "52.50"]
    );
    let middle = line(&report, "| middle              | mean ");
    assert_eq!(middle[1..7], ["middle", "mean", "52.00", "\u{2013}", "\u{2013}", "\u{2013}"]);
}

/// Two seeds give a spread, a curve, and a word on what they can show; another data set is no seed.
#[test]
fn seeds_show_what_they_can() {
    let folder = project(&text());
    let file = File::read(&folder.path().join("experiments/width/study.toml")).unwrap();
    let cells = cells(&file, "imagewoof");
    let cells = || cells.iter().filter(|cell| cell.network.width == 0.35 && cell.seed < 2);
    for cell in cells() {
        let (next, seed) = (cell.network.to_string() == "mobilenext", cell.seed as f64);
        let value = 60.0 + if next { 2.0 + seed } else { 0.0 };
        let row = row("imagewoof", cell, Ok(value));
        let curve = (vec![30.0, value], vec![5.0, 20.0]);
        write(folder.path(), sandglass_ledger::Row { samples: curve.0, samples_at: curve.1, ..row });
    }
    let (_, made) = report(folder.path());
    let (_, power) = made.markdown.split_once("### What the seeds can show: Imagewoof, 128x128").unwrap();
    // Differences 2 and 3: mean 2.5, sd 0.7071, t(97.5 %, 1) = 12.706, t(80 %, 1) = 1.376.
    let line = power.lines().find(|line| line.starts_with("| 0.35")).unwrap();
    let line: Vec<&str> = line.split('|').map(str::trim).collect();
    assert_eq!(line[1..6], ["0.35", "2", "+2.50", "-3.85 to +8.85", "7.04"]);
    let curve = made.figures.iter().find(|(name, _)| name == "width-curves-imagewoof-0.35.svg").unwrap();
    assert_eq!(curve.1.matches("<polygon").count(), 2 * (2 + 1));

    let cell = cells().next().unwrap();
    let elsewhere = row("imagewoof", cell, Ok(99.0));
    write(folder.path(), sandglass_ledger::Row { data_hash: "other images".into(), ..elsewhere });
    let (_, made) = report(folder.path());
    assert!(made.markdown.contains("was measured on other images than"), "{}", made.markdown);
}
