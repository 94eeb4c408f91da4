//! Which of a file's tensors are a network's: prefixes and keys that lead to them, and whose names they have.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Checkpoint, CheckpointError, Dialect, Differences, Problem, Stored};
use crate::{Graph, ModelError, NetworkConfig, NetworkName, PaddingRule, TensorSpec, Weights};

/// Groups of one dialect that are looked at: each holds the names of all tensors.
const MAX_STATES: usize = 16;

/// The tensors of a file that are a network's.
#[derive(Clone, Debug)]
pub struct Fit {
    /// With the file's number of classes.
    pub config: NetworkConfig,
    /// Whose names the file has.
    pub dialect: Dialect,
    /// The keys and wrappers that lead to the tensors, joined with dots; empty where there are none.
    pub state: String,
    specs: Vec<TensorSpec>,
    /// In the file, parallel to the specs.
    names: Vec<String>,
}

impl Fit {
    /// Whose names the file has, in a word.
    pub fn names(&self) -> String {
        match (self.dialect, self.config.name) {
            (Dialect::Own, NetworkName::MobileNetV2) => "torchvision".to_owned(),
            (dialect, _) => dialect.to_string(),
        }
    }

    /// `given`, else what the names imply; none where they leave it to the network.
    pub fn padding(&self, given: Option<PaddingRule>) -> Option<PaddingRule> {
        given.or(self.dialect.padding())
    }

    /// The network as the names imply it; another padding than theirs where one is given.
    ///
    /// # Errors
    /// As for [`NetworkConfig::build`].
    pub fn graph(&self, padding: Option<PaddingRule>) -> Result<Graph, ModelError> {
        let mut graph = self.config.build()?;
        if let Some(eps) = self.dialect.norm_eps() {
            graph = graph.with_norm_eps(eps);
        }
        match self.padding(padding) {
            Some(rule) => Ok(graph.with_padding(rule)),
            None => Ok(graph),
        }
    }
}

/// How tensors of one prefix differ from a network's.
struct Tried {
    state: String,
    dialect: Dialect,
    config: NetworkConfig,
    specs: Vec<TensorSpec>,
    names: Vec<String>,
    differences: Differences,
}

impl Checkpoint {
    /// The one group of tensors that has the network's names and shapes, in any dialect, whatever leads to it. Where there
    /// are several, `state` chooses: the keys that lead to it, or the first few of them.
    ///
    /// # Errors
    /// No such group, or several; the message says what was found.
    pub fn fit(&self, config: NetworkConfig, state: Option<&str>) -> Result<Fit, CheckpointError> {
        let mut tried = Vec::new();
        for &dialect in Dialect::of(config.name) {
            let stem = rename(dialect, &specs(config)?);
            let Some(stem) = stem.first() else { continue };
            let classifier = dialect.rename(&format!("{}.weight", config.name.classifier())).unwrap_or_default();
            for prefix in self.prefixes(stem) {
                let classes = match self.get(&format!("{prefix}{classifier}")).map(|tensor| tensor.shape.as_slice()) {
                    Some(&[classes, _]) => classes,
                    _ => config.classes,
                };
                let config = NetworkConfig { classes, ..config };
                let Ok(specs) = specs(config) else { continue };
                let names = rename(dialect, &specs);
                tried.push(self.tried(prefix, dialect, config, specs, names));
            }
        }
        let tried = self.choose(tried, state, &config.to_string())?;
        let Tried { state, dialect, config, specs, names, .. } = tried;
        Ok(Fit { config, dialect, state, specs, names })
    }

