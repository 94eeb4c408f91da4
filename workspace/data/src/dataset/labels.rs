//! Whether a set's classes and labels are those that a classifier means.

use super::{Dataset, hasher};
use crate::DataError;
use crate::classes::{imagenet_label, imagenet_wnids};

impl Dataset {
    /// Whether a classifier of so many outputs can be meant: as many as there are classes, where these have names; else at
    /// least as many as the labels ask for.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] where it cannot.
    pub fn check_classes(&self, outputs: usize) -> Result<(), DataError> {
        let names = match &*self.classes {
            [first, .., last] => format!("{first} to {last}"),
            one => one.concat(),
        };
        if self.named && self.classes.len() != outputs {
            let count = match self.classes.len() {
                1 => format!("1 class ({names}) is"),
                count => format!("{count} classes ({names}) are"),
            };
            let reason = format!("its {count} not the classifier's {outputs}; it holds {}", self.listing());
            return Err(DataError::Labels { set: self.name.clone(), reason });
        }
        self.check_labels(outputs)
    }

    /// In words: how many images of how many classes, and what was passed over.
    pub fn listing(&self) -> String {
        let kinds: Vec<String> = self.passed_over.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let passed_over = match self.passed_over.values().sum::<u64>() {
            0 => String::new(),
            1 => format!(", 1 file passed over ({})", kinds.join(", ")),
            count => format!(", {count} files passed over ({})", kinds.join(", ")),
        };
        let numbers = if self.named { "" } else { " by number" };
        let (images, classes) = (self.len(), self.class_count());
        let plural = |count: usize, one: &'static str, more: &'static str| if count == 1 { one } else { more };
        format!(
            "{images} {} of {classes} {}{numbers}{passed_over}",
            plural(images, "image", "images"),
            plural(classes, "class", "classes")
        )
    }

    /// Whether this set's classes are those of `training`, in the same order, as far as both have names.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] with the first class that differs.
    pub fn check_same_classes(&self, training: &Dataset) -> Result<(), DataError> {
        if !self.named || !training.named {
            return self.check_labels(training.classes.len());
        }
        let name = |set: &Dataset, at: usize| set.classes.get(at).map_or("nothing".into(), |name| format!("{name:?}"));
        let count = self.classes.len().max(training.classes.len());
        match (0..count).find(|&at| self.classes.get(at) != training.classes.get(at)) {
            None => Ok(()),
            Some(at) => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!(
                    "class {at} is {} among the validation images and {} among the training images",
                    name(self, at),
                    name(training, at)
                ),
            }),
        }
    }

    /// Whether the labels fit a classifier of `classes` outputs.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] where one does not.
    pub fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        match (0..self.len()).map(|index| self.label(index)).max() {
            Some(label) if label as usize >= classes => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!("label {label} is beyond the classifier's {classes} classes"),
            }),
            _ => Ok(()),
        }
    }

    /// For a classifier of ImageNet's classes: where classes are wnids, a label becomes the place among ImageNet's.
    pub(crate) fn with_imagenet_labels(self) -> Result<Self, DataError> {
        let is_wnid = |name: &String| name.len() == 9 && name.starts_with('n') && name[1..].parse::<u32>().is_ok();
        if !self.classes.iter().all(is_wnid) {
            return Ok(self);
        }
        let unknown = |wnid: &String| DataError::Labels {
            set: self.name.clone(),
            reason: format!("{wnid} is not among ImageNet's classes"),
        };
        let places = self.classes.iter().map(|wnid| imagenet_label(wnid).ok_or_else(|| unknown(wnid)));
        let places = places.collect::<Result<Vec<u32>, _>>()?;
        let labels: Vec<u32> = self.labels.iter().map(|&label| places[label as usize]).collect();
        let mut hasher = hasher(&labels);
        hasher.update(self.hash.as_bytes());
        let hash = hasher.finalize().to_hex().to_string();
        let classes = imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect();
        Ok(Self { classes, hash, labels: labels.into(), ..self })
    }
}
