//! Cells that are another profile's: where their rows lie.

/// Where a cell's rows and files lie: its own profile, or that of a lender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub study: String,
    pub profile: String,
    pub cell: String,
}

impl Place {
    /// A cell of `study/profile`.
    pub fn new(profile: &str, cell: String) -> Self {
        let (study, profile) = profile.split_once('/').unwrap_or((profile, ""));
        Self { study: study.to_owned(), profile: profile.to_owned(), cell }
    }

    /// Runs this cell alone.
    pub fn command(&self) -> String {
        format!("sandglass run {} --profile {} --cell {}", self.study, self.profile, self.cell)
    }

    pub fn names(&self) -> [&str; 3] {
        [&self.study, &self.profile, &self.cell]
    }
}

/// A cell that may be borrowed: its definition's hash, and where it lies.
#[derive(Clone, Debug)]
pub struct Lent {
    pub hash: String,
    pub place: Place,
}
