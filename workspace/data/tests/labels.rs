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
    let json = |names: &[String]| serde_json::json!({"info": {"features": {"label": {"names": names}}}}).to_string();
    write_more(path, labels, vec![], names.map(json));
}

/// With columns and metadata beside.
fn write_more(path: &Path, labels: Series, more: Vec<Series>, said: Option<String>) {
    let pixel = fs::read(fixtures().join("grey.png")).unwrap();
    let bytes = Column::new("bytes".into(), vec![pixel.as_slice(); labels.len()]);
    let images = StructChunked::from_columns("image".into(), labels.len(), &[bytes]).unwrap().into_series();
    let mut columns: Vec<Column> = vec![images.into(), labels.clone().with_name("label".into()).into()];
    columns.extend(more.into_iter().map(Column::from));
    let mut table = DataFrame::new(labels.len(), columns).unwrap();
    let metadata = said.map(|said| KeyValueMetadata::from_static(vec![("huggingface".to_owned(), said)]));
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
    assert!(set.listing().starts_with("3 images of 2 classes in alphabetical order, "), "{}", set.listing());
    // A classifier that names its classes has them by name, those too of which there is no image.
    let set = written.open_named(&["zebra", "cow", "ant"]).unwrap();
    assert_eq!((labels(&set), set.labels_by(), set.classes().len()), (vec![0, 2, 0], "name", 3));
    // It knows no zebra: left as it is, and refused for its number.
    assert!(
        message(written.open_named(&["cow", "ant", "bee"]))
            .contains("its class \"zebra\" is none of the classifier's 3 (cow to bee)")
    );
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

/// A folder of pictures for each class.
fn folders(classes: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for class in classes {
        fs::create_dir(folder.path().join(class)).unwrap();
        fs::copy(fixtures().join("grey.png"), folder.path().join(class).join("1.png")).unwrap();
    }
    folder
}

/// As a folder of eleven classes has them.
const SORTED: [&str; 11] = ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"];
const IN_ORDER: [&str; 11] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

#[test]
fn names_that_are_numbers_are_names() {
    // A classifier that was trained on folders is asked of text, of ClassLabel and of folders.
    let text = Written::new(texts(&["0", "10", "2"]), None);
    let set = text.open_named(&SORTED).unwrap();
    assert_eq!((labels(&set), set.labels_by()), (vec![0, 2, 3], "name"));
    let listed = Written::new(numbers(&[0, 10, 2]), Some(&strings(&IN_ORDER)));
    assert_eq!(labels(&listed.open_named(&SORTED).unwrap()), [0, 2, 3]);
    // One that was trained on numbers is asked of folders.
    let folder = folders(&SORTED);
    let set = open_named(folder.path().to_str().unwrap(), Part::Scored, &strings(&IN_ORDER)).unwrap();
    assert_eq!((labels(&set), set.labels_by()), (vec![0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9], "name"));
    // Whatever a number looks like, it is one.
    for spelt in [["0", "10", "2"], [" 0", " 10", " 2"], ["0.0", "10.0", "2.0"], ["+0", "010", "2."]] {
        let written = Written::new(texts(&spelt), None);
        for set in [written.open(Some(11)).unwrap(), written.open_named(&IN_ORDER).unwrap()] {
            assert_eq!(labels(&set), [0, 10, 2], "{spelt:?}");
        }
    }
}

#[test]
fn whether_numbers_are_in_order_is_known() {
    let open_folder = |classes: &[&str]| {
        let folder = folders(classes);
        open(folder.path().to_str().unwrap(), Part::Scored, None).unwrap()
    };
    let sorted = open_folder(&SORTED);
    assert!(sorted.is_out_of_number_order());
    let by_number = sorted.by_number();
    assert!(!by_number.is_out_of_number_order());
    assert_eq!(
        (by_number.classes(), labels(&by_number)),
        (&strings(&IN_ORDER)[..], vec![0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9])
    );
    for in_order in [&["00", "01", "10", "11"][..], &["1", "2", "3"], &["1", "10", "cat"]] {
        assert!(!open_folder(in_order).is_out_of_number_order(), "{in_order:?}");
    }
    // `z` comes before `\u{e9}` by bytes, capitals before small letters.
    assert!(open_folder(&["Zebra", "ant"]).is_sorted_by_bytes_alone());
    assert!(!open_folder(&["Ant", "Zebra"]).is_sorted_by_bytes_alone());
}

#[test]
fn a_number_that_may_be_a_place_or_a_name_is_refused() {
    let wanted = "its labels are numbers, and the classifier's class 2 is called \"10\"";
    let error = message(Written::new(numbers(&[0, 10, 2]), None).open_named(&SORTED));
    assert!(error.contains(wanted), "{error}");
    for spelt in [[" 0", " 10", " 2"], ["0.0", "10.0", "2.0"]] {
        let error = message(Written::new(texts(&spelt), None).open_named(&SORTED));
        assert!(error.contains(wanted), "{error}");
        // The set's own list of names is one too.
        let error = message(Written::new(texts(&spelt), Some(&strings(&SORTED))).open(None));
        assert!(error.contains("row 0: the label") && error.contains("is not among its class names"), "{error}");
    }
}

#[test]
fn a_label_beyond_its_own_list_of_names_is_not_the_classifiers_fault() {
    let names = strings(&["cat", "dog", "frog"]);
    let error = message(Written::new(numbers(&[1, 3]), Some(&names)).open(Some(10)));
    let wanted = "validation.parquet row 1: the label 3 is beyond the 3 class names of validation.parquet";
    assert!(error.ends_with(wanted), "{error}");
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("validation.parquet"), numbers(&[0, 2]), None);
    fs::write(folder.path().join("wnids.txt"), "n01440764\nn01443537\n").unwrap();
    let error = message(open(folder.path().to_str().unwrap(), Part::Scored, None));
    assert!(error.ends_with("row 1: the label 2 is beyond the 2 class names of wnids.txt"), "{error}");
}

