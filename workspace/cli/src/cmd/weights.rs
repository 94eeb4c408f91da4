//! A checkpoint from anywhere as a network that can be scored.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use sandglass_data::{Dataset, Part};
use sandglass_lab::Card;
use sandglass_models::checkpoint::{Checkpoint, CheckpointError, Dialect, Fit};
use sandglass_models::{After, Graph, NetworkConfig, Node, Padding, PaddingRule, Role, Unit, Weights};
use sandglass_quant::Quantised;
use sandglass_study::tell;
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct WeightsArgs {
    /// Checkpoint: .safetensors, or .pth in either form; MobileNetV2 in the names of torchvision, d-li14, tonylins, timm or
    /// transformers
    #[arg(long)]
    pub weights: PathBuf,
    /// Which state of a checkpoint that holds several, such as raw and averaged weights: the keys that lead to it
    #[arg(long, value_name = "KEY")]
    state: Option<String>,
    /// Output of the background class, which is left out: 0 in TensorFlow's networks of 1001 outputs
    #[arg(long, value_name = "OUTPUT")]
    pub background: Option<usize>,
}

/// A checkpoint that `sandglass quantise` wrote; it knows its network, which must be that of `config`. With its convolutions'
/// padding in a word.
pub fn quantised(path: &Path, config: NetworkConfig) -> anyhow::Result<(Quantised, NetworkConfig, &'static str)> {
    let (quantised, facts) = sandglass_quant::load(path)?;
    let same =
        config.to_string() == facts.network && (config.width, config.stem_stride) == (facts.width, facts.stem_stride);
    let of = format!("{} {} with stem stride {}", facts.network, facts.width, facts.stem_stride);
    ensure!(same, "{}: a quantised {of}, not {config} {}", path.display(), config.width);
    let padding = padding(&facts.graph()?);
    Ok((quantised, NetworkConfig { classes: facts.classes, ..config }, padding))
}

fn units(graph: &Graph) -> impl Iterator<Item = &Unit> {
    graph.nodes().iter().filter_map(|node| match node {
        Node::Conv { unit, .. } => Some(unit),
        _ => None,
    })
}

/// Of the convolutions: whether any pads as TensorFlow does, by its rule or as it does at even sizes.
fn padding(graph: &Graph) -> &'static str {
    let pads = |with: fn(Padding) -> bool| units(graph).any(|unit| with(unit.conv.window.padding));
    match () {
        () if pads(|padding| padding == Padding::Same) => "same",
        () if pads(|padding| matches!(padding, Padding::Unequal(..))) => "unequal",
        () => "symmetric",
    }
}

/// A network with its weights, and what was found out about them.
pub struct Loaded {
    pub graph: Graph,
    pub weights: Weights,
    pub config: NetworkConfig,
    /// The output that was left out.
    background: Option<usize>,
    /// Of the convolutions, as the tensors' names imply.
    implied_padding: &'static str,
    fit: Fit,
    /// Lists of classes that lie in the file.
    class_lists: Vec<String>,
}

impl WeightsArgs {
    pub fn load(&self, config: NetworkConfig, padding: Option<PaddingRule>) -> anyhow::Result<Loaded> {
        let mut checkpoint = Checkpoint::open(&self.weights)?;
        let mut fit = checkpoint.fit(config, self.state.as_deref()).map_err(|error| {
            let width = other_width(&checkpoint, config, self.state.as_deref());
            match width.filter(|_| matches!(error, CheckpointError::Different { .. })) {
                Some(width) => {
                    anyhow::Error::from(error).context(format!("not of width {}, but of {width}", config.width))
                }
                None => error.into(),
            }
        })?;
        let mut weights = checkpoint.fitted(&fit)?;
        if let Some(output) = self.background {
            let outputs = fit.config.classes;
            if output >= outputs || outputs == 1 {
                bail!("--background {output}: the classifier has {outputs} outputs");
            }
            leave_out(&mut weights, output);
            fit.config.classes -= 1;
        }
        let implied_padding = self::padding(&fit.graph(None)?);
        let graph = fit.graph(padding)?;
        let (config, background, class_lists) = (fit.config, self.background, checkpoint.class_lists());
        Ok(Loaded { graph, weights, config, background, implied_padding, fit, class_lists })
    }

    /// The file as a quantised checkpoint, with its padding; of what is asked of others nothing is passed over.
    pub fn quantised(
        &self,
        config: NetworkConfig,
        asked: Option<PaddingRule>,
    ) -> anyhow::Result<(Quantised, NetworkConfig, &'static str)> {
        ensure!(self.state.is_none(), "--state: a quantised checkpoint holds one");
        ensure!(self.background.is_none(), "--background: a quantised checkpoint has the outputs it has");
        let loaded = quantised(&self.weights, config)?;
        let wanted = asked.map(|rule| if rule == PaddingRule::Same { "same" } else { "symmetric" });
        match (wanted, loaded.2) {
            (Some(wanted), held) if wanted != held => {
                bail!("{}: quantised with {held} padding, and asked for is {wanted}: quantise it anew", self.place())
            }
            _ => Ok(loaded),
        }
    }

    /// File and state; a background class is a detector's own.
    pub fn of_detector(self) -> anyhow::Result<(PathBuf, Option<String>)> {
        ensure!(self.background.is_none(), "--background: a detector reads its own");
        Ok((self.weights, self.state))
    }

