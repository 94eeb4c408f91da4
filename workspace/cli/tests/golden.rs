//! `sandglass golden` through the real binary, on a selection of the reference cases and on damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden")
}

/// Standard output, standard error, exit code.
fn golden(dir: &Path, options: &[&str]) -> (String, String, i32) {
    let mut command = Command::cargo_bin("sandglass").unwrap();
    let output = command.arg("golden").arg(dir).args(options).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn both_paths_reproduce_the_selected_cases() {
    for path in ["kernels", "candle"] {
        let (stdout, stderr, code) = golden(&fixture(), &["--path", path]);
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!((lines.last(), code), (Some(&"43 ok, 0 fail, 0 not-built"), 0), "{path}\n{stdout}{stderr}");
        assert_eq!(lines.len(), 44);
        assert!(lines.contains(&"ok relu6_hard_values 0.0e0/0.0e0"), "{stdout}");
    }
}

#[test]
fn all_reference_cases_are_ok_on_our_kernels() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/golden");
    if shared.exists() {
        let (stdout, stderr, code) = golden(&shared, &[]);
        assert_eq!((stdout.lines().last(), code), (Some("249 ok, 0 fail, 0 not-built"), 0), "{stdout}{stderr}");
    }
}

#[test]
fn plans_reproduce_networks_and_blocks_in_evaluation_mode() {
    let (stdout, stderr, code) = golden(&fixture(), &["--path", "infer"]);
    assert_eq!((stdout.lines().last(), code), (Some("2 ok, 0 fail, 41 not-built"), 0), "{stdout}{stderr}");
    assert!(stdout.lines().any(|line| line == "not-built relu6_hard_values needs training"), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("not-built sandglass_D_") && line.ends_with(" needs training")));

    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/golden");
    if shared.exists() {
        let (stdout, stderr, code) = golden(&shared, &["--path", "infer"]);
        // Networks, blocks, detectors and heads.
        assert_eq!((stdout.lines().last(), code), (Some("60 ok, 0 fail, 189 not-built"), 0), "{stdout}{stderr}");
    }
}

#[test]
fn a_plan_is_held_to_the_output() {
    let network = "inverted_residual_";
    let mut file: Value = serde_json::from_slice(&fs::read(fixture().join("cases.json")).unwrap()).unwrap();
    let is_block = |case: &&Value| case["name"].as_str().unwrap().starts_with(network) && case["mode"] == "eval";
    let name = file["cases"].as_array_mut().unwrap().iter().find(|case| is_block(case)).unwrap()["name"].clone();
    let folder = with(name.as_str().unwrap(), |case| {
        let expected = &mut case["expected"];
        expected["output"]["tensor"] = expected["grad.x"]["tensor"].clone();
    });
    let (stdout, _, code) = golden(folder.path(), &["--path", "infer"]);
    assert!(code == 1 && stdout.starts_with("fail ") && stdout.contains(" output: "), "{stdout}");
}

