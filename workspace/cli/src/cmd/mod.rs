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

use std::path::{Path, PathBuf};

use anyhow::ensure;
use sandglass_data::{Dataset, Remarks, Repeated};
use sandglass_lab::Card;
use sandglass_models::NetworkConfig;
use sandglass_models::checkpoint::CheckpointError;
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

/// The card beside a checkpoint, or that there is none and what is assumed therefore; and what of the card was overruled. Without
/// a card, what lies in its place and is not read.
fn card_text(card: Option<&PlacedCard>, weights: &Path, assumed: &[&str], overruled: &[&str]) -> String {
    let mut text = match (card, assumed) {
        (Some(card), _) => card.as_text(),
        (None, []) => "no card beside the weights".to_owned(),
        (None, assumed) => format!("no card beside the weights: at their defaults are {}", assumed.join(", ")),
    };
    let files = if card.is_none() { beside(weights).join(", ") } else { String::new() };
    if !files.is_empty() {
        text += &format!("; {files} beside them may say what outputs and protocol are, and none of it is read");
    }
    if card.is_some() && !overruled.is_empty() {
        text += &format!("; not as it says: {}", overruled.join(", "));
    }
    text
}

/// What scripts call a list of classes beside a checkpoint, and what the hub calls the values that images are fed by.
const BESIDE: [&str; 12] = [
    "preprocessor_config.json",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
    "label_names.txt",
    "classes.json",
    "class_names.json",
    "labels.json",
    "class_to_idx.json",
    "idx_to_class.json",
    "id2label.json",
    "imagenet_class_index.json",
];

/// Files beside a checkpoint that say more of it and are not read: a card says all of that, in one form.
fn beside(weights: &Path) -> Vec<String> {
    let folder = weights.parent().unwrap_or(Path::new(""));
    // The hub's, and timm's.
    let keys = ["id2label", "label2id", "label_names"];
    let config = sandglass_files::read_text(&folder.join("config.json")).unwrap_or_default();
    let key = keys.into_iter().find(|key| config.contains(&format!("\"{key}\"")));
    let files = BESIDE.into_iter().filter(|name| folder.join(name).is_file()).map(str::to_owned);
    key.map(|key| format!("config.json ({key})")).into_iter().chain(files).collect()
}

/// A checkpoint's card and where it lies.
#[derive(Clone, Debug)]
struct PlacedCard {
    place: PathBuf,
    card: Card,
}

impl PlacedCard {
    fn of(weights: &Path) -> anyhow::Result<Option<Self>> {
        let card = Card::read(weights)?;
        Ok(Card::find(weights).zip(card).map(|(place, card)| Self { place, card }))
    }

    /// Where weights do not fit a network that a card shaped, the fault may be the card's, unless it names them.
    fn shaped<T>(card: Option<&Self>, network: anyhow::Result<T>) -> anyhow::Result<T> {
        let is_unfit = |error: &anyhow::Error| {
            matches!(error.downcast_ref::<CheckpointError>(), Some(CheckpointError::Different { .. }))
        };
        match (card, network) {
            (Some(of), Err(error)) if of.card.sha256.is_none() && is_unfit(&error) => {
                Err(error.context(format!("shaped as {} says", of.place.display())))
            }
            (_, network) => network,
        }
    }

    /// Cards of before name no file, and one of another checkpoint's looks the same.
    fn as_text(&self) -> String {
        let whose = if self.card.sha256.is_some() { "" } else { ", which does not say by SHA-256 of which file it is" };
        let assumed = match self.card.assumed.join(", ") {
            none if none.is_empty() => none,
            assumed => format!("; when it was written nobody said {assumed}: at their defaults"),
        };
        format!("card: {}{whose}{assumed}", self.place.display())
    }

    fn as_json(card: Option<&Self>) -> Value {
        json!({
            "card": card.map(|of| of.place.display().to_string()),
            "card_names_its_file": card.map(|of| of.card.sha256.is_some()),
            "card_assumed": card.map(|of| of.card.assumed.clone()),
        })
    }
}

/// Some hundred times what the largest network of the papers has; its cost can be counted all the same.
const MOST_PARAMETERS: u64 = 1 << 30;

/// # Errors
/// A network whose weights no memory here holds: asking for them would end the program.
fn ensure_held(config: &NetworkConfig) -> anyhow::Result<()> {
    let parameters: u64 = config.build()?.tensors().iter().map(|spec| spec.len() as u64).sum();
    ensure!(
        parameters <= MOST_PARAMETERS,
        "{config} {}: its {parameters} parameters are more than is held in memory: choose a smaller width",
        config.width
    );
    Ok(())
}

/// As it is written: 0.485, and not the digits that an f32 has as an f64.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(value.into())
}

/// A line on where a set was read from, which its name need not tell.
fn place_text(set: &Dataset) -> String {
    set.path().map_or_else(String::new, |place| format!("from: {}\n", place.display()))
}

fn place_json(set: &Dataset) -> Option<String> {
    set.path().map(|place| place.display().to_string())
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
        "place": place_json(set),
    });
    extend(&mut json, remarks_json(set, outputs));
    json
}

/// What of a set was passed over, is not heeded or occurs twice, and which of a classifier's outputs have no image; null where the images were not read when it was opened.
fn remarks_json(set: &Dataset, outputs: usize) -> Value {
    let repeated = |of: Repeated| json!({ "images": of.images, "under_another_label": of.elsewhere });
    let mut json = json!({
        "passed_over": set.passed_over(),
        "beside": set.beside(),
        "nested_folders": set.nested(),
        "classes_without_image": set.without_image(outputs),
        "case_twins": set.case_twins(),
        "label_column": set.label_column(),
        "repeated": set.repeated().map(repeated),
    });
    extend(&mut json, each_remark(|has| json!(set.remarked(has))));
    json
}

/// What is to be said of each remark that an image may have.
fn each_remark(of: impl Fn(fn(&Remarks) -> bool) -> Value) -> Value {
    Value::Object(Remarks::ALL.into_iter().map(|(has, name, _)| (name.to_owned(), of(has))).collect())
}

/// The keys of another object.
fn extend(json: &mut Value, more: Value) {
    if let (Value::Object(json), Value::Object(more)) = (json, more) {
        json.extend(more);
    }
}
