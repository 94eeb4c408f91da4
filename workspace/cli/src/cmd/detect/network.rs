//! A detector from a checkpoint, ready to look at images.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use sandglass_data::Picture;
use sandglass_detect::{ClassNames, Counting, Detection, Eye, Reading};
use sandglass_infer::{InferError, Options, Plan};
use sandglass_lab::{Card, default_threads};
use sandglass_models::checkpoint::{Checkpoint, CheckpointError, FittedDetector};
use sandglass_models::{DetectorConfig, DetectorName, Graph, Weights};
use sandglass_ops::Runtime;
use sandglass_reference as reference;
use serde_json::{Value, json};

use crate::cmd::{PlacedCard, extend};

#[derive(clap::Args)]
pub struct DetectorArgs {
    /// Detector, such as ssdlite_mobilenext; unset: that of the card beside the checkpoint, or the one that its tensors fit
    #[arg(long)]
    pub model: Option<String>,
    /// Width multiplier of the backbone; unset: that of the card beside the checkpoint, or 1.0
    #[arg(long)]
    pub width: Option<f64>,
    /// Checkpoint: .safetensors, or .pth in either form; in the names of the official code or of TensorFlow's frozen graph
    #[arg(long)]
    pub weights: PathBuf,
    /// Which state of a checkpoint that holds several: the keys that lead to it
    #[arg(long, value_name = "KEY")]
    pub state: Option<String>,
    /// Height and width of the network's input; unset: that of the card beside the checkpoint, or the published one
    #[arg(long, value_name = "PX")]
    pub input: Option<usize>,
    /// What computes the maps; unset: a compiled plan, or plain candle where no plan is built yet
    #[arg(long, value_enum)]
    pub engine: Option<DetectorEngine>,
    /// Threads of a compiled plan; unset: all
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DetectorEngine {
    /// A compiled plan
    Infer,
    /// Plain candle: slow
    Candle,
}

impl fmt::Display for DetectorEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Infer => "infer",
            Self::Candle => "candle",
        })
    }
}

enum Engine {
    Infer(Box<Plan>),
    Candle(Box<reference::Network>),
}

/// A detector with its weights on one engine, for images one at a time.
pub struct LoadedDetector {
    pub config: DetectorConfig,
    /// Height and width of the input, in pixels; and whether it was asked for.
    size: (usize, usize),
    is_input_given: bool,
    eye: Eye,
    pub counting: Counting,
    reading: Reading,
    engine: Engine,
    /// Whose names the checkpoint has.
    names: &'static str,
    /// The keys that lead to its tensors, and what lies beside of the same detector.
    state: String,
    incomplete: Vec<String>,
    card: Option<PlacedCard>,
    pub classes: ClassNames,
}

/// Pixels of an input's side that memory still holds the maps of.
const LARGEST: usize = 2048;

impl DetectorArgs {
    /// A checkpoint of this detector, on the engine and the input that are its own.
    pub fn of(config: DetectorConfig, weights: PathBuf, state: Option<String>) -> Self {
        let (model, width) = (Some(config.to_string()), Some(config.width));
        Self { model, width, weights, state, input: None, engine: None, threads: None }
    }

    /// # Errors
    /// A checkpoint that is no detector's, or not the one asked for; a size or an engine that it does not take.
    pub fn load(&self) -> anyhow::Result<LoadedDetector> {
        let placed = PlacedCard::of(&self.weights)?;
        let card = placed.as_ref().map(|of| &of.card);
        let FittedDetector { config, weights, names, state, incomplete } = self.fitted(card)?;
        let side = |card: Option<usize>| self.input.or(card).unwrap_or(config.name.input());
        let side = side(card.and_then(|card| card.input));
        ensure!((1..=LARGEST).contains(&side), "an input of {side} pixels: use 1 to {LARGEST}");
        let size = (side, side);
        let eye = Eye::new(config.name, side, card.map(|card| &card.evaluation))?;
        let counting = if card.is_some() { Counting::Edges } else { Counting::published(config.name) };
        let classes = ClassNames::new(config, card.and_then(|card| card.classes.clone()).unwrap_or_default())
            .with_context(|| self.card_place().display().to_string())?;
        let graph = config.build()?.graph;
        let reading = Reading::new(&config, size)?;
        let engine = self.engine(&graph, &weights, size)?;
        let incomplete = incomplete.iter().map(ToString::to_string).collect();
        Ok(LoadedDetector {
            config,
            size,
            is_input_given: self.input.is_some(),
            eye,
            counting,
            reading,
            engine,
            names,
            state,
            incomplete,
            card: placed,
            classes,
        })
    }

    /// For errors.
    fn card_place(&self) -> PathBuf {
        Card::find(&self.weights).unwrap_or_else(|| Card::beside(&self.weights))
    }

