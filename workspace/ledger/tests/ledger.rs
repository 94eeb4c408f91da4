//! What is written is read back; what contradicts itself or another row is named and not used.

mod common;

use std::fs;

use common::row;
use sandglass_ledger::{
    Answers, Axis, Boxes, Crop, DetectedImage, Detections, FoundBox, Ledger, Prediction, Predictions, ReadError, Row,
    Status, TrueBox, WriteError, read_answers, read_cell, read_detections, read_predictions, schema_markdown,
    write_cell, write_detections, write_predictions,
};

fn failed(cell: &str, error: &str) -> Row {
    let ok = row(cell, "top1", 0.0);
    Row {
        value: None,
        status: Status::Failed,
        error: Some(error.into()),
        samples: vec![],
        samples_at: vec![],
        checkpoint_hash: None,
        ..ok
    }
}

#[test]
fn rows_come_back_as_written() {
    let root = tempfile::tempdir().unwrap();
    let rows = [row("a-w0.35-s0", "top1", 91.25), row("a-w0.35-s0", "loss", f64::MIN_POSITIVE)];
    let path = write_cell(root.path(), &rows).unwrap();
    assert_eq!(path, root.path().join("width/smoke/a-w0.35-s0.parquet"));
    assert_eq!(read_cell(&path).unwrap(), rows);
    write_cell(root.path(), &[failed("b-w1-s0", "loss is NaN at step 7 | see log\n")]).unwrap();

    let ledger = Ledger::read(root.path());
    assert_eq!(ledger.problems, []);
    let ids: Vec<String> = ledger.rows.iter().map(Row::id).collect();
    assert_eq!(ids, ["width/smoke/a-w0.35-s0#loss", "width/smoke/a-w0.35-s0#top1", "width/smoke/b-w1-s0#top1"]);
    assert_eq!(
        ledger.cell("width", "smoke", "b-w1-s0").next(),
        Some(&failed("b-w1-s0", "loss is NaN at step 7 | see log\n"))
    );
}

#[test]
fn no_folder_is_no_rows() {
    let root = tempfile::tempdir().unwrap();
    let ledger = Ledger::read(&root.path().join("nowhere"));
    assert!(ledger.rows.is_empty() && ledger.problems.is_empty());
}

#[test]
fn flawed_rows_are_refused_when_written() {
    let root = tempfile::tempdir().unwrap();
    let nan = row("a", "top1", f64::NAN);
    let spread = Row { samples: vec![f64::INFINITY; 3], ..row("a", "top1", 1.0) };
    let silent = Row { error: None, ..failed("a", "") };
    let outside = Row { cell: "../a".into(), ..row("a", "top1", 1.0) };
    for flawed in [nan, spread, silent, outside] {
        assert!(matches!(write_cell(root.path(), &[flawed]), Err(WriteError::Flaw { .. })));
    }
    let twice = [row("a", "top1", 1.0), row("a", "top1", 2.0)];
    assert!(matches!(write_cell(root.path(), &twice), Err(WriteError::Twice(_))));
    let mixed = [row("a", "top1", 1.0), row("b", "top1", 2.0)];
    assert!(matches!(write_cell(root.path(), &mixed), Err(WriteError::Mixed(..))));
    assert!(matches!(write_cell(root.path(), &[]), Err(WriteError::Empty)));
    assert!(Ledger::read(root.path()).rows.is_empty(), "nothing may be left behind");
}

#[test]
fn copies_and_duplicates_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = write_cell(root.path(), &[row("a", "top1", 91.0)]).unwrap();
    fs::copy(&path, path.with_file_name("z.parquet")).unwrap();
    write_cell(root.path(), &[Row { cell: "b".into(), ..row("a", "top1", 17.0) }]).unwrap();

    let ledger = Ledger::read(root.path());
    assert_eq!(ledger.rows, [row("a", "top1", 91.0)]);
    let problems: Vec<String> = ledger.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "width/smoke/b.parquet: row width/smoke/b#top1: duplicate of the row in width/smoke/a.parquet",
            "width/smoke/z.parquet: row width/smoke/a#top1: belongs in width/smoke/a.parquet",
        ]
    );
}

#[test]
fn an_unwritable_folder_is_one_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("width"), "a file where the folder should be").unwrap();
    let error = write_cell(root.path(), &[row("a", "top1", 1.0)]).unwrap_err();
    assert!(error.to_string().contains("width/smoke/a.parquet"), "{error}");
}

/// The example `schema` prints it anew.
#[test]
fn schema_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/SCHEMA.md");
    assert_eq!(fs::read_to_string(path).unwrap(), schema_markdown());
}

