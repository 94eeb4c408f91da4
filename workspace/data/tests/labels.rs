//! Which label an image gets: by names where there are any, by the numbers that labels spell, and never by chance.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use polars::prelude::{
    Column, DataFrame, IntoSeries, KeyValueMetadata, NamedFrom, ParquetWriter, Series, StructChunked,
};
use sandglass_data::{DataError, Dataset, Part, open, open_named};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// An image for each label, and the class names that the file's metadata list.
fn write(path: &Path, labels: Series, names: Option<&[String]>) {
    let pixel = fs::read(fixtures().join("grey.png")).unwrap();
    let bytes = Column::new("bytes".into(), vec![pixel.as_slice(); labels.len()]);
    let images = StructChunked::from_columns("image".into(), labels.len(), &[bytes]).unwrap().into_series();
    let mut table = DataFrame::new(labels.len(), vec![images.into(), labels.with_name("label".into()).into()]).unwrap();
    let json = |names: &[String]| serde_json::json!({"info": {"features": {"label": {"names": names}}}}).to_string();
    let metadata = names.map(|names| KeyValueMetadata::from_static(vec![("huggingface".to_owned(), json(names))]));
    ParquetWriter::new(File::create(path).unwrap()).with_key_value_metadata(metadata).finish(&mut table).unwrap();
}

fn numbers(labels: &[i64]) -> Series {
    Series::new("label".into(), labels)
}

fn texts(labels: &[&str]) -> Series {
    Series::new("label".into(), labels)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// A file of its own in a folder of its own.
struct Written(tempfile::TempDir);

impl Written {
    fn new(labels: Series, names: Option<&[String]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("validation.parquet"), labels, names);
        Self(folder)
    }

    fn open(&self, classes: Option<usize>) -> Result<Dataset, DataError> {
        open(self.0.path().to_str().unwrap(), Part::Scored, classes)
    }

    fn open_named(&self, names: &[&str]) -> Result<Dataset, DataError> {
        open_named(self.0.path().to_str().unwrap(), Part::Scored, &strings(names))
    }
}

