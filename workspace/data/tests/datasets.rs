//! Parquet, image folders and CIFAR-10 against the fixtures' own files, and what is said of damaged sets.

use std::fs;
use std::path::{Path, PathBuf};

use sandglass_data::{DataError, Dataset, Part, Picture, decode, open};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture(name: &str) -> Picture {
    decode(&fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn open_path(path: &Path, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    open(path.to_str().unwrap(), part, classes)
}

fn labels(set: &Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

fn message(result: Result<Dataset, DataError>) -> String {
    result.err().expect("an error").to_string()
}

/// A folder of `<below>/<class>/<file>` links to fixtures.
fn image_folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (place, file) in files {
        let place = folder.path().join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(fixtures().join(file), place).unwrap();
    }
    folder
}

#[test]
fn shards_are_read_in_order_and_images_decoded() {
    let folder = fixtures().join("parquet/shards");
    let set = open_path(&folder, Part::Train, None).unwrap();
    assert_eq!(labels(&set), [0, 0, 1, 1, 2]);
    for (index, file) in ["colour.jpg", "grey.jpg", "cmyk.jpg", "half.jpg", "grey.png"].iter().enumerate() {
        assert_eq!(set.picture(index).unwrap(), fixture(file), "{file}");
    }
    assert_eq!((set.size(), set.synthetic(), set.classes().len()), (None, false, 3));
    let set = open_path(&folder, Part::Validation, None).unwrap();
    assert_eq!(labels(&set), [2, 0, 1]);
    assert_eq!(set.picture(1).unwrap(), fixture("named_as.jpg"));
}

#[test]
fn a_missing_shard_is_named_and_validation_works_without() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["train-00000-of-00002.parquet", "valid.parquet"] {
        fs::copy(fixtures().join("parquet/shards").join(file), folder.path().join(file)).unwrap();
    }
    let error = message(open_path(folder.path(), Part::Train, None));
    assert!(error.contains("train-00001-of-00002.parquet is not beside it"), "{error}");
    assert_eq!(open_path(folder.path(), Part::Validation, None).unwrap().len(), 3);
}

#[test]
fn the_hubs_layout_names_its_classes() {
    let set = open_path(&fixtures().join("parquet/hub"), Part::Validation, None).unwrap();
    assert_eq!(set.classes(), ["cat", "dog", "frog"]);
    assert_eq!((labels(&set), set.size()), (vec![1, 2], Some((22, 21))));
    assert_eq!(set.picture(1).unwrap(), fixture("grey.png"));
    let error = message(open_path(&fixtures().join("parquet/hub"), Part::Validation, Some(2)));
    assert!(
        error.contains("its 3 classes (cat to frog) are not the classifier's 2; it holds 2 images of 2"),
        "{error}"
    );
}

#[test]
fn wnids_beside_parquet_become_imagenets_labels() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("parquet/shards/valid.parquet"), folder.path().join("valid.parquet")).unwrap();
    fs::write(folder.path().join("wnids.txt"), "n15075141\nn01440764\nn01443537\n").unwrap();
    assert_eq!(labels(&open_path(folder.path(), Part::Validation, Some(3)).unwrap()), [2, 0, 1]);
    assert_eq!(labels(&open_path(folder.path(), Part::Validation, Some(1000)).unwrap()), [999, 0, 1]);
}

#[test]
fn damaged_parquet_is_one_error_that_names_the_file() {
    let whole = fs::read(fixtures().join("parquet/shards/valid.parquet")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("valid.parquet");
    for length in (0..whole.len()).step_by(211).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = message(open_path(folder.path(), Part::Validation, None));
        assert!(error.contains("valid.parquet") && error.lines().count() == 1, "{length}: {error}");
    }
    for bit in (0..whole.len() * 8).step_by(997) {
        let mut broken = whole.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &broken).unwrap();
        let _ = open_path(folder.path(), Part::Validation, None);
    }
}

