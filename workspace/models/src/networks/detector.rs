//! SSD and SSDLite: a backbone with two taps, extra layers, and two heads on each of six maps.
//!
//! MobileNeXt (ECCV 2020), Table 8, as the official detection code builds it on both backbones (`mobilenet_v2_ssd320_*.yaml`,
//! `mobilenext_ssd320_*.yaml`); MobileNetV2 (CVPR 2018), section 6.2, as TensorFlow does
//! (`ssdlite_mobilenet_v2_coco.config`).

mod name;

use std::fmt;
use std::str::FromStr;

pub use name::DetectorName;

use super::table::{Stage, TableBuilder};
use super::{NetworkConfig, NetworkName, mobilenetv2, mobilenext};
use crate::blocks::{BoxHead, ConvExtra, InvertedResidual, SandglassExtra};
use crate::error::MAX_CHANNELS;
use crate::{Graph, GraphBuilder, MapId, ModelError, PaddingRule, Weights};

/// Maps that boxes are read off.
const LEVELS: usize = 6;

/// A detector at one width, for a number of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorConfig {
    pub name: DetectorName,
    /// Of the backbone.
    pub width: f64,
    /// Scores of a box, that of the background among them: VOC's 21.
    pub classes: usize,
}

/// A detector's graph. Its outputs are the class maps of all levels, then their box maps; the channels of a place are
/// those of its boxes one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    pub graph: Graph,
    /// How many of the nodes, from the first, are the backbone's.
    pub backbone: usize,
    /// Boxes of a place, by level.
    pub boxes: [usize; LEVELS],
    /// What the heads read, by level.
    pub taps: [MapId; LEVELS],
    /// The lines of its table: the backbone's, the extra layers, the class heads by level and then the box heads.
    pub stages: Vec<Stage>,
}

/// What the backbone is, and where it is tapped besides at its end.
#[derive(Clone, Copy, PartialEq)]
enum Backbone {
    /// The last block of 96 channels, a sixth of its expansion.
    MobileNetV2,
    /// The expansion in the block after it: MobileNetV2's own paper, section 6.2.
    MobileNetV2Expansion,
    /// The expansion in the first block of 576 channels and in the last block.
    MobileNeXt,
}

#[derive(Clone, Copy, PartialEq)]
enum Extras {
    InvertedResidual,
    Sandglass,
    /// TensorFlow's; separable or not.
    Conv {
        separable: bool,
    },
}

/// A line of the table of detectors.
struct Plan {
    backbone: Backbone,
    extras: Extras,
    head: BoxHead,
    boxes: [usize; LEVELS],
    classes: usize,
    input: usize,
}

const VOC: [usize; LEVELS] = [6; LEVELS];
const COCO: [usize; LEVELS] = [6, 6, 6, 6, 6, 4];
const TF: [usize; LEVELS] = [3, 6, 6, 6, 6, 6];

/// Channels, and ratio of the hidden map to what comes in: `int(round(channels * ratio))`, of a sandglass `int(channels * ratio)`.
const MOBILENETV2_EXTRAS: [(usize, f64); 4] = [(512, 0.2), (256, 0.5), (256, 0.5), (64, 0.5)];
const MOBILENEXT_EXTRAS: [(usize, f64); 4] = [(512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5)];
/// Each first brings its input to half of these channels.
pub(crate) const TF_EXTRAS: [usize; 4] = [512, 256, 256, 128];

/// TensorFlow's batch norms, eps and momentum; PyTorch counts the new value's share, TensorFlow the old one's.
pub(crate) const TF_NORM: (f32, f32) = (1e-3, 0.0003);

