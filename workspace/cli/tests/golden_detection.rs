//! The reference cases of detection through the real binary.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

/// Standard output and exit code.
fn golden(dir: &Path, path: &str) -> (String, i32) {
    let mut command = Command::cargo_bin("sandglass").unwrap();
    let output = command.arg("golden").arg(dir).args(["--path", path]).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn the_selected_cases_are_ok() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden_detection");
    let (stdout, code) = golden(&fixture, "candle");
    assert_eq!((stdout.lines().last(), code), (Some("17 ok, 0 fail, 0 not-built"), 0), "{stdout}");
    // Kernels have no convolutions with bias yet.
    let (stdout, code) = golden(&fixture, "kernels");
    let (ok, others): (Vec<&str>, Vec<&str>) = stdout.lines().partition(|line| line.starts_with("ok "));
    assert!(code == 0 && ok.len() >= 14 && !others.iter().any(|line| line.starts_with("fail ")), "{stdout}");
    // Of a plan, the heads: a bias before a batch norm among them.
    let (stdout, code) = golden(&fixture, "infer");
    assert!(
        code == 0 && stdout.contains("ok ssdlite_predictor_eval") && stdout.contains("ok ssd_predictor"),
        "{stdout}"
    );
}

#[test]
fn all_reference_cases_of_detection_are_ok_on_plain_candle() {
    const FILE: &str = "detection.safetensors";
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/golden");
    if shared.exists() {
        let mut cases: Value = serde_json::from_slice(&fs::read(shared.join("cases.json")).unwrap()).unwrap();
        cases["files"] = json!([FILE]);
        let cases_of_file = cases["cases"].as_array_mut().unwrap();
        cases_of_file.retain(|case| case["file"] == FILE);
        let count = cases_of_file.len();
        assert!(count >= 26);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cases.json"), cases.to_string()).unwrap();
        fs::copy(shared.join(FILE), folder.path().join(FILE)).unwrap();
        let (stdout, code) = golden(folder.path(), "candle");
        let all = format!("{count} ok, 0 fail, 0 not-built");
        assert_eq!((stdout.lines().last(), code), (Some(all.as_str()), 0), "{stdout}");
    }
}
