//! Columns that say which part each row is of: a file is used whole, and holds rows of one part.

use std::collections::{BTreeMap, BTreeSet};

use polars::prelude::*;

use crate::classes::spelt_number;
use crate::folder::is_one_of;

/// Columns that may say which part each row is of, in any case of letters, and what they say then.
const PART_COLUMNS: [&str; 12] = [
    "split",
    "_split",
    "set",
    "subset",
    "part",
    "partition",
    FOLD,
    "phase",
    "mode",
    "usage",
    "data_split",
    "dataset_split",
];
const PART_NAMES: [&str; 13] = [
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
    "eval",
    "publictest",
    "privatetest",
    "tr",
    "va",
];

/// Numbers in it are those of a cross-validation, in which each row is of every part in turn.
const FOLD: &str = "fold";

/// Beside names of parts no more words than these are parts: a column of more says something else.
const MOST: usize = 3;

/// What a column asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `split`: it says the part.
    Part,
    /// `is_valid`: it says of one part whether a row is of it.
    Flag,
}

impl Kind {
    fn of(column: &str) -> Option<Self> {
        if is_one_of(column, &PART_COLUMNS) {
            return Some(Self::Part);
        }
        let word: String = column.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase();
        let asks = |word: &str| word.len() > 2 && is_one_of(word, &PART_NAMES) || word == "holdout";
        let without = |word: &str| asks(word) || word.strip_suffix("set").is_some_and(asks);
        let prefixes = ["", "is", "in", "isin", "for", "use"];
        let is_flag = prefixes.iter().filter_map(|prefix| word.strip_prefix(prefix)).any(without);
        is_flag.then_some(Self::Flag)
    }
}

/// Whether a column may say parts.
pub(super) fn may_say(column: &str) -> bool {
    Kind::of(column).is_some()
}

/// What such a column holds that is not looked at, in a word.
pub(super) fn unfit(dtype: &ArrowDataType) -> Option<String> {
    use ArrowDataType as Arrow;
    match dtype {
        Arrow::Boolean | Arrow::Float32 | Arrow::Float64 => None,
        dtype => super::labels::unfit(dtype),
    }
}

/// What such columns say, over all files of a part.
#[derive(Default)]
pub(super) struct PartColumns(BTreeMap<String, BTreeSet<String>>);

impl PartColumns {
    /// # Errors
    ///
    /// Rows that are said to be of two parts.
    pub(super) fn extend(&mut self, other: &Self) -> Result<(), String> {
        for (column, words) in &other.0 {
            let all = self.0.entry(column.clone()).or_default();
            all.extend(words.iter().cloned());
            let mut two = all.iter();
            let (Some(a), Some(b)) = (two.next(), two.next()) else { continue };
            if are_names(all) {
                return Err(format!(
                    "a column says that rows are of the part {a:?} and others of {b:?}: write a file for each part"
                ));
            }
            if all.len() <= MOST {
                return Err(format!(
                    "its column {column} says {a} of some rows and {b} of others, as if they were of two parts: write a \
                     file for each part, or leave the column out"
                ));
            }
        }
        Ok(())
    }

    /// Of a file of which all rows are of one part, in words.
    pub(super) fn told(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(column, words)| match words.first() {
            Some(word) if are_names(words) => Some(format!("a column that says {word:?} of rows")),
            Some(word) if words.len() == 1 => Some(format!("a column {column} that says {word} of all rows")),
            _ => None,
        })
    }

    pub(super) fn read(&mut self, column: &Column) {
        let Some(kind) = Kind::of(column.name()) else { return };
        let words = self.0.entry(column.name().to_string()).or_default();
        let is_fold = column.name().eq_ignore_ascii_case(FOLD);
        for value in column.as_materialized_series().iter() {
            let word = match (value.get_str().map(|text| text.trim().to_lowercase()), kind) {
                (Some(text), Kind::Part) => {
                    let is_answer = ["true", "false", "yes", "no"].contains(&&*text) || spelt_number(&text).is_some();
                    (is_one_of(&text, &PART_NAMES) || is_answer && !is_fold).then_some(text)
                }
                (Some(text), Kind::Flag) => Some(text),
                (None, _) if is_fold && value != AnyValue::Null && !matches!(value, AnyValue::Boolean(_)) => None,
                // Beside texts it says nothing: most of them are no parts.
                (None, Kind::Part) if value == AnyValue::Null && is_text(column.dtype()) => None,
                (None, _) => Some(value.to_string()),
            };
            // One more than parts can be is enough to tell.
            if words.len() <= PART_NAMES.len() {
                words.extend(word);
            }
        }
    }
}

fn is_text(dtype: &DataType) -> bool {
    dtype.is_string() || dtype.is_categorical() || dtype.is_enum()
}

fn are_names(words: &BTreeSet<String>) -> bool {
    words.iter().all(|word| is_one_of(word, &PART_NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_ask_whether_a_row_is_of_a_part_are_known() {
        for flag in ["is_valid", "is_train", "isTest", "in_train", "is_training_set", "train", "Is Val", "holdout"] {
            assert_eq!(Kind::of(flag), Some(Kind::Flag), "{flag}");
        }
        for other in ["is_cat", "contest", "id", "is_set", "trained", "tr", "attribute"] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
        assert_eq!(Kind::of("Split"), Some(Kind::Part));
    }

    fn said(column: Column) -> Result<Vec<String>, String> {
        let (mut all, mut own) = (PartColumns::default(), PartColumns::default());
        own.read(&column);
        all.extend(&own).map(|()| own.told().collect())
    }

    #[test]
    fn values_that_differ_are_refused_whatever_their_type() {
        let refused = |column: Column| said(column).is_err();
        assert!(refused(Column::new("is_valid".into(), [true, false])));
        assert!(refused(Column::new("is_valid".into(), [Some(true), None])));
        assert!(refused(Column::new("is_valid".into(), ["yes", "no"])));
        assert!(refused(Column::new("test".into(), [0_i64, 1])));
        assert!(refused(Column::new("split".into(), [0_i64, 1, 2])));
        assert!(refused(Column::new("split".into(), [0.0, 1.0])));
        assert!(refused(Column::new("split".into(), ["0", "1"])));
        assert!(refused(Column::new("split".into(), [Some("train"), Some("val"), None])));
        let same = |column: Column| said(column).unwrap();
        assert_eq!(same(Column::new("is_valid".into(), [true; 2])), ["a column is_valid that says true of all rows"]);
        assert_eq!(same(Column::new("split".into(), [Some("Test"), None])), ["a column that says \"test\" of rows"]);
        // Numbers of many parts, of a cross-validation, or words that are none.
        assert!(same(Column::new("part".into(), [0_i64, 1, 2, 3])).is_empty());
        assert!(same(Column::new("fold".into(), [0_i64, 1])).is_empty());
        assert!(same(Column::new("set".into(), ["left", "right"])).is_empty());
    }
}
