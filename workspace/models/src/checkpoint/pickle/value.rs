//! What the values of a pickle become: what leads to tensors is kept, the rest is counted or forgotten.

use super::View;
use crate::checkpoint::StoredType;

pub(super) type Id = u32;

#[derive(Debug, Default)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Global(&'a str),
    Tuple(Vec<Id>),
    Dict(Box<Dict<'a>>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
    /// How many tensors texts and lists lead to in it; what is in it is not kept.
    List(u32),
    Object(Object<'a>),
    /// Anything else: numbers, sets, options that a training script saved too.
    #[default]
    Opaque,
}

impl Value<'_> {
    /// What it takes beside its own place, in places.
    pub fn holds(&self) -> usize {
        match self {
            Value::Tuple(ids) => ids.len(),
            Value::Dict(dict) => 6 + dict.items.len() + dict.others.len() + dict.unnamed.len(),
            Value::Storage(_) => 2,
            // Its view.
            Value::Tensor(_) => 16,
            _ => 0,
        }
    }

    /// To how many tensors it leads by texts and lists.
    pub fn reached(&self) -> u32 {
        match self {
            Value::Tensor(_) => 1,
            Value::List(tensors) => *tensors,
            Value::Dict(dict) => dict.reached,
            _ => 0,
        }
    }

    /// How many tensors lie in it or below.
    pub fn tensors(&self) -> u32 {
        match self {
            Value::Tensor(_) => 1,
            Value::List(tensors) => *tensors,
            Value::Dict(dict) => dict.tensors,
            Value::Object(object) => object.tensors,
            _ => 0,
        }
    }
}

/// What may hold tensors, by name: a dict of whatever class.
#[derive(Debug, Default)]
pub(super) struct Dict<'a> {
    pub items: Vec<(&'a str, Id)>,
    /// A few keys of other things, for messages; and what they are, where that is known.
    pub others: Vec<(&'a str, Option<Object<'a>>)>,
    /// Of these, some that hold so many tensors without names.
    pub unnamed: Vec<(&'a str, u32)>,
    /// Of what has keys that are no texts, the most tensors that one of them leads to.
    pub keyless: u32,
    /// In all.
    pub tensors: u32,
    /// Of these, those that texts and lists lead to. An optimiser keeps what it knows of a tensor by number.
    pub reached: u32,
    /// The pickle comes back to it, and may fill it then.
    pub is_recalled: bool,
    /// One of its keys, or of those of a dict within it, is among `CLASS_LISTS`.
    pub lists_classes: bool,
    /// Dicts in it that are kept for this alone.
    pub listing: usize,
}

impl Dict<'_> {
    pub fn may_lead_to_tensors(&self) -> bool {
        self.is_recalled || self.tensors > 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub class: &'a str,
    /// In its state.
    pub tensors: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: StoredType,
    /// First element, for views of the old form.
    pub first: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Mark,
    Id(Id),
}

/// The place of everything opaque.
pub(super) const OPAQUE: Id = 0;