#[test]
fn outputs_are_as_many_as_the_classifier_has() {
    let set = Written::new(numbers(&[0, 2]), None).open(Some(5)).unwrap();
    assert_eq!(set.output_names(5), ["0", "1", "2", "3", "4"]);
    let names = strings(&["cat", "dog"]);
    assert_eq!(Written::new(numbers(&[0, 1]), Some(&names)).open(None).unwrap().output_names(2), names);
}

#[test]
fn what_is_no_parquet_file_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let refusal = message(open(path.to_str().unwrap(), Part::Scored, None));
        fs::remove_file(path).unwrap();
        refusal
    };
    let picture = fs::read(fixtures().join("grey.png")).unwrap();
    for (name, bytes, what) in [
        ("a.png", &picture[..], "a PNG image"),
        ("a.zip", b"PK\x03\x04....", "a zip archive"),
        ("validation.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of git-lfs"),
        ("validation.parquet", b"", "an empty file"),
    ] {
        let error = refused(name, bytes);
        assert!(error.contains(&format!("{name}: no parquet file: it is {what}")), "{error}");
    }
    assert!(refused("validation.parquet", b"PAR1 and no more").contains("not a readable parquet file"));
    // A sound file, whose images are text.
    let path = folder.path().join("validation.parquet");
    let bytes = Column::new("bytes".into(), ["iVBORw0KGgo="]);
    let images = StructChunked::from_columns("image".into(), 1, &[bytes]).unwrap().into_series();
    let mut table = DataFrame::new(1, vec![images.into(), numbers(&[0]).into()]).unwrap();
    ParquetWriter::new(File::create(&path).unwrap()).finish(&mut table).unwrap();
    let error = message(open(path.to_str().unwrap(), Part::Scored, None));
    assert!(error.contains("its column image holds text or numbers for bytes, and no encoded images"), "{error}");
}

#[test]
fn two_columns_of_one_name_are_called_so() {
    let error = message(open(fixtures().join("parquet/labels/twice.parquet").to_str().unwrap(), Part::Scored, None));
    assert!(error.contains("two of its columns have one name") && error.contains("label"), "{error}");
    assert!(!error.contains("not a readable"), "{error}");
}

/// Rows of two parts in one file, in a column that nobody asked about, would all be scored.
#[test]
fn rows_that_are_said_to_be_of_two_parts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.parquet");
    let open = || open(path.to_str().unwrap(), Part::Scored, None);
    for column in ["split", "Subset"] {
        let parts = Series::new(column.into(), ["train", "test", "train"]);
        write_more(&path, numbers(&[0, 1, 0]), vec![parts], None);
        let error = message(open());
        assert!(error.contains("rows are of the part \"test\" and others of \"train\""), "{error}");
    }
    // All of one part, or of no part's name: a column that is not read, as others are.
    for parts in [["test"; 3], ["left", "right", "left"]] {
        write_more(&path, numbers(&[0, 1, 0]), vec![Series::new("split".into(), parts)], None);
        let said = if parts[0] == "test" {
            vec!["a column that says \"test\" of rows", "column split"]
        } else {
            vec!["column split"]
        };
        assert_eq!(open().unwrap().beside(), said);
    }
    write_more(&path, numbers(&[0, 1, 0]), vec![Series::new("fold".into(), [1_i64, 2, 3])], None);
    assert_eq!(open().unwrap().beside(), ["column fold"]);
}

