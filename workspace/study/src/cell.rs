//! A cell: the smallest thing that is run, whole or not at all, and whose rows are one file.

use std::fmt::Display;

use serde::Serialize;

use crate::StudyError;

/// What every experiment's cell can say of itself. Its `Display` is its id, such as `mobilenext-w0.35-s0`, which is also
/// the name of its row file: an axis at its default does not show. Its `Serialize` is its definition, of which
/// [`hash`] is made.
pub trait Axes: Clone + Display + Serialize {
    /// Names and values that tell the cell from others of its study, the most telling first.
    fn axes(&self) -> Vec<(&'static str, String)>;

    /// What it is measured on.
    fn dataset(&self) -> String;

    fn seed(&self) -> u64 {
        0
    }
}

/// Hex BLAKE3 of a definition as JSON. A row with another hash is stale.
///
/// Keys that a definition has today are always written. One that is added later is left out while it is at its default
/// (`skip_serializing_if`), so that no older row becomes stale by it.
///
/// # Errors
/// A definition that JSON cannot hold: it must not share the hash of nothing.
pub fn hash(definition: &impl Serialize) -> Result<String, StudyError> {
    let text = serde_json::to_string(definition).map_err(StudyError::Unwritable)?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// A cell with the names by which rows and files know it.
#[derive(Clone, Debug)]
pub struct Keyed<C> {
    pub id: String,
    pub hash: String,
    pub cell: C,
}

impl<C: Axes> Keyed<C> {
    pub(crate) fn new(cell: C) -> Result<Self, StudyError> {
        Ok(Self { id: cell.to_string(), hash: hash(&cell)?, cell })
    }
}
