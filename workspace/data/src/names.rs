//! Class names where they are listed: in files beside parquet, as the hub's sets have them, and in a parquet file's metadata.

mod yaml;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::classes::is_wnid;
use crate::dataset::twice;
use crate::{DataError, shards};

/// Class names, and the file that lists them.
pub(crate) type ClassNames = (PathBuf, Vec<String>);

/// Bytes of a list that are read: the names of 20,000 classes take less than one million.
pub(crate) const LONGEST: u64 = 2 << 20;

/// Files in which the `datasets` library writes what a set's columns hold; the first has it of every configuration.
const INFOS: &str = "dataset_infos.json";
const INFO: &str = "dataset_info.json";

/// The hub's card of a set: YAML between two lines `---`, which says the same, and then prose.
const CARD: &str = "README.md";
const FENCE: &str = "---";

/// What somebody says of the classes' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Names(Vec<String>),
    /// Lists, of which another one has to choose.
    Several(Vec<Vec<String>>),
    /// Something that nobody can read, in words that go on from "which".
    Unreadable(&'static str),
}

/// A file that may list class names.
pub(crate) struct List {
    path: PathBuf,
    holds: Holds,
}

enum Holds {
    /// The classes, whatever the column of labels is called.
    Names(Vec<String>),
    /// Of each configuration what its columns hold.
    Features(Vec<Value>),
    Unreadable(&'static str),
}

impl List {
    fn names(&self, column: &str) -> Said {
        match &self.holds {
            Holds::Names(names) => Said::Names(names.clone()),
            Holds::Unreadable(why) => Said::Unreadable(why),
            Holds::Features(features) => {
                let mut lists: Vec<Vec<String>> = Vec::new();
                for said in features.iter().map(|features| of_column(features, column)) {
                    match said {
                        Said::Names(names) if !lists.contains(&names) => lists.push(names),
                        said @ Said::Unreadable(_) => return said,
                        _ => {}
                    }
                }
                match lists.len() {
                    0 => Said::Nothing,
                    1 => Said::Names(lists.concat()),
                    _ => Said::Several(lists),
                }
            }
        }
    }

