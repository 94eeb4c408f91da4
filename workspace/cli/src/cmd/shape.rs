//! What a classifier is built by beside its name. Stride and identity divisor change no tensor's shape, so that a wrong one would
//! give a wrong score and no error: where a card beside the weights knows them they are its, and what nobody says is told.

use std::path::Path;

use sandglass_lab::Card;
use sandglass_models::NetworkConfig;

#[derive(clap::Args)]
pub struct ShapeArgs {
    /// Width multiplier; unset: that of the card beside the checkpoint, or 1.0
    #[arg(long)]
    width: Option<f64>,
    /// Stride of the first convolution; unset: that of the card beside the checkpoint, or 2
    #[arg(long)]
    stem_stride: Option<usize>,
    /// Inverse of the identity tensor multiplier
    #[arg(long)]
    identity_div: Option<usize>,
}

impl ShapeArgs {
    /// The network to build.
    pub fn network(&self, name: &str, weights: &Path, card: Option<&Card>) -> anyhow::Result<NetworkConfig> {
        let mut config: NetworkConfig = name.parse()?;
        config.identity_div = self.identity_div.unwrap_or(config.identity_div);
        config.width = self.width.or(card.map(|card| card.width)).unwrap_or(config.width);
        config.stem_stride = self.stem_stride.or(card.map(|card| card.stem_stride)).unwrap_or(config.stem_stride);
        if let Some(card) = card {
            card.check_network(weights, &config)?;
        }
        Ok(config)
    }

    /// What stands at its default where there is no card, and no tensor tells.
    pub fn assumed(&self, config: &NetworkConfig) -> Vec<&'static str> {
        let stem_stride = self.stem_stride.is_none().then_some("stem_stride");
        let is_open = config.name.has_identity_div() && config.identity_div == 1 && self.identity_div.is_none();
        stem_stride.into_iter().chain(is_open.then_some("identity_div")).collect()
    }

    /// A detector has the stem and the blocks it has.
    pub fn of_detector(&self) -> Option<Option<f64>> {
        (self.stem_stride.is_none() && self.identity_div.is_none()).then_some(self.width)
    }
}

/// What no tensor tells, such as `network: stem stride 2`.
pub fn as_text(config: &NetworkConfig) -> String {
    let mut text = format!("network: stem stride {}", config.stem_stride);
    if config.name.has_identity_div() {
        text += &format!(", identity divisor {}", config.identity_div);
    }
    text
}
