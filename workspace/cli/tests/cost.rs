//! `sandglass cost` and `sandglass show` through the real binary.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn sandglass(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("sandglass").unwrap();
    command.args(args);
    command
}

fn stdout(args: &[&str]) -> String {
    String::from_utf8(sandglass(args).assert().success().get_output().stdout.clone()).unwrap()
}

fn stderr(args: &[&str]) -> String {
    let text = String::from_utf8(sandglass(args).assert().failure().get_output().stderr.clone()).unwrap();
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    text
}

#[test]
fn one_network_is_one_object_with_the_reference_columns() {
    let text = stdout(&["cost", "mobilenetv2", "--width", "0.35", "--input", "64", "--classes", "200", "--json"]);
    let want = r#"{"network":"mobilenetv2","width":0.35,"input":64,"num_classes":200,"stem_stride":2,"params":652328,"madds_conv_dense":4033024,"madds_depthwise":702144,"madds_linear":256000,"madds_total":4991168,"residual_adds":6720,"peak_activation_elems":61440}"#;
    assert_eq!(text.trim(), want);
}

#[test]
fn all_is_an_array_of_every_network() {
    let rows: Vec<Value> = serde_json::from_str(&stdout(&["cost", "--all", "--json"])).unwrap();
    let reference = include_str!("../../models/tests/fixtures/costs.csv");
    let columns: Vec<&str> = reference.lines().next().unwrap().split(',').collect();
    let built: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = columns.iter().map(|column| row[*column].to_string().trim_matches('"').to_owned());
            cells.collect::<Vec<_>>().join(",")
        })
        .collect();
    assert_eq!(built, reference.lines().skip(1).collect::<Vec<_>>());

    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/costs.csv");
    if let Ok(text) = std::fs::read_to_string(full) {
        assert_eq!(rows.len(), text.lines().count() - 1);
    }
}

/// As MobileNetV2's Table 5 counts them, at 320 pixels and 81 classes, without being told.
#[test]
fn a_part_of_a_detector_is_counted_as_the_detector_is() {
    let row: Value = serde_json::from_str(&stdout(&["cost", "ssd_extras_and_heads_tf", "--json"])).unwrap();
    let told = ["--input", "320", "--classes", "81"];
    let told: Value =
        serde_json::from_str(&stdout(&[&["cost", "ssd_extras_and_heads_tf", "--json"], &told[..]].concat())).unwrap();
    assert_eq!(row, told);
}

#[test]
fn what_cannot_be_counted_is_one_line() {
    for (args, want) in [
        (vec!["cost", "ssdlite_mobilenetv2", "--stem-stride", "1"], "stem stride 1"),
        (vec!["cost", "ssdlite_mobilenext", "--width", "0"], "width 0"),
        (vec!["show", "ssdlite_mobilenext", "--stem-stride", "1"], "stem stride 1"),
        (vec!["show", "ssdlite_mobilenext", "--plan"], "--plan is of classifiers"),
        (vec!["show", "ssdlite_mobilenext", "--input", "0"], "input"),
        (vec!["cost", "mobilenetv3"], "unknown network"),
        (vec!["cost", "mobilenext", "--width", "0"], "width 0"),
        (vec!["cost", "mobilenext", "--width", "nan"], "width NaN"),
        (vec!["cost", "mobilenext", "--width=-1"], "width -1"),
        (vec!["cost", "mobilenext", "--classes", "0"], "0 classes"),
        (vec!["cost", "mobilenext", "--stem-stride", "3"], "stride 3"),
        (vec!["cost", "mobilenext_div0"], "identity divisor 0"),
        (vec!["cost", "resnet50", "--width", "0.5"], "width 0.5"),
        (vec!["cost", "mobilenext", "--input", "0"], "input"),
        (vec!["cost", "mobilenext", "--input", "18446744073709551615"], "64 bits"),
        (vec!["show", "mobilenext", "--input", "4294967295"], "64 bits"),
        (vec!["show", "mobilenext", "--width", "100", "--plan"], "more than is held in memory"),
    ] {
        let text = stderr(&args);
        assert!(text.contains(want), "{args:?}: {text}");
    }
}

#[test]
fn show_prints_the_papers_table() {
    let text = stdout(&["show", "mobilenext"]);
    for row in ["| 28 x 28 x 192 | sandglass | 6 | 288 | 3 | 2 |", "| average pool, linear | - | 1000 |", "3535416 |"] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(row), "{row}\n{text}");
    }
    assert!(text.contains("311342592"));
}

/// Backbone, extra layers and heads, each with what it reads; all of it is what `cost` counts.
#[test]
fn show_prints_a_detectors_table() {
    for network in ["ssdlite_mobilenetv2", "ssdlite_mobilenext", "ssd_mobilenext", "ssdlite_tf_mobilenetv2"] {
        let counted = stdout(&["cost", network, "--json"]);
        let counted: serde_json::Value = serde_json::from_str(&counted).unwrap();
        let squeezed = stdout(&["show", network]).split_whitespace().collect::<Vec<_>>().join(" ");
        let total = format!("| {} | {}", counted["params"], counted["madds_total"]);
        assert!(squeezed.contains("total") && squeezed.contains(&total), "{total}\n{squeezed}");
    }
    let squeezed = stdout(&["show", "ssdlite_mobilenext"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for row in [
        "ssdlite_mobilenext, width 1, 21 classes with the background",
        "10 x 10 x 1280 | extra layer, sandglass | - | 512 | 1 | 2 |",
        "| 20 x 20 x 576 | class scores, separable 3x3 | - | 126 | 1 | 1 |",
        "| 1 x 1 x 128 | box offsets, 1x1 | - | 24 | 1 | 1 |",
        "heads read backbone.features.13.conv.2, backbone.features.20.conv.5, ",
    ] {
        assert!(squeezed.contains(row), "{row}\n{squeezed}");
    }
}