/// The same said otherwise: of one part whether a row is of it, or parts by their numbers.
#[test]
fn rows_that_are_said_to_be_of_two_parts_in_any_type_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.parquet");
    let open = || open(path.to_str().unwrap(), Part::Scored, None);
    for (column, words) in [
        (Series::new("is_valid".into(), [true, false, true]), "is_valid says false of some rows and true of others"),
        (Series::new("is_train".into(), ["yes", "no", "no"]), "is_train says no of some rows and yes of others"),
        (Series::new("IsTest".into(), [0_i64, 1, 1]), "IsTest says 0 of some rows and 1 of others"),
        (Series::new("split".into(), [0_i32, 1, 2]), "split says 0 of some rows and 1 of others"),
        (Series::new("split".into(), [Some(true), None, None]), "split says null of some rows and true of others"),
        (Series::new("split".into(), [0.0, 1.0, 1.0]), "split says 0.0 of some rows and 1.0 of others"),
    ] {
        write_more(&path, numbers(&[0, 1, 0]), vec![column], None);
        let error = message(open());
        assert!(error.contains(words), "{error}");
    }
    write_more(&path, numbers(&[0, 1, 0]), vec![Series::new("is_valid".into(), [true; 3])], None);
    assert_eq!(open().unwrap().beside(), ["a column is_valid that says true of all rows", "column is_valid"]);
    // What is neither text nor numbers is told.
    let bytes = Series::new("is_test".into(), [b"a".as_slice(), b"b", b"b"]);
    write_more(&path, numbers(&[0, 1, 0]), vec![bytes], None);
    let told = "column is_test holds bytes, and may say of which part rows are";
    assert_eq!(open().unwrap().beside(), ["column is_test", told]);
    // Of two shards each of one part.
    let shard = |number: usize| folder.path().join(format!("validation-0000{number}-of-00002.parquet"));
    fs::remove_file(&path).unwrap();
    write_more(&shard(0), numbers(&[0, 1]), vec![Series::new("is_valid".into(), [true; 2])], None);
    write_more(&shard(1), numbers(&[1, 0, 1]), vec![Series::new("is_valid".into(), [false; 3])], None);
    let error = message(sandglass_data::open(folder.path().to_str().unwrap(), Part::Scored, None));
    assert!(error.contains("00001-of-00002.parquet: its column is_valid says"), "{error}");
}

#[test]
fn classes_of_which_there_is_no_image_are_said() {
    let set = Written::new(numbers(&[1, 2, 3]), None).open(Some(4)).unwrap();
    assert_eq!((set.without_image(4), set.without_image(6)), (vec![0], vec![0, 4, 5]));
    assert!(set.listing().starts_with("3 images of 3 classes by number, class 0 has no image"), "{}", set.listing());
    assert!(set.listing_for(6).contains(", 3 classes have no image (0, 4, 5)"), "{}", set.listing_for(6));
    let set = Written::new(numbers(&[0, 2, 5]), None).open(None).unwrap();
    assert_eq!(set.without_image(set.classes().len()), [1, 3, 4]);
    let names = strings(&["cat", "dog", "frog"]);
    let set = Written::new(numbers(&[0, 2]), Some(&names)).open(Some(3)).unwrap();
    assert!(set.listing().contains(", class dog has no image"), "{}", set.listing());
    let whole = Written::new(numbers(&[0, 1]), None).open(Some(2)).unwrap();
    assert!(whole.without_image(2).is_empty() && !whole.listing().contains("no image"));
}

/// Folders of the same names would be sorted as text, and so are these where that is asked for.
#[test]
fn digits_as_text_are_sorted_as_text_where_it_is_asked_for() {
    let set =
        Written::new(texts(&["10", "2", "0", "1", "3", "4", "5", "6", "7", "8", "9"]), None).open(Some(11)).unwrap();
    assert!(set.is_called_by_numbers() && !set.is_out_of_number_order());
    let sorted = set.clone().by_text(11).unwrap();
    assert_eq!((labels(&sorted)[..3].to_vec(), sorted.classes()), (vec![2, 3, 0], &strings(&SORTED)[..]));
    assert_eq!(labels(&set.clone().by_number()), labels(&set));
    // Without all of them nobody knows the others' texts; of two texts for a number neither.
    assert!(message(set.by_text(12)).contains("its labels are 11 texts, which are not the 12 numbers from 0 on"));
    let twice = Written::new(texts(&["0", "1", "01"]), None).open(Some(3)).unwrap();
    assert!(message(twice.by_text(3)).contains("its labels are 3 texts"));
    assert!(!Written::new(numbers(&[0, 1]), None).open(Some(2)).unwrap().is_called_by_numbers());
}

