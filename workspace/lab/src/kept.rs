//! Checkpoints that another study has made and kept.

use sandglass_files::sha256_file;
use sandglass_ledger::Ledger;
use sandglass_study::{Artefact, CellError, Project};

/// A cell of another study, whose checkpoint lies in `results/checkpoints`.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    pub study: &'a str,
    pub profile: &'a str,
    pub cell: &'a str,
}

impl Kept<'_> {
    /// The checkpoint, which is the one that the cell's rows speak of.
    ///
    /// # Errors
    /// `Skipped` where it is not there yet; a file that is another than the rows'.
    pub fn find(&self, project: &Project) -> Result<Artefact, CellError> {
        let Self { study, profile, cell } = *self;
        let path = project.checkpoints().join(study).join(profile).join(format!("{cell}.safetensors"));
        if !path.is_file() {
            let run = format!("sandglass run {study} --profile {profile} --cell {cell}");
            return Err(CellError::Skipped(format!("no checkpoint of {study}/{profile}/{cell} is kept here: {run}")));
        }
        let rows = Ledger::read_one(&project.rows(), study, profile, cell).rows;
        let hash = sha256_file(&path).map_err(CellError::failed)?;
        match rows.iter().find_map(|row| row.checkpoint_hash.as_deref()) {
            Some(of_row) if of_row == hash => Ok(Artefact::found(path)),
            Some(of_row) => Err(CellError::Failed(format!("{} has SHA-256 {hash}, its row {of_row}", path.display()))),
            None => Err(CellError::Failed(format!("{study}/{profile}/{cell} has no row, so its file is not known"))),
        }
    }
}
