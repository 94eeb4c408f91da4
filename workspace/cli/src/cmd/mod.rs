pub mod cost;
pub mod detect;
pub mod diff;
pub mod eval;
pub mod export;
pub mod figure;
pub mod golden;
pub mod plan;
mod protocol;
pub mod quantise;
pub mod report;
pub mod run;
pub mod show;
pub mod table;
pub mod train;
mod weights;

use std::path::Path;

use anyhow::ensure;
use sandglass_data::Dataset;
use sandglass_lab::Card;
use sandglass_study::{Build, Shelf, StudyEntry};
use serde_json::{Value, json};

/// The studies, in the order of the report.
#[rustfmt::skip]
const STUDIES: &[StudyEntry] = &[
    sandglass_width::STUDY,
    sandglass_quant_study::STUDY,
    sandglass_extra_depthwise::STUDY,
    sandglass_efficientnet::STUDY,
    sandglass_voc::STUDY,
    sandglass_identity::STUDY,
    sandglass_manifold::STUDY,
    sandglass_memory::STUDY,
    sandglass_width_resolution::STUDY,
];

/// What this binary was built from.
pub fn build() -> Build {
    sandglass_study::build!()
}

/// All studies, on so many threads.
fn shelf(threads: Option<usize>) -> Shelf<'static> {
    Shelf::new(STUDIES, build(), threads)
}

/// Refuses to write over what is read: the weights, or the card beside them, by whatever links.
fn keep_input(option: &str, out: &Path, weights: &Path) -> anyhow::Result<()> {
    let Ok(place) = out.canonicalize() else { return Ok(()) };
    for input in [Some(weights.to_owned()), Card::find(weights)].into_iter().flatten() {
        let is_same = input.canonicalize().is_ok_and(|input| input == place);
        ensure!(!is_same, "{option} {}: is {}, which is read: choose another name", out.display(), input.display());
    }
    Ok(())
}

/// Which images a set holds.
fn data_json(set: &Dataset) -> Value {
    json!({
        "name": set.name(),
        "hash": set.hash(),
        "synthetic": set.synthetic(),
        "images": set.len(),
        "classes": set.class_count(),
        "labels": format!("by {}", set.labels_by()),
        "passed_over": set.passed_over(),
        "part": set.part(),
        "beside": set.beside(),
        "orientation_tags": set.turned(),
    })
}
