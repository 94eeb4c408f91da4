//! A network before the first step of its training.

use std::path::Path;

use sandglass_data::Part;
use sandglass_lab::{BATCH, Lab};
use sandglass_models::checkpoint::{self, SaveType};
use sandglass_study::{Artefact, CellError};
use sandglass_train::{Engine, initialise};

use crate::Network;
use crate::layers::{Images, images};

/// The weights that training begins with, and in batch norms the statistics of one batch of training images: what its first
/// step would normalise by. Those of 0 and 1 that a file begins with normalise nothing.
pub(crate) fn prepare(lab: &Lab, cell: &Network, folder: &Path) -> Result<Artefact, CellError> {
    let graph = cell.network.build().map_err(CellError::failed)?;
    let Images { set: training, pixels, size: (height, width) } = images(lab, cell, Part::Train, BATCH)?;
    let count = pixels.len() / (3 * height * width).max(1);
    let mut weights = initialise(graph.tensors(), cell.seed);
    let engine = Engine::new(lab.pool()?, &graph.with_norm_momentum(1.0), height, width, count);
    engine.and_then(|mut engine| engine.forward(&mut weights, &pixels, None)).map_err(CellError::failed)?;
    let path = folder.join("initial.safetensors");
    checkpoint::save(&path, &weights, SaveType::F32).map_err(CellError::failed)?;
    Ok(Artefact { made_from: Some(training.hash().to_owned()), ..Artefact::found(path) })
}
