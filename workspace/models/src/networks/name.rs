//! What networks are called.

use std::fmt;
use std::str::FromStr;

use super::DetectorName;
use crate::ModelError;
use crate::blocks::Placement;

/// A classifier of one of the papers, whatever its width; detectors are a [`DetectorName`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkName {
    /// arXiv 1704.04861, with ReLU6.
    MobileNetV1,
    /// CVPR 2018.
    MobileNetV2,
    /// MobileNetV2 with one more depthwise convolution in each block (MobileNeXt, section 4).
    MobileNetV2ExtraDw(Placement),
    /// ECCV 2020, as the official code builds it.
    MobileNeXt,
    /// With the block as the paper draws it, one form everywhere.
    MobileNeXtPaper,
    /// CVPR 2016, as torchvision builds it.
    ResNet50,
    /// ICML 2019, as torchvision builds it.
    EfficientNetB0,
    /// Without gates, with ReLU6 and SAME padding.
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

impl NetworkName {
    /// Every classifier.
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
        if DetectorName::all().any(|detector| detector.name() == name) {
            return Err(ModelError::IsDetector(name.to_owned()));
        }
        let known = NAMES.map(|(name, _)| name).join(", ");
        Err(ModelError::UnknownNetwork { name: name.to_owned(), known })
    }
}
