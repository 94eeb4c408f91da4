//! What is told of a set: which part was read, of how many images and classes, what was passed over, and what of its images is
//! not heeded.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Dataset, Naming};
use crate::Remarks;

/// How many names a line has room for.
const NAMED: usize = 5;

/// Images whose bytes a set has before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// How many there are beyond the first of each.
    pub images: usize,
    /// Those of them whose label is not the first one's: one of the two must be wrong.
    pub elsewhere: usize,
}

/// Which of the files that lie there a set was read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Folder or file of the set; none of one that is drawn.
    pub place: Option<PathBuf>,
    /// Such as `val/`, or the names of shards.
    pub part: String,
    /// Other parts and folders beside it, which were not read; those that are the other half of the set are no news.
    pub beside: Vec<String>,
    /// The column of labels, of parquet files.
    pub label_column: Option<String>,
    /// Files that lie among the images and are none, by kind.
    pub passed_over: BTreeMap<String, u64>,
    /// Folders within class folders that have images of their own, or the name of another class.
    pub nested: Vec<String>,
}

impl Dataset {
    fn told(self, tell: impl FnOnce(&mut Origin)) -> Self {
        let mut origin = (*self.origin).clone();
        tell(&mut origin);
        Self { origin: Arc::new(origin), ..self }
    }

    pub(crate) fn with_label_column(self, column: &str) -> Self {
        self.told(|origin| origin.label_column = Some(column.to_owned()))
    }

    /// `same`: what else its name could mean.
    pub(crate) fn with_place(self, place: &Path, same: Vec<String>) -> Self {
        self.told(|origin| {
            origin.place = Some(place.to_owned());
            origin.beside.extend(same);
        })
    }

    /// What lies beside joins what is known to.
    pub(crate) fn with_origin(self, part: impl Into<String>, beside: Vec<String>) -> Self {
        self.told(|origin| {
            origin.part = part.into();
            origin.beside.extend(beside);
        })
    }

    pub(crate) fn with_passed_over(self, passed_over: BTreeMap<String, u64>) -> Self {
        self.told(|origin| origin.passed_over = passed_over)
    }

    pub(crate) fn with_nested(self, nested: Vec<String>) -> Self {
        self.told(|origin| origin.nested = nested)
    }

    /// The folder or file that was read, as a name below a data root was understood; none of a set that is drawn.
    pub fn path(&self) -> Option<&Path> {
        self.origin.place.as_deref()
    }

    /// The column that labels were read from, of parquet files.
    pub fn label_column(&self) -> Option<&str> {
        self.origin.label_column.as_deref()
    }

    /// Which part was read: its folder or its files, below the set's own.
    pub fn part(&self) -> &str {
        &self.origin.part
    }

    /// What lies beside that part and was not read: other parts, folders of images, columns of labels. Of a training part the
    /// validation part is left out, and the reverse.
    pub fn beside(&self) -> &[String] {
        &self.origin.beside
    }

    /// How many images have such a remark; None where they were not read when the set was opened.
    pub fn remarked(&self, has: impl Fn(&Remarks) -> bool) -> Option<usize> {
        let remarks = self.remarks.as_ref()?;
        let of = |place: u32| remarks.binary_search_by_key(&place, |(place, _)| *place).ok().map(|at| &remarks[at].1);
        Some((0..self.len()).filter_map(|index| of(self.place(index) as u32)).filter(|&remarks| has(remarks)).count())
    }

    /// Classes of which there is an image.
    pub fn class_count(&self) -> usize {
        (0..self.len()).map(|index| self.label(index)).collect::<BTreeSet<u32>>().len()
    }

    /// How many files among the images were passed over, by kind: an extension, or what else tells why.
    pub fn passed_over(&self) -> &BTreeMap<String, u64> {
        &self.origin.passed_over
    }

    /// Folders within class folders (`dog/cat/`), whose images are the outer class's: those of which the class has other images
    /// too, and those that are called as another class is. One folder between a class and all of its images is none.
    pub fn nested(&self) -> &[String] {
        &self.origin.nested
    }

