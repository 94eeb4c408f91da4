//! Tensors of a state dict: names, shapes, roles, values.

use crate::{After, BatchNorm, Linear, Node, Unit};

/// What a tensor of a state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of a convolution that is not depthwise.
    ConvWeight,
    DepthwiseWeight,
    ConvBias,
    NormWeight,
    NormBias,
    RunningMean,
    RunningVar,
    LinearWeight,
    LinearBias,
}

impl Role {
    /// False for running statistics, which no gradient reaches.
    pub const fn is_trained(self) -> bool {
        !matches!(self, Role::RunningMean | Role::RunningVar)
    }
}

/// Name, shape and role of one tensor of a state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The whole of it, such as `features.0.0.weight`.
    pub name: String,
    /// PyTorch's: OIHW, or [output, input] of a linear layer.
    pub shape: Vec<usize>,
    pub role: Role,
}

impl TensorSpec {
    fn new(place: &str, leaf: &str, shape: &[usize], role: Role) -> Self {
        Self { name: format!("{place}.{leaf}"), shape: shape.to_vec(), role }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if a side of the shape is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The values of a state dict, in its order and layout (PyTorch's: OIHW), row-major f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// In the order of the state dict.
    pub specs: Vec<TensorSpec>,
    /// Of each of them, as long as its shape says.
    pub values: Vec<Vec<f32>>,
}

impl Weights {
    /// All zeros.
    pub fn zeros(specs: Vec<TensorSpec>) -> Self {
        let values = specs.iter().map(|spec| vec![0.0; spec.len()]).collect();
        Self { specs, values }
    }

    /// The values of the tensor of this name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let at = self.specs.iter().position(|spec| spec.name == name)?;
        self.values.get(at).map(Vec::as_slice)
    }
}

impl Unit {
    /// The unit's tensors in state-dict order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let role = if self.conv.is_depthwise() { Role::DepthwiseWeight } else { Role::ConvWeight };
        let mut specs = vec![TensorSpec::new(&self.name, "weight", &self.conv.weight_shape(), role)];
        if matches!(self.after, After::Bias | After::BiasNorm(_)) {
            specs.push(TensorSpec::new(&self.name, "bias", &[self.conv.output], Role::ConvBias));
        }
        if let After::Norm(norm) | After::BiasNorm(norm) = &self.after {
            specs.extend(norm.tensors(self.conv.output));
        }
        specs
    }
}

impl BatchNorm {
    fn tensors(&self, channels: usize) -> [TensorSpec; 4] {
        [
            ("weight", Role::NormWeight),
            ("bias", Role::NormBias),
            ("running_mean", Role::RunningMean),
            ("running_var", Role::RunningVar),
        ]
        .map(|(leaf, role)| TensorSpec::new(&self.name, leaf, &[channels], role))
    }
}

impl Linear {
    /// Weight and bias.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        vec![
            TensorSpec::new(&self.name, "weight", &[self.output, self.input], Role::LinearWeight),
            TensorSpec::new(&self.name, "bias", &[self.output], Role::LinearBias),
        ]
    }
}

impl Node {
    /// The node's tensors in state-dict order; none for a node that learns nothing.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        match self {
            Self::Conv { unit, .. } => unit.tensors(),
            Self::Linear { linear, .. } => linear.tensors(),
            Self::Idle { norm, channels, .. } => norm.tensors(*channels).into(),
            Self::Add { .. }
            | Self::Gate { .. }
            | Self::Concat { .. }
            | Self::Pool { .. }
            | Self::Dropout { .. }
            | Self::DropConnect { .. }
            | Self::Activate { .. } => Vec::new(),
        }
    }
}