#[test]
fn json_has_every_case_and_the_counts() {
    let (stdout, _, code) = golden(&fixture(), &["--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert_eq!([&report["ok"], &report["fail"], &report["not_built"]], [43, 0, 0]);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 43);
    let case = &cases[0];
    assert_eq!(case["status"], "ok");
    assert!(case["error"].as_f64().unwrap() < case["tolerance"].as_f64().unwrap());
}

/// The fixture with one case, changed.
fn with(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut file: Value = serde_json::from_slice(&fs::read(fixture().join("cases.json")).unwrap()).unwrap();
    let cases = file["cases"].as_array_mut().unwrap();
    cases.retain(|case| case["name"] == name);
    assert_eq!(cases.len(), 1, "{name}");
    change(&mut cases[0]);
    fs::write(folder.path().join("cases.json"), file.to_string()).unwrap();
    for file in ["cases.safetensors", "quantisation.safetensors"] {
        fs::copy(fixture().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn a_wrong_value_fails_with_its_error_and_tensor() {
    let name = "sandglass_D_i16_o16_s1_t6_div1_7x9_train";
    let folder = with(name, |case| {
        let expected = &mut case["expected"];
        expected["grad.conv.0.weight"]["tensor"] = expected["running.conv.1.running_mean"]["tensor"].clone();
    });
    let (stdout, _, code) = golden(folder.path(), &[]);
    assert_eq!(code, 1);
    assert!(stdout.starts_with(&format!("fail {name} -/- grad.conv.0.weight: 144 values for 16")), "{stdout}");

    let folder = with(name, |case| {
        case["expected"].as_object_mut().unwrap().retain(|name, _| name == "output");
        case["expected"]["output"]["atol"] = json!(1e-9);
    });
    let (stdout, _, code) = golden(folder.path(), &[]);
    assert_eq!(code, 1);
    assert!(stdout.starts_with(&format!("fail {name} ")) && stdout.contains(" output\n"), "{stdout}");
    assert!(stdout.ends_with("0 ok, 1 fail, 0 not-built\n"), "{stdout}");
}

#[test]
fn a_broken_case_is_a_fail_with_its_reason() {
    type Change = fn(&mut Value);
    let block = "inverted_residual_i8_o8_s1_t6_7x9_train";
    let network = "mobilenetv2_extra_dw_w0.35_dw_dw_c10_32x32_stem1_train";
    let breakages: [(&str, Change, &str); 16] = [
        (block, |case| case["inputs"]["x"] = json!("nothing"), "nothing"),
        (block, |case| drop(case["inputs"].as_object_mut().unwrap().remove("x")), "no input x"),
        (
            block,
            |case| drop(case["params"].as_object_mut().unwrap().remove("conv.2.weight")),
            "no parameter conv.2.weight",
        ),
        (block, |case| case["params"]["conv.9.weight"] = case["params"]["conv.2.weight"].clone(), "conv.9.weight"),
        (
            block,
            |case| case["params"]["conv.2.weight"] = case["params"]["conv.3.bias"].clone(),
            "conv.2.weight: shape [8]",
        ),
        (block, |case| case["config"]["in"] = json!(4), "an input of 8 channels"),
        (block, |case| case["config"]["in"] = json!(-4), "config"),
        (block, |case| case["config"]["stride"] = json!(0), "stride 0"),
        (block, |case| case["config"]["expand_ratio"] = json!(1e30), "channels"),
        (block, |case| case["cotangent"] = case["params"]["conv.3.bias"].clone(), "cotangent"),
        (block, |case| case["file"] = json!("other.safetensors"), "lists no other.safetensors"),
        (block, |case| case["mode"] = json!("sideways"), "sideways"),
        (
            block,
            |case| case["expected"]["grad.nothing"] = case["expected"]["output"].clone(),
            "grad.nothing is not computed",
        ),
        (block, |case| case["expected"] = json!({}), "nothing is expected"),
        (network, |case| case["config"]["width"] = json!(0), "width 0"),
        (network, |case| case["inputs"]["x"]["shape"] = json!([4, 3, 4_000_000_000u64, 4_000_000_000u64]), "shape"),
    ];
    for (name, change, reason) in breakages {
        let folder = with(name, change);
        for path in ["kernels", "candle"] {
            let (stdout, stderr, code) = golden(folder.path(), &["--path", path]);
            let first = stdout.lines().next().unwrap_or_default();
            assert_eq!((code, stderr.as_str()), (1, ""), "{reason} on {path}: {stdout}");
            assert!(first.starts_with(&format!("fail {name} -/- ")), "{reason} on {path}: {stdout}");
            assert!(first.contains(reason), "{reason} on {path}: {stdout}");
        }
    }
}

#[test]
fn a_kind_or_network_that_is_unknown_is_not_built() {
    for folder in [
        with("relu6_hard_values", |case| case["kind"] = json!("telepathy")),
        with("mobilenext_w0.35_c10_32x32_stem1_train", |case| case["config"]["network"] = json!("ssdlite_mobilenetv2")),
    ] {
        let (stdout, _, code) = golden(folder.path(), &[]);
        assert_eq!(code, 0);
        assert!(stdout.starts_with("not-built ") && stdout.ends_with("0 ok, 0 fail, 1 not-built\n"), "{stdout}");
    }
}

#[test]
fn folders_that_cannot_be_read_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |what: &str| {
        let (stdout, stderr, code) = golden(folder.path(), &[]);
        assert_eq!((stdout.as_str(), code), ("", 1));
        assert!(stderr.lines().count() == 1 && stderr.contains(what), "{what}: {stderr}");
    };
    let write = |text: &str| fs::write(folder.path().join("cases.json"), text).unwrap();
    check("cases.json");
    write("{");
    check("cases.json");
    write(r#"{"format": 2, "files": [], "cases": []}"#);
    check("format 2");
    write(r#"{"format": 1, "files": ["../secret"], "cases": []}"#);
    check("../secret");
    write(r#"{"format": 1, "files": ["a.safetensors"], "cases": []}"#);
    check("a.safetensors");
    let whole = fs::read(fixture().join("cases.safetensors")).unwrap();
    fs::write(folder.path().join("a.safetensors"), &whole[..whole.len() - 1]).unwrap();
    check("a.safetensors");
}