#[test]
fn what_is_not_read_of_a_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.parquet");
    let more = ["coarse_label", "label_text"].map(|name| Series::new(name.into(), ["a", "b"]));
    write_more(&path, numbers(&[0, 1]), more.into(), Some("{\"info\": cut".to_owned()));
    let set = open(path.to_str().unwrap(), Part::Scored, None).unwrap();
    let unread = "metadata huggingface, which is no JSON and may name the classes";
    assert_eq!(set.beside(), ["column coarse_label", "column label_text", unread]);
    assert_eq!((set.label_column(), set.labels_by()), (Some("label"), "number"));
    let empty = folder.path().join("none.parquet");
    write_more(&empty, numbers(&[]), vec![], None);
    assert!(message(sandglass_data::open(empty.to_str().unwrap(), Part::Scored, None)).ends_with("have no rows"));
}

/// Training and validation labels of different kinds, or of different columns, have nothing in common but their numbers.
#[test]
fn labels_of_both_parts_are_of_one_kind_and_column() {
    let both = |training: Series, names: Option<&[String]>, validation: Series| {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("train.parquet"), training, names);
        write(&folder.path().join("validation.parquet"), validation, None);
        let what = folder.path().to_str().unwrap();
        let training = open(what, Part::Train, None).unwrap();
        sandglass_data::open_validation(what, None, &training)
            .map(|set| labels(&set))
            .map_err(|error| error.to_string())
    };
    let animals = ["cow", "ant", "bee"];
    assert_eq!(both(texts(&animals), None, texts(&["bee", "ant"])), Ok(vec![1, 0]));
    let error = both(numbers(&[0, 1, 2]), None, texts(&animals)).unwrap_err();
    assert!(error.ends_with("its labels are text, and those of the training images are numbers"), "{error}");
    let error = both(texts(&animals), None, numbers(&[0, 1, 2])).unwrap_err();
    assert!(error.ends_with("its labels are numbers, and those of the training images are text"), "{error}");
    // A list of names that the training part has says what numbers mean.
    assert_eq!(both(numbers(&[0, 1, 2]), Some(&strings(&animals)), numbers(&[2, 0, 1])), Ok(vec![2, 0, 1]));

    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("train.parquet"), numbers(&[0, 1]), None);
    fs::copy(fixtures().join("parquet/labels/fine_label.parquet"), folder.path().join("validation.parquet")).unwrap();
    let what = folder.path().to_str().unwrap();
    let training = open(what, Part::Train, None).unwrap();
    let error = message(sandglass_data::open_validation(what, None, &training));
    assert!(error.contains("in the column fine_label, and those of the training images in label"), "{error}");
}

#[test]
fn shards_name_their_classes_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let place = |number: usize| folder.path().join(format!("validation-0000{number}-of-00002.parquet"));
    write(&place(0), numbers(&[0, 1]), Some(&strings(&["ant", "bee"])));
    write(&place(1), numbers(&[1, 0, 1]), None);
    let error = message(open(folder.path().to_str().unwrap(), Part::Scored, None));
    assert!(error.ends_with("it names its classes and another shard does not, or the reverse"), "{error}");
    fs::copy(fixtures().join("parquet/labels/fine_label.parquet"), place(1)).unwrap();
    let error = message(open(folder.path().to_str().unwrap(), Part::Scored, None));
    assert!(error.ends_with("in the column fine_label, and another shard's in label"), "{error}");
}

/// ImageNet's classes in English are folders as well as labels.
#[test]
fn folders_in_english_get_imagenets_places() {
    let folder = folders(&["tench, Tinca tinca", "goldfish, Carassius auratus"]);
    let set = open(folder.path().to_str().unwrap(), Part::Scored, Some(1000)).unwrap();
    assert_eq!(labels(&set), [1, 0]);
    let stray = folders(&["n01440764", "tench"]);
    assert!(message(open(stray.path().to_str().unwrap(), Part::Scored, Some(1000))).contains("tench: is not among"));
}
