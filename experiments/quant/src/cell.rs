//! Cells: a network, where its checkpoint comes from, and a scheme; or the times of all networks by all schemes.

use std::fmt;

use sandglass_data::Protocol;
use sandglass_lab::{Given, Latency, LatencySetup, NamedScheme, Subject, Variant};
use sandglass_models::NetworkConfig;
use sandglass_quant::Scheme;
use sandglass_study::{Axes, StudyError};
use serde::{Deserialize, Serialize};

/// The name of what is not quantised.
pub(crate) const F32: &str = "f32";

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    pub networks: Vec<Variant>,
    /// By name, as all schemes.
    pub schemes: Vec<String>,
    /// Schemes that every seed is quantised by.
    pub seeds: Vec<String>,
    /// Schemes that are looked at layer by layer and calibrated on fewer images.
    pub plain: Vec<String>,
    /// The plain ones with other observers.
    pub observers: Vec<String>,
    /// Images.
    pub calibration: usize,
    pub fewer: Vec<usize>,
    pub noise_images: usize,
    /// The scheme by which each layer is left out in turn.
    pub leave_one_out: String,
    /// Schemes that are timed beside f32.
    pub timed: Vec<NamedScheme>,
}

/// One scale: checkpoints that another study keeps, or given ones; or what is timed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    /// `study/profile` whose cells are quantised.
    pub checkpoints: Option<String>,
    pub data: String,
    /// Where training images are, if not in `data`.
    pub calibrate_on: Option<String>,
    pub input: usize,
    pub classes: usize,
    /// 2 if left out.
    pub stem_stride: Option<usize>,
    pub evaluation: Protocol,
    pub kept: Vec<KeptAt>,
    /// Widths at which each layer is left out in turn.
    pub leave_one_out: Vec<f64>,
    pub given: Vec<GivenNet>,
    /// Widths at which networks are timed.
    pub timed: Vec<f64>,
    pub latency: Option<LatencySetup>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAt {
    pub widths: Vec<f64>,
    pub seeds: Vec<u64>,
}

/// A checkpoint from elsewhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenNet {
    /// Who made it.
    pub name: String,
    pub checkpoint: Given,
    #[serde(default)]
    pub same_padding: bool,
    #[serde(default)]
    pub evaluation: Protocol,
}

/// As JSON, what its hash is made of.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Scored(Box<Scored>),
    Timed(Latency),
}

/// A checkpoint under a scheme.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    #[serde(flatten)]
    pub network: NetworkConfig,
    pub source: Source,
    pub input: usize,
    pub data: String,
    pub calibrate_on: String,
    pub seed: u64,
    /// None: in f32.
    pub scheme: Option<Scheme>,
    /// Images calibrated on; 0 in f32.
    pub images: usize,
    pub evaluation: Protocol,
    pub same_padding: bool,
    /// Images for what is told layer by layer; 0: nothing is.
    pub noise_images: usize,
    pub leave_one_out: bool,
    #[serde(skip)]
    pub scheme_name: String,
    /// The number of images shows in the id.
    #[serde(skip)]
    pub shows_images: bool,
}

/// Where a checkpoint comes from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The study and profile that keep it.
    Kept(String),
    Given {
        name: String,
        checkpoint: Given,
    },
}

impl Cell {
    pub fn scored(&self) -> Option<&Scored> {
        match self {
            Self::Scored(cell) => Some(cell),
            Self::Timed(_) => None,
        }
    }

    pub fn timed(&self) -> Option<&Latency> {
        match self {
            Self::Scored(_) => None,
            Self::Timed(cell) => Some(cell),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scored(cell) => cell.fmt(f),
            Self::Timed(cell) => cell.fmt(f),
        }
    }
}

impl Axes for Cell {
    fn axes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Scored(cell) => cell.axes(),
            Self::Timed(cell) => cell.axes(),
        }
    }

    fn dataset(&self) -> String {
        match self {
            Self::Scored(cell) => cell.data.clone(),
            Self::Timed(cell) => cell.dataset(),
        }
    }

    fn seed(&self) -> u64 {
        self.scored().map_or(0, |cell| cell.seed)
    }
}

impl Scored {
    /// The cell of the study that keeps its checkpoint.
    pub fn kept_cell(&self) -> String {
        format!("{}-w{:?}-s{}", self.network, self.network.width, self.seed)
    }

    fn axes(&self) -> Vec<(&'static str, String)> {
        let source = match &self.source {
            Source::Kept(from) => from,
            Source::Given { name, .. } => name,
        };
        vec![
            ("network", self.network.to_string()),
            ("width", format!("{:?}", self.network.width)),
            ("scheme", self.scheme_name.clone()),
            ("calibration", self.images.to_string()),
            ("checkpoint", source.clone()),
        ]
    }
}

impl fmt::Display for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Kept(_) => write!(f, "{}-{}", self.kept_cell(), self.scheme_name)?,
            Source::Given { name, .. } => {
                write!(f, "{}-w{:?}-{name}-{}", self.network, self.network.width, self.scheme_name)?;
            }
        }
        if self.shows_images { write!(f, "-c{}", self.images) } else { Ok(()) }
    }
}

