//! A network as the papers' tables list it, and how a row of them becomes nodes.

use std::ops::Range;

use crate::blocks::Sequential;
use crate::{Activation, Conv, Graph, GraphBuilder, MapId, ModelError};

/// One line of a network's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// As the paper's table names it.
    pub operator: &'static str,
    /// Expansion or reduction ratio, where the operator has one.
    pub t: Option<usize>,
    /// Output channels, at the network's width.
    pub c: usize,
    /// Number of blocks.
    pub n: usize,
    /// Stride of the first block; the others have 1.
    pub s: usize,
    /// Its part of the graph's nodes.
    pub nodes: Range<usize>,
}

/// A network's graph, and the lines of its table up to the classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub stages: Vec<Stage>,
    pub graph: Graph,
}

impl Table {
    /// The nodes after the last stage: pooling and classifier.
    pub fn classifier(&self) -> Range<usize> {
        let start = self.stages.last().map_or(0, |stage| stage.nodes.end);
        start..self.graph.nodes().len()
    }
}

/// What a block of a stage is built from.
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub x: MapId,
    pub input: usize,
    pub output: usize,
    pub stride: usize,
}

/// Appends stages, each fed by the one before. Blocks are called `prefix.index`.
pub(super) struct TableBuilder {
    g: GraphBuilder,
    /// What the last block writes.
    x: MapId,
    prefix: String,
    index: usize,
    /// Of convolutions that are stages of their own.
    activation: Activation,
    /// Drop-connect's rate for each block to come.
    drop_rates: std::vec::IntoIter<f64>,
    stages: Vec<Stage>,
}

impl TableBuilder {
    /// Of images with red, green and blue.
    pub fn new(prefix: &str) -> Result<Self, ModelError> {
        let g = GraphBuilder::new(3)?;
        let (prefix, activation) = (prefix.to_owned(), Activation::Relu6);
        Ok(Self {
            x: g.images(),
            g,
            prefix,
            index: 0,
            activation,
            drop_rates: Vec::new().into_iter(),
            stages: Vec::new(),
        })
    }

    /// In place of ReLU6, in what [`TableBuilder::conv`] appends.
    pub fn activation(&mut self, activation: Activation) {
        self.activation = activation;
    }

    /// Eps and momentum of the batch norms to come.
    pub fn norm(&mut self, (eps, momentum): (f32, f32)) {
        self.g = self.g.clone().with_norm(eps, momentum);
    }

    /// Drop-connect acts in the `blocks` blocks to come: in block `i` at `rate * i / blocks`.
    pub fn drop_connect(&mut self, rate: f64, blocks: usize) {
        let rates: Vec<f64> = (0..blocks).map(|block| rate * block as f64 / blocks as f64).collect();
        self.drop_rates = rates.into_iter();
    }

    /// The index of the next block.
    pub fn next_index(&self) -> usize {
        self.index
    }

    /// The next block has this index.
    pub fn skip_to(&mut self, index: usize) {
        self.index = index;
    }

    /// Later blocks are called `prefix.0`, `prefix.1` and so on.
    pub fn rename(&mut self, prefix: String) {
        (self.prefix, self.index) = (prefix, 0);
    }

    /// Convolution, batch norm and activation as a stage of its own.
    pub fn conv(
        &mut self,
        operator: &'static str,
        output: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<(), ModelError> {
        let (name, activation) = (self.next_name(), self.activation);
        self.push(operator, stride, |g, x| {
            let conv = Conv::dense(g.channels(x)?, output, kernel, stride);
            let mut units = Sequential::new(g, name, x);
            units.flat(conv, activation)?;
            Ok(units.map())
        })
    }

    /// A block under its own name as a stage of its own.
    pub fn push(
        &mut self,
        operator: &'static str,
        s: usize,
        build: impl FnOnce(&mut GraphBuilder, MapId) -> Result<MapId, ModelError>,
    ) -> Result<(), ModelError> {
        let start = self.g.len();
        self.x = build(&mut self.g, self.x)?;
        let c = self.g.channels(self.x)?;
        self.stages.push(Stage { operator, t: None, c, n: 1, s, nodes: start..self.g.len() });
        Ok(())
    }

    /// A row of a table: `n` blocks with `c` channels each, the first with stride `s`.
    pub fn row(
        &mut self,
        operator: &'static str,
        t: Option<usize>,
        (c, n, s): (usize, usize, usize),
        build: impl Fn(&mut GraphBuilder, Place) -> Result<MapId, ModelError>,
    ) -> Result<(), ModelError> {
        let start = self.g.len();
        for i in 0..n {
            let (name, stride) = (self.next_name(), if i == 0 { s } else { 1 });
            self.g.set_drop_rate(self.drop_rates.next().unwrap_or(0.0));
            let place = Place { name: &name, x: self.x, input: self.g.channels(self.x)?, output: c, stride };
            self.x = build(&mut self.g, place)?;
        }
        self.stages.push(Stage { operator, t, c, n, s, nodes: start..self.g.len() });
        Ok(())
    }

    /// Global average pooling, dropout, and the classifier called `name`.
    pub fn finish(mut self, name: &str, classes: usize) -> Result<Table, ModelError> {
        let pooled = self.g.global_average("pool", self.x)?;
        let kept = self.g.dropout("dropout", pooled)?;
        let logits = self.g.linear(name, kept, classes)?;
        Ok(Table { stages: self.stages, graph: self.g.finish(vec![logits])? })
    }

    /// What was written, the map of the last stage, and the stages.
    pub fn into_parts(self) -> (GraphBuilder, MapId, Vec<Stage>) {
        (self.g, self.x, self.stages)
    }

    fn next_name(&mut self) -> String {
        let name = format!("{}.{}", self.prefix, self.index);
        self.index += 1;
        name
    }
}
