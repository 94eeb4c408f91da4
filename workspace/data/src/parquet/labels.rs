//! The column of labels of a parquet file: numbers or names, and what its metadata say of the classes.

use polars::prelude::*;
use serde_json::Value;

use super::{LONGEST, Wrong};
use crate::names::{self, Said, of_column, of_list, unreadable};
use crate::texts::{Texts, number};

/// The key of a file's metadata under which the `datasets` library says what its columns hold.
const METADATA: &str = "huggingface";

/// Keys of a column's own metadata under which class names are met, in small letters and without marks between words.
const NAMES: [&str; 9] =
    ["names", "classes", "classnames", "labels", "labelnames", "categories", "classlabel", "id2label", METADATA];

/// The same of a whole file's, where others are of something else.
const NAMES_OF_FILE: [&str; 4] = ["classes", "classnames", "labelnames", "id2label"];

/// What a column of labels holds.
pub(super) enum Labels {
    Numbers(Vec<u32>),
    Texts(Texts),
}

/// The class names that a file's metadata list, and what of them nobody can read.
///
/// # Errors
/// Two lists that disagree.
pub(super) fn names<'a>(
    of_file: impl Iterator<Item = (&'a str, &'a str)>,
    field: Option<&ArrowField>,
) -> Result<(Option<Vec<String>>, Vec<String>), Wrong> {
    let Some(field) = field else { return Ok((None, Vec::new())) };
    let column = field.name.as_str();
    let mut said = Vec::new();
    for (key, value) in of_file {
        if key == METADATA {
            said.push((
                format!("metadata {key}"),
                in_json(value, |json| match json.pointer("/info/features") {
                    Some(features) => of_column(features, column),
                    None => Said::Nothing,
                }),
            ));
        } else if NAMES_OF_FILE.contains(&&*plain(key)) {
            said.push((format!("metadata {key}"), in_json(value, of_any)));
        }
    }
    for (key, value) in field.metadata.iter().flat_map(|metadata| metadata.iter()) {
        if NAMES.contains(&&*plain(key)) {
            said.push((format!("metadata {key} of column {column}"), in_json(value, of_any)));
        }
    }
    let (mut names, mut unread): (Option<(String, Vec<String>)>, Vec<String>) = (None, Vec::new());
    for (what, said) in said {
        match (said, &names) {
            (Said::Names(own), None) => names = Some((what, own)),
            (Said::Names(own), Some((other, names))) if own != *names => {
                return Err(Wrong::Content(format!("the class names in its {what} are not those in its {other}")));
            }
            (Said::Unreadable(why), _) => unread.push(unreadable(&what, why)),
            _ => {}
        }
    }
    Ok((names.map(|(_, names)| names), unread))
}

fn plain(key: &str) -> String {
    key.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase()
}

fn in_json(text: &str, read: impl FnOnce(&Value) -> Said) -> Said {
    if text.len() as u64 > names::LONGEST {
        return Said::Unreadable("is too long");
    }
    serde_json::from_str(text).map_or(Said::Unreadable("is no JSON"), |json| read(&json))
}

/// A list of names, alone or as one of the features of a set; a number is a count of classes.
fn of_any(json: &Value) -> Said {
    match json {
        Value::Number(_) | Value::Bool(_) => Said::Nothing,
        json => of_list(json.get("names").unwrap_or(json)),
    }
}

pub(super) fn read(column: &Column) -> Result<Labels, Wrong> {
    let at = |row: usize, reason: String| Wrong::Content(format!("row {row} {reason}"));
    let missing = |row: usize| at(row, "has no label (null)".to_owned());
    let dtype = column.dtype();
    if dtype.is_integer() {
        let label = |(row, label): (usize, Option<i128>)| {
            let label = label.ok_or_else(|| missing(row))?;
            number(Some(label), &label.to_string()).map_err(|reason| at(row, reason))
        };
        let numbers: Vec<Option<i128>> = match dtype {
            DataType::UInt64 => column.u64()?.iter().map(|label| label.map(i128::from)).collect(),
            _ => column.strict_cast(&DataType::Int64)?.i64()?.iter().map(|label| label.map(i128::from)).collect(),
        };
        return Ok(Labels::Numbers(numbers.into_iter().enumerate().map(label).collect::<Result<_, _>>()?));
    }
    if !(dtype.is_string() || dtype.is_categorical() || dtype.is_enum()) {
        return Err(no_labels(column.name(), &dtype.to_string()));
    }
    let mut texts = Texts::default();
    // Row by row: a cast of a dictionary writes its texts out as often as rows say them.
    for (row, label) in column.as_materialized_series().iter().enumerate() {
        match label.get_str().ok_or_else(|| missing(row))? {
            label if label.len() > LONGEST => {
                return Err(at(row, format!("has a label of {} bytes: no name of a class", label.len())));
            }
            label => texts.push(label),
        }
    }
    Ok(Labels::Texts(texts))
}

pub(super) fn no_labels(column: &str, dtype: &str) -> Wrong {
    Wrong::Content(format!("its column {column} holds {dtype}: no numbers or names of classes, from row 0 on"))
}

/// What a column holds that holds no labels, in a word. Told before it is read: polars is built without most of these, and
/// would take the file for damaged.
pub(super) fn unfit(dtype: &ArrowDataType) -> Option<String> {
    use ArrowDataType as Arrow;
    Some(match dtype {
        Arrow::Int8 | Arrow::Int16 | Arrow::Int32 | Arrow::Int64 => return None,
        Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32 | Arrow::UInt64 => return None,
        Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => return None,
        Arrow::Dictionary(_, values, _) => return unfit(values),
        Arrow::Null => "nothing but null".to_owned(),
        Arrow::Boolean => "true and false".to_owned(),
        Arrow::Float16 => "f16".to_owned(),
        Arrow::Float32 => "f32".to_owned(),
        Arrow::Float64 => "f64".to_owned(),
        Arrow::Date32 | Arrow::Date64 => "dates".to_owned(),
        Arrow::Timestamp(..) => "timestamps".to_owned(),
        Arrow::Time32(_) | Arrow::Time64(_) | Arrow::Duration(_) | Arrow::Interval(_) => "times".to_owned(),
        Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => "bytes".to_owned(),
        Arrow::Decimal(..) | Arrow::Decimal32(..) | Arrow::Decimal64(..) | Arrow::Decimal256(..) => {
            "decimal numbers".to_owned()
        }
        Arrow::List(_) | Arrow::LargeList(_) | Arrow::FixedSizeList(..) => "lists".to_owned(),
        Arrow::Struct(_) | Arrow::Map(..) => "structs".to_owned(),
        other => format!("{other:?}"),
    })
}
