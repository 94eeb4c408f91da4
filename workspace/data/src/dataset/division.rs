//! Some of a set's images: chosen, held back by seed, or without those that another set repeats.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{Dataset, Digest, Images, Repeated, digest};
use crate::{DataError, Draws, Purpose};

impl Dataset {
    /// The images at `indices`, which must be below `len`.
    pub fn subset(&self, name: &str, indices: &[u32]) -> Self {
        let members: Vec<u32> = indices.iter().map(|&index| self.place(index as usize) as u32).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        members.iter().for_each(|member| {
            hasher.update(&member.to_le_bytes());
        });
        let hash = hasher.finalize().to_hex().to_string();
        Self { name: name.to_string(), hash, members: Some(members.into()), ..self.clone() }
    }

    /// The set without the images whose encoded bytes are those of one of `validation` under another label, and their
    /// names. Where there is none, the set is as it was and has the same hash. Images that were never encoded are
    /// compared by their pixels. Sets that were not read when they were opened are read now.
    ///
    /// # Errors
    ///
    /// An image that cannot be read.
    pub fn without_copies_of(&self, validation: &Dataset) -> Result<(Dataset, Vec<String>), DataError> {
        let mut labels: BTreeMap<Digest, Vec<u32>> = BTreeMap::new();
        for (index, digest) in validation.digests()?.into_iter().enumerate() {
            labels.entry(digest).or_default().push(validation.label(index));
        }
        let digests = self.digests()?;
        let is_copy = |&index: &u32| {
            let own = self.label(index as usize);
            labels.get(&digests[index as usize]).is_some_and(|labels| labels.iter().any(|&label| label != own))
        };
        let (copies, rest): (Vec<u32>, Vec<u32>) = (0..self.len() as u32).partition(is_copy);
        if copies.is_empty() {
            return Ok((self.clone(), Vec::new()));
        }
        let names = copies.iter().map(|&index| self.image_name(index as usize)).collect();
        Ok((self.subset(&self.name, &rest), names))
    }

    /// Images of which the set holds the same bytes before; None where their bytes were not read when it was opened.
    pub fn repeated(&self) -> Option<Repeated> {
        if self.digests.is_empty() {
            return None;
        }
        let mut first: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut repeated = Repeated { images: 0, elsewhere: 0 };
        for index in 0..self.len() {
            let label = self.label(index);
            match first.entry(self.digests[self.place(index)]) {
                Entry::Vacant(place) => drop(place.insert(label)),
                Entry::Occupied(of) => {
                    repeated.images += 1;
                    repeated.elsewhere += usize::from(*of.get() != label);
                }
            }
        }
        Some(repeated)
    }

    /// How many of the images are, byte by byte, among those of `training`.
    ///
    /// # Errors
    ///
    /// An image that cannot be read.
    pub fn shared_with(&self, training: &Dataset) -> Result<usize, DataError> {
        let known: BTreeSet<Digest> = training.digests()?.into_iter().collect();
        Ok(self.digests()?.iter().filter(|digest| known.contains(*digest)).count())
    }

    /// Whether the bytes of its images are at hand, so that they need not be read to be compared.
    pub fn knows_bytes(&self) -> bool {
        !self.digests.is_empty()
    }

    fn digests(&self) -> Result<Vec<Digest>, DataError> {
        let of = |index| {
            let place = self.place(index);
            match (self.digests.get(place), &*self.images) {
                (Some(digest), _) => Ok(*digest),
                (None, Images::Decoded { pictures, .. }) => Ok(digest(&pictures[place].pixels)),
                (None, Images::Encoded(source)) => Ok(digest(&source.encoded(place)?)),
            }
        };
        let runs =
            self.runs().into_iter().map(|run| run.into_par_iter().map(of).collect::<Result<Vec<_>, DataError>>());
        Ok(runs.collect::<Result<Vec<_>, DataError>>()?.concat())
    }

    /// Cuts `count` images off by seed: (the rest, the development split). For sets of training images only.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where nothing would be left, or nothing held back.
    pub fn split(&self, count: usize, seed: u64) -> Result<(Self, Self), DataError> {
        if count == 0 {
            let reason = "a development split of 0 images: a share of nothing says nothing".to_owned();
            return Err(DataError::Size { set: self.name.clone(), reason });
        }
        if count >= self.len() {
            let reason = format!("a development split of {count} leaves nothing of {} images to train on", self.len());
            return Err(DataError::Size { set: self.name.clone(), reason });
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        Draws::new(seed, Purpose::Split, 0, 0).shuffle(&mut order);
        let (development, rest) = order.split_at_mut(count);
        development.sort_unstable();
        rest.sort_unstable();
        let named = |part: &str| format!("{} ({part} split, seed {seed})", self.name);
        Ok((self.subset(&named("training"), rest), self.subset(&named("development"), development)))
    }
}