    /// The outputs of a classifier of so many of which there is no image, ascending.
    pub fn without_image(&self, outputs: usize) -> Vec<u32> {
        let there: BTreeSet<u32> = (0..self.len()).map(|index| self.label(index)).collect();
        (0..outputs as u32).filter(|output| !there.contains(output)).collect()
    }

    /// In words: how many images of how many classes, which of these have none, what was passed over, and what an image asks
    /// for and is not done.
    pub fn listing(&self) -> String {
        self.listing_for(self.classes.len())
    }

    /// The same for a classifier of so many outputs, which are as many classes.
    pub fn listing_for(&self, outputs: usize) -> String {
        let kinds: Vec<String> =
            self.origin.passed_over.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let passed_over = match self.origin.passed_over.values().sum::<u64>() {
            0 => String::new(),
            1 => format!(", 1 file passed over ({})", kinds.join(", ")),
            count => format!(", {count} files passed over ({})", kinds.join(", ")),
        };
        let order = match self.naming {
            Naming::Listed => "",
            Naming::Alphabetical => " in alphabetical order",
            Naming::Numbers => " by number",
        };
        let unheeded: String = self.unheeded().map(|(count, what)| format!(", {count} {what}")).collect();
        let (images, classes) = (self.len(), self.class_count());
        format!(
            "{images} {} of {classes} {}{order}{}{}{passed_over}{}{unheeded}",
            plural(images, "image", "images"),
            plural(classes, "class", "classes"),
            self.without_image_text(outputs),
            self.case_twins_text(),
            self.nested_text()
        )
    }

    fn without_image_text(&self, outputs: usize) -> String {
        let name = |&output: &u32| match self.classes.get(output as usize) {
            Some(name) if self.names_classes() => name.clone(),
            _ => output.to_string(),
        };
        match &self.without_image(outputs).iter().map(name).collect::<Vec<_>>()[..] {
            [] => String::new(),
            [one] => format!(", class {one} has no image"),
            several => format!(", {} classes have no image ({})", several.len(), first(several)),
        }
    }

    /// Pairs of classes whose names differ in the case of letters alone, such as `Dog and dog`: two, as torchvision has it, and
    /// perhaps one.
    pub fn case_twins(&self) -> Vec<String> {
        let mut first = BTreeMap::new();
        let mut twins = Vec::new();
        for name in self.classes.iter() {
            match first.entry(name.to_lowercase()) {
                Entry::Vacant(place) => drop(place.insert(name)),
                Entry::Occupied(of) => twins.push(format!("{} and {name}", of.get())),
            }
        }
        twins
    }

    fn case_twins_text(&self) -> String {
        match &self.case_twins()[..] {
            [] => String::new(),
            twins => format!(", classes whose names differ in case alone ({})", first(twins)),
        }
    }

    fn nested_text(&self) -> String {
        match self.nested() {
            [] => String::new(),
            [one] => format!(", the folder {one} within a class is taken for that class's"),
            several => format!(", {} folders within classes are taken for these ({})", several.len(), first(several)),
        }
    }

    /// What of some images is not heeded, and of how many; images that others repeat.
    pub(crate) fn unheeded(&self) -> impl Iterator<Item = (usize, String)> {
        let Repeated { images, elsewhere } = self.repeated().unwrap_or(Repeated { images: 0, elsewhere: 0 });
        let elsewhere = match elsewhere {
            0 => String::new(),
            elsewhere => format!(" ({elsewhere} of them under another label)"),
        };
        let of = Remarks::ALL.map(|(has, _, words)| (self.remarked(has).unwrap_or(0), words.to_owned()));
        let repeated = (images, format!("the same file as an earlier one{elsewhere}"));
        let of = of.into_iter().chain([repeated]);
        of.filter(|(count, _)| *count > 0)
    }

    /// In words: which part was read, and what lies beside it and was not.
    pub fn part_listing(&self) -> String {
        match self.beside() {
            [] => self.part().to_owned(),
            beside => format!("{}; not read: {}", self.part(), first(beside)),
        }
    }
}

/// The first few names, and how many more there are.
fn first(names: &[String]) -> String {
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}

fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}
