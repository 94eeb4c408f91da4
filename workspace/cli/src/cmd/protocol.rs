//! How images are brought to a network, as arguments: a preset, and what is said beside it.

use clap::ValueEnum;
use sandglass_data::{Filter, Protocol};
use sandglass_lab::Card;
use sandglass_models::PaddingRule;
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct ProtocolArgs {
    /// What the options below stand at when they are left out. Without a preset each says what it stands at; but a checkpoint
    /// that was trained here is scored as the card beside it says
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Height and width of the network's input; unset: 224 for 1000 classes or a preset, else the images' own
    #[arg(long, value_name = "PX")]
    input: Option<usize>,
    /// Short side before the centre crop of the input; unset: 256 / 224 of the input for 1000 classes or a preset, else the
    /// input's size, and images of that size stay as they are
    #[arg(long, value_name = "PX")]
    resize: Option<usize>,
    /// How the resize reads between pixels; unset: bilinear
    #[arg(long, value_enum)]
    interpolation: Option<Interpolation>,
    /// Mean of red, green, blue in 0..1; unset: 0.485,0.456,0.406
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "R,G,B", allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// Standard deviation of the same, up to 1; unset: 0.229,0.224,0.225
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "R,G,B", allow_hyphen_values = true)]
    std: Option<Vec<f32>>,
    /// What lies around maps where a kernel reaches over the border: half a kernel of zeros on every side, or TensorFlow's
    /// SAME; unset: the preset's, else what the names of the checkpoint's tensors imply (same for transformers')
    #[arg(long, value_enum)]
    padding: Option<Padding>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Preset {
    /// Resize 256 bilinear, crop 224, ImageNet's mean and standard deviation, symmetric padding
    Torchvision,
    /// The same resize and crop, values from -1 to 1 (mean and standard deviation 0.5), SAME padding
    Tensorflow,
}

#[derive(Clone, Copy, ValueEnum)]
enum Interpolation {
    Bilinear,
    Bicubic,
}

#[derive(Clone, Copy, ValueEnum)]
enum Padding {
    Symmetric,
    Same,
}

/// What `eval` scores by.
pub struct Chosen {
    pub input: Option<usize>,
    pub protocol: Protocol,
    /// None: as the checkpoint's names imply.
    pub padding: Option<PaddingRule>,
    /// What neither the arguments nor a card say.
    pub assumed: Vec<&'static str>,
    /// What the arguments say otherwise than the card.
    pub overruled: Vec<&'static str>,
}

impl ProtocolArgs {
    /// The input's side, where it is said; the rest is none of a detector's, which is fed as its card or its kind says.
    pub fn of_detector(&self) -> anyhow::Result<Option<usize>> {
        let Self { preset, input, resize, interpolation, mean, std, padding } = self;
        let said = [preset.is_some(), resize.is_some(), interpolation.is_some(), mean.is_some(), std.is_some()];
        let said = said.contains(&true) || padding.is_some();
        anyhow::ensure!(!said, "of preset, resize, interpolation, mean, std and padding a detector takes none");
        Ok(*input)
    }

    pub fn chosen(&self, card: Option<&Card>) -> anyhow::Result<Chosen> {
        let has_card = card.is_some();
        let input = self.input.or(match self.preset {
            Some(_) => Some(224),
            None => card.and_then(|card| card.input),
        });
        let base = match self.preset {
            Some(preset) => {
                let resize = input.map(|input| input * 256 / 224);
                let half = [0.5; 3];
                match preset {
                    Preset::Torchvision => Protocol { resize, ..Protocol::default() },
                    Preset::Tensorflow => Protocol { resize, mean: half, std: half, ..Protocol::default() },
                }
            }
            // What was trained here is scored as its study scores it, unless asked otherwise.
            // Mean, standard deviation and filter belong to the weights; the resize to the input that it was stated for.
            None => card.map_or_else(Protocol::default, |card| match card.input == input {
                true => card.evaluation.clone(),
                false => Protocol { resize: None, ..card.evaluation.clone() },
            }),
        };
        let protocol = Protocol {
            resize: self.resize.or(base.resize),
            interpolation: match self.interpolation {
                Some(Interpolation::Bilinear) => Filter::Bilinear,
                Some(Interpolation::Bicubic) => Filter::Bicubic,
                None => base.interpolation,
            },
            mean: three("--mean", self.mean.as_deref(), base.mean)?,
            std: three("--std", self.std.as_deref(), base.std)?,
        };
        protocol.check()?;
        let padding = match (self.padding, self.preset) {
            (Some(Padding::Symmetric), _) | (None, Some(Preset::Torchvision)) => Some(PaddingRule::Symmetric),
            (Some(Padding::Same), _) | (None, Some(Preset::Tensorflow)) => Some(PaddingRule::Same),
            (None, None) => None,
        };
        let said = [
            ("input", self.input.is_some()),
            ("resize", self.resize.is_some()),
            ("mean", self.mean.is_some()),
            ("std", self.std.is_some()),
        ];
        let is_assumed = |&(_, is_said): &(_, bool)| !is_said && self.preset.is_none() && !has_card;
        let assumed = said.into_iter().filter(is_assumed).map(|(what, _)| what).collect();
        let overruled = card.map_or_else(Vec::new, |card| differences(card, input, &protocol));
        Ok(Chosen { input, protocol, padding, assumed, overruled })
    }
}

fn differences(card: &Card, input: Option<usize>, protocol: &Protocol) -> Vec<&'static str> {
    let theirs = &card.evaluation;
    let differs = [
        ("input", input != card.input),
        ("resize", protocol.resize != theirs.resize),
        ("interpolation", protocol.interpolation != theirs.interpolation),
        ("mean", protocol.mean != theirs.mean),
        ("std", protocol.std != theirs.std),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

fn three(what: &str, values: Option<&[f32]>, unset: [f32; 3]) -> anyhow::Result<[f32; 3]> {
    match values {
        None => Ok(unset),
        Some(values) => values.try_into().map_err(|_| anyhow::anyhow!("{what}: three numbers, R,G,B")),
    }
}

/// In a line, with the sizes that were in fact used.
pub fn as_text(protocol: &Protocol, (height, width): (usize, usize), resize: Option<usize>) -> String {
    let filter = if protocol.interpolation == Filter::Bilinear { "bilinear" } else { "bicubic" };
    let resize = resize.map_or("images as they are".to_owned(), |short| format!("resize {short} {filter}"));
    format!("protocol: {resize}, input {height} x {width}, mean {:?}, std {:?}", protocol.mean, protocol.std)
}

/// With the sizes that were in fact used.
pub fn as_json(protocol: &Protocol, (height, width): (usize, usize), resize: Option<usize>) -> Value {
    json!({
        "input": [height, width],
        "resize": resize,
        "interpolation": protocol.interpolation,
        "mean": protocol.mean.map(super::decimal),
        "std": protocol.std.map(super::decimal),
    })
}
