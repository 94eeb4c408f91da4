//! `plan`, `run`, `table` and `report` in a project of their own, through the real binary.

use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;
use serde_json::Value;

const STUDY: &str = include_str!("fixtures/micro_study.toml");

/// A project with one study and no rows.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for below in ["experiments/micro", "results/rows", "nothing"] {
        std::fs::create_dir_all(folder.path().join(below)).unwrap();
    }
    std::fs::write(folder.path().join("experiments/micro/study.toml"), STUDY).unwrap();
    folder
}

/// Exit code, stdout and stderr.
fn sandglass(project: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("sandglass").unwrap();
    let output = command.current_dir(project).env("SANDGLASS_DATA", project.join("nothing")).args(arguments).output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn plan_is_json_for_schedulers() {
    let project = project();
    let (code, out, _) = sandglass(project.path(), &["plan", "micro", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, plan["cells"].as_array().unwrap().len()), (0, 4));
    assert_eq!(plan["cells"][0]["state"], "missing");
    assert_eq!(plan["cells"][0]["command"], "sandglass run micro --profile tiny --cell mobilenetv2-w1.0-s0");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&plan), ["study", "profile", "remaining_seconds", "cells"]);
    let of_cell = ["cell", "state", "expected_seconds", "seconds", "error", "command"];
    assert!(plan["cells"].as_array().unwrap().iter().all(|cell| keys(cell) == of_cell), "{plan}");
    assert!((plan["remaining_seconds"].as_f64().unwrap() - 60.0).abs() < 1e-9);
    let (code, out, _) = sandglass(project.path(), &["plan", "micro"]);
    assert!(code == 0 && out.contains("| mobilenext-w0.35-s0  | missing |"), "{out}");
}

