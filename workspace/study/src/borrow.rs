//! Cells that are another profile's: where their rows lie.

/// Where a cell's rows and files lie: its own profile, or that of a lender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub study: String,
    pub profile: String,
    pub cell: String,
}

impl Place {
    /// Runs this cell alone.
    pub fn command(&self) -> String {
        format!("sandglass run {} --profile {} --cell {}", self.study, self.profile, self.cell)
    }

    pub(crate) fn names(&self) -> [&str; 3] {
        [&self.study, &self.profile, &self.cell]
    }
}

/// A cell that may be borrowed: its definition's hash, and where it lies.
#[derive(Clone, Debug)]
pub struct Lent {
    pub hash: String,
    pub place: Place,
}
