//! Which of a file's tensors are a network's: prefixes and keys that lead to them, and whose names they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::{Checkpoint, CheckpointError, Dialect, Differences, NoTensor, Problem, Stored};
use crate::{Graph, ModelError, NetworkConfig, NetworkName, PaddingRule, TensorSpec, Weights};

/// States that are looked at: each holds the names of all tensors.
const MAX_STATES: usize = 16;

/// What modules are called that wrap another and add no tensor: for several devices, compiled, sharded, computed anew on the way
/// back.
const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// The tensors of a file that are a network's.
#[derive(Clone, Debug)]
pub struct Fit {
    /// With the file's number of classes.
    pub config: NetworkConfig,
    /// Whose names the file has.
    pub dialect: Dialect,
    /// The keys and wrappers that lead to the tensors, joined with dots; empty where there are none.
    pub state: String,
    /// What the file holds beside it of the same network.
    pub incomplete: Vec<Incomplete>,
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

/// A state beside the one that was taken, which lacks some of the network's tensors, has them in other shapes or without
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// The keys that lead to it, joined with dots; empty where there are none.
    pub state: String,
    /// In a few words.
    pub why: String,
}

/// The tensors below one prefix, some of which have names of the network's.
struct Group {
    /// With its last dot.
    prefix: String,
    dialect: Dialect,
    /// How many of the network's names it has, and how many there are.
    names: usize,
    of: usize,
    has_stem: bool,
}

/// How a group differs from a network.
struct Tried {
    state: String,
    dialect: Dialect,
    config: NetworkConfig,
    specs: Vec<TensorSpec>,
    names: Vec<String>,
    differences: Differences,
}

/// The group that was taken, and those that are not whole.
struct Chosen {
    tried: Tried,
    incomplete: Vec<Incomplete>,
}

impl Group {
    fn state(&self) -> &str {
        self.prefix.strip_suffix('.').unwrap_or_default()
    }

    /// Whether it might be meant as the network; single names are found in many others.
    fn is_state(&self) -> bool {
        self.has_stem || self.has_most()
    }

    fn has_most(&self) -> bool {
        2 * self.names >= self.of
    }
}

impl Checkpoint {
    /// The one group of tensors that has the network's names and shapes, in any dialect, whatever leads to it. Where there
    /// are several, `state` chooses: the keys that lead to it, or the first few of them. Groups are the same only where all
    /// their tensors are the same bytes of the file. Where none fits, the names of PyTorch's wrappers are left out wherever
    /// they stand: a part of a network may be wrapped too, as in `features.module.0.0.weight`.
    ///
    /// # Errors
    /// No such group, or several; the message says what was found.
    pub fn fit(&self, config: NetworkConfig, state: Option<&str>) -> Result<Fit, CheckpointError> {
        self.fit_as_named(config, state).or_else(|error| {
            let Some((plain, named)) = self.without_wrappers() else { return Err(error) };
            let fit = plain.fit_as_named(config, state).map_err(|_| error)?;
            let names = fit.names.iter().map(|name| named.get(name).unwrap_or(name).clone()).collect();
            Ok(Fit { names, ..fit })
        })
    }

    /// The same file with other names, and what the file calls each; none where no name has a wrapper's in it, or two would be
    /// the same.
    fn without_wrappers(&self) -> Option<(Self, BTreeMap<String, String>)> {
        let plain = |name: &str| name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
        let named: BTreeMap<String, String> =
            self.tensors.iter().map(|tensor| (plain(&tensor.name), tensor.name.clone())).collect();
        if named.len() < self.tensors.len() || named.iter().all(|(plain, name)| plain == name) {
            return None;
        }
        let mut tensors: Vec<Stored> =
            self.tensors.iter().map(|tensor| Stored { name: plain(&tensor.name), ..tensor.clone() }).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let file = self.file.try_clone().ok()?;
        let (path, length) = (self.path.clone(), self.length);
        Some((Self { path, file, length, tensors, unnamed: self.unnamed.clone(), others: self.others.clone() }, named))
    }