/// Detectors start from classifiers of another study, whose checkpoints are nowhere here.
#[test]
fn plan_says_what_must_be_done_before() {
    let project = project();
    let voc = project.path().join("experiments/voc");
    std::fs::create_dir(&voc).unwrap();
    std::fs::write(voc.join("study.toml"), include_str!("../../../experiments/voc/study.toml")).unwrap();
    let (_, out, _) = sandglass(project.path(), &["plan", "voc", "--profile", "paper", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    let after = "sandglass run width --profile imagenet --cell mobilenetv2-w1.0-s0";
    assert_eq!(plan["cells"][0]["after"], after, "{out}");
    let (_, out, _) = sandglass(project.path(), &["plan", "voc", "--profile", "paper"]);
    assert!(out.contains(&format!("| missing, after {after} |")), "{out}");
    assert!(out.contains("on two cores, without what must be done before"), "{out}");
    // In this repository the classifiers of the scale that decides are kept.
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (_, out, _) = sandglass(&here, &["plan", "voc", "--profile", "voc", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert!(plan["cells"].as_array().unwrap().iter().all(|cell| cell["after"].is_null()), "{out}");
}

#[test]
fn a_cell_without_data_is_a_row_and_an_exit_code() {
    let project = project();
    let (code, _, err) = sandglass(project.path(), &["run", "micro", "--cell", "mobilenext-w0.35-s0"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("mobilenext-w0.35-s0: skipped: data set images is not below the data root"), "{err}");
    let (_, out, _) = sandglass(project.path(), &["plan", "micro", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["cells"][3]["state"], "skipped");
    let (code, out, _) = sandglass(project.path(), &["table", "micro"]);
    assert!(code == 0 && out.contains("| skipped"), "{out}");
    let (code, out, _) = sandglass(project.path(), &["table", "micro", "--json"]);
    let table: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &table["lines"][3]["cost"]["params"]), (0, &Value::from(1_913_976)));
}

#[test]
fn mistakes_are_one_clear_line() {
    let project = project();
    let (code, out, err) = sandglass(project.path(), &["plan", "mikro"]);
    assert!(code == 1 && out.is_empty() && err.contains("study \"mikro\" not found"), "{err}");
    let (code, _, err) = sandglass(project.path(), &["run", "micro", "--profile", "huge"]);
    assert!(code == 1 && err.contains("no profile \"huge\"; it has tiny"), "{err}");
    let (code, _, err) = sandglass(project.path(), &["run", "micro", "--cell", "x"]);
    assert!(code == 1 && err.contains("profile tiny has no cell \"x\""), "{err}");
    let path = project.path().join("experiments/micro/study.toml");
    std::fs::write(&path, STUDY.replace("widths =", "width =")).unwrap();
    let (code, _, err) = sandglass(project.path(), &["table", "micro"]);
    assert!(code == 1 && err.trim().lines().count() == 1, "{err}");
    assert!(err.contains("study.toml:13: unknown field `width`") && err.contains("`widths`"), "{err}");
}

#[test]
fn the_report_is_written_from_rows_and_names_bad_ones() {
    let project = project();
    let rows = project.path().join("results/rows/micro/tiny");
    std::fs::create_dir_all(&rows).unwrap();
    std::fs::write(rows.join("mobilenext-w0.35-s0.parquet"), b"PAR1PAR1").unwrap();
    let (code, out, err) = sandglass(project.path(), &["report"]);
    assert_eq!((code, out.lines().next()), (0, Some("report/out/report.md")), "{err}");
    let first = std::fs::read(project.path().join("report/out/index.html")).unwrap();
    assert!(String::from_utf8_lossy(&first).contains("mobilenext-w0.35-s0.parquet: is cut or was changed"));
    sandglass(project.path(), &["report"]);
    assert_eq!(std::fs::read(project.path().join("report/out/index.html")).unwrap(), first);

    // Nobody reads what was written: no error, no panic.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sandglass"));
    let child = child.current_dir(project.path()).arg("report").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());

    std::fs::write(project.path().join("README.md"), "# Micro\n").unwrap();
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert!(code == 1 && err.contains("<!-- BEGIN: headline -->"), "{err}");
}

/// A cell that a study trained and kept, on a few pictures: the project, the folder of the pictures, and how many are right.
fn trained() -> (tempfile::TempDir, std::path::PathBuf, String) {
    let project = project();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let data = project.path().join("images");
    for (class, files) in [("ant", ["colour.jpg", "grey.jpg"]), ("bee", ["half.jpg", "full.jpg"])] {
        for (part, copies) in [("train", 3), ("val", 2)] {
            let folder = data.join(part).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for (copy, file) in (0..copies).flat_map(|copy| files.map(|file| (copy, file))) {
                std::fs::copy(fixtures.join(file), folder.join(format!("{copy}-{file}"))).unwrap();
            }
        }
    }
    let recipe = "\n[design.recipe.short]\nepochs = 2\nbatch = 4\nlr = 0.002\n[design.recipe.short.optimizer.sgd]\n\
                  momentum = 0.9\nnesterov = true\n[design.recipe.short.schedule.linear_warmup_cosine]\nwarmup_epochs = 0\n\
                  [design.recipe.short.augment]\nsmallest_area = 0.5\n";
    let text = STUDY
        .replace(
            "data = \"images\"",
            &format!("data = {:?}\ncrop_pct = 0.875\nkeep = [{{ seeds = \"first\" }}]", data.display().to_string()),
        )
        .replace("classes = 10", "classes = 2")
        .replace("recipe = \"smoke\"", "recipe = \"short\"");
    std::fs::write(project.path().join("experiments/micro/study.toml"), text + recipe).unwrap();
    let (code, _, err) = sandglass(project.path(), &["run", "micro", "--cell", TRAINED]);
    assert_eq!(code, 0, "{err}");
    let (_, of) = err.split_once(&format!("{TRAINED}: started\n")).unwrap();
    let count = of.lines().find_map(|line| line.strip_prefix(&format!("{TRAINED}: "))?.strip_suffix(" images right"));
    let count = count.unwrap().to_owned();
    (project, data, count)
}

const TRAINED: &str = "mobilenext-w0.35-s0";

/// `eval` takes class names and protocol from a kept checkpoint's card and prints its row's count.
#[test]
fn a_kept_checkpoint_is_scored_by_eval_as_in_its_row() {
    let (project, data, count) = trained();
    let kept = format!("results/checkpoints/micro/tiny/{TRAINED}.safetensors");
    let (code, out, err) = sandglass(
        project.path(),
        &["eval", "--model", "mobilenext", "--width", "0.35", "--weights", &kept, "--data", data.to_str().unwrap()],
    );
    assert_eq!(code, 0, "{err}");
    let top1 = out.lines().find(|line| line.starts_with("top-1")).unwrap();
    assert!(top1.ends_with(&format!("%  {count}")), "{top1} for {count}");
    // What was kept is measured again, and a table stands.
    let (code, out, err) = sandglass(project.path(), &["table", "micro", "--verify", "all"]);
    assert!(code == 0 && err.contains(&format!("evaluated again, equal to its row: tiny/{TRAINED}")), "{out}{err}");
}

/// A project with rows of one cell, and its committed report.
fn reported() -> (tempfile::TempDir, std::path::PathBuf) {
    let project = project();
    sandglass(project.path(), &["run", "micro", "--cell", "mobilenext-w0.35-s0"]);
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert_eq!(code, 0, "{err}");
    let row = project.path().join("results/rows/micro/tiny/mobilenext-w0.35-s0.parquet");
    assert!(row.is_file());
    (project, row)
}

/// Code and findings of `report --check`, which writes nothing.
fn check(project: &Path) -> (i32, String) {
    let page = project.join("report/out/index.html");
    let before = std::fs::read(&page).unwrap();
    let (code, _, err) = sandglass(project, &["report", "--check"]);
    assert_eq!(std::fs::read(&page).unwrap(), before);
    (code, err)
}

#[test]
fn a_report_that_is_that_of_its_rows_passes() {
    let (project, _) = reported();
    assert_eq!(check(project.path()), (0, String::new()));
    let report = std::fs::read_to_string(project.path().join("report/out/report.md")).unwrap();
    let mark = |width: &str| {
        let line = report.lines().find(|line| line.starts_with("| MobileNeXt") && line.contains(width)).unwrap();
        line.split('|').nth(8).unwrap().trim().to_owned()
    };
    assert_eq!((mark("| 0.35"), mark("| 1.0")), ("skipped".to_owned(), "not run".to_owned()));
}

#[test]
fn rows_that_were_changed_or_are_gone_are_found_and_marked() {
    let (project, row) = reported();
    let mut bytes = std::fs::read(&row).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&row, &bytes).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("is cut or was changed") && err.contains("report.md: is not what"), "{err}");
    let (_, out, _) = sandglass(project.path(), &["table", "micro"]);
    assert!(out.contains("| damaged") && out.contains("| not run"), "{out}");

    std::fs::remove_file(&row).unwrap();
    let (code, err) = check(project.path());
    let gone = "micro/tiny/mobilenext-w0.35-s0: the committed report shows it, and its rows are gone";
    assert!(code == 1 && err.contains(gone), "{err}");
}

/// Whether the row of a kept checkpoint is damaged or gone is no question of the checkpoint: the page is still made.
#[test]
fn a_damaged_row_of_a_kept_checkpoint_leaves_a_page_with_its_mark() {
    let (project, ..) = trained();
    let row = project.path().join(format!("results/rows/micro/tiny/{TRAINED}.parquet"));
    std::fs::write(&row, b"PAR1").unwrap();
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert_eq!(code, 0, "{err}");
    let report = std::fs::read_to_string(project.path().join("report/out/report.md")).unwrap();
    assert!(report.contains("| damaged"), "{report}");
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("its checkpoint is listed, and its rows are gone"), "{err}");
}

