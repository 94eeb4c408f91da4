//! CIFAR-10 in its official binary form.

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::{DataError, Dataset, Part, repeats};

pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

pub(crate) const SIDE: usize = 32;

/// Images in one file.
pub(crate) const IMAGES: usize = 10_000;

/// A label, then the planes R, G, B.
pub(crate) const RECORD: usize = 1 + 3 * SIDE * SIDE;

/// What its archive unpacks to.
pub(crate) const FOLDER: &str = "cifar-10-batches-bin";

pub(crate) const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

pub(crate) fn is_cifar10(folder: &Path) -> bool {
    FILES.iter().any(|file| folder.join(file).is_file())
}

/// Through candle-datasets' `load_dir`, which keeps rows and columns in place (its `load` transposes).
pub(crate) fn open(folder: &Path, part: Part) -> Result<Dataset, DataError> {
    for file in FILES {
        let path = folder.join(file);
        if !path.exists() {
            let reason = format!("has no {file}: CIFAR-10 is read from all of its {} files", FILES.len());
            return Err(DataError::layout(folder, reason));
        }
        let length = std::fs::metadata(&path).map_err(DataError::io(&path))?.len();
        if length != (IMAGES * RECORD) as u64 {
            let reason = format!("holds {length} bytes; CIFAR-10's files hold {}", IMAGES * RECORD);
            return Err(DataError::layout(&path, reason));
        }
    }
    let [training @ .., test] = FILES;
    if let Some(file) = training.iter().find(|file| repeats::is_same(&folder.join(file), &folder.join(test))) {
        return Err(DataError::no_part(folder, &format!("{test} is {file} once more: a score of it says nothing")));
    }
    let read = || {
        let set = candle_datasets::vision::cifar::load_dir(folder)?;
        let (images, labels) = match part {
            Part::Train => (set.train_images, set.train_labels),
            Part::Validation | Part::Scored => (set.test_images, set.test_labels),
        };
        Ok((bytes(&images)?, labels.to_dtype(DType::U32)?.to_vec1()?))
    };
    let (pixels, labels) = read().map_err(|error: candle_core::Error| DataError::layout(folder, error.to_string()))?;
    let name = if part == Part::Train { "cifar10" } else { "cifar10 (test)" };
    let set = Dataset::from_pixels(name, CLASSES.map(String::from).to_vec(), false, (SIDE, SIDE), pixels, labels)?;
    let files = if part == Part::Train { "data_batch_1.bin to data_batch_5.bin" } else { "test_batch.bin" };
    Ok(set.numbered(part).with_origin(files, Vec::new()))
}

/// [n, 3, height, width] in 0..1 to bytes [n, height, width, 3].
fn bytes(images: &Tensor) -> Result<Vec<u8>, candle_core::Error> {
    ((images * 255.0)? + 0.5)?.to_dtype(DType::U8)?.permute((0, 2, 3, 1))?.contiguous()?.flatten_all()?.to_vec1()
}