fn labels(set: &Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

fn message(result: Result<Dataset, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn digits_as_text_are_the_numbers_that_they_spell() {
    let set = Written::new(texts(&["10", "2", "0", "07"]), None).open(Some(11)).unwrap();
    assert_eq!((labels(&set), set.labels_by()), (vec![10, 2, 0, 7], "number"));
    // Names that are digits are names; digits that are none of the names are places among them.
    let names = strings(&["10", "2", "0"]);
    assert_eq!(labels(&Written::new(texts(&["10", "2", "0"]), Some(&names)).open(None).unwrap()), [0, 1, 2]);
    let names = strings(&["cat", "dog", "frog"]);
    let set = Written::new(texts(&["2", "0"]), Some(&names)).open(Some(3)).unwrap();
    assert_eq!((labels(&set), set.labels_by()), (vec![2, 0], "name"));
    for (labels, wanted) in [
        (["1", "-1"], "validation.parquet row 1: has no label (-1)"),
        (["1", ""], "validation.parquet row 1: has no label (an empty text)"),
        (["5000000000", "1"], "validation.parquet row 0: has the label 5000000000: no class's"),
        (["1", "cat"], "validation.parquet row 1: the label \"cat\" is no number, as others are"),
    ] {
        let error = message(Written::new(texts(&labels), None).open(None));
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn text_that_nobody_lists_is_said_to_be_in_alphabetical_order() {
    let written = Written::new(texts(&["zebra", "ant", "zebra"]), None);
    let set = written.open(Some(2)).unwrap();
    assert_eq!((labels(&set), set.labels_by()), (vec![1, 0, 1], "alphabetical order"));
    assert_eq!(set.listing(), "3 images of 2 classes in alphabetical order");
    // A classifier that names its classes has them by name, those too of which there is no image.
    let set = written.open_named(&["zebra", "cow", "ant"]).unwrap();
    assert_eq!((labels(&set), set.labels_by(), set.classes().len()), (vec![0, 2, 0], "name", 3));
    // It knows no zebra: left as it is, and refused for its number.
    assert!(message(written.open_named(&["cow", "ant", "bee"])).contains("its 2 classes (ant to zebra)"));
}

#[test]
fn the_same_names_in_another_order_are_mapped_by_name() {
    let names = strings(&["cat", "dog", "frog"]);
    let written = Written::new(numbers(&[1, 2, 2]), Some(&names));
    let set = written.open_named(&["dog", "frog", "cat"]).unwrap();
    assert_eq!((labels(&set), set.classes().to_vec()), (vec![0, 1, 1], strings(&["dog", "frog", "cat"])));
    let same = written.open_named(&["cat", "dog", "frog"]).unwrap();
    assert_eq!((labels(&same), same.hash()), (vec![1, 2, 2], written.open(Some(3)).unwrap().hash()));
    assert_ne!(set.hash(), same.hash());
    // Other names stay what they are, for the caller to refuse; of numbers there is nothing to map.
    let other = written.open_named(&["cat", "dog", "hen"]).unwrap();
    assert_eq!((labels(&other), other.classes().to_vec()), (vec![1, 2, 2], names.clone()));
    let by_number = Written::new(numbers(&[1, 2, 2]), None).open_named(&["dog", "frog", "cat"]).unwrap();
    assert_eq!((labels(&by_number), by_number.labels_by()), (vec![1, 2, 2], "number"));
}

/// ImageNet's names, each of one class, as lists of them are published.
fn english() -> Vec<String> {
    let csv = include_str!("../src/imagenet_classes.csv");
    let name = |line: &str| line.splitn(3, ',').nth(2).unwrap().trim_matches('"').to_owned();
    let mut names: Vec<String> = csv.lines().skip(1).map(name).collect();
    names[134] = "crane bird".to_owned();
    names
}

#[test]
fn imagenets_english_names_are_its_wnids() {
    let two = strings(&["goldfish, Carassius auratus", "tench"]);
    let set = Written::new(numbers(&[0, 1]), Some(&two)).open(Some(1000)).unwrap();
    assert_eq!((labels(&set), set.classes()[0].as_str()), (vec![1, 0], "n01440764"));
    assert_eq!(labels(&Written::new(texts(&["tench", "goldfish"]), None).open(Some(1000)).unwrap()), [0, 1]);

    let mut all = english();
    let written = |names: &[String]| Written::new(numbers(&[0, 1, 517, 999]), Some(names));
    assert_eq!(labels(&written(&all).open(Some(1000)).unwrap()), [0, 1, 517, 999]);
    all.swap(0, 1);
    assert_eq!(labels(&written(&all).open(Some(1000)).unwrap()), [1, 0, 517, 999]);
    // Two classes are cranes: out of place it is not said which.
    all.swap(2, 517);
    let error = message(written(&all).open(Some(1000)));
    assert!(error.contains("class 2, \"crane\", is no name of one class of ImageNet's"), "{error}");
    // As many of another list.
    let others: Vec<String> = (0..1000).map(|class| format!("species {class}")).collect();
    assert!(message(written(&others).open(Some(1000))).contains("class 0, \"species 0\", is no name of"));
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    assert_eq!(labels(&written(&others).open_named(&names).unwrap()), [0, 1, 517, 999], "its own are");
    let digits: Vec<String> = (0..1000).map(|class| class.to_string()).collect();
    assert_eq!(labels(&written(&digits).open(Some(1000)).unwrap()), [0, 1, 517, 999], "numbers are no names");
    let twice = strings(&["tench", "Tinca_tinca"]);
    let error = message(Written::new(numbers(&[0, 1]), Some(&twice)).open(Some(1000)));
    assert!(error.contains("\"tench\" and \"Tinca_tinca\" are one class of ImageNet's"), "{error}");
}

#[test]
fn lists_of_names_that_disagree_or_repeat_themselves_are_refused() {
    let names = strings(&["n01443537", "n01440764"]);
    let written = Written::new(numbers(&[0, 1]), Some(&names));
    let wnids = |text: &str| fs::write(written.0.path().join("wnids.txt"), text).unwrap();
    assert_eq!(labels(&written.open(Some(1000)).unwrap()), [1, 0], "the file's own");
    wnids("n01443537\nn01440764\n");
    let error = message(written.open(Some(1000)));
    assert!(error.contains("validation.parquet: its class names are not those of") && error.contains("wnids.txt"));
    wnids("n01440764\nn01440764\n");
    assert!(message(written.open(Some(1000))).ends_with("wnids.txt: names n01440764 twice"));
    wnids("n01440764\nn01443537 goldfish\n");
    assert!(message(written.open(None)).ends_with("line 2 is no wnid: \"n01443537 goldfish\""));
    wnids("\u{feff}\u{feff}n01440764\nn01443537\n");
    assert!(message(written.open(None)).contains("line 1 is no wnid"));

    let twice = strings(&["cat", "dog", "cat"]);
    let error = message(Written::new(numbers(&[0, 1]), Some(&twice)).open(Some(3)));
    assert!(error.contains("validation.parquet: its list of classes names \"cat\" twice"), "{error}");
    let pixels = || (vec![0; 6], vec![0, 1]);
    let error = Dataset::from_pixels("set", strings(&["a", "a"]), false, (1, 1), pixels().0, pixels().1).err().unwrap();
    assert!(error.to_string().contains("its list of classes names \"a\" twice"), "{error}");
}

#[test]
fn a_label_beyond_all_numbers_is_named_by_row_and_the_file_is_not_blamed() {
    let large = Series::new("label".into(), [1_u64, 0, (1 << 63) + 5]);
    let error = message(Written::new(large, None).open(None));
    assert!(error.contains("row 2 has the label 9223372036854775813: no class's"), "{error}");
    assert!(!error.contains("readable"), "{error}");
    for (labels, kind) in [
        (Series::new("label".into(), [true, false]), "true and false"),
        (Series::new("label".into(), [b"a".as_slice(), b"b"]), "bytes"),
    ] {
        let error = message(Written::new(labels, None).open(None));
        assert!(error.contains(&format!("its column label holds {kind}: no numbers")), "{error}");
    }
}