    /// 1001 outputs are almost surely TensorFlow's, and labels one off score next to nothing.
    pub fn background_hint(&self, outputs: usize) -> Option<&'static str> {
        const HINT: &str = "of 1001 outputs the first is TensorFlow's background class: --background 0 leaves it out";
        (outputs == 1001 && self.background.is_none()).then_some(HINT)
    }

    pub fn place(&self) -> String {
        self.weights.display().to_string()
    }

    /// A set for the classifier of these weights: by the names in its card, where it has one. Its classes are the classifier's,
    /// or as many.
    pub fn open(&self, data: &str, part: Part, card: Option<&Card>, outputs: usize) -> anyhow::Result<Dataset> {
        let set = match card.and_then(|card| card.classes.as_deref()) {
            Some(names) => sandglass_data::open_named(data, part, names),
            None => sandglass_data::open(data, part, Some(outputs)),
        };
        let set = self.with_hint(outputs, set.and_then(|set| set.check_classes(outputs).map(|()| set)))?;
        self.check_background(outputs, set.names_classes())?;
        if let Some(card) = card {
            card.check(&self.weights, &set)?;
        }
        Ok(set)
    }

    /// # Errors
    /// A card that lists another number of classes than the classifier has outputs.
    pub fn check_outputs(&self, card: Option<&Card>, outputs: usize) -> anyhow::Result<()> {
        let Some(card) = card else { return Ok(()) };
        card.check_outputs(&self.weights, outputs).map_err(|error| match self.background {
            Some(output) => anyhow::anyhow!("{error} when --background {output} has left one out"),
            None => error.into(),
        })
    }

    fn check_background(&self, outputs: usize, set_names_classes: bool) -> anyhow::Result<()> {
        match self.background_hint(outputs) {
            Some(hint) if !set_names_classes => bail!("{}: {hint}", self.place()),
            _ => Ok(()),
        }
    }

    fn with_hint<T>(&self, outputs: usize, result: Result<T, sandglass_data::DataError>) -> anyhow::Result<T> {
        match self.background_hint(outputs) {
            Some(hint) => result.map_err(|error| anyhow::anyhow!("{error}; {hint}")),
            None => Ok(result?),
        }
    }
}

/// The papers' widths.
const WIDTHS: [f64; 7] = [0.1, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4];

/// The width that a checkpoint's shapes are of, where it is one of the papers'.
fn other_width(checkpoint: &Checkpoint, config: NetworkConfig, state: Option<&str>) -> Option<f64> {
    WIDTHS.into_iter().find(|&width| checkpoint.fit(NetworkConfig { width, ..config }, state).is_ok())
}

/// Takes an output's row off the classifier.
fn leave_out(weights: &mut Weights, output: usize) {
    for (spec, values) in weights.specs.iter_mut().zip(&mut weights.values) {
        if matches!(spec.role, Role::LinearWeight | Role::LinearBias) {
            let row = values.len() / spec.shape[0].max(1);
            values.drain(output * row..(output + 1) * row);
            spec.shape[0] -= 1;
        }
    }
}

impl Loaded {
    pub fn padding(&self) -> &'static str {
        padding(&self.graph)
    }

    /// What was asked for otherwise than it was trained: here, all is padded as the tensors' names imply.
    pub fn overruled(&self) -> Option<&'static str> {
        (self.padding() != self.implied_padding).then_some("padding")
    }

    /// `assumed`: what is left to the defaults.
    pub fn hint(&self, assumed: &[&str]) -> Option<&'static str> {
        const HINT: &str = "MobileNetV2 in transformers' names is mostly TensorFlow's, which --preset tensorflow feeds as it was \
                            trained";
        (self.fit.dialect == Dialect::Transformers && assumed.contains(&"mean")).then_some(HINT)
    }

    /// All batch norms of a network have one.
    fn norm_eps(&self) -> Option<f32> {
        units(&self.graph).find_map(|unit| match &unit.after {
            After::Norm(norm) | After::BiasNorm(norm) => Some(norm.eps),
            After::Bias => None,
        })
    }

    /// A line on stderr for each state of the file that is not whole, and was not taken.
    pub fn warn(&self, weights: &Path) {
        for state in &self.fit.incomplete {
            tell(format_args!("warning: {}: not whole and not taken: {state}", weights.display()));
        }
    }

    /// What the file holds beside them of the same network, in a word each.
    pub fn incomplete(&self) -> Vec<String> {
        self.fit.incomplete.iter().map(ToString::to_string).collect()
    }

    pub fn as_json(&self) -> Value {
        json!({
            "names": self.fit.names(),
            "state": self.fit.state,
            "padding": self.padding(),
            "norm_eps": self.norm_eps().map(super::decimal),
            "class_lists_not_read": self.class_lists,
        })
    }

    /// One line.
    pub fn as_text(&self) -> String {
        let state = if self.fit.state.is_empty() { String::new() } else { format!("state {}, ", self.fit.state) };
        let eps = self.norm_eps().map_or_else(String::new, |eps| format!(", batch norm eps {eps:e}"));
        let background = self.background.map_or_else(String::new, |output| {
            format!(", without output {output}, the background: labels that are numbers count without it")
        });
        let lists = match self.class_lists.join(", ") {
            none if none.is_empty() => none,
            lists => format!("; the file's {lists} may say which class an output is, and is not read"),
        };
        format!("weights: {state}{} names, {} padding{eps}{background}{lists}", self.fit.names(), self.padding())
    }
}
