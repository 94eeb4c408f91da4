//! What tensors of one network are called elsewhere, and the conventions that come with those names and that no state dict
//! holds: epsilon and padding.
//!
//! Sources: torchvision `models/mobilenetv2.py`; d-li14/mobilenetv2.pytorch; tonylins/pytorch-mobilenet-v2; timm
//! (`efficientnet.py`); Hugging Face's transformers (`modeling_mobilenet_v2.py`).

use std::fmt;

use crate::{NetworkName, PaddingRule};

/// Whose names a state dict has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Those of the implementation that the graph is named after.
    Own,
    /// Convolution, norm and activation of a block are numbered through; the last convolution is called `conv` (d-li14).
    Flat,
    /// The same blocks, the last convolution in `features` (tonylins).
    FlatFeatures,
    /// The same, the classifier behind a dropout (tonylins at first, and those who took it from there).
    FlatDropout,
    Timm,
    Transformers,
}

/// Blocks of MobileNetV2's stages.
const REPEATS: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];

/// A convolution of MobileNetV2, or its batch norm.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Stem,
    /// Of block 1 to 17: its expansion, depthwise convolution or projection.
    Block(usize, Unit),
    Head,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Expand,
    Depthwise,
    Project,
}

impl Dialect {
    /// Those in which checkpoints of a network are known to exist.
    pub fn of(network: NetworkName) -> &'static [Self] {
        match network {
            NetworkName::MobileNetV2 => {
                &[Self::Own, Self::Flat, Self::FlatFeatures, Self::FlatDropout, Self::Timm, Self::Transformers]
            }
            _ => &[Self::Own],
        }
    }

    /// Added to the variance in batch norms; none where the graph says it.
    pub const fn norm_eps(self) -> Option<f32> {
        match self {
            Self::Own => None,
            Self::Transformers => Some(1e-3),
            _ => Some(1e-5),
        }
    }

    /// None where the graph says it.
    pub const fn padding(self) -> Option<PaddingRule> {
        match self {
            Self::Own => None,
            Self::Transformers => Some(PaddingRule::Same),
            _ => Some(PaddingRule::Symmetric),
        }
    }

    /// What a tensor of the graph is called; none for one that the dialect has no name for.
    pub(super) fn rename(self, own: &str) -> Option<String> {
        if self == Self::Own {
            return Some(own.to_owned());
        }
        let (place, leaf) = own.rsplit_once('.')?;
        let place = match place.strip_prefix("classifier") {
            Some(_) if self == Self::FlatDropout => "classifier.1".to_owned(),
            Some(_) => "classifier".to_owned(),
            None => {
                let (place, is_norm) = parse(place)?;
                self.place(place, is_norm)
            }
        };
        Some(format!("{place}.{leaf}"))
    }

    fn place(self, place: Place, is_norm: bool) -> String {
        let norm = usize::from(is_norm);
        match (self, place) {
            (Self::Timm, Place::Stem) => ["conv_stem", "bn1"][norm].to_owned(),
            (Self::Timm, Place::Head) => ["conv_head", "bn2"][norm].to_owned(),
            (Self::Timm, Place::Block(1, unit)) => {
                let names = if unit == Unit::Depthwise { ["conv_dw", "bn1"] } else { ["conv_pw", "bn2"] };
                format!("blocks.0.0.{}", names[norm])
            }
            (Self::Timm, Place::Block(block, unit)) => {
                let (stage, index) = stage(block);
                let names = match unit {
                    Unit::Expand => ["conv_pw", "bn1"],
                    Unit::Depthwise => ["conv_dw", "bn2"],
                    Unit::Project => ["conv_pwl", "bn3"],
                };
                format!("blocks.{stage}.{index}.{}", names[norm])
            }
            (Self::Transformers, place) => {
                let part = ["convolution", "normalization"][norm];
                let unit = |unit| match unit {
                    Unit::Expand => "expand_1x1",
                    Unit::Depthwise => "conv_3x3",
                    Unit::Project => "reduce_1x1",
                };
                match place {
                    Place::Stem => format!("mobilenet_v2.conv_stem.first_conv.{part}"),
                    Place::Block(1, of) => format!("mobilenet_v2.conv_stem.{}.{part}", unit(of)),
                    Place::Block(block, of) => format!("mobilenet_v2.layer.{}.{}.{part}", block - 2, unit(of)),
                    Place::Head => format!("mobilenet_v2.conv_1x1.{part}"),
                }
            }
            // The flat ones.
            (_, Place::Stem) => format!("features.0.{norm}"),
            (Self::Flat, Place::Head) => format!("conv.{norm}"),
            (_, Place::Head) => format!("features.18.{norm}"),
            (_, Place::Block(block, unit)) => {
                let unit = if block == 1 { unit as usize - 1 } else { unit as usize };
                format!("features.{block}.conv.{}", 3 * unit + norm)
            }
        }
    }
}

/// Stage and place in it of a block from 1 on.
fn stage(block: usize) -> (usize, usize) {
    let mut index = block - 1;
    for (stage, &repeats) in REPEATS.iter().enumerate() {
        if index < repeats {
            return (stage, index);
        }
        index -= repeats;
    }
    (REPEATS.len(), index)
}

/// Reads torchvision's name of a convolution or batch norm.
pub(super) fn parse(place: &str) -> Option<(Place, bool)> {
    let (block, rest) = place.strip_prefix("features.")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let Some(rest) = rest.strip_prefix("conv.") else {
        return Some((if block == 0 { Place::Stem } else { Place::Head }, rest == "1"));
    };
    let (unit, is_norm) = match (block, rest) {
        (1, "0.0" | "0.1") => (Unit::Depthwise, rest == "0.1"),
        (1, "1" | "2") => (Unit::Project, rest == "2"),
        (_, "0.0" | "0.1") => (Unit::Expand, rest == "0.1"),
        (_, "1.0" | "1.1") => (Unit::Depthwise, rest == "1.1"),
        (_, "2" | "3") => (Unit::Project, rest == "3"),
        _ => return None,
    };
    Some((Place::Block(block, unit), is_norm))
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "reference",
            Self::Flat => "d-li14",
            Self::FlatFeatures => "tonylins",
            Self::FlatDropout => "early tonylins",
            Self::Timm => "timm",
            Self::Transformers => "transformers",
        })
    }
}