/// The cells of a profile: network by network and seed by seed, f32 first; then times.
pub(crate) fn cells(design: &Design, setup: &Setup) -> Result<Vec<Cell>, StudyError> {
    let mut cells: Vec<Cell> = scored(design, setup)?.into_iter().map(|cell| Cell::Scored(Box::new(cell))).collect();
    if let Some(latency) = &setup.latency {
        cells.extend(latency.cells(&subjects(design, setup))?.into_iter().map(Cell::Timed));
    }
    match (cells.is_empty(), setup.timed.is_empty() == setup.latency.is_none()) {
        (true, _) => Err(StudyError::refused("needs checkpoints of another study, given ones, or latency")),
        (_, false) => Err(StudyError::refused("timed and latency: one needs the other")),
        _ => Ok(cells),
    }
}

/// What is timed: network by network, f32 before its schemes.
fn subjects(design: &Design, setup: &Setup) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for Variant { network, .. } in &design.networks {
        for &width in &setup.timed {
            let float = Subject::new(network, width);
            let quantised = design.timed.iter().map(|of| Subject { scheme: Some(of.clone()), ..float.clone() });
            subjects.extend(std::iter::once(float.clone()).chain(quantised));
        }
    }
    subjects
}

fn scored(design: &Design, setup: &Setup) -> Result<Vec<Scored>, StudyError> {
    let mut cells = Vec::new();
    match (&setup.checkpoints, setup.given.is_empty()) {
        (Some(from), true) => {
            if from.split_once('/').is_none() {
                return Err(StudyError::refused(format!("checkpoints = {from:?}: use \"study/profile\"")));
            }
            let mut seeds: Vec<u64> = setup.kept.iter().flat_map(|kept| kept.seeds.clone()).collect();
            seeds.sort_unstable();
            seeds.dedup();
            for seed in seeds {
                for (kept, Variant { network, .. }) in
                    setup.kept.iter().flat_map(|kept| design.networks.iter().map(move |variant| (kept, variant)))
                {
                    let is_first = kept.seeds.first() == Some(&seed);
                    for &width in kept.widths.iter().filter(|_| kept.seeds.contains(&seed)) {
                        let leave_one_out = is_first && setup.leave_one_out.contains(&width);
                        let base = Scored { seed, ..blank(setup, network, width, Source::Kept(from.clone()))? };
                        schemes(design, &base, is_first, leave_one_out, &mut cells)?;
                    }
                }
            }
        }
        (None, false) => {
            for GivenNet { name, checkpoint, same_padding, evaluation } in &setup.given {
                let source = Source::Given { name: name.clone(), checkpoint: checkpoint.clone() };
                let base = Scored {
                    data: checkpoint.data.clone(),
                    evaluation: evaluation.clone(),
                    same_padding: *same_padding,
                    ..blank(setup, &checkpoint.network, checkpoint.width, source)?
                };
                schemes(design, &base, true, false, &mut cells)?;
            }
        }
        (None, true) => {}
        (Some(_), false) => {
            return Err(StudyError::refused("needs either checkpoints of another study, or given ones"));
        }
    }
    Ok(cells)
}

/// All schemes of one checkpoint: all of them at the first seed.
fn schemes(
    design: &Design,
    base: &Scored,
    is_first: bool,
    leave_one_out: bool,
    cells: &mut Vec<Scored>,
) -> Result<(), StudyError> {
    cells.push(base.clone());
    let quantised = |name: &str, images: usize| -> Result<Scored, StudyError> {
        let is_plain = is_first && design.plain.iter().any(|plain| plain == name) && images == design.calibration;
        let scheme = Scheme::built_in(name).map_err(StudyError::refused)?;
        scheme.check().map_err(StudyError::refused)?;
        Ok(Scored {
            scheme: Some(scheme),
            images,
            noise_images: if is_plain { design.noise_images } else { 0 },
            leave_one_out: leave_one_out && images == design.calibration && design.leave_one_out == name,
            scheme_name: name.to_owned(),
            shows_images: images != design.calibration,
            ..base.clone()
        })
    };
    let names = design.schemes.iter().filter(|name| is_first || design.seeds.contains(name));
    for name in names {
        cells.push(quantised(name, design.calibration)?);
    }
    if is_first {
        for name in &design.observers {
            cells.push(quantised(name, design.calibration)?);
        }
        for name in &design.plain {
            for &images in &design.fewer {
                cells.push(quantised(name, images)?);
            }
        }
    }
    Ok(())
}

/// A checkpoint in f32.
fn blank(setup: &Setup, network: &str, width: f64, source: Source) -> Result<Scored, StudyError> {
    let config: NetworkConfig = network.parse().map_err(StudyError::refused)?;
    let stem_stride = setup.stem_stride.unwrap_or(config.stem_stride);
    let network = NetworkConfig { width, classes: setup.classes, stem_stride, ..config };
    network.build().and_then(|graph| graph.cost(setup.input, setup.input)).map_err(StudyError::refused)?;
    setup.evaluation.check().map_err(StudyError::refused)?;
    Ok(Scored {
        network,
        source,
        input: setup.input,
        data: setup.data.clone(),
        calibrate_on: setup.calibrate_on.clone().unwrap_or_else(|| setup.data.clone()),
        seed: 0,
        scheme: None,
        images: 0,
        evaluation: setup.evaluation.clone(),
        same_padding: false,
        noise_images: 0,
        leave_one_out: false,
        scheme_name: F32.to_owned(),
        shows_images: false,
    })
}