#[test]
fn labels_of_an_image_folder() {
    let files = [
        ("val/n01443537/a.JPEG", "colour.jpg"),
        ("val/n01440764/b.JPEG", "named_as.jpg"),
        ("val/n15075141/c.jpg", "grey.jpg"),
        ("val/n15075141/d.txt", "make.py"),
    ];
    let folder = image_folder(&files);
    let set = open_path(folder.path(), Part::Validation, None).unwrap();
    assert_eq!((labels(&set), set.classes().len()), (vec![0, 1, 2], 3));
    assert_eq!(set.picture(0).unwrap(), fixture("named_as.jpg"), "content decides, not the name");
    assert_eq!(labels(&open_path(folder.path(), Part::Validation, Some(1000)).unwrap()), [0, 1, 999]);
    assert_eq!(labels(&open_path(&folder.path().join("val"), Part::Scored, Some(1000)).unwrap()), [0, 1, 999]);
    for outputs in [2, 4] {
        let error = message(open_path(folder.path(), Part::Validation, Some(outputs)));
        assert!(
            error.contains(&format!("its 3 classes (n01440764 to n15075141) are not the classifier's {outputs}")),
            "{error}"
        );
    }
    assert!(message(open_path(folder.path(), Part::Train, None)).contains("no train/"));
}

#[test]
fn unknown_classes_are_refused() {
    let folder =
        image_folder(&[("train/a/1.jpg", "grey.jpg"), ("val/a/1.jpg", "grey.jpg"), ("val/b/1.jpg", "grey.jpg")]);
    let error = message(open_path(folder.path(), Part::Validation, None));
    assert!(error.contains("val/b: is not among the classes in train/"), "{error}");
    let error = message(open_path(folder.path(), Part::Train, Some(1000)));
    assert!(error.contains("its 1 class (a) is not the classifier's 1000"), "{error}");
    let stray = image_folder(&[("train/n01440764/1.jpg", "grey.jpg"), ("train/b/1.jpg", "grey.jpg")]);
    let error = message(open_path(stray.path(), Part::Train, Some(1000)));
    assert!(error.contains("train/b: is not among ImageNet's classes"), "{error}");
}