    fn called(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// What lists class names beside the parquet files of a part, of a set that was named as `named`: `wnids.txt` (in any order; a
/// label is a place among the sorted wnids), `dataset_infos.json`, `dataset_info.json`, and the front matter of `README.md`.
///
/// # Errors
///
/// A `wnids.txt` that lists anything else.
pub(crate) fn beside(files: &[PathBuf], named: &Path) -> Result<Vec<List>, DataError> {
    let mut lists = Vec::new();
    for folder in files.first().map(|file| shards::roots(file, named)).unwrap_or_default() {
        lists.extend(wnids(&folder)?);
        for (name, read) in [(INFOS, infos as fn(&str) -> Holds), (INFO, info), (CARD, card)] {
            let path = folder.join(name);
            // A link to nothing is there, and cannot be read.
            if path.symlink_metadata().is_err() {
                continue;
            }
            let holds = match text(&path) {
                Ok(Some(text)) => read(&text),
                Ok(None) => Holds::Unreadable("is too long"),
                Err(_) => Holds::Unreadable("cannot be read"),
            };
            lists.push(List { path, holds });
        }
    }
    Ok(lists)
}

/// None where it is too long.
fn text(path: &Path) -> io::Result<Option<String>> {
    match sandglass_files::open(path)?.metadata()?.len() {
        bytes if bytes > LONGEST => Ok(None),
        _ => sandglass_files::read_text(path).map(Some),
    }
}

fn wnids(folder: &Path) -> Result<Option<List>, DataError> {
    let path = folder.join("wnids.txt");
    // A link to nothing is there, and cannot be read.
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let text = sandglass_files::read_text(&path).map_err(DataError::io(&path))?;
    let mut names = Vec::new();
    for (text, line) in text.lines().map(str::trim).zip(1..).filter(|(text, _)| !text.is_empty()) {
        // Another word, or a mark before the first one, would move every label.
        if !is_wnid(text) {
            return Err(DataError::layout(&path, format!("line {line} is no wnid: {text:?}")));
        }
        names.push(text.to_owned());
    }
    names.sort_unstable();
    match twice(&names) {
        Some(wnid) => Err(DataError::layout(&path, format!("names {wnid} twice"))),
        None => Ok(Some(List { path, holds: Holds::Names(names) })),
    }
}

const NO_JSON: &str = "is no JSON";

fn infos(text: &str) -> Holds {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(configurations)) => {
            Holds::Features(configurations.values().filter_map(|info| info.get("features").cloned()).collect())
        }
        _ => Holds::Unreadable(NO_JSON),
    }
}

fn info(text: &str) -> Holds {
    match serde_json::from_str::<Value>(text) {
        Ok(info @ Value::Object(_)) => Holds::Features(info.get("features").cloned().into_iter().collect()),
        _ => Holds::Unreadable(NO_JSON),
    }
}

/// Of the YAML `dataset_info` is read: that of one configuration, or a list of several's.
fn card(text: &str) -> Holds {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    if lines.next().is_none_or(|line| line.trim_end() != FENCE) {
        return Holds::Features(Vec::new());
    }
    let front: Vec<&str> = lines.take_while(|line| line.trim_end() != FENCE).collect();
    let Some(front) = yaml::read(&front.join("\n")) else {
        return Holds::Unreadable("has a front matter that is no plain YAML");
    };
    let features = |info: &Value| info.get("features").cloned();
    Holds::Features(match front.get("dataset_info") {
        Some(Value::Array(configurations)) => configurations.iter().filter_map(features).collect(),
        Some(info) => features(info).into_iter().collect(),
        None => Vec::new(),
    })
}

/// The names of a ClassLabel among the features of a set, in the form that JSON has (`{label: {names: [..]}}`) or the one of
/// YAML (`[{name: label, dtype: {class_label: {names: {'0': ..}}}}]`).
pub(crate) fn of_column(features: &Value, column: &str) -> Said {
    let feature = match features {
        Value::Array(features) => {
            features.iter().find(|feature| feature.get("name").and_then(Value::as_str) == Some(column))
        }
        features => features.get(column),
    };
    let places = ["/names", "/dtype/class_label/names", "/class_label/names"];
    let names = feature.and_then(|feature| places.iter().find_map(|place| feature.pointer(place)));
    names.map_or(Said::Nothing, of_list)
}

/// A list of texts, or texts by their labels from 0 on.
pub(crate) fn of_list(names: &Value) -> Said {
    let texts: Option<Vec<String>> = match names {
        // As many classes as there are, without names.
        Value::Null => return Said::Nothing,
        Value::Array(names) => names.iter().map(|name| name.as_str().map(String::from)).collect(),
        Value::Object(names) => (0..names.len())
            .map(|label| names.get(&label.to_string()).and_then(Value::as_str).map(String::from))
            .collect(),
        _ => None,
    };
    match texts {
        Some(names) if names.is_empty() => Said::Nothing,
        Some(names) => Said::Names(names),
        None => Said::Unreadable("holds no list of texts for names"),
    }
}

/// The class names of a column of labels, where anybody lists them: those `inside` the files, and those of the lists beside
/// them. With what could not be read, in words.
///
/// # Errors
///
/// Two that disagree, or one that names a class twice.
pub(crate) fn agreed(
    lists: &[List],
    column: &str,
    inside: Option<ClassNames>,
) -> Result<(Option<ClassNames>, Vec<String>), DataError> {
    let said: Vec<(&List, Said)> = lists.iter().map(|list| (list, list.names(column))).collect();
    let mut names = inside;
    for (list, said) in &said {
        let Said::Names(own) = said else { continue };
        if let Some(class) = twice(own) {
            return Err(DataError::layout(&list.path, format!("its list of classes names {class:?} twice")));
        }
        match &names {
            None => names = Some((list.path.clone(), own.clone())),
            Some((path, other)) if other != own => return Err(disagree(path, &list.path)),
            Some(_) => {}
        }
    }
    let mut unread = Vec::new();
    for (list, said) in said {
        match (said, &names) {
            (Said::Unreadable(why), _) => unread.push(unreadable(&list.called(), why)),
            (Said::Several(_), None) => {
                unread.push(format!("{}, which names the classes of several configurations", list.called()));
            }
            (Said::Several(own), Some((path, names))) if !own.contains(names) => {
                return Err(disagree(path, &list.path));
            }
            _ => {}
        }
    }
    Ok((names, unread))
}

fn disagree(one: &Path, other: &Path) -> DataError {
    DataError::layout(one, format!("its class names are not those of {}", other.display()))
}

/// What is told of a list that is there and cannot be read.
pub(crate) fn unreadable(what: &str, why: &str) -> String {
    format!("{what}, which {why} and may name the classes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(holds: Holds) -> Said {
        List { path: PathBuf::from("list"), holds }.names("label")
    }

    fn names(names: &[&str]) -> Said {
        Said::Names(names.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn names_are_found_in_every_form_of_the_hubs() {
        let json =
            r#"{"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "x": {"dtype": "string"}}}"#;
        assert_eq!(said(info(json)), names(&["cat", "dog"]));
        assert_eq!(said(infos(&format!(r#"{{"default": {json}, "other": {json}}}"#))), names(&["cat", "dog"]));
        let other = json.replace("dog", "hen");
        assert!(matches!(said(infos(&format!(r#"{{"a": {json}, "b": {other}}}"#))), Said::Several(_)));
        let label = "name: label\n    dtype:\n      class_label:\n        names:\n";
        for list in [
            "          '0': cat\n          '1': dog\n",
            "          0: cat\n          1: dog\n",
            "        - cat\n        - dog\n",
        ] {
            let features = format!("features:\n  - name: image\n    dtype: image\n  - {label}{list}");
            let one = format!("---\nlicense: mit\ndataset_info:\n  {features}---\n# A set\n\n---\n");
            assert_eq!(said(card(&one)), names(&["cat", "dog"]), "{one}");
            assert_eq!(said(card(&one.replace('\n', "\r\n"))), names(&["cat", "dog"]), "{one}");
            let indented = features.replace('\n', "\n  ");
            let several = format!("---\ndataset_info:\n- config_name: default\n  {indented}\n---\n");
            assert_eq!(said(card(&several)), names(&["cat", "dog"]), "{several}");
        }
    }

    #[test]
    fn what_names_nothing_says_nothing_and_what_cannot_be_read_says_so() {
        for nothing in ["", "# A set", "---\nlicense: mit\n---\n", "text\n---\ndataset_info: [\n"] {
            assert_eq!(said(card(nothing)), Said::Nothing, "{nothing}");
        }
        let of_names = |names: &str| said(info(&format!(r#"{{"features": {{"label": {{"names": {names}}}}}}}"#)));
        assert_eq!((of_names("null"), of_names("[]"), said(info("{}"))), (Said::Nothing, Said::Nothing, Said::Nothing));
        for damaged in ["[\"cat\", null]", "[0, 1]", "\"cat\"", "{\"0\": \"cat\", \"2\": \"dog\"}", "{\"cat\": 0}"] {
            assert!(matches!(of_names(damaged), Said::Unreadable(_)), "{damaged}");
        }
        for damaged in ["", "[]", "{\"features\":"] {
            assert!(matches!(said(info(damaged)), Said::Unreadable(_)), "{damaged}");
            assert!(matches!(said(infos(damaged)), Said::Unreadable(_)), "{damaged}");
        }
        for damaged in ["---\ndataset_info: [\n---\n", "---\na: 1\na: 2\n---\n", "---\nx: *none\n---\n"] {
            assert!(matches!(said(card(damaged)), Said::Unreadable(_)), "{damaged}");
        }
    }
}
