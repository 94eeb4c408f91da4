//! Labels that are text: which class each one is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::classes::{misnumbered, spelt_number};
use crate::names::ClassNames;

/// Texts, of which each is kept once, however many rows say it.
#[derive(Default)]
pub(crate) struct Texts {
    /// Each with its place among `distinct`.
    known: BTreeMap<Arc<str>, u32>,
    /// In the order of their first rows.
    distinct: Vec<Arc<str>>,
    pub(crate) rows: Vec<u32>,
}

impl Texts {
    pub(crate) fn push(&mut self, text: &str) {
        let place = self.known.get(text).copied().unwrap_or_else(|| {
            let (text, place): (Arc<str>, _) = (text.into(), self.distinct.len() as u32);
            self.distinct.push(text.clone());
            self.known.insert(text, place);
            place
        });
        self.rows.push(place);
    }

    pub(crate) fn extend(&mut self, other: &Texts) {
        other.rows.iter().for_each(|&row| self.push(&other.distinct[row as usize]));
    }

    /// Each once.
    pub(crate) fn distinct(&self) -> Vec<String> {
        self.distinct.iter().map(ToString::to_string).collect()
    }

    /// The first row of a distinct text.
    fn row(&self, place: usize) -> usize {
        self.rows.iter().position(|&row| row as usize == place).unwrap_or(0)
    }

    /// Of each distinct text its place among `names`; else the first that has none.
    fn places<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<u32>, usize> {
        let places: BTreeMap<&str, u32> = names.into_iter().zip(0..).collect();
        let place = |(at, text): (usize, &Arc<str>)| places.get(&**text).copied().ok_or(at);
        self.distinct.iter().enumerate().map(place).collect()
    }
}

/// What labels that are text became.
pub(crate) struct Places {
    pub(crate) labels: Vec<u32>,
    /// None where they are numbers, and nobody lists names.
    pub(crate) names: Option<ClassNames>,
    pub(crate) is_alphabetical: bool,
}

/// Of each label its place among `names`, or where there are none among the `classifier`'s; or the number that it spells.
/// Where it does neither, and nobody lists names, they become the labels' own, sorted. An error has the row of the label.
pub(crate) fn of_texts(
    texts: &Texts,
    names: Option<ClassNames>,
    classifier: Option<&[String]>,
) -> Result<Places, (usize, String)> {
    let wrong = |text: usize, reason: String| (texts.row(text), reason);
    if let Some(&text) = texts.known.get("") {
        return Err(wrong(text as usize, "has no label (an empty text)".to_owned()));
    }
    let listed = |places: Vec<u32>, names: Option<ClassNames>| {
        let labels = texts.rows.iter().map(|&row| places[row as usize]).collect();
        Places { labels, names, is_alphabetical: false }
    };
    let among = |names: &[String]| texts.places(names.iter().map(String::as_str));
    let stray = match (&names, classifier.map(among)) {
        (Some((_, list)), _) => match among(list) {
            Ok(places) => return Ok(listed(places, names)),
            Err(text) => Some(text),
        },
        (None, Some(Ok(places))) => {
            let names = classifier.unwrap_or_default().to_vec();
            return Ok(listed(places, Some((PathBuf::new(), names))));
        }
        (None, _) => None,
    };
    let numbers: Vec<Option<i128>> = texts.distinct.iter().map(|text| spelt_number(text)).collect();
    let is_in_order = names.as_ref().is_none_or(|(_, names)| misnumbered(names).is_none());
    match (stray, numbers.iter().position(Option::is_none)) {
        // Sorted as text, 10 would come before 2.
        (_, None) if is_in_order => {
            let place = |(at, text): (usize, &Arc<str>)| number(numbers[at], text).map_err(|reason| wrong(at, reason));
            let places = texts.distinct.iter().enumerate().map(place).collect::<Result<_, _>>()?;
            Ok(listed(places, names))
        }
        (Some(text), _) => {
            let list = names.as_ref().and_then(|(list, _)| list.file_name()).unwrap_or_default().to_string_lossy();
            let text_of = &texts.distinct[text];
            Err(wrong(text, format!("the label {text_of:?} is not among its class names, those of {list}")))
        }
        (None, Some(text)) if numbers.iter().any(Option::is_some) => {
            Err(wrong(text, format!("the label {:?} is no number, as others are", texts.distinct[text])))
        }
        (None, _) => {
            let own: Vec<String> = texts.known.keys().map(ToString::to_string).collect();
            let places = among(&own).map_err(|text| wrong(text, "has no label".to_owned()))?;
            Ok(Places { is_alphabetical: true, ..listed(places, Some((PathBuf::new(), own))) })
        }
    }
}

/// A label that is said as `text`.
pub(crate) fn number(label: Option<i128>, text: &str) -> Result<u32, String> {
    match label {
        Some(-1) => Err("has no label (-1)".to_owned()),
        label => {
            label.and_then(|label| u32::try_from(label).ok()).ok_or_else(|| format!("has the label {text}: no class's"))
        }
    }
}