/// A study with a new axis needs no new schema: what tells two rows apart may be one axis alone.
#[test]
fn rows_that_differ_in_one_axis_are_no_duplicates() {
    let root = tempfile::tempdir().unwrap();
    let scheme = |cell: &str, scheme: &str| {
        let mut row = row("a", "top1", 91.0);
        row.cell = cell.into();
        row.axes.push(Axis { name: "scheme".into(), value: scheme.into() });
        row
    };
    write_cell(root.path(), &[scheme("a-tensor", "per-tensor")]).unwrap();
    write_cell(root.path(), &[scheme("a-channel", "per-channel")]).unwrap();
    let layer = |part: &str| Row { part: Some(part.into()), ..scheme("a-layers", "per-layer") };
    write_cell(root.path(), &[layer("conv.1"), layer("conv.2")]).unwrap();
    let ledger = Ledger::read(root.path());
    assert_eq!((ledger.rows.len(), ledger.problems.len()), (4, 0), "{:?}", ledger.problems);
    write_cell(root.path(), &[scheme("a-again", "per-tensor")]).unwrap();
    assert!(Ledger::read(root.path()).problems[0].reason.contains("duplicate of the row in"));
}

#[test]
fn predictions_come_back_and_damage_is_found() {
    let root = tempfile::tempdir().unwrap();
    let item = |name: &str, prediction| Prediction { name: name.into(), label: 3, prediction };
    let (cell, items) = (["width", "smoke", "a"], vec![item("b/2.JPEG", 3), item("a/1.JPEG", 7)]);
    let predictions = Predictions { checkpoint: "c0ffee".into(), items };
    let path = write_predictions(root.path(), cell, &predictions).unwrap();
    assert_eq!(read_predictions(root.path(), cell).unwrap(), predictions);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(read_predictions(root.path(), cell), Err(ReadError::Broken)));
    assert!(matches!(read_predictions(root.path(), ["width", "smoke", "b"]), Err(ReadError::Io(_))));
}

fn detections() -> Detections {
    let truth = TrueBox { class: 1, bounds: [1.0, 2.0, 30.5, 40.25], difficult: true };
    let found = |class, score| FoundBox { class, bounds: [0.1, 2.0, 31.0, 39.0], score };
    let image = |name: &str, truth, found, crop| DetectedImage { name: name.into(), truth, found, crop };
    let crop = Crop { left: 4, top: 0, side: 96, picture: vec![0xff, 0xd8, 0] };
    let images = vec![
        image("2.jpg", vec![truth], vec![found(1, 0.75), found(0, 0.1)], Some(crop)),
        image("1.jpg", vec![], vec![], None),
        image("3.jpg", vec![truth, TrueBox { difficult: false, ..truth }], vec![], None),
    ];
    let boxes = Boxes { classes: vec!["cat".into(), "dog, \"brown\"".into()], images };
    Detections { checkpoint: "c0ffee".into(), boxes }
}

#[test]
fn detections_come_back_and_damage_is_found() {
    let (root, cell) = (tempfile::tempdir().unwrap(), ["voc", "smoke", "a"]);
    let detections = detections();
    let path = write_detections(root.path(), cell, &detections).unwrap();
    assert_eq!(read_detections(root.path(), cell).unwrap(), detections);
    assert_eq!(read_answers(root.path(), cell).unwrap(), Answers::Boxes(detections.clone()));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(read_detections(root.path(), cell), Err(ReadError::Broken)));
    assert!(matches!(read_detections(root.path(), ["voc", "smoke", "b"]), Err(ReadError::Io(_))));
}

#[test]
fn labels_and_boxes_are_not_taken_for_each_other() {
    let root = tempfile::tempdir().unwrap();
    let (labels, boxes) = (["voc", "smoke", "labels"], ["voc", "smoke", "boxes"]);
    let items = vec![Prediction { name: "1.jpg".into(), label: 0, prediction: 1 }];
    let predictions = Predictions { checkpoint: "c0ffee".into(), items };
    write_predictions(root.path(), labels, &predictions).unwrap();
    write_detections(root.path(), boxes, &detections()).unwrap();
    assert!(matches!(read_detections(root.path(), labels), Err(ReadError::Schema(_))));
    assert!(matches!(read_predictions(root.path(), boxes), Err(ReadError::Schema(_))));
    assert_eq!(read_answers(root.path(), labels).unwrap(), Answers::Labels(predictions));
}

#[test]
fn detections_that_cannot_be_are_not_read() {
    let (root, cell) = (tempfile::tempdir().unwrap(), ["voc", "smoke", "a"]);
    let changes: [fn(&mut DetectedImage); 3] =
        [|image| image.found[0].class = 2, |image| image.found[0].score = f32::NAN, |image| image.truth[0].class = 7];
    for change in changes {
        let mut changed = detections();
        change(&mut changed.boxes.images[0]);
        write_detections(root.path(), cell, &changed).unwrap();
        assert!(matches!(read_detections(root.path(), cell), Err(ReadError::Schema(_))));
    }
}

#[test]
fn detections_agree_whatever_is_kept_to_be_looked_at() {
    let (kept, mut other) = (detections().boxes, detections().boxes);
    other.images[0].crop = None;
    assert!(kept.agree(&other));
    other.images[0].found[0].score = 0.7;
    assert!(!kept.agree(&other));
    assert!(!kept.agree(&Boxes { images: kept.images[..2].to_vec(), ..detections().boxes }));
}
