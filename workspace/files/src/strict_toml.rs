//! TOML for types with `deny_unknown_fields`: one line of error with its place and the nearest known key.

use serde::de::DeserializeOwned;

/// Why a text is refused: its first mistake.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TomlError {
    /// From 1.
    pub line: usize,
    /// What is wrong there, and the nearest known key where one is unknown.
    pub message: String,
}

/// Reads a `T`. Its structs carry `deny_unknown_fields`; its enums are tagged by a key (`[schedule.timm_step]`), for
/// serde forgets the places of keys in other forms.
///
/// # Errors
/// The first mistake, with its line.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        let message = error.message().trim_end().replace('\n', "; ");
        let hint = near_miss(&message).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        TomlError { line, message: message + &hint }
    })
}

/// The key nearest to the unknown one, from serde's "unknown field `x`, expected one of `y`, `z`", or from the toml
/// crate's "unexpected keys in table: x, available keys: y, z".
fn near_miss(message: &str) -> Option<&str> {
    let (unknown, known): (&str, Vec<&str>) = match message.strip_prefix("unexpected keys in table: ") {
        // Of several unknown keys the first one is answered.
        Some(lists) => {
            let (unknown, known) = lists.split_once(", available keys: ")?;
            (unknown.split(", ").next()?, known.split(", ").collect())
        }
        None if message.starts_with("unknown ") => {
            let mut names = message.split('`').skip(1).step_by(2);
            (names.next()?, names.collect())
        }
        None => return None,
    };
    let (distance, nearest) = known.iter().map(|known| (edits(unknown, known), *known)).min()?;
    (distance <= 1 + unknown.chars().count() / 3).then_some(nearest)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in
            [("", "", 0), ("epoch", "epochs", 1), ("kitten", "sitting", 3), ("", "abc", 3), ("lr", "", 2)]
        {
            assert_eq!(edits(a, b), want, "{a} {b}");
        }
    }
}
