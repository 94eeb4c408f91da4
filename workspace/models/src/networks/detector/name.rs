//! What detectors are called.

use std::fmt;
use std::str::FromStr;

use crate::{ModelError, NetworkName};

/// A detector of one of the papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DetectorName {
    /// MobileNeXt, Table 8. For Pascal VOC at 320 x 320, as all that name neither COCO nor TensorFlow.
    SsdliteMobileNetV2,
    /// Tapped where MobileNetV2's own paper taps it, as wide as MobileNeXt's official detector: 576 channels in place of 96.
    SsdliteMobileNetV2Tap576,
    SsdliteMobileNeXt,
    /// With dense 3x3 convolutions in its heads.
    SsdMobileNetV2,
    SsdMobileNeXt,
    /// For COCO's 80 classes, and with four boxes a place at the last level.
    SsdliteMobileNetV2Coco,
    SsdliteMobileNeXtCoco,
    /// TensorFlow's for COCO, at 300 x 300: MobileNetV2, section 6.2.
    SsdliteTfMobileNetV2,
    SsdTfMobileNetV2,
}

const NAMES: [(&str, DetectorName); 9] = [
    ("ssdlite_mobilenetv2", DetectorName::SsdliteMobileNetV2),
    ("ssdlite_mobilenetv2_tap576", DetectorName::SsdliteMobileNetV2Tap576),
    ("ssdlite_mobilenext", DetectorName::SsdliteMobileNeXt),
    ("ssd_mobilenetv2", DetectorName::SsdMobileNetV2),
    ("ssd_mobilenext", DetectorName::SsdMobileNeXt),
    ("ssdlite_mobilenetv2_coco", DetectorName::SsdliteMobileNetV2Coco),
    ("ssdlite_mobilenext_coco", DetectorName::SsdliteMobileNeXtCoco),
    ("ssdlite_tf_mobilenetv2", DetectorName::SsdliteTfMobileNetV2),
    ("ssd_tf_mobilenetv2", DetectorName::SsdTfMobileNetV2),
];

impl DetectorName {
    /// Every detector.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(_, detector)| detector)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, detector)| *detector == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for DetectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DetectorName {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        if let Some((_, detector)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*detector);
        }
        if name.parse::<NetworkName>().is_ok() {
            return Err(ModelError::IsClassifier(name.to_owned()));
        }
        let known = NAMES.map(|(name, _)| name).join(", ");
        Err(ModelError::UnknownNetwork { name: name.to_owned(), known })
    }
}
