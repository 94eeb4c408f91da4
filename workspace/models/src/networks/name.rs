//! What networks are called.

use std::fmt;
use std::str::FromStr;

use crate::ModelError;
use crate::blocks::Placement;

/// A network of one of the papers, whatever its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkName {
    MobileNetV1,
    MobileNetV2,
    MobileNetV2ExtraDw(Placement),
    MobileNeXt,
    MobileNeXtPaper,
    ResNet50,
    EfficientNetB0,
    EfficientNetLite0,
    /// The sandglass in EfficientNet's frame; the large one is 1.1 times as deep and has 1x1 convolutions of two groups.
    MobileNeXtSeS,
    MobileNeXtSeL,
}

const NAMES: [(&str, NetworkName); 11] = [
    ("mobilenetv1", NetworkName::MobileNetV1),
    ("mobilenetv2", NetworkName::MobileNetV2),
    ("mobilenetv2_extra_dw_dw_dw", NetworkName::MobileNetV2ExtraDw(Placement::DwDw)),
    ("mobilenetv2_extra_dw_ends", NetworkName::MobileNetV2ExtraDw(Placement::Ends)),
    ("mobilenext", NetworkName::MobileNeXt),
    ("mobilenext_paper", NetworkName::MobileNeXtPaper),
    ("resnet50", NetworkName::ResNet50),
    ("efficientnet_b0", NetworkName::EfficientNetB0),
    ("efficientnet_lite0", NetworkName::EfficientNetLite0),
    ("mobilenext_se_s", NetworkName::MobileNeXtSeS),
    ("mobilenext_se_l", NetworkName::MobileNeXtSeL),
];

/// Networks of both papers that are known and not built yet: a name moves up when its network comes.
const LATER_NETWORKS: [&str; 8] = [
    "ssdlite_mobilenetv2",
    "ssd_mobilenetv2",
    "ssdlite_mobilenetv2_coco",
    "ssdlite_mobilenext",
    "ssd_mobilenext",
    "ssdlite_mobilenext_coco",
    "ssd_extras_and_heads_tf",
    "ssdlite_extras_and_heads_tf",
];

impl NetworkName {
    /// Every network that is built.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, network)| network)
    }

    /// Place of the classifier in a state dict.
    pub fn classifier(self) -> &'static str {
        match self {
            Self::MobileNetV1 => "classifier",
            Self::ResNet50 => "fc",
            Self::EfficientNetLite0 | Self::MobileNeXtSeS | Self::MobileNeXtSeL => "_fc",
            _ => "classifier.1",
        }
    }

    /// Whether its shortcuts know an identity tensor multiplier.
    pub fn has_identity_div(self) -> bool {
        matches!(self, Self::MobileNeXt | Self::MobileNeXtPaper)
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, network)| network == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for NetworkName {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        if let Some((_, network)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*network);
        }
        if LATER_NETWORKS.contains(&name) {
            return Err(ModelError::NotBuilt(name.to_owned()));
        }
        let known = NAMES.map(|(name, _)| name).join(", ");
        Err(ModelError::UnknownNetwork { name: name.to_owned(), known })
    }
}