#[test]
fn predictions_that_are_gone_or_do_not_fit_the_rows_are_found() {
    let (project, ..) = trained();
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(check(project.path()), (0, String::new()));
    let place = ["micro", "tiny", TRAINED];
    let root = project.path().join("results/predictions");
    let sound = sandglass_ledger::read_predictions(&root, place).unwrap();
    // One more is right, or one less.
    let mut turned = sound.clone();
    let first = &mut turned.items[0];
    first.prediction = if first.prediction == first.label { 1 - first.label } else { first.label };
    let path = sandglass_ledger::write_predictions(&root, place, &turned).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains(&format!("predictions of micro/tiny/{TRAINED}: ")), "{err}");
    assert!(err.contains("are right, and no row says so"), "{err}");
    let other = sandglass_ledger::Predictions { checkpoint: "another".into(), ..sound };
    sandglass_ledger::write_predictions(&root, place, &other).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("of another checkpoint than its rows"), "{err}");
    std::fs::write(&path, b"PAR1").unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains(&format!("predictions of micro/tiny/{TRAINED}: ")), "{err}");
    std::fs::remove_file(&path).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("the committed report shows it, and its predictions are gone"), "{err}");
}

#[test]
fn rows_that_are_stale_repeated_or_strangers_are_found() {
    let (project, row) = reported();
    std::fs::copy(&row, row.with_file_name("mobilenext-w1.0-s0.parquet")).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("belongs in micro/tiny/mobilenext-w0.35-s0.parquet"), "{err}");
    std::fs::remove_file(row.with_file_name("mobilenext-w1.0-s0.parquet")).unwrap();
    assert_eq!(check(project.path()).0, 0);
    std::fs::write(
        project.path().join("experiments/micro/study.toml"),
        STUDY.replace("recipe = \"smoke\"", "recipe = \"smoke\"\nset = { epochs = 9 }"),
    )
    .unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("stale, the cell's definition has changed"), "{err}");
}

