//! Prose that leans on a verdict says which: `{claim ID: VERDICT}`. It is an error where rows say otherwise.

use super::judge::Judged;

/// What claims have been judged to be, for those who write about them.
pub struct Prose<'j, 'c>(pub &'j [Judged<'c>]);

/// Prose that rows do not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("{place}: says that claim {id} is \"{said}\"; rows say \"{found}\"")]
    Otherwise { place: String, id: String, said: String, found: &'static str },
    #[error("{place}: speaks of claim {id:?}, which is not in experiments/claims.toml")]
    Unknown { place: String, id: String },
    #[error("{place}: {{claim ID: VERDICT}} is not closed")]
    Open { place: String },
}

const BEGIN: &str = "{claim ";

impl Prose<'_, '_> {
    /// The text with each mark as words, such as `(width-lead: reproduced)`.
    ///
    /// # Errors
    /// A mark that says otherwise than rows do, or names no claim. `place` is named.
    pub fn resolve(&self, place: &str, text: &str) -> Result<String, Unsupported> {
        let mut resolved = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(BEGIN) {
            let open = || Unsupported::Open { place: place.to_owned() };
            let (mark, behind) = after.split_once('}').ok_or_else(open)?;
            let (id, said) = mark.split_once(':').ok_or_else(open)?;
            let (id, said) = (id.trim(), said.trim());
            let unknown = || Unsupported::Unknown { place: place.to_owned(), id: id.to_owned() };
            let found = self.0.iter().find(|judged| judged.claim.id == id).ok_or_else(unknown)?.verdict.words();
            if found != said {
                let (place, id, said) = (place.to_owned(), id.to_owned(), said.to_owned());
                return Err(Unsupported::Otherwise { place, id, said, found });
            }
            resolved += &format!("{before}({id}: {said})");
            rest = behind;
        }
        Ok(resolved + rest)
    }
}
