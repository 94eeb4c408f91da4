//! Class names that lie beside parquet files, or in their metadata: they are names like any others.

use std::fs;
use std::path::Path;

use sandglass_data::{DataError, Dataset, Part, open, open_named};

/// A copy of the fixtures' `labels/NAME.parquet`, whose labels are 2, 0, 1.
fn add(folder: &Path, place: &str, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/labels").join(name);
    let to = folder.join(place);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from.with_extension("parquet"), to).unwrap();
}

fn set(place: &str, lists: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), place, "int64");
    lists.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    folder
}

fn scored(path: &Path) -> Result<Dataset, DataError> {
    open(path.to_str().unwrap(), Part::Scored, None)
}

fn message(result: Result<Dataset, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

const CARD: &str = "---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    \
    dtype:\n      class_label:\n        names:\n          '0': cat\n          '1': dog\n          '2': frog\n---\n# A set\n";
const INFOS: &str = r#"{"default": {"features": {"label": {"names": ["cat", "dog", "frog"], "_type": "ClassLabel"}}}}"#;
const INFO: &str = r#"{"features": {"label": {"names": ["cat", "dog", "frog"], "_type": "ClassLabel"}}}"#;

#[test]
fn lists_beside_the_files_name_the_classes() {
    let flat = "validation-00000-of-00001.parquet";
    for place in [flat, "data/validation.parquet", "default/validation/0000.parquet", "en/test/0000.parquet"] {
        for (name, text) in [("README.md", CARD), ("dataset_infos.json", INFOS), ("dataset_info.json", INFO)] {
            let folder = set(place, &[(name, text)]);
            let read = scored(folder.path()).unwrap();
            assert!(read.names_classes() && read.beside().is_empty(), "{place}, {name}: {:?}", read.beside());
            assert_eq!((read.classes(), read.labels_by()), (&strings(&["cat", "dog", "frog"])[..], "name"));
            // By name the classifier's, whatever its order; and not as many of other names.
            let what = folder.path().to_str().unwrap();
            let placed = open_named(what, Part::Scored, &strings(&["frog", "dog", "cat"])).unwrap();
            assert_eq!([0, 1, 2].map(|index| placed.label(index)), [0, 2, 1]);
            assert!(message(open(what, Part::Scored, Some(4))).contains("its 3 classes (cat to frog)"));
        }
    }
    // Whether the file, its folder or the set is named.
    let folder = set("data/validation.parquet", &[("README.md", CARD)]);
    for named in ["data/validation.parquet", "data", ""] {
        assert!(scored(&folder.path().join(named)).unwrap().names_classes(), "{named}");
    }
    // Numbers that the training part's names mean, too.
    add(folder.path(), "data/train.parquet", "int32");
    let what = folder.path().to_str().unwrap();
    let training = open(what, Part::Train, None).unwrap();
    assert_eq!(sandglass_data::open_validation(what, None, &training).unwrap().classes(), training.classes());
}

#[test]
fn lists_that_disagree_are_refused_and_named() {
    let place = "validation.parquet";
    let other = |text: &str| text.replace("frog", "hen");
    let (infos, info) = (other(INFOS), other(INFO));
    for (lists, words) in [
        (&[("README.md", CARD), ("dataset_infos.json", &infos)][..], ["README.md", "dataset_infos.json"]),
        (&[("README.md", CARD), ("dataset_info.json", &info)], ["README.md", "dataset_info.json"]),
        (&[("README.md", CARD), ("wnids.txt", "n01440764\nn01443537\nn01484850\n")], ["README.md", "wnids.txt"]),
    ] {
        let error = message(scored(set(place, lists).path()));
        assert!(error.contains("its class names are not those of"), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // The file's own metadata are a list too: those of the column as those of the file.
    for name in ["dictionary_named", "other_names", "field_names"] {
        let folder = set(place, &[("README.md", &other(CARD).replace("cat", "cow"))]);
        add(folder.path(), place, name);
        let error = message(scored(folder.path()));
        assert!(error.contains("validation.parquet: its class names are not those of"), "{name}: {error}");
        fs::remove_file(folder.path().join("README.md")).unwrap();
        assert!(scored(folder.path()).unwrap().names_classes(), "{name}");
    }
    let twice = set(place, &[("README.md", &CARD.replace("dog", "cat"))]);
    assert!(message(scored(twice.path())).ends_with("README.md: its list of classes names \"cat\" twice"));
    // Of several configurations it is the other list that decides.
    let several =
        format!("{{{}, {}}}", &INFOS[1..INFOS.len() - 1], &infos[1..infos.len() - 1].replace("default", "other"));
    let folder = set(place, &[("dataset_infos.json", &several), ("README.md", CARD)]);
    assert_eq!(scored(folder.path()).unwrap().classes()[2], "frog");
    fs::write(folder.path().join("README.md"), CARD.replace("frog", "bee")).unwrap();
    assert!(message(scored(folder.path())).contains("its class names are not those of"));
    fs::remove_file(folder.path().join("README.md")).unwrap();
    let told = "dataset_infos.json, which names the classes of several configurations";
    assert_eq!(scored(folder.path()).unwrap().beside(), [told]);
}

#[test]
fn a_list_that_cannot_be_read_is_told() {
    for (name, text, why) in [
        ("README.md", "---\ndataset_info: [\n---\n", "has a front matter that is no plain YAML"),
        ("README.md", &CARD.replace("'1': dog", "'1': no"), "holds no list of texts for names"),
        ("README.md", &CARD.replace("'1': dog", "'5': dog"), "holds no list of texts for names"),
        ("README.md", &format!("---\n# {}\n---\n", "x".repeat(3 << 20)), "is too long"),
        ("dataset_infos.json", "version https://git-lfs.github.com/spec/v1\n", "is no JSON"),
        ("dataset_info.json", "", "is no JSON"),
    ] {
        let read = scored(set("validation.parquet", &[(name, text)]).path()).unwrap();
        assert_eq!(read.beside(), [format!("{name}, which {why} and may name the classes")]);
        assert_eq!(read.labels_by(), "number");
    }
    // A folder of that name, and bytes that are no text.
    let folder = set("validation.parquet", &[]);
    fs::create_dir(folder.path().join("README.md")).unwrap();
    fs::write(folder.path().join("dataset_infos.json"), [0xff, 0xfe, 0xff]).unwrap();
    let told = ["README.md", "dataset_infos.json"]
        .map(|name| format!("{name}, which cannot be read and may name the classes"));
    let read = scored(folder.path()).unwrap();
    assert!(told.iter().all(|told| read.beside().contains(told)), "{:?}", read.beside());
    // Cards without such lines, and columns of another name, say nothing.
    let other = CARD.replace("name: label", "name: coarse_label");
    for text in ["# A set\n", "---\nlicense: mit\n---\n", &other] {
        assert!(scored(set("validation.parquet", &[("README.md", text)]).path()).unwrap().beside().is_empty());
    }
}

#[test]
fn a_columns_own_metadata_name_its_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("validation.parquet");
    add(folder.path(), "validation.parquet", "field_names");
    assert_eq!(scored(&path).unwrap().classes(), strings(&["cat", "dog", "frog"]));
    add(folder.path(), "validation.parquet", "field_damaged");
    let read = scored(&path).unwrap();
    let told = "metadata class_names of column label, which is no JSON and may name the classes";
    assert_eq!((read.beside(), read.labels_by()), (&[told.to_owned()][..], "number"));
}