/// The report's own files, and no others of it.
#[test]
fn a_study_is_drawn_alone() {
    let (project, _) = reported();
    let out = project.path().join("report/out");
    let drawn = std::fs::read_to_string(out.join("micro-blocks.svg")).unwrap();
    std::fs::remove_file(out.join("micro-blocks.svg")).unwrap();
    std::fs::write(out.join("report.md"), "edited").unwrap();
    let (code, text, err) = sandglass(project.path(), &["figure", "micro"]);
    assert_eq!(code, 0, "{err}");
    assert!(text.lines().all(|line| line.starts_with("report/out/micro-") && line.ends_with(".svg")), "{text}");
    assert_eq!(std::fs::read_to_string(out.join("micro-blocks.svg")).unwrap(), drawn);
    assert_eq!(std::fs::read_to_string(out.join("report.md")).unwrap(), "edited");
    let (code, _, err) = sandglass(project.path(), &["figure", "macro"]);
    assert!(code == 1 && err.contains("no study macro in this project; there are micro"), "{err}");
}

#[test]
fn a_report_that_was_edited_is_found() {
    let (project, _) = reported();
    let path = project.path().join("report/out/report.md");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("skipped", "93.00 (n=1)")).unwrap();
    let (code, err) = check(project.path());
    assert!(code == 1 && err.contains("report.md: is not what the rows give"), "{err}");
}

/// Prose, here the README's, that leans on a verdict which rows do not give.
#[test]
fn prose_that_rows_do_not_support_fails_the_report() {
    let (project, _) = reported();
    let claims = "[[claim]]\nid = \"cheap\"\nsays = \"It is cheaper\"\npaper = \"P\"\norigin = \"stated\"\nsource = \"a table\"\n\
                  confidence = \"seen\"\nstudy = \"micro\"\n[[claim.test.count]]\nwhat = \"parameters\"\nis = \"less\"\n\
                  of = { network = \"mobilenext\", width = \"1.0\" }\nthan = { network = \"mobilenetv2\", width = \"1.0\" }\n";
    std::fs::write(project.path().join("experiments/claims.toml"), claims).unwrap();
    let readme = |verdict: &str| {
        let text =
            format!("It is dear {{claim cheap: {verdict}}}.\n<!-- BEGIN: headline -->\n<!-- END: headline -->\n");
        std::fs::write(project.path().join("README.md"), text).unwrap();
    };
    readme("reproduced");
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert!(code == 1 && err.contains("README.md: says that claim cheap is \"reproduced\""), "{err}");
    readme("contradicted");
    let (code, _, err) = sandglass(project.path(), &["report"]);
    assert_eq!(code, 0, "{err}");
    let text = std::fs::read_to_string(project.path().join("README.md")).unwrap();
    assert!(text.contains("It is cheaper") && text.contains("contradicted"), "the claim heads the README");
}

#[test]
fn a_difference_of_two_folders_is_a_table() {
    let (project, row) = reported();
    let before = tempfile::tempdir().unwrap();
    let copy = before.path().join("results/rows/micro/tiny");
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::copy(&row, copy.join("mobilenext-w0.35-s0.parquet")).unwrap();
    let diff = |more: &[&str]| {
        let arguments = [&["diff", before.path().to_str().unwrap()], more].concat();
        sandglass(project.path(), &arguments)
    };
    let (code, out, err) = diff(&[]);
    assert_eq!((code, out.as_str()), (0, "No row and no verdict differs.\n"), "{err}");
    std::fs::remove_file(copy.join("mobilenext-w0.35-s0.parquet")).unwrap();
    let (_, out, _) = diff(&[]);
    assert!(out.contains("micro/tiny/mobilenext-w0.35-s0#top1") && out.contains("skipped"), "{out}");
    let (_, out, _) = diff(&[".", "--markdown"]);
    assert!(out.starts_with("### Results: . against"), "{out}");
    let (code, _, err) = sandglass(project.path(), &["diff", "no-such-commit"]);
    assert!(code == 1 && err.contains("neither a folder nor a commit"), "{err}");
}
