//! Tiny-ImageNet's list of the classes of its validation images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::beside_classes;
use crate::DataError;

/// Beside the folder of images: a line for each, with its name, its class and a box.
pub(super) const ANNOTATIONS: &str = "val_annotations.txt";

/// Classes by the names of images.
pub(super) struct Annotations {
    path: PathBuf,
    lines: BTreeMap<String, Annotated>,
}

/// A line of the list.
struct Annotated {
    line: usize,
    class: String,
    /// The image that it is of, once that is found.
    file: Option<PathBuf>,
}

impl Annotations {
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = sandglass_files::read_text(path).map_err(DataError::io(path))?;
        let mut lines = BTreeMap::new();
        let mut usual = None;
        for (text, line) in text.lines().zip(1..).filter(|(text, _)| !text.trim().is_empty()) {
            let wrong = |what: &str| DataError::layout(path, format!("line {line} {what}"));
            let words: Vec<&str> = text.split_whitespace().collect();
            let [image, class, ..] = words[..] else {
                return Err(wrong("has no image and class"));
            };
            // A line that is cut short may end within its class.
            let (first, fields) = *usual.get_or_insert((line, words.len()));
            if words.len() != fields {
                return Err(wrong(&format!("has {} fields where line {first} has {fields}", words.len())));
            }
            let annotated = Annotated { line, class: class.to_owned(), file: None };
            if lines.insert(image.to_owned(), annotated).is_some() {
                return Err(wrong(&format!("names {image} once more")));
            }
        }
        Ok(Self { path: path.into(), lines })
    }

    /// Sorted.
    pub fn classes(&self) -> Vec<String> {
        self.lines.values().map(|line| line.class.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The list itself is not passed over.
    pub fn is_read(&self, passed_over: &mut BTreeMap<String, u64>) {
        let kind = beside_classes(self.path.file_name().unwrap_or_default());
        if let Some(count) = passed_over.get_mut(&kind) {
            *count -= 1;
        }
        passed_over.retain(|_, count| *count > 0);
    }

    /// Line and class of an image.
    pub fn take(&mut self, file: &Path) -> Result<(usize, String), DataError> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(annotated) = self.lines.get_mut(name) else {
            return Err(DataError::layout(&self.path, format!("does not name {}", file.display())));
        };
        let (line, class) = (annotated.line, annotated.class.clone());
        match annotated.file.replace(file.to_owned()) {
            None => Ok((line, class)),
            Some(other) => {
                let (a, b) = (other.display(), file.display());
                Err(DataError::layout(
                    &self.path,
                    format!("line {line} names one of {a} and {b}, and does not say which"),
                ))
            }
        }
    }

    /// Each name was one of the images.
    pub fn check_all_taken(&self) -> Result<(), DataError> {
        let missing = self.lines.iter().filter(|(_, annotated)| annotated.file.is_none());
        match missing.min_by_key(|(_, annotated)| annotated.line) {
            None => Ok(()),
            Some((name, Annotated { line, .. })) => {
                Err(DataError::layout(&self.path, format!("line {line} names an image that is not there: {name}")))
            }
        }
    }
}