    /// # Errors
    /// A checkpoint that is no detector's, or not the one asked for.
    pub fn fitted(&self, card: Option<&Card>) -> anyhow::Result<FittedDetector> {
        let name = self.model.as_deref().or(card.map(|card| card.network.as_str()));
        let width = self.width.or(card.map(|card| card.width)).unwrap_or(1.0);
        let mut checkpoint = Checkpoint::open(&self.weights)?;
        if let Some(name) = name {
            let config: DetectorConfig = name.parse()?;
            if let Some(card) = card {
                let (of, place) = (&card.network, self.card_place());
                let same = *of == config.to_string() && card.width == width;
                ensure!(same, "{}: is of {of} {:?}, not {config} {width:?}", place.display(), card.width);
            }
            return Ok(checkpoint.detector(DetectorConfig { width, ..config }, self.state.as_deref())?);
        }
        let state = self.state.as_deref();
        let mut fit = |name| checkpoint.detector(DetectorConfig { width, ..DetectorConfig::new(name) }, state);
        let mut fitting = Vec::new();
        for name in DetectorName::all() {
            match fit(name) {
                Ok(fitted) => fitting.push(fitted),
                Err(CheckpointError::Different { .. }) => {}
                // A file that cannot be read is so for every detector.
                Err(CheckpointError::Unreadable { problem, .. }) if !problem.is_misfit() => {
                    bail!("{}: {problem}", self.weights.display())
                }
                Err(_) => {}
            }
        }
        let place = self.weights.display();
        match <[FittedDetector; 1]>::try_from(fitting) {
            Ok([fitted]) => Ok(fitted),
            Err(none) if none.is_empty() => Err(anyhow!(
                "{place}: no detector's tensors at width {width}; --model tells how they differ from one's"
            )),
            Err(several) => {
                let names: Vec<String> = several.iter().map(|fitted| fitted.config.to_string()).collect();
                Err(anyhow!("{place}: fits {}: --model chooses", names.join(", ")))
            }
        }
    }

    fn engine(&self, graph: &Graph, weights: &Weights, size: (usize, usize)) -> anyhow::Result<Engine> {
        let plan = || {
            let runtime = Arc::new(Runtime::new(self.threads.unwrap_or_else(default_threads))?);
            anyhow::Ok(Plan::new(runtime, graph, weights, size, Options::default()))
        };
        match self.engine {
            Some(DetectorEngine::Candle) => candle(graph, weights),
            Some(DetectorEngine::Infer) => Ok(Engine::Infer(Box::new(plan()??))),
            None => match plan()? {
                Ok(plan) => Ok(Engine::Infer(Box::new(plan))),
                Err(InferError::NotBuilt { .. }) => candle(graph, weights),
                Err(error) => Err(error.into()),
            },
        }
    }
}

fn candle(graph: &Graph, weights: &Weights) -> anyhow::Result<Engine> {
    let tensors = weights.specs.iter().zip(&weights.values);
    let tensors = tensors.map(|(spec, values)| {
        let tensor = Tensor::from_slice(values, spec.shape.as_slice(), &Device::Cpu)?;
        Ok((spec.name.clone(), tensor))
    });
    let vb = VarBuilder::from_tensors(tensors.collect::<candle_core::Result<_>>()?, DType::F32, &Device::Cpu);
    Ok(Engine::Candle(Box::new(reference::Network::new(graph, &vb)?)))
}

impl LoadedDetector {
    /// An image as the network's input.
    pub fn read(&self, picture: &Picture) -> anyhow::Result<Vec<f32>> {
        Ok(self.eye.read(picture)?)
    }

    /// The heads' maps of one image, each [height, width, channels].
    pub fn maps(&mut self, image: &[f32]) -> anyhow::Result<Vec<Vec<f32>>> {
        match &mut self.engine {
            Engine::Infer(plan) => {
                let count = plan.outputs().len();
                let outputs = plan.run(image)?;
                (0..count).map(|at| Ok(outputs.get(at).context("a map of a plan")?.to_vec())).collect()
            }
            Engine::Candle(network) => {
                let (height, width) = self.size;
                let image = Tensor::from_slice(image, (1, height, width, 3), &Device::Cpu)?.permute((0, 3, 1, 2))?;
                let maps = network.outputs(&image.contiguous()?, false)?.into_iter();
                let maps = maps.map(|map| map.permute((0, 2, 3, 1))?.flatten_all()?.to_vec1());
                Ok(maps.collect::<candle_core::Result<_>>()?)
            }
        }
    }

    /// What the maps show, as shares of the image's sides.
    pub fn detections(&self, maps: &[Vec<f32>]) -> anyhow::Result<Vec<Detection>> {
        Ok(self.reading.detections(&maps.iter().map(Vec::as_slice).collect::<Vec<_>>())?)
    }

    fn engine_name(&self) -> DetectorEngine {
        match self.engine {
            Engine::Infer(_) => DetectorEngine::Infer,
            Engine::Candle(_) => DetectorEngine::Candle,
        }
    }

    pub fn as_json(&self) -> Value {
        let (height, width) = self.size;
        let mut json = json!({
            "network": self.config.to_string(),
            "width": self.config.width,
            "classes": self.config.classes,
            "names": self.names,
            "state": self.state,
            "incomplete": self.incomplete,
            "classes_by_number": self.classes.is_by_number(),
            "input": [height, width],
            "engine": self.engine_name().to_string(),
        });
        extend(&mut json, PlacedCard::as_json(self.card.as_ref()));
        json
    }

    /// One line, and another of what lies beside the weights.
    pub fn as_text(&self) -> String {
        let (height, width) = self.size;
        let state = if self.state.is_empty() { String::new() } else { format!("state {}, ", self.state) };
        let card = match &self.card {
            Some(card) => card.as_text(),
            None => {
                let input = if self.is_input_given { "" } else { "input and " };
                let classes = match (self.classes.is_by_number(), self.classes.is_taken_for_vocs()) {
                    (true, true) => "; its classes, which nobody names, are taken for Pascal VOC's, in their order",
                    (true, false) => "; nobody names its classes",
                    (false, _) => "",
                };
                format!("no card beside the weights: {input}values are as published{classes}")
            }
        };
        let beside = match self.incomplete.as_slice() {
            [] => String::new(),
            beside => format!("; beside these weights, not whole and not taken: {}", beside.join(", ")),
        };
        let (config, engine, names) = (&self.config, self.engine_name(), self.names);
        let (scale, classes) = (config.width, config.classes);
        format!(
            "{config} {scale}, {classes} classes with the background, input {height} x {width}, {state}{names} names, engine {engine}\n{card}{beside}"
        )
    }
}