#[rustfmt::skip]
fn plan(name: DetectorName) -> Plan {
    use Backbone::{MobileNeXt, MobileNetV2, MobileNetV2Expansion};
    use BoxHead::{Ssd, Ssdlite, SsdliteTf};
    use Extras::{Conv, InvertedResidual, Sandglass};
    let plan = |backbone, extras, head, boxes, classes, input| Plan { backbone, extras, head, boxes, classes, input };
    match name {
        DetectorName::SsdliteMobileNetV2       => plan(MobileNetV2, InvertedResidual, Ssdlite, VOC, 21, 320),
        DetectorName::SsdliteMobileNetV2Tap576 => plan(MobileNetV2Expansion, InvertedResidual, Ssdlite, VOC, 21, 320),
        DetectorName::SsdliteMobileNeXt        => plan(MobileNeXt, Sandglass, Ssdlite, VOC, 21, 320),
        DetectorName::SsdMobileNetV2           => plan(MobileNetV2, InvertedResidual, Ssd, VOC, 21, 320),
        DetectorName::SsdMobileNeXt            => plan(MobileNeXt, Sandglass, Ssd, VOC, 21, 320),
        DetectorName::SsdliteMobileNetV2Coco   => plan(MobileNetV2, InvertedResidual, Ssdlite, COCO, 81, 320),
        DetectorName::SsdliteMobileNeXtCoco    => plan(MobileNeXt, Sandglass, Ssdlite, COCO, 81, 320),
        DetectorName::SsdliteTfMobileNetV2     => plan(MobileNetV2Expansion, Conv { separable: true }, SsdliteTf, TF, 91, 300),
        DetectorName::SsdTfMobileNetV2         => plan(MobileNetV2Expansion, Conv { separable: false }, Ssd, TF, 91, 300),
    }
}

impl Backbone {
    fn network(self) -> NetworkName {
        match self {
            Self::MobileNetV2 | Self::MobileNetV2Expansion => NetworkName::MobileNetV2,
            Self::MobileNeXt => NetworkName::MobileNeXt,
        }
    }

    /// Names of the two maps.
    fn taps(self) -> [&'static str; 2] {
        match self {
            Self::MobileNetV2 => ["backbone.features.13.add", "backbone.features.18.0"],
            Self::MobileNetV2Expansion => ["backbone.features.14.conv.0.0", "backbone.features.18.0"],
            Self::MobileNeXt => ["backbone.features.13.conv.2", "backbone.features.20.conv.5"],
        }
    }
}

impl DetectorName {
    /// Classes that it was made for, the background among them: VOC's 21, COCO's 81, or TensorFlow's 91, whose ids have gaps.
    pub fn classes(self) -> usize {
        plan(self).classes
    }

    /// Height and width of the image that it was made for, in pixels.
    pub fn input(self) -> usize {
        plan(self).input
    }

    /// The classifier whose features its backbone has.
    pub fn backbone(self) -> NetworkName {
        plan(self).backbone.network()
    }

    /// Whether it is TensorFlow's: SAME padding, an eps of 1e-3, sigmoid scores and anchors of its own.
    pub fn is_tf(self) -> bool {
        matches!(plan(self).extras, Extras::Conv { .. })
    }
}

impl DetectorConfig {
    /// As published: width 1.0, and the classes that it was made for.
    pub fn new(name: DetectorName) -> Self {
        Self { name, width: 1.0, classes: name.classes() }
    }

    /// The detector's graph.
    ///
    /// # Errors
    /// A width or a number of classes that it cannot have.
    pub fn build(&self) -> Result<Detector, ModelError> {
        let Plan { backbone, extras, head, boxes, .. } = plan(self.name);
        if !(1..=MAX_CHANNELS / 6).contains(&self.classes) {
            return Err(ModelError::Classes(self.classes));
        }
        let (mut g, end, mut stages) = self.backbone(backbone)?;
        let nodes = g.len();
        let [first, second] = backbone.taps();
        let mut taps = vec![g.find(first)?, g.find(second)?];
        let stage = |g: &GraphBuilder, operator, s, x, start| -> Result<Stage, ModelError> {
            Ok(Stage { operator, t: None, c: g.channels(x)?, n: 1, s, nodes: start..g.len() })
        };
        let mut x = end;
        for k in 0..LEVELS - 2 {
            let start = g.len();
            x = extras.build(&mut g, k, x)?;
            stages.push(stage(&g, extras.operator(), 2, x, start)?);
            taps.push(x);
        }
        let mut maps = Vec::with_capacity(2 * LEVELS);
        for (headers, values) in [("cls_headers", self.classes), ("reg_headers", 4)] {
            for (level, (&tap, boxes)) in taps.iter().zip(boxes).enumerate() {
                let is_last = level == LEVELS - 1 && head == BoxHead::Ssdlite;
                let head = if is_last { BoxHead::Pointwise } else { head };
                let name = format!("box_head.predictor.{headers}.{level}");
                let start = g.len();
                let map = head.build(&mut g, &name, tap, boxes * values)?;
                stages.push(stage(&g, operator(head, headers), 1, map, start)?);
                maps.push(map);
            }
        }
        let graph = g.finish(maps)?;
        let graph = if self.name.is_tf() { graph.with_padding(PaddingRule::Same) } else { graph };
        let taps = [taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]];
        Ok(Detector { graph, backbone: nodes, boxes, taps, stages })
    }

    fn backbone(&self, backbone: Backbone) -> Result<(GraphBuilder, MapId, Vec<Stage>), ModelError> {
        let config = NetworkConfig { width: self.width, ..NetworkConfig::new(backbone.network()) };
        config.check().map_err(|error| match error {
            ModelError::Width { width, allowed, .. } => {
                ModelError::Width { network: self.name.to_string(), width, allowed }
            }
            error => error,
        })?;
        let mut network = TableBuilder::new("backbone.features")?;
        if self.name.is_tf() {
            network.norm(TF_NORM);
        }
        match backbone {
            Backbone::MobileNeXt => mobilenext::stages(&mut network, &config)?,
            _ => mobilenetv2::stages(&mut network, &config)?,
        }
        Ok(network.into_parts())
    }
}

