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
mod shape;
pub mod show;
pub mod table;
pub mod train;
mod weights;

use std::path::Path;

use anyhow::ensure;
use sandglass_data::{Dataset, Repeated};
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

/// The card beside a checkpoint, or that there is none and what is assumed therefore; and what of the card was overruled.
fn card_text(card: Option<&Path>, assumed: &[&str], overruled: &[&str]) -> String {
    match (card, assumed, overruled) {
        (Some(card), _, []) => format!("card: {}", card.display()),
        (Some(card), _, overruled) => format!("card: {}; not as it says: {}", card.display(), overruled.join(", ")),
        (None, [], _) => "no card beside the weights".to_owned(),
        (None, assumed, _) => format!("no card beside the weights: at their defaults are {}", assumed.join(", ")),
    }
}

/// Which images a set holds.
fn data_json(set: &Dataset, outputs: usize) -> Value {
    let mut json = json!({
        "name": set.name(),
        "hash": set.hash(),
        "synthetic": set.synthetic(),
        "images": set.len(),
        "classes": set.class_count(),
        "labels": format!("by {}", set.labels_by()),
        "part": set.part(),
    });
    extend(&mut json, remarks_json(set, outputs));
    json
}

/// What of a set was passed over, is not heeded or occurs twice, and which of a classifier's outputs have no image; null where the images were not read when it was opened.
fn remarks_json(set: &Dataset, outputs: usize) -> Value {
    let repeated = |of: Repeated| json!({ "images": of.images, "under_another_label": of.elsewhere });
    json!({
        "passed_over": set.passed_over(),
        "beside": set.beside(),
        "nested_folders": set.nested(),
        "classes_without_image": set.without_image(outputs),
        "label_column": set.label_column(),
        "orientation_tags": set.remarked(|of| of.turned),
        "transparent": set.remarked(|of| of.transparent),
        "further_frames": set.remarked(|of| of.followed),
        "damaged": set.remarked(|of| of.damaged),
        "repeated": set.repeated().map(repeated),
    })
}

/// The keys of another object.
fn extend(json: &mut Value, more: Value) {
    if let (Value::Object(json), Value::Object(more)) = (json, more) {
        json.extend(more);
    }
}
