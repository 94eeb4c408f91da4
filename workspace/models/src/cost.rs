//! What a network costs: parameters, multiply-adds by kind, additions in shortcuts, peak memory.
//!
//! A multiply-add is one multiplication of a convolution or of a linear layer; biases, batch norm, activations, gates,
//! pooling and shortcuts have none.

use serde::Serialize;

use crate::{After, Graph, Linear, ModelError, Node, Unit};

/// For one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Elements of all trained tensors; running statistics are not counted.
    pub params: u64,
    /// All convolutions that are not depthwise.
    pub madds_conv_dense: u64,
    pub madds_depthwise: u64,
    /// Linear layers: the classifier.
    pub madds_linear: u64,
    pub madds_total: u64,
    /// Elements that shortcuts add.
    pub residual_adds: u64,
    /// Largest sum of the elements that a convolution or linear layer reads and writes. A shortcut that is kept
    /// meanwhile is not counted.
    pub peak_activation_elems: u64,
}

/// Height and width of a map.
pub type Size = (usize, usize);

impl Cost {
    /// Both, one after the other.
    ///
    /// # Errors
    /// Sums beyond 64 bits.
    pub fn plus(self, other: Self) -> Result<Self, ModelError> {
        let sum = |a: u64, b: u64| a.checked_add(b).ok_or(ModelError::Overflow);
        Ok(Self {
            params: sum(self.params, other.params)?,
            madds_conv_dense: sum(self.madds_conv_dense, other.madds_conv_dense)?,
            madds_depthwise: sum(self.madds_depthwise, other.madds_depthwise)?,
            madds_linear: sum(self.madds_linear, other.madds_linear)?,
            madds_total: sum(self.madds_total, other.madds_total)?,
            residual_adds: sum(self.residual_adds, other.residual_adds)?,
            peak_activation_elems: self.peak_activation_elems.max(other.peak_activation_elems),
        })
    }

    fn of_unit(unit: &Unit, input: Size, output: Size) -> Result<Self, ModelError> {
        let conv = &unit.conv;
        let weights = product(&conv.weight_shape())?;
        let madds = checked_mul(weights, product(&[output.0, output.1])?)?;
        let others = match unit.after {
            After::Norm(_) => 2,
            After::Bias => 1,
            After::BiasNorm(_) => 3,
        };
        let read = product(&[conv.input, input.0, input.1])?;
        let written = product(&[conv.output, output.0, output.1])?;
        Ok(Self {
            params: checked_add(weights, product(&[others, conv.output])?)?,
            madds_conv_dense: if conv.is_depthwise() { 0 } else { madds },
            madds_depthwise: if conv.is_depthwise() { madds } else { 0 },
            madds_total: madds,
            peak_activation_elems: checked_add(read, written)?,
            ..Self::default()
        })
    }

    fn of_linear(linear: &Linear) -> Result<Self, ModelError> {
        let weights = product(&[linear.input, linear.output])?;
        Ok(Self {
            params: checked_add(weights, product(&[linear.output])?)?,
            madds_linear: weights,
            madds_total: weights,
            peak_activation_elems: checked_add(product(&[linear.input])?, product(&[linear.output])?)?,
            ..Self::default()
        })
    }

    fn of_node(node: &Node, sizes: &[Size]) -> Result<Self, ModelError> {
        let output = sizes[node.writes().index()];
        match node {
            Node::Conv { unit, from, .. } => Self::of_unit(unit, sizes[from.index()], output),
            Node::Linear { linear, .. } => Self::of_linear(linear),
            Node::Add { channels, .. } => {
                Ok(Self { residual_adds: product(&[*channels, output.0, output.1])?, ..Self::default() })
            }
            Node::Idle { channels, .. } => Ok(Self { params: product(&[2, *channels])?, ..Self::default() }),
            Node::Gate { .. }
            | Node::Concat { .. }
            | Node::Pool { .. }
            | Node::Dropout { .. }
            | Node::DropConnect { .. }
            | Node::Activate { .. } => Ok(Self::default()),
        }
    }
}

impl Graph {
    /// For one image of this size in pixels.
    ///
    /// # Errors
    /// A size that the graph does not take ([`Graph::sizes`]), or counts beyond 64 bits.
    pub fn cost(&self, height: usize, width: usize) -> Result<Cost, ModelError> {
        self.node_costs(height, width)?.into_iter().try_fold(Cost::default(), Cost::plus)
    }

    /// What each node costs, parallel to [`Graph::nodes`].
    ///
    /// # Errors
    /// As for [`Graph::cost`].
    pub fn node_costs(&self, height: usize, width: usize) -> Result<Vec<Cost>, ModelError> {
        let sizes = self.sizes(height, width)?;
        self.nodes().iter().map(|node| Cost::of_node(node, &sizes)).collect()
    }
}

fn product(factors: &[usize]) -> Result<u64, ModelError> {
    factors.iter().try_fold(1, |product, &factor| checked_mul(product, factor as u64))
}

fn checked_mul(a: u64, b: u64) -> Result<u64, ModelError> {
    a.checked_mul(b).ok_or(ModelError::Overflow)
}

fn checked_add(a: u64, b: u64) -> Result<u64, ModelError> {
    a.checked_add(b).ok_or(ModelError::Overflow)
}