#[test]
fn broken_images_are_all_counted_and_the_first_named() {
    let folder = image_folder(&[("a/1.jpg", "grey.jpg"), ("a/2.jpg", "half.jpg"), ("b/3.jpg", "grey.jpg")]);
    let whole = fs::read(folder.path().join("a/2.jpg")).unwrap();
    fs::write(folder.path().join("a/2.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.path().join("b/empty.jpg"), b"").unwrap();
    fs::write(folder.path().join("b/page.jpg"), b"<html>").unwrap();
    let error = message(open_path(folder.path(), Part::Scored, None));
    let expected = "3 broken of 5 images: a/2.jpg: truncated, b/empty.jpg: empty, b/page.jpg: neither JPEG nor PNG";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_not_there_is_said() {
    assert!(message(open("no-such-set", Part::Train, None)).contains("no such folder"));
    let folder = tempfile::tempdir().unwrap();
    assert!(message(open_path(folder.path(), Part::Train, None)).contains("holds neither"));
    let error = message(open_path(&fixtures().join("make.py"), Part::Train, None));
    assert!(error.contains("not a readable parquet file"), "{error}");
    let error = message(open_path(&fixtures().join("make.py"), Part::Validation, None));
    assert!(error.contains("has no validation part"), "{error}");
}

#[test]
fn cifar10_keeps_rows_and_columns_in_place() {
    const RECORD: usize = 3073;
    let folder = tempfile::tempdir().unwrap();
    for file in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let file = fs::File::create(folder.path().join(file).with_extension("bin")).unwrap();
        file.set_len(10_000 * RECORD as u64).unwrap();
    }
    // Image 1 of the test file: label 6; red 250 at row 2, column 9; blue 3 at row 31, column 0.
    let path = folder.path().join("test_batch.bin");
    let mut bytes = fs::read(&path).unwrap();
    let record = &mut bytes[RECORD..2 * RECORD];
    (record[0], record[1 + 2 * 32 + 9], record[1 + 2 * 1024 + 31 * 32]) = (6, 250, 3);
    fs::write(&path, &bytes).unwrap();

    let set = open_path(folder.path(), Part::Validation, None).unwrap();
    assert_eq!((set.len(), set.size(), set.label(1)), (10_000, Some((32, 32)), 6));
    let mut expected = Picture::black(32, 32);
    expected.pixels[(2 * 32 + 9) * 3] = 250;
    expected.pixels[31 * 32 * 3 + 2] = 3;
    assert_eq!(set.picture(1).unwrap(), expected);

    fs::copy(&path, folder.path().join("data_batch_3.bin")).unwrap();
    for part in [Part::Train, Part::Scored] {
        let error = message(open_path(folder.path(), part, None));
        assert!(error.contains("test_batch.bin is data_batch_3.bin once more"), "{error}");
    }

    fs::write(folder.path().join("data_batch_3.bin"), b"short").unwrap();
    let error = message(open_path(folder.path(), Part::Train, None));
    assert!(error.contains("data_batch_3.bin: holds 5 bytes"), "{error}");
    fs::remove_file(folder.path().join("data_batch_3.bin")).unwrap();
    let error = message(open_path(folder.path(), Part::Scored, None));
    assert!(error.contains("has no data_batch_3.bin: CIFAR-10 is read from all of its 6 files"), "{error}");
}

fn names(set: &Dataset) -> Vec<String> {
    (0..set.len()).map(|index| set.image_name(index)).collect()
}

#[test]
fn images_have_names_of_their_own() {
    // Of one size and kept decoded, of differing sizes, and a part of either.
    let same = [("val/b/2.png", "grey.png"), ("val/a/1.JPEG", "grey.png"), ("val/b/1.png", "grey.png")];
    let folder = image_folder(&same);
    let set = open_path(folder.path(), Part::Validation, None).unwrap();
    assert!(set.size().is_some());
    assert_eq!(names(&set), ["a/1.JPEG", "b/1.png", "b/2.png"]);
    assert_eq!(names(&set.subset("some", &[2, 0])), ["b/2.png", "a/1.JPEG"]);
    fs::copy(fixtures().join("colour.jpg"), folder.path().join("val/a/0.jpg")).unwrap();
    let set = open_path(folder.path(), Part::Validation, None).unwrap();
    assert_eq!(
        (set.size(), names(&set)),
        (None, ["a/0.jpg", "a/1.JPEG", "b/1.png", "b/2.png"].map(String::from).to_vec())
    );
    assert_eq!(names(&set.subset("some", &[3, 1]).subset("one", &[1])), ["a/1.JPEG"]);

    let parquet = fixtures().join("parquet");
    let set = open_path(&parquet.join("shards"), Part::Train, None).unwrap();
    assert_eq!(names(&set), ["colour.jpg", "grey.jpg", "cmyk.jpg", "half.jpg", "grey.png"]);
    let set = open_path(&parquet.join("hub"), Part::Validation, None).unwrap();
    let file = "test-00000-of-00001.parquet";
    assert_eq!(names(&set), [0, 1].map(|row| format!("grey.png ({file} row {row})")), "a shared path");

    let set = open("embedded", Part::Validation, None).unwrap();
    assert_eq!((set.image_name(17), set.image_name(999)), ("validation 17".to_string(), "validation 999".to_string()));
}

#[test]
fn training_images_that_are_validation_images_under_another_label_are_left_out() {
    let files = [
        ("train/a/1.jpg", "colour.jpg"),
        ("train/a/2.jpg", "grey.jpg"),
        ("train/b/3.jpg", "half.jpg"),
        ("train/b/4.jpg", "colour.jpg"),
        ("train/c/5.jpg", "full.jpg"),
        // Under another name and label, under its own label, under both, and in no way.
        ("val/b/x.jpg", "colour.jpg"),
        ("val/a/2.jpg", "grey.jpg"),
        ("val/b/y.jpg", "half.jpg"),
        ("val/c/y.jpg", "half.jpg"),
        ("val/c/5.jpg", "cmyk.jpg"),
    ];
    let folder = image_folder(&files);
    let train = open_path(folder.path(), Part::Train, None).unwrap();
    let validation = open_path(folder.path(), Part::Validation, None).unwrap();
    let (rest, left_out) = train.without_copies_of(&validation).unwrap();
    assert_eq!(left_out, ["a/1.jpg", "b/3.jpg"]);
    assert_eq!(
        (names(&rest), labels(&rest)),
        (["a/2.jpg", "b/4.jpg", "c/5.jpg"].map(String::from).to_vec(), vec![0, 1, 2])
    );
    assert_ne!(rest.hash(), train.hash());

    let (again, none) = rest.without_copies_of(&validation).unwrap();
    assert_eq!((again.hash(), again.len(), none.len()), (rest.hash(), 3, 0));
    let (held_back, _) = train.split(2, 0).unwrap();
    assert!(held_back.without_copies_of(&validation).unwrap().1.iter().all(|name| left_out.contains(name)));
    let embedded = |part| open("embedded", part, None).unwrap();
    let (same, none) = embedded(Part::Train).without_copies_of(&embedded(Part::Validation)).unwrap();
    assert_eq!((same.hash(), none.len()), (embedded(Part::Train).hash(), 0));
}