impl Detector {
    /// Copies the features of a classifier on the same backbone into a detector's weights.
    ///
    /// # Errors
    /// The first tensor of the backbone that the classifier lacks or has in another shape; nothing is copied then.
    pub fn take_backbone(&self, weights: &mut Weights, classifier: &Weights) -> Result<(), ModelError> {
        let mut taken = Vec::new();
        for (at, spec) in weights.specs.iter().enumerate() {
            let Some(name) = spec.name.strip_prefix("backbone.").filter(|name| name.starts_with("features.")) else {
                continue;
            };
            let from = classifier.specs.iter().zip(&classifier.values).find(|(from, _)| from.name == name);
            match from.filter(|(from, _)| from.shape == spec.shape) {
                Some((_, values)) => taken.push((at, values)),
                None => return Err(ModelError::NoBackbone(name.to_owned())),
            }
        }
        for (at, values) in taken {
            weights.values[at].clone_from(values);
        }
        Ok(())
    }
}

/// What a head is called in a table.
fn operator(head: BoxHead, headers: &str) -> &'static str {
    match (headers, head) {
        ("cls_headers", BoxHead::Ssd) => "class scores, 3x3",
        ("cls_headers", BoxHead::Pointwise) => "class scores, 1x1",
        ("cls_headers", _) => "class scores, separable 3x3",
        (_, BoxHead::Ssd) => "box offsets, 3x3",
        (_, BoxHead::Pointwise) => "box offsets, 1x1",
        _ => "box offsets, separable 3x3",
    }
}

impl Extras {
    /// What an extra layer is called in a table.
    fn operator(self) -> &'static str {
        match self {
            Self::InvertedResidual => "extra layer, inverted residual",
            Self::Sandglass => "extra layer, sandglass",
            Self::Conv { separable: true } => "extra layer, separable 3x3",
            Self::Conv { separable: false } => "extra layer, 3x3",
        }
    }

    /// The `k`th of four.
    fn build(self, g: &mut GraphBuilder, k: usize, x: MapId) -> Result<MapId, ModelError> {
        let (name, input) = (format!("backbone.extras.{k}"), g.channels(x)?);
        match self {
            Self::InvertedResidual => {
                let (output, expand_ratio) = MOBILENETV2_EXTRAS[k];
                InvertedResidual { input, output, stride: 2, expand_ratio }.build(g, &name, x)
            }
            Self::Sandglass => {
                let (output, ratio) = MOBILENEXT_EXTRAS[k];
                let hidden = (input as f64 * ratio) as usize;
                SandglassExtra { input, hidden, output }.build(g, &name, x)
            }
            Self::Conv { separable } => ConvExtra { input, output: TF_EXTRAS[k], separable }.build(g, &name, x),
        }
    }
}

/// The detector's name; width and classes are not in it.
impl fmt::Display for DetectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl FromStr for DetectorConfig {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        name.parse().map(Self::new)
    }
}
