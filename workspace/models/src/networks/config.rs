//! Which network, how wide, for how many classes.

use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{NetworkName, Table, efficientnet, mobilenetv1, mobilenetv2, mobilenext, resnet50};
use crate::error::MAX_CHANNELS;
use crate::{Graph, ModelError, Node};

const MAX_WIDTH: f64 = 100.0;

/// A network at one width, for a number of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkConfig {
    pub name: NetworkName,
    /// Multiplier of all channels, before they are rounded.
    pub width: f64,
    /// Outputs.
    pub classes: usize,
    /// Stride of the first convolution: 2, or 1 for small images.
    pub stem_stride: usize,
    /// The identity tensor multiplier's inverse (MobileNeXt): 1, 2, 3, 6 are the paper's 1, 1/2, 1/3, 1/6.
    pub identity_div: usize,
}

impl NetworkConfig {
    /// The papers' network: width 1.0, 1000 classes, stem stride 2, whole identity.
    pub const fn new(name: NetworkName) -> Self {
        Self { name, width: 1.0, classes: 1000, stem_stride: 2, identity_div: 1 }
    }

    /// The network's graph, whose one output is the logits.
    ///
    /// # Errors
    /// A width, a number of classes, a stride or an identity divisor that the network cannot have.
    pub fn build(&self) -> Result<Graph, ModelError> {
        Ok(self.table()?.graph)
    }

    /// As [`NetworkConfig::build`], with drop-connect where the network has a place for it: at `rate * i / n` in block `i` of
    /// `n`, from 0, if it has a shortcut. At a rate of 0 it is the same graph.
    ///
    /// # Errors
    /// As for [`NetworkConfig::build`]; a rate for a network that has no place for drop-connect.
    pub fn build_with_drop_connect(&self, rate: f64) -> Result<Graph, ModelError> {
        let graph = self.table_at(rate)?.graph;
        let drops = graph.nodes().iter().any(|node| matches!(node, Node::DropConnect { .. }));
        if rate > 0.0 && !drops { Err(ModelError::NoDropConnect(self.name.to_string())) } else { Ok(graph) }
    }

    /// The graph stage by stage, as the papers' tables list it.
    ///
    /// # Errors
    /// As for [`NetworkConfig::build`].
    pub fn table(&self) -> Result<Table, ModelError> {
        self.table_at(0.0)
    }

    fn table_at(&self, drop_connect: f64) -> Result<Table, ModelError> {
        self.check()?;
        match self.name {
            NetworkName::MobileNetV1 => mobilenetv1::table(self),
            NetworkName::MobileNetV2 => mobilenetv2::table(self),
            NetworkName::MobileNetV2ExtraDw(placement) => mobilenetv2::table_extra_dw(self, placement),
            NetworkName::MobileNeXt => mobilenext::table(self),
            NetworkName::MobileNeXtPaper => mobilenext::table_paper(self),
            NetworkName::ResNet50 => resnet50::table(self),
            NetworkName::EfficientNetB0 => efficientnet::b0(self, drop_connect),
            NetworkName::EfficientNetLite0 => efficientnet::lite0(self, drop_connect),
            NetworkName::MobileNeXtSeS => efficientnet::sandglass(self, drop_connect, |n| n, 1),
            // 1.1 times as many, rounded up.
            NetworkName::MobileNeXtSeL => efficientnet::sandglass(self, drop_connect, |n| (11 * n).div_ceil(10), 2),
        }
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        let width = self.width;
        let allowed = match self.name {
            NetworkName::ResNet50
            | NetworkName::EfficientNetB0
            | NetworkName::EfficientNetLite0
            | NetworkName::MobileNeXtSeS
            | NetworkName::MobileNeXtSeL
                if width != 1.0 =>
            {
                Some("1.0")
            }
            NetworkName::MobileNetV1 if !(0.25..=MAX_WIDTH).contains(&width) => Some("0.25 to 100"),
            _ if !(0.01..=MAX_WIDTH).contains(&width) => Some("0.01 to 100"),
            _ => None,
        };
        if let Some(allowed) = allowed {
            return Err(ModelError::Width { network: self.name.to_string(), width, allowed });
        }
        if !(1..=MAX_CHANNELS).contains(&self.classes) {
            return Err(ModelError::Classes(self.classes));
        }
        if !(1..=2).contains(&self.stem_stride) {
            return Err(ModelError::Stride(self.stem_stride));
        }
        match self.identity_div {
            0 => Err(ModelError::IdentityDiv(0)),
            1 => Ok(()),
            _ if self.name.has_identity_div() => Ok(()),
            _ => Err(ModelError::NoIdentityDiv(self.name.to_string())),
        }
    }
}

/// What decides the network's tensors, under names that stay: hashes of cells and the identity of runs are made of them.
/// A fact added later is left out while it is at its default.
impl Serialize for NetworkConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut facts = serializer.serialize_struct("NetworkConfig", 4)?;
        facts.serialize_field("network", &self.to_string())?;
        facts.serialize_field("width", &self.width)?;
        facts.serialize_field("classes", &self.classes)?;
        facts.serialize_field("stem_stride", &self.stem_stride)?;
        facts.end()
    }
}

/// The network's name and its identity divisor, as in `mobilenext_div2`; width and classes are not in it.
impl fmt::Display for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity_div {
            1 => self.name.fmt(f),
            div => write!(f, "{}_div{div}", self.name),
        }
    }
}

impl FromStr for NetworkConfig {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        if let Some((network, div)) = name.rsplit_once("_div")
            && let Ok(identity_div) = div.parse()
            && let Ok(name) = network.parse()
        {
            return Ok(Self { identity_div, ..Self::new(name) });
        }
        name.parse().map(Self::new)
    }
}
