//! The reference cases of detection through the real binary.

use std::path::Path;

use assert_cmd::Command;

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
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/golden");
    if shared.exists() {
        let (stdout, code) = golden(&shared, "candle");
        assert_eq!(code, 0, "{stdout}");
        for kind in ["ssd", "multibox_loss", "nms", "detect_postprocess", "voc_ap", "hashed_ssdlite"] {
            let of_kind: Vec<&str> = stdout.lines().filter(|line| line.contains(&format!(" {kind}"))).collect();
            assert!(!of_kind.is_empty() && of_kind.iter().all(|line| line.starts_with("ok ")), "{kind}: {of_kind:?}");
        }
    }
}
