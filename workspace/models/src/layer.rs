//! What every network here is made of: a list of blocks, each a chain of units and at most one shortcut.
//!
//! This is the one description that everything else walks: the cost model, the plain candle networks, the
//! checkpoint names, and the compiled network that trains. Nothing is executed here.

/// What follows a batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    Relu6,
}

/// A square convolution without bias; `groups` is 1, or `input` where it is depthwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
}

impl Conv {
    /// A `kernel` x `kernel` convolution over all channels.
    pub const fn dense(input: usize, output: usize, kernel: usize, stride: usize) -> Self {
        Self { input, output, kernel, stride, groups: 1 }
    }

    pub const fn pointwise(input: usize, output: usize) -> Self {
        Self::dense(input, output, 1, 1)
    }

    pub const fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { input: channels, output: channels, kernel, stride, groups: channels }
    }

    /// One filter a channel. A 1x1 convolution of a single channel counts as pointwise.
    pub const fn is_depthwise(&self) -> bool {
        self.groups == self.input && self.groups == self.output && (self.groups > 1 || self.kernel > 1)
    }

    /// Zeros on every side, as in all the reference code: a map of odd or even size shrinks by the stride, rounded up.
    pub const fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Height or width after this convolution.
    pub const fn output_size(&self, size: usize) -> usize {
        (size + 2 * self.padding()).saturating_sub(self.kernel) / self.stride + 1
    }

    /// As in a state dict: output, input per group, height, width.
    pub const fn weight_shape(&self) -> [usize; 4] {
        [self.output, self.input / self.groups, self.kernel, self.kernel]
    }
}

/// Convolution, batch norm, activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    pub conv: Conv,
    /// Place of the convolution in a state dict, without `.weight`.
    pub conv_name: String,
    /// Place of the batch norm in a state dict, without `.weight` and so on.
    pub norm_name: String,
    pub norm_eps: f32,
    /// Share of the new value in the running statistics.
    pub norm_momentum: f32,
    pub activation: Activation,
}

/// What is added to the output of a block's last unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Shortcut {
    None,
    /// The block's input; with an identity tensor multiplier below 1 only its first `channels`.
    Identity {
        channels: usize,
    },
    /// The block's input through a convolution and batch norm of its own (ResNet).
    Projection(Unit),
}

/// A max-pool with zero weights to learn (ResNet's stem only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

/// A chain of units, a shortcut around them, an activation after the addition.
/// A stem, or a last 1x1 convolution, is a block of one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Place in a state dict, such as `features.3`.
    pub name: String,
    pub units: Vec<Unit>,
    pub shortcut: Shortcut,
    /// After the addition.
    pub activation: Activation,
    pub max_pool: Option<MaxPool>,
}

/// Fully connected, with bias, after global average pooling and dropout.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    pub name: String,
    pub input: usize,
    pub output: usize,
}

/// Blocks, global average pooling, classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub blocks: Vec<Block>,
    pub classifier: Linear,
}

/// What a tensor of a state dict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ConvWeight,
    DepthwiseWeight,
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
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
}

impl TensorSpec {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The values of a state dict, in its order and layout (PyTorch's: OIHW), row-major f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    pub specs: Vec<TensorSpec>,
    pub values: Vec<Vec<f32>>,
}

impl Weights {
    /// All zeros.
    pub fn zeros(specs: Vec<TensorSpec>) -> Self {
        let values = specs.iter().map(|spec| vec![0.0; spec.len()]).collect();
        Self { specs, values }
    }

    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let at = self.specs.iter().position(|spec| spec.name == name)?;
        self.values.get(at).map(Vec::as_slice)
    }
}

impl Shortcut {
    /// The identity of `channels` channels if `condition` holds and any are left.
    pub(crate) const fn when(condition: bool, channels: usize) -> Self {
        if condition && channels > 0 { Self::Identity { channels } } else { Self::None }
    }
}

impl MaxPool {
    /// Height or width after this pool.
    pub const fn output_size(&self, size: usize) -> usize {
        (size + 2 * self.padding).saturating_sub(self.kernel) / self.stride + 1
    }
}

impl Unit {
    /// With PyTorch's defaults for batch norm: eps 1e-5, momentum 0.1.
    pub fn new(conv: Conv, conv_name: String, norm_name: String, activation: Activation) -> Self {
        Self { conv, conv_name, norm_name, norm_eps: 1e-5, norm_momentum: 0.1, activation }
    }

    /// The unit's tensors in state-dict order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let role = if self.conv.is_depthwise() { Role::DepthwiseWeight } else { Role::ConvWeight };
        let mut specs = vec![TensorSpec {
            name: format!("{}.weight", self.conv_name),
            shape: self.conv.weight_shape().to_vec(),
            role,
        }];
        let norm = [
            ("weight", Role::NormWeight),
            ("bias", Role::NormBias),
            ("running_mean", Role::RunningMean),
            ("running_var", Role::RunningVar),
        ];
        specs.extend(norm.map(|(leaf, role)| TensorSpec {
            name: format!("{}.{leaf}", self.norm_name),
            shape: vec![self.conv.output],
            role,
        }));
        specs
    }
}

impl Block {
    /// With neither activation nor pool after the addition.
    pub fn new(name: &str, units: Vec<Unit>, shortcut: Shortcut) -> Self {
        Self { name: name.to_owned(), units, shortcut, activation: Activation::None, max_pool: None }
    }

    /// The block's tensors in state-dict order; a projection's come last, as in ResNet.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut specs: Vec<_> = self.units.iter().flat_map(Unit::tensors).collect();
        if let Shortcut::Projection(unit) = &self.shortcut {
            specs.extend(unit.tensors());
        }
        specs
    }

    /// Channels that the block reads.
    pub fn input(&self) -> usize {
        self.units.first().map_or(0, |unit| unit.conv.input)
    }

    /// Channels that the block writes.
    pub fn output(&self) -> usize {
        self.units.last().map_or(0, |unit| unit.conv.output)
    }

    /// Height or width after the block.
    pub fn output_size(&self, size: usize) -> usize {
        let size = self.units.iter().fold(size, |size, unit| unit.conv.output_size(size));
        self.max_pool.map_or(size, |pool| pool.output_size(size))
    }
}

impl Network {
    /// All tensors in state-dict order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut specs: Vec<_> = self.blocks.iter().flat_map(Block::tensors).collect();
        let Linear { name, input, output } = &self.classifier;
        specs.push(TensorSpec {
            name: format!("{name}.weight"),
            shape: vec![*output, *input],
            role: Role::LinearWeight,
        });
        specs.push(TensorSpec { name: format!("{name}.bias"), shape: vec![*output], role: Role::LinearBias });
        specs
    }
}
