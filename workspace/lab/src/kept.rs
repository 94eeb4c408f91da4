//! Checkpoints that another study has made and kept.

use sandglass_files::sha256_file;
use sandglass_ledger::Ledger;
use sandglass_study::{Artefact, CellError, Place, Project};

/// The checkpoint of a cell in `results/checkpoints`, which is the one that the cell's rows speak of.
///
/// # Errors
/// `Skipped` where it is not there yet; a file that is another than the rows'.
pub fn kept(place: &Place, project: &Project) -> Result<Artefact, CellError> {
    let [study, profile, cell] = place.names();
    let path = project.checkpoints().join(study).join(profile).join(format!("{cell}.safetensors"));
    if !path.is_file() {
        let reason = format!("no checkpoint of {study}/{profile}/{cell} is kept here: {}", place.command());
        return Err(CellError::Skipped(reason));
    }
    let rows = Ledger::read_one(&project.rows(), study, profile, cell).rows;
    let hash = sha256_file(&path).map_err(CellError::failed)?;
    match rows.iter().find_map(|row| row.checkpoint_hash.as_deref()) {
        Some(of_row) if of_row == hash => Ok(Artefact::found(path)),
        Some(of_row) => Err(CellError::Failed(format!("{} has SHA-256 {hash}, its row {of_row}", path.display()))),
        None => Err(CellError::Failed(format!("{study}/{profile}/{cell} has no row, so its file is not known"))),
    }
}
