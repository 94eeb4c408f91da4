//! ImageNet's classes.

use std::sync::LazyLock;

/// `index,wnid,name` in the order of the wnids; names with commas are quoted.
const CSV: &str = include_str!("imagenet_classes.csv");

/// The 1000 wnids, sorted: a wnid's place is its label.
static WNIDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| CSV.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect());

/// Number of ImageNet's classes.
pub const IMAGENET: usize = 1000;

pub(crate) fn imagenet_wnids() -> &'static [&'static str] {
    &WNIDS
}

/// The label of a wnid such as `n01440764`.
pub fn imagenet_label(wnid: &str) -> Option<u32> {
    WNIDS.binary_search(&wnid).ok().map(|label| label as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_places_among_the_sorted_wnids() {
        assert_eq!(WNIDS.len(), IMAGENET);
        assert!(WNIDS.is_sorted());
        assert_eq!(imagenet_label("n01440764"), Some(0));
        assert_eq!(imagenet_label("n15075141"), Some(999));
        assert_eq!(imagenet_label("n00000000"), None);
    }
}
