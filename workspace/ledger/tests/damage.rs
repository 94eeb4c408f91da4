//! A row file that was cut, changed or made by a stranger is named; nothing panics, and nothing false is read.

mod common;

use std::fs;

use common::row;
use polars::prelude::{Column, DataFrame, KeyValueMetadata, NamedFrom, ParquetWriter, Series};
use sandglass_ledger::{Ledger, read_cell, write_cell};

#[test]
fn every_truncation_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = write_cell(root.path(), &[row("a", "top1", 91.0)]).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read_cell(&path).is_err(), "cut to {length} of {}", whole.len());
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = write_cell(root.path(), &[row("a", "top1", 91.0)]).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(read_cell(&path).is_err(), "bit {} of byte {at}", at % 8);
    }
}

/// The frame as parquet with a valid seal: someone who wants to be believed.
fn sealed(mut frame: DataFrame) -> Vec<u8> {
    let zeros = format!("sandglass-seal-blake3:{}", "0".repeat(64));
    let metadata = KeyValueMetadata::from_static(vec![("sandglass.seal".into(), zeros.clone())]);
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).with_key_value_metadata(Some(metadata)).finish(&mut frame).unwrap();
    reseal(bytes)
}

fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let mark = b"sandglass-seal-blake3:";
    let at = bytes.windows(mark.len()).rposition(|window| window == mark).unwrap() + mark.len();
    bytes[at..at + 64].fill(b'0');
    let hash = blake3::hash(&bytes).to_hex();
    bytes[at..at + 64].copy_from_slice(hash.as_bytes());
    bytes
}

#[test]
fn a_sealed_file_of_another_shape_is_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("width/smoke");
    fs::create_dir_all(&folder).unwrap();
    let study: Column = Series::new("study".into(), [1.5f64, 2.5]).into();
    fs::write(folder.join("a.parquet"), sealed(DataFrame::new(2, vec![study]).unwrap())).unwrap();
    fs::write(folder.join("b.parquet"), b"PAR1").unwrap();
    fs::write(folder.join("c.parquet"), b"").unwrap();
    fs::create_dir(folder.join("d.parquet")).unwrap();

    let ledger = Ledger::read(root.path());
    assert!(ledger.rows.is_empty());
    let problems: Vec<String> = ledger.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].contains("a.parquet: does not follow the schema"), "{}", problems[0]);
    assert!(problems[1].contains("b.parquet: is cut or was changed"), "{}", problems[1]);
}

#[test]
fn a_nan_that_was_smuggled_in_is_named() {
    let root = tempfile::tempdir().unwrap();
    // Statistics and dictionary hold the value's bytes too, so all of its copies are replaced.
    let value = 91.015_625_f64;
    let path = write_cell(root.path(), &[row("a", "top1", value)]).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (old, new) = (value.to_le_bytes(), f64::NAN.to_le_bytes());
    let mut changed = bytes.clone();
    for at in 0..bytes.len() - 8 {
        if bytes[at..at + 8] == old {
            changed[at..at + 8].copy_from_slice(&new);
        }
    }
    assert_ne!(bytes, changed, "the value lies in the file as it is");
    fs::write(&path, reseal(changed)).unwrap();
    let ledger = Ledger::read(root.path());
    assert!(ledger.rows.is_empty());
    assert_eq!(ledger.problems[0].reason, "row width/smoke/a#top1: value is not a finite number");
}
