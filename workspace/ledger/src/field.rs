//! How a row's field lies in a parquet column. The set of types is closed.

use polars::prelude::{
    Column, DataFrame, DataType, Field as Named, IntoColumn, IntoSeries, ListChunked, NamedFrom, Series,
};

use crate::row::{Axis, Status};

pub(crate) trait Field: Sized {
    /// The column's type in words.
    const KIND: &'static str;

    fn column(name: &str, values: &[&Self]) -> Column;

    /// The value at row `at`, or what is wrong with the column.
    fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String>;
}

macro_rules! scalar {
    ($kind:ty, $words:literal, $accessor:ident, $dtype:ident) => {
        impl Field for $kind {
            const KIND: &'static str = $words;

            fn column(name: &str, values: &[&Self]) -> Column {
                let values: Vec<$kind> = values.iter().map(|value| (*value).clone()).collect();
                Series::new(name.into(), values).into_column()
            }

            fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
                Option::<$kind>::value(frame, name, at)?.ok_or_else(|| format!("{name} is null in row {at}"))
            }
        }

        impl Field for Option<$kind> {
            const KIND: &'static str = concat!($words, ", may be null");

            fn column(name: &str, values: &[&Self]) -> Column {
                let values: Vec<Option<$kind>> = values.iter().map(|value| (*value).clone()).collect();
                Series::new(name.into(), values).into_column()
            }

            fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
                let column = column_of(frame, name, &DataType::$dtype)?;
                let values = column.$accessor().map_err(|error| error.to_string())?;
                Ok(values.get(at).map(Into::into))
            }
        }
    };
}

scalar!(String, "string", str, String);
scalar!(f64, "float64", f64, Float64);
scalar!(u64, "uint64", u64, UInt64);
scalar!(u32, "uint32", u32, UInt32);
scalar!(bool, "boolean", bool, Boolean);
scalar!(Vec<u8>, "bytes", binary, Binary);

macro_rules! list {
    ($kind:ty, $words:literal, $accessor:ident, $dtype:ident) => {
        impl Field for Vec<$kind> {
            const KIND: &'static str = concat!("list of ", $words);

            fn column(name: &str, values: &[&Self]) -> Column {
                lists(name, values.iter().map(|value| Some(Series::new("item".into(), value.as_slice()))))
            }

            fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
                let items = items(frame, name, at, DataType::$dtype)?;
                let items = items.$accessor().map_err(|error| error.to_string())?;
                items.iter().map(|item| item.ok_or_else(|| format!("{name} holds a null in row {at}"))).collect()
            }
        }
    };
}

list!(f64, "float64", f64, Float64);
list!(f32, "float32", f32, Float32);
list!(u32, "uint32", u32, UInt32);

impl Field for Vec<String> {
    const KIND: &'static str = "list of string";

    fn column(name: &str, values: &[&Self]) -> Column {
        lists(name, values.iter().map(|value| Some(Series::new("item".into(), value.as_slice()))))
    }

    fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
        words(&items(frame, name, at, DataType::String)?, name, at)
    }
}

impl Field for Vec<Axis> {
    const KIND: &'static str = "list of {name: string, value: string}";

    fn column(name: &str, values: &[&Self]) -> Column {
        let list = |axes: &&Self| {
            let part = |name: &str, of: fn(&Axis) -> &str| {
                Series::new(name.into(), axes.iter().map(of).collect::<Vec<_>>()).into_column()
            };
            let parts = vec![part("name", |axis| &axis.name), part("value", |axis| &axis.value)];
            // Columns of one length, so this cannot fail; a null would be named by the reader.
            let frame = DataFrame::new(axes.len(), parts).ok()?;
            Some(frame.into_struct("item".into()).into_series())
        };
        lists(name, values.iter().map(list))
    }

    fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
        let parts = ["name", "value"].map(|part| Named::new(part.into(), DataType::String));
        let items = items(frame, name, at, DataType::Struct(parts.to_vec()))?;
        let items = items.struct_().map_err(|error| error.to_string())?;
        let part = |part: &str| {
            let part = items.field_by_name(part).map_err(|error| error.to_string())?;
            words(&part, name, at)
        };
        let pairs = part("name")?.into_iter().zip(part("value")?);
        Ok(pairs.map(|(name, value)| Axis { name, value }).collect())
    }
}

/// A column whose values are lists.
fn lists(name: &str, of: impl Iterator<Item = Option<Series>>) -> Column {
    let mut list: ListChunked = of.collect();
    list.rename(name.into());
    list.into_column()
}

/// The list at row `at`, of items of this type.
fn items(frame: &DataFrame, name: &str, at: usize, of: DataType) -> Result<Series, String> {
    let column = column_of(frame, name, &DataType::List(Box::new(of)))?;
    let lists = column.list().map_err(|error| error.to_string())?;
    lists.get_as_series(at).ok_or_else(|| format!("{name} is null in row {at}"))
}

fn words(items: &Series, name: &str, at: usize) -> Result<Vec<String>, String> {
    let items = items.str().map_err(|error| error.to_string())?;
    let word = |item: Option<&str>| item.map(str::to_owned).ok_or_else(|| format!("{name} holds a null in row {at}"));
    items.iter().map(word).collect()
}

impl Field for Status {
    const KIND: &'static str = "string";

    fn column(name: &str, values: &[&Self]) -> Column {
        let words: Vec<&str> = values.iter().map(|status| status.word()).collect();
        Series::new(name.into(), words).into_column()
    }

    fn value(frame: &DataFrame, name: &str, at: usize) -> Result<Self, String> {
        let word = String::value(frame, name, at)?;
        let known = [Status::Ok, Status::Failed, Status::Skipped];
        known.into_iter().find(|status| status.word() == word).ok_or_else(|| format!("{name} \"{word}\" is unknown"))
    }
}

impl Status {
    pub const fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        }
    }
}

fn column_of<'a>(frame: &'a DataFrame, name: &str, kind: &DataType) -> Result<&'a Column, String> {
    let column = frame.column(name).map_err(|_| format!("column {name} is missing"))?;
    if column.dtype() == kind { Ok(column) } else { Err(format!("column {name} is {}, not {kind}", column.dtype())) }
}
