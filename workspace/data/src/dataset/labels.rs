//! Whether a set's classes and labels are those that a classifier means.

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::UnicodeNormalization;

use super::{Dataset, Naming, hasher};
use crate::DataError;
use crate::classes::{
    IMAGENET, imagenet_class, imagenet_label, imagenet_wnids, is_numbered, is_wnid, misnumbered, spelt_number,
};

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
        if self.names_classes() && self.classes.len() != outputs {
            let count = match self.classes.len() {
                1 => format!("1 class ({names}) is"),
                count => format!("{count} classes ({names}) are"),
            };
            let known = match outputs {
                IMAGENET => {
                    format!("; by {IMAGENET} outputs ImageNet's are meant, whose classes are wnids or English names")
                }
                _ => String::new(),
            };
            let reason = format!("its {count} not the classifier's {outputs}{known}; it holds {}", self.listing());
            return Err(DataError::Labels { set: self.name.clone(), reason });
        }
        self.check_labels(outputs)
    }

    /// The same for a classifier whose outputs are called so: of fewer or more classes one that it has not is named.
    ///
    /// # Errors
    ///
    /// As of [`Dataset::check_classes`].
    pub(crate) fn check_classes_among(&self, names: &[String]) -> Result<(), DataError> {
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let stray = self.classes.iter().find(|class| !known.contains(class.as_str()));
        match (stray, names) {
            (Some(class), [first, .., last])
                if self.names_classes() && self.classes.len() != names.len() && !is_numbered(names) =>
            {
                let reason = format!(
                    "its class {class:?} is none of the classifier's {} ({first} to {last}); it holds {}",
                    names.len(),
                    self.listing()
                );
                Err(DataError::Labels { set: self.name.clone(), reason })
            }
            // All that it has are the classifier's: one is lacking, and why is not for us to guess.
            (None, _) if self.names_classes() && self.classes.len() < names.len() => {
                let own: BTreeSet<&str> = self.classes.iter().map(String::as_str).collect();
                let lacking = names.iter().find(|name| !own.contains(name.as_str())).map_or("", String::as_str);
                let reason = format!(
                    "it has {} of the classifier's {} classes, and not {lacking:?}: of a set by folders none may be \
                     lacking; it holds {}",
                    self.classes.len(),
                    names.len(),
                    self.listing()
                );
                Err(DataError::Labels { set: self.name.clone(), reason })
            }
            _ => self.check_classes(names.len()),
        }
    }

    /// With labels that are places among `names`, where this set's classes are the same in another order; of labels that are
    /// names which nobody lists, some of them too. Any other set stays as it is: whether it fits is another question.
    #[must_use]
    pub fn in_order_of(self, names: &[String]) -> Self {
        let places: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let all_known = self.classes.iter().all(|class| places.contains_key(class.as_str()));
        let may_lack_some = self.naming == Naming::Alphabetical;
        let same_count = self.classes.len() == names.len() && places.len() == names.len();
        if !self.names_classes() || !all_known || !(same_count || may_lack_some) {
            return self;
        }
        let places: Vec<u32> = self.classes.iter().map(|class| places[class.as_str()]).collect();
        self.placed(&places, names.to_vec())
    }

    /// Whether each class is called by a number: a name, or a text that spells one.
    pub fn is_called_by_numbers(&self) -> bool {
        self.names_classes() && self.classes.iter().all(|name| spelt_number(name).is_some()) || !self.spelt.is_empty()
    }

    /// Whether each class is called by a number, and these do not ascend: sorted as text, as folders are, 10 comes before 2.
    pub fn is_out_of_number_order(&self) -> bool {
        self.is_called_by_numbers() && !self.classes.iter().map(|name| spelt_number(name)).is_sorted()
    }

    /// With the classes sorted as text, as torchvision sorts folders, for a classifier of so many outputs.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] where nobody lists the classes, and the texts of the labels are not those of all outputs: the places
    /// of those that are there depend on the others.
    pub fn by_text(self, outputs: usize) -> Result<Self, DataError> {
        let mut names = if self.names_classes() { self.classes.to_vec() } else { self.spelt.to_vec() };
        names.sort_unstable();
        if self.names_classes() {
            return Ok(self.in_order_of(&names));
        }
        let texts: BTreeMap<i128, u32> =
            names.iter().zip(0..).filter_map(|(text, at)| Some((spelt_number(text)?, at))).collect();
        let places: Option<Vec<u32>> = (0..outputs as i128).map(|number| texts.get(&number).copied()).collect();
        match places {
            Some(places) if names.len() == outputs => Ok(self.placed(&places, names)),
            _ => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!(
                    "its labels are {} texts, which are not the {outputs} numbers from 0 on, each in one form: in which order \
                     they are sorted as text depends on all of them",
                    names.len()
                ),
            }),
        }
    }

    /// With the classes in the order of the numbers that they are called by, as labels that spell them are at once.
    #[must_use]
    pub fn by_number(self) -> Self {
        let mut names = self.classes.to_vec();
        names.sort_by_key(|name| spelt_number(name));
        self.in_order_of(&names)
    }

    /// Whether another program might sort the classes otherwise: in small letters and one Unicode form, not by their bytes.
    pub fn is_sorted_by_bytes_alone(&self) -> bool {
        let plain: Vec<String> =
            self.classes.iter().map(|name| name.nfc().collect::<String>().to_lowercase()).collect();
        self.names_classes() && self.classes.is_sorted() && !plain.is_sorted()
    }

    /// Class `at` becomes number `places[at]` of `classes`. Where nothing moves the hash stays.
    fn placed(self, places: &[u32], classes: Vec<String>) -> Self {
        let set = Self { classes: classes.into(), naming: Naming::Listed, ..self };
        match places.iter().zip(0..).all(|(&place, at)| place == at) {
            true => set,
            false => set.relabelled(places),
        }
    }

    fn relabelled(self, places: &[u32]) -> Self {
        let labels: Vec<u32> = self.labels.iter().map(|&label| places[label as usize]).collect();
        let mut hasher = hasher(&labels);
        hasher.update(self.hash.as_bytes());
        let hash = hasher.finalize().to_hex().to_string();
        Self { hash, labels: labels.into(), ..self }
    }

    /// Whether this set's classes are those of `training`, in the same order, as far as both have names.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] with the first class that differs.
    pub fn check_same_classes(&self, training: &Dataset) -> Result<(), DataError> {
        let wrong = |reason: String| Err(DataError::Labels { set: self.name.clone(), reason });
        if let (Some(own), Some(theirs)) = (self.label_column(), training.label_column())
            && own != theirs
        {
            return wrong(format!("its labels are in the column {own}, and those of the training images in {theirs}"));
        }
        // Places in alphabetical order say nothing to numbers.
        match (self.naming, training.naming) {
            (Naming::Numbers, Naming::Alphabetical) => {
                return wrong("its labels are numbers, and those of the training images are text".to_owned());
            }
            (Naming::Alphabetical, Naming::Numbers) => {
                return wrong("its labels are text, and those of the training images are numbers".to_owned());
            }
            _ => {}
        }
        if !self.names_classes() || !training.names_classes() {
            if training.names_classes() {
                self.check_numbers(training.classes())?;
            }
            return self.check_labels(training.classes.len());
        }
        let name = |set: &Dataset, at: usize| set.classes.get(at).map_or("nothing".into(), |name| format!("{name:?}"));
        let count = self.classes.len().max(training.classes.len());
        match (0..count).find(|&at| self.classes.get(at) != training.classes.get(at)) {
            None => Ok(()),
            Some(at) => {
                let (own, theirs) = (name(self, at), name(training, at));
                // The first that differs may only have moved up or down, for one that is not the other's.
                let stray = self.classes.iter().find(|class| !training.classes.contains(class));
                let stray = stray.filter(|class| format!("{class:?}") != own);
                let stray = stray.map_or_else(String::new, |class| format!(", which have no {class:?}"));
                wrong(format!(
                    "class {at} is {own} among the validation images and {theirs} among the training images{stray}"
                ))
            }
        }
    }

    /// Whether labels that are numbers can be places among `names` and nothing else.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] where one of them is the name of a class at another place.
    pub fn check_numbers(&self, names: &[String]) -> Result<(), DataError> {
        match misnumbered(names).filter(|_| !self.names_classes()) {
            None => Ok(()),
            Some(at) => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!(
                    "its labels are numbers, and the classifier's class {at} is called {:?}: nothing says whether a \
                     number is a place or a name; write labels as text that is exactly the classes' names",
                    names[at]
                ),
            }),
        }
    }

    /// What the outputs of a classifier that is trained on this set are called: by number where the set has no names.
    pub fn output_names(&self, outputs: usize) -> Vec<String> {
        match self.names_classes() {
            true => self.classes.to_vec(),
            false => (0..outputs).map(|output| output.to_string()).collect(),
        }
    }

    /// Whether the labels fit a classifier of `classes` outputs.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] where one does not.
    pub fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        match (0..self.len()).map(|index| (self.label(index), index)).max() {
            Some((label, index)) if label as usize >= classes => Err(DataError::Labels {
                set: self.name.clone(),
                reason: format!(
                    "label {label} is beyond the classifier's {classes} classes, at {}",
                    self.image_name(index)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// For a classifier of ImageNet's classes: where classes are wnids or their English names, a label becomes the place
    /// among ImageNet's. As many classes of other names are refused: their number alone says nothing.
    pub(crate) fn with_imagenet_labels(self) -> Result<Self, DataError> {
        let are_numbers = self.classes.iter().all(|name| spelt_number(name).is_some());
        if !self.names_classes() || are_numbers {
            return Ok(self);
        }
        let wrong = |reason: String| DataError::Labels { set: self.name.clone(), reason };
        let wnids = || imagenet_wnids().iter().map(|wnid| wnid.to_string()).collect::<Vec<_>>();
        if self.classes.iter().all(|name| is_wnid(name)) {
            let unknown = |wnid: &String| wrong(format!("{wnid} is not among ImageNet's classes"));
            let places = self.classes.iter().map(|wnid| imagenet_label(wnid).ok_or_else(|| unknown(wnid)));
            let places = places.collect::<Result<Vec<u32>, _>>()?;
            // Hashed anew even where nothing moves, as ever.
            return Ok(Self { classes: wnids().into(), naming: Naming::Listed, ..self }.relabelled(&places));
        }
        let whole = self.classes.len() == IMAGENET;
        let mut places = Vec::new();
        let (mut taken, mut unknown) = (BTreeMap::<u32, &str>::new(), Vec::new());
        for (name, at) in self.classes.iter().zip(0..) {
            match imagenet_class(name, whole.then_some(at)) {
                Some(place) => {
                    if let Some(other) = taken.insert(place, name) {
                        return Err(wrong(format!("{other:?} and {name:?} are one class of ImageNet's")));
                    }
                    places.push(place);
                }
                None if whole => {
                    return Err(wrong(format!(
                        "class {at}, {name:?}, is no name of one class of ImageNet's, which a classifier of {IMAGENET} \
                         outputs is taken to know"
                    )));
                }
                None => unknown.push(name),
            }
        }
        if let Some(name) = unknown.first() {
            // Of another list, and of another length, which is refused where lengths are; else a slip in a few names.
            let is_other = unknown.len() >= places.len();
            let reason =
                || format!("its class {name:?} is no name of one class of ImageNet's, and {} are", places.len());
            return if is_other { Ok(self) } else { Err(wrong(reason())) };
        }
        Ok(self.placed(&places, wnids()))
    }
}