    /// The values of a fit, in the order of the graph's tensors.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn fitted(&mut self, fit: &Fit) -> Result<Weights, CheckpointError> {
        let values = fit.names.iter().map(|name| self.read(name)).collect::<Result<_, _>>()?;
        Ok(Weights { specs: fit.specs.clone(), values })
    }

    /// All of `specs` and nothing else, under their own names, whatever leads to them.
    ///
    /// # Errors
    /// All differences between file and `specs` at once, several groups of them, or a tensor that cannot be read.
    pub fn weights(&mut self, specs: Vec<TensorSpec>) -> Result<Weights, CheckpointError> {
        self.weights_of(specs, None, "network")
    }

    /// The same of a network of this name; where there are several states, `state` chooses.
    pub(super) fn weights_of(
        &mut self,
        specs: Vec<TensorSpec>,
        state: Option<&str>,
        network: &str,
    ) -> Result<Weights, CheckpointError> {
        let names = rename(Dialect::Own, &specs);
        let config = NetworkConfig::new(NetworkName::MobileNetV2);
        let prefixes = names.first().map(|stem| self.prefixes(stem)).unwrap_or_default();
        let prefixes = if prefixes.is_empty() { vec![self.common_prefix()] } else { prefixes };
        let tried =
            prefixes.into_iter().map(|prefix| self.tried(prefix, Dialect::Own, config, specs.clone(), names.clone()));
        let Tried { specs, names, .. } = self.choose(tried.collect(), state, network)?;
        let values = names.iter().map(|name| self.read(name)).collect::<Result<_, _>>()?;
        Ok(Weights { specs, values })
    }

    /// What stands before `stem` in the names of tensors, each with its last dot.
    fn prefixes(&self, stem: &str) -> Vec<String> {
        let prefix = |tensor: &Stored| {
            let prefix = tensor.name.strip_suffix(stem)?;
            // The same tensors once more under another key are no second state.
            (!tensor.is_again && (prefix.is_empty() || prefix.ends_with('.'))).then(|| prefix.to_owned())
        };
        self.tensors.iter().filter_map(prefix).take(MAX_STATES).collect()
    }

    /// The keys that all names start with.
    fn common_prefix(&self) -> String {
        let (Some(first), Some(last)) = (self.tensors.first(), self.tensors.last()) else { return String::new() };
        let mut prefix = String::new();
        for part in first.name.split_inclusive('.') {
            if !part.ends_with('.') || !last.name.starts_with(&format!("{prefix}{part}")) {
                break;
            }
            prefix += part;
        }
        prefix
    }

    fn tried(
        &self,
        prefix: String,
        dialect: Dialect,
        config: NetworkConfig,
        specs: Vec<TensorSpec>,
        names: Vec<String>,
    ) -> Tried {
        let names: Vec<String> = names.into_iter().map(|name| format!("{prefix}{name}")).collect();
        let wanted: BTreeMap<&str, &TensorSpec> = names.iter().map(String::as_str).zip(&specs).collect();
        let below = self.tensors.iter().filter(|tensor| tensor.name.starts_with(&prefix));
        let differences = Differences::between(wanted, below, prefix.len());
        let state = prefix.strip_suffix('.').unwrap_or_default().to_owned();
        Tried { state, dialect, config, specs, names, differences }
    }

    fn choose(&self, mut tried: Vec<Tried>, state: Option<&str>, network: &str) -> Result<Tried, CheckpointError> {
        // What lies below a shorter prefix and belongs to a group of its own is no part of it.
        let groups: Vec<String> =
            tried.iter().filter(|group| !group.state.is_empty()).map(|group| format!("{}.", group.state)).collect();
        for group in &mut tried {
            let inner: Vec<&str> = match group.state.as_str() {
                "" => groups.iter().map(String::as_str).collect(),
                state => groups.iter().filter_map(|other| other.strip_prefix(&format!("{state}."))).collect(),
            };
            let inner = inner.into_iter().filter(|other| !other.is_empty()).collect::<Vec<_>>();
            group.differences.extra.retain(|name| !inner.iter().any(|other| name.starts_with(other)));
        }
        if let Some(state) = state {
            let below = format!("{state}.");
            let named = |group: &Tried| group.state == state || group.state.starts_with(&below);
            let exact = tried.iter().any(|group| group.state == state);
            let all = states(&tried);
            tried.retain(|group| if exact { group.state == state } else { named(group) });
            if tried.is_empty() {
                return Err(self.unreadable(Problem::NoState { state: state.to_owned(), found: self.found(&all) }));
            }
        }
        let fitting = tried.iter().filter(|group| group.differences.is_empty()).count();
        match fitting {
            1 => {}
            0 => {
                let nearest = tried.into_iter().min_by_key(|group| group.differences.len());
                let Some(nearest) = nearest else {
                    let found = self.found(&[]);
                    return Err(self.unreadable(Problem::NoNetwork { network: network.to_owned(), found }));
                };
                let Tried { differences, dialect, state, .. } = nearest;
                let names = match (dialect, state.as_str()) {
                    (Dialect::Own, "") => String::new(),
                    (Dialect::Own, state) => format!("{state}: "),
                    (dialect, "") => format!("in {dialect}'s names: "),
                    (dialect, state) => format!("{state}, in {dialect}'s names: "),
                };
                return Err(CheckpointError::Different { path: self.path.clone(), names, differences });
            }
            _ => {
                tried.retain(|group| group.differences.is_empty());
                return Err(self.unreadable(Problem::Several(states(&tried))));
            }
        }
        let fits = tried.into_iter().find(|group| group.differences.is_empty());
        fits.ok_or_else(|| self.unreadable(Problem::NoStateDict("no tensors".into())))
    }

    /// In words: states, or a few tensors with their shapes.
    fn found(&self, states: &[String]) -> String {
        if !states.is_empty() {
            return format!("the states {}", states.join(", "));
        }
        let names: Vec<String> =
            self.tensors.iter().take(5).map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect();
        let more = if self.tensors.len() > names.len() { ", ..." } else { "" };
        format!("{} tensors: {}{more}", self.tensors.len(), names.join(", "))
    }
}

fn states(tried: &[Tried]) -> Vec<String> {
    let name = |group: &Tried| if group.state.is_empty() { "\"\"".to_owned() } else { group.state.clone() };
    tried.iter().map(name).collect()
}

fn specs(config: NetworkConfig) -> Result<Vec<TensorSpec>, CheckpointError> {
    config.build().map(|graph| graph.tensors()).map_err(CheckpointError::Network)
}

/// Empty where the dialect has no name for one.
fn rename(dialect: Dialect, specs: &[TensorSpec]) -> Vec<String> {
    specs.iter().map(|spec| dialect.rename(&spec.name)).collect::<Option<_>>().unwrap_or_default()
}

/// Reads a file that holds exactly `specs`, under their own names; `num_batches_tracked` is ignored.
///
/// # Errors
/// As for [`Checkpoint::open`] and [`Checkpoint::weights`].
pub fn load(path: &Path, specs: Vec<TensorSpec>) -> Result<Weights, CheckpointError> {
    Checkpoint::open(path)?.weights(specs)
}