    fn fit_as_named(&self, config: NetworkConfig, state: Option<&str>) -> Result<Fit, CheckpointError> {
        let mut groups = Vec::new();
        for &dialect in Dialect::of(config.name) {
            groups.extend(self.groups(dialect, &rename(dialect, &specs(config)?)));
        }
        let classifier = format!("{}.weight", config.name.classifier());
        let tried = |group: &Group| {
            let classifier = group.dialect.rename(&classifier).unwrap_or_default();
            let classes = match self.get(&format!("{}{classifier}", group.prefix)).map(|tensor| tensor.shape.as_slice())
            {
                Some(&[classes, _]) if classes > 0 => classes,
                _ => config.classes,
            };
            let config = NetworkConfig { classes, ..config };
            let specs = specs(config).ok()?;
            let names = rename(group.dialect, &specs);
            Some(self.tried(group, config, specs, names))
        };
        let Chosen { tried, incomplete } = self.choose(&groups, state, &config.to_string(), tried)?;
        let Tried { state, dialect, config, specs, names, .. } = tried;
        Ok(Fit { config, dialect, state, incomplete, specs, names })
    }

    /// The values of a fit, in the order of the graph's tensors.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn fitted(&mut self, fit: &Fit) -> Result<Weights, CheckpointError> {
        Ok(Weights { specs: fit.specs.clone(), values: self.read_all(&fit.names)? })
    }

    /// All of `specs` and nothing else, under their own names, whatever leads to them.
    ///
    /// # Errors
    /// All differences between file and `specs` at once, several groups of them, or a tensor that cannot be read.
    pub fn weights(&mut self, specs: Vec<TensorSpec>) -> Result<Weights, CheckpointError> {
        Ok(self.weights_of(specs, None, "network")?.weights)
    }

    /// The same of a network of this name; where there are several states, `state` chooses.
    pub(super) fn weights_of(
        &mut self,
        specs: Vec<TensorSpec>,
        state: Option<&str>,
        network: &str,
    ) -> Result<OfState, CheckpointError> {
        let names = rename(Dialect::Own, &specs);
        let config = NetworkConfig::new(NetworkName::MobileNetV2);
        let mut groups = self.groups(Dialect::Own, &names);
        if !groups.iter().any(Group::is_state) {
            let of = names.len();
            groups.push(Group { prefix: self.common_prefix(), dialect: Dialect::Own, names: 0, of, has_stem: true });
        }
        let tried = |group: &Group| Some(self.tried(group, config, specs.clone(), names.clone()));
        let Chosen { tried, incomplete } = self.choose(&groups, state, network, tried)?;
        let Tried { state, specs, names, .. } = tried;
        Ok(OfState { weights: Weights { specs, values: self.read_all(&names)? }, state, incomplete })
    }

    /// What stands before names of the network's: each tensor belongs to the shortest such prefix, for `conv1.weight` is a
    /// name of ResNet-50's, and the end of others.
    fn groups(&self, dialect: Dialect, names: &[String]) -> Vec<Group> {
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in &self.tensors {
            let name = tensor.name.as_str();
            let mut starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
            if let Some(start) = starts.find(|&start| known.contains(&name[start..])) {
                *counts.entry(&name[..start]).or_default() += 1;
            }
        }
        let stem = names.first().map_or("", String::as_str);
        let group = |(prefix, count): (&str, usize)| Group {
            prefix: prefix.to_owned(),
            dialect,
            names: count,
            of: names.len(),
            has_stem: self.get(&format!("{prefix}{stem}")).is_some(),
        };
        counts.into_iter().map(group).collect()
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

    /// All tensors whose names start so.
    fn below(&self, prefix: &str) -> &[Stored] {
        let from = self.tensors.partition_point(|tensor| tensor.name.as_str() < prefix);
        let tensors = self.tensors.get(from..).unwrap_or_default();
        let count = tensors.partition_point(|tensor| tensor.name.starts_with(prefix));
        tensors.get(..count).unwrap_or_default()
    }

    fn tried(&self, group: &Group, config: NetworkConfig, specs: Vec<TensorSpec>, names: Vec<String>) -> Tried {
        let prefix = &group.prefix;
        let names: Vec<String> = names.into_iter().map(|name| format!("{prefix}{name}")).collect();
        let wanted: BTreeMap<&str, &TensorSpec> = names.iter().map(String::as_str).zip(&specs).collect();
        let differences = Differences::between(wanted, self.below(prefix).iter(), prefix.len());
        Tried { state: group.state().to_owned(), dialect: group.dialect, config, specs, names, differences }
    }

    fn choose(
        &self,
        groups: &[Group],
        state: Option<&str>,
        network: &str,
        tried: impl Fn(&Group) -> Option<Tried>,
    ) -> Result<Chosen, CheckpointError> {
        // What lies below a prefix and is mostly a network of its own is no part of it.
        let own: Vec<&Group> = groups.iter().filter(|group| group.has_most()).collect();
        let tried = |group: &Group| {
            let mut tried = tried(group)?;
            let inner: Vec<&str> = own.iter().filter_map(|other| other.prefix.strip_prefix(&group.prefix)).collect();
            let is_inner = |name: &String| inner.iter().any(|inner| !inner.is_empty() && name.starts_with(inner));
            tried.differences.extra.retain(|name| !is_inner(name));
            Some(tried)
        };
        let mut candidates: Vec<&Group> = match state {
            None => groups.iter().filter(|group| group.is_state()).collect(),
            Some(state) => {
                let is_exact = groups.iter().any(|group| group.state() == state);
                let below = format!("{state}.");
                let is_named =
                    |group: &&Group| group.state() == state || (!is_exact && group.prefix.starts_with(&below));
                let named: Vec<&Group> = groups.iter().filter(is_named).collect();
                if named.is_empty() {
                    let problem = Problem::NoState { state: state.to_owned(), found: self.states(groups) };
                    return Err(self.unreadable(problem));
                }
                named
            }
        };
        candidates.sort_by_key(|group| std::cmp::Reverse(group.names));
        let whole = candidates.iter().filter(|group| group.names == group.of).count();
        if whole > MAX_STATES {
            let states = candidates.iter().take(MAX_STATES).map(|group| spelt(group.state()));
            let more = format!("and {} more", whole - MAX_STATES);
            return Err(self.unreadable(Problem::Several(states.chain([more]).collect())));
        }
        candidates.truncate(MAX_STATES);
        let (fitting, others): (Vec<Tried>, Vec<Tried>) =
            candidates.into_iter().filter_map(tried).partition(|tried| tried.differences.is_empty());
        let mut states: Vec<Tried> = Vec::new();
        for tried in fitting {
            if !states.iter().any(|other| self.is_same(other, &tried)) {
                states.push(tried);
            }
        }
        match <[Tried; 1]>::try_from(states) {
            Ok([chosen]) => {
                let incomplete = self.beside(&chosen, groups, tried);
                Ok(Chosen { tried: chosen, incomplete })
            }
            Err(states) if states.is_empty() => Err(self.misfit(others, network)),
            Err(states) => {
                let states = states.iter().map(|tried| spelt(&tried.state)).collect();
                Err(self.unreadable(Problem::Several(states)))
            }
        }
    }

    /// What else of the network's size a file holds: the same network in parts, or as many tensors that are called otherwise.
    /// An average might be meant, and not be found by its names.
    fn beside(&self, chosen: &Tried, groups: &[Group], tried: impl Fn(&Group) -> Option<Tried>) -> Vec<Incomplete> {
        let is_as_large = |count: usize| 2 * count >= chosen.names.len();
        let others = groups.iter().filter(|group| group.dialect == chosen.dialect && group.state() != chosen.state);
        let mut incomplete = Vec::new();
        for tried in others.clone().take(MAX_STATES).filter_map(tried) {
            if !tried.differences.is_empty() {
                incomplete.push(Incomplete { why: tried.differences.in_short(), state: tried.state });
            }
        }
        let known: Vec<&str> = others.filter(|group| group.has_most()).map(|group| group.prefix.as_str()).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for tensor in &self.tensors {
            let key = leaves(&tensor.name, &chosen.state);
            if key.is_some() && !known.iter().any(|prefix| tensor.name.starts_with(prefix)) {
                *counts.entry(key.unwrap_or_default()).or_default() += 1;
            }
        }
        for (key, count) in counts.into_iter().filter(|(_, count)| is_as_large(*count)) {
            let (state, why) = (key.to_owned(), format!("{count} tensors of other names"));
            incomplete.push(Incomplete { state, why });
        }
        for (key, count) in self.unnamed.iter().filter(|(_, count)| is_as_large(*count as usize)) {
            incomplete.push(Incomplete { state: key.clone(), why: format!("{count} tensors without names") });
        }
        incomplete
    }

    /// Of groups none of which fits: how the nearest differs.
    fn misfit(&self, tried: Vec<Tried>, network: &str) -> CheckpointError {
        let Some(nearest) = tried.into_iter().min_by_key(|group| group.differences.len()) else {
            return self.unreadable(Problem::NoNetwork { network: network.to_owned(), found: self.found() });
        };
        let Tried { differences, dialect, state, .. } = nearest;
        let names = match (dialect, state.as_str()) {
            (Dialect::Own, "") => String::new(),
            (Dialect::Own, state) => format!("{state}: "),
            (dialect, "") => format!("in {dialect}'s names: "),
            (dialect, state) => format!("{state}, in {dialect}'s names: "),
        };
        let prefix = if state.is_empty() { String::new() } else { format!("{state}.") };
        let missing = |name: &str| name.strip_prefix(&prefix).is_some_and(|name| differences.is_missing(name));
        let instead = self.others.iter().find(|other| missing(&other.name));
        let instead = instead.map(|NoTensor { name, what }| format!("{name} is in it, but is {what}"));
        CheckpointError::Different { path: self.path.clone(), names, differences: differences.into(), instead }
    }

    /// Whether all tensors of both are the same bytes: one dict under two keys is one state.
    fn is_same(&self, a: &Tried, b: &Tried) -> bool {
        let place = |name| self.get(name).map(|tensor| (tensor.at, tensor.dtype, &tensor.shape, &tensor.layout));
        a.names.len() == b.names.len() && a.names.iter().zip(&b.names).all(|(a, b)| place(a) == place(b))
    }

    /// In words: a few tensors with their shapes.
    fn found(&self) -> String {
        let names: Vec<String> =
            self.tensors.iter().take(5).map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect();
        let more = if self.tensors.len() > names.len() { ", ..." } else { "" };
        match self.tensors.len() {
            0 => "no tensor".to_owned(),
            count => format!("{count} tensors: {}{more}", names.join(", ")),
        }
    }

    /// In words: the states there are, or the first keys of all names, each with the number of its tensors.
    fn states(&self, groups: &[Group]) -> String {
        let states: BTreeSet<&str> = groups.iter().filter(|group| group.is_state()).map(Group::state).collect();
        let keys = || self.tensors.iter().map(|tensor| tensor.name.split('.').next().unwrap_or_default());
        let (what, states) = if states.is_empty() { ("keys", keys().collect()) } else { ("states", states) };
        let told = states.iter().take(MAX_STATES).map(|state| {
            let prefix = if state.is_empty() { String::new() } else { format!("{state}.") };
            let count = self.below(&prefix).len().max(1);
            format!("{} ({count} tensor{})", spelt(state), if count == 1 { "" } else { "s" })
        });
        let more = if states.len() > MAX_STATES { ", ..." } else { "" };
        format!("the {what} {}{more}", told.collect::<Vec<_>>().join(", "))
    }
}

/// A network's weights, which state of a file they are, and what else was there.
pub(super) struct OfState {
    pub weights: Weights,
    pub state: String,
    pub incomplete: Vec<Incomplete>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", spelt(&self.state), self.why)
    }
}

/// The keys up to the one by which a name leaves a state's keys; none of a name below the state.
fn leaves<'a>(name: &'a str, state: &str) -> Option<&'a str> {
    let mut keys = state.split('.').filter(|key| !key.is_empty());
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        match keys.next() {
            Some(key) if key == part => end += 1,
            Some(_) => return name.get(..end),
            None => return None,
        }
    }
    None
}

fn spelt(state: &str) -> String {
    if state.is_empty() { "\"\"".to_owned() } else { state.to_owned() }
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
