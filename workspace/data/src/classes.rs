//! ImageNet's classes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// `index,wnid,name` in the order of the wnids; names with commas are quoted.
const CSV: &str = include_str!("imagenet_classes.csv");

/// The 1000 wnids, sorted: a wnid's place is its label.
static WNIDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| CSV.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect());

/// The labels that each English name can mean: whole names, such as `tench, Tinca tinca`, and their synonyms. In small
/// letters.
static NAMES: LazyLock<[BTreeMap<String, Vec<u32>>; 2]> = LazyLock::new(|| {
    let (mut whole, mut synonyms): (BTreeMap<String, Vec<u32>>, BTreeMap<String, Vec<u32>>) = Default::default();
    for (line, label) in CSV.lines().skip(1).zip(0..) {
        let names = line.splitn(3, ',').nth(2).unwrap_or_default().trim_matches('"').to_lowercase();
        for synonym in names.split(", ") {
            synonyms.entry(synonym.to_owned()).or_default().push(label);
        }
        whole.entry(names).or_default().push(label);
    }
    for (name, label) in ALIASES {
        whole.insert(name.to_owned(), vec![label]);
    }
    [whole, synonyms]
});

/// Two classes are called `crane`, and two `maillot`: lists whose names must differ call them so.
const ALIASES: [(&str, u32); 2] = [("crane bird", 134), ("maillot tank suit", 639)];

/// Number of ImageNet's classes.
pub const IMAGENET: usize = 1000;

pub(crate) fn imagenet_wnids() -> &'static [&'static str] {
    &WNIDS
}

/// Whether a name has the form of a wnid: `n` and eight digits.
pub(crate) fn is_wnid(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The label of a wnid such as `n01440764`.
pub fn imagenet_label(wnid: &str) -> Option<u32> {
    WNIDS.binary_search(&wnid).ok().map(|label| label as u32)
}

/// The label that an English name means: the whole name, with `_` for spaces or not, or a synonym that no other class has.
/// Of several (`crane`) it is the one at `place`, where the name stands in a list of all.
pub(crate) fn imagenet_class(name: &str, place: Option<u32>) -> Option<u32> {
    let name = name.trim().to_lowercase().replace('_', " ");
    let [whole, synonyms] = &*NAMES;
    let found = [whole, synonyms].map(|names| names.get(&name).map_or(&[][..], Vec::as_slice));
    match (place.filter(|place| found.concat().contains(place)), found) {
        (Some(place), _) => Some(place),
        (None, [[one], _] | [[], [one]]) => Some(*one),
        _ => None,
    }
}

/// The whole number that a label or the name of a class spells: `10`, ` 10`, `+10`, `010` or `10.0`. One of more digits than
/// any class has is as good as any other.
pub(crate) fn spelt_number(text: &str) -> Option<i128> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && fraction.bytes().all(|byte| byte == b'0')).then(|| whole.parse().unwrap_or(i128::MAX))
}

/// The first class that is called by the number of another one: a number may then mean the one or the other.
pub fn misnumbered(names: &[String]) -> Option<usize> {
    let is_others = |at: usize, number: i128| number != at as i128 && (0..names.len() as i128).contains(&number);
    names.iter().enumerate().position(|(at, name)| spelt_number(name).is_some_and(|number| is_others(at, number)))
}

/// Whether each class is called by its own number, as those are that nobody has named.
pub fn is_numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(at, name)| *name == at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_known_however_they_are_spelt() {
        let spelt = ["10", " 10", "+10", "010", "10.0", "10."].map(spelt_number);
        assert_eq!(spelt, [Some(10); 6]);
        assert_eq!(["-1", "-1.0"].map(spelt_number), [Some(-1); 2]);
        assert_eq!(["", "-", ".0", "1e1", "1.5", "7up", "1 0", "n10", "+-1"].map(spelt_number), [None; 9]);
        assert_eq!(spelt_number(&"9".repeat(50)), Some(i128::MAX));
    }

    #[test]
    fn a_class_that_is_called_by_the_number_of_another_is_found() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            (misnumbered(&names), is_numbered(&names))
        };
        assert_eq!(of(&["0", "1", "2"]), (None, true));
        assert_eq!(of(&["00", "01", "02"]), (None, false));
        assert_eq!(of(&["0", "2", "1"]), (Some(1), false));
        assert_eq!(of(&["1", "2", "3"]), (Some(0), false));
        assert_eq!(of(&["cat", "dog", "0"]), (Some(2), false));
        // No class has that number.
        assert_eq!(of(&["cat", "101", "dog"]), (None, false));
    }

    #[test]
    fn english_names_mean_one_class_or_none() {
        let class = |name| imagenet_class(name, None);
        assert_eq!((class("tench, Tinca tinca"), class("Tench"), class("tinca_tinca")), (Some(0), Some(0), Some(0)));
        // A whole name comes before another's synonym; two whole names are told by nothing but their place.
        assert_eq!(
            (class("maillot"), class("maillot, tank suit"), class("missile")),
            (Some(638), Some(639), Some(657))
        );
        assert_eq!((class("crane"), class("panther"), class("frog")), (None, None, None));
        assert_eq!([0, 134, 517].map(|place| imagenet_class("crane", Some(place))), [None, Some(134), Some(517)]);
        assert_eq!(imagenet_class("tench", Some(5)), Some(0), "a place decides no name that is clear");
    }

    #[test]
    fn labels_are_places_among_the_sorted_wnids() {
        assert_eq!(WNIDS.len(), IMAGENET);
        assert!(WNIDS.is_sorted());
        assert_eq!(imagenet_label("n01440764"), Some(0));
        assert_eq!(imagenet_label("n15075141"), Some(999));
        assert_eq!(imagenet_label("n00000000"), None);
    }
}
