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
    assert!((plan["remaining_seconds"].as_f64().unwrap() - 60.0).abs() < 1e-9);
    let (code, out, _) = sandglass(project.path(), &["plan", "micro"]);
    assert!(code == 0 && out.contains("| mobilenext-w0.35-s0  | missing |"), "{out}");
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

/// A cell that a study trained and kept: `eval` takes class names and protocol from its card and prints the row's count.
#[test]
fn a_kept_checkpoint_is_scored_by_eval_as_in_its_row() {
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
    let id = "mobilenext-w0.35-s0";
    let (code, _, err) = sandglass(project.path(), &["run", "micro", "--cell", id]);
    assert_eq!(code, 0, "{err}");
    let (_, of) = err.split_once(&format!("{id}: started\n")).unwrap();
    let count = of.lines().find_map(|line| line.strip_prefix(&format!("{id}: "))?.strip_suffix(" images right"));
    let kept = format!("results/checkpoints/micro/tiny/{id}.safetensors");
    let (code, out, err) = sandglass(
        project.path(),
        &["eval", "--model", "mobilenext", "--width", "0.35", "--weights", &kept, "--data", data.to_str().unwrap()],
    );
    assert_eq!(code, 0, "{err}");
    let top1 = out.lines().find(|line| line.starts_with("top-1")).unwrap();
    assert!(top1.ends_with(&format!("%  {}", count.unwrap())), "{top1} for {count:?}");
    // What was kept is measured again, and a table stands.
    let (code, out, err) = sandglass(project.path(), &["table", "micro", "--verify", "all"]);
    assert!(code == 0 && err.contains(&format!("evaluated again, equal to its row: tiny/{id}")), "{out}{err}");
}
