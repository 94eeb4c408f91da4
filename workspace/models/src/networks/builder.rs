//! A network as the papers' tables list it, and how a row of them becomes blocks.

use crate::blocks::Sequential;
use crate::{Activation, Block, Conv, Linear, ModelError, Network, Shortcut};

/// One line of a network's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub operator: &'static str,
    /// Expansion or reduction ratio, where the operator has one.
    pub t: Option<usize>,
    /// Output channels, at the network's width.
    pub c: usize,
    /// Number of blocks.
    pub n: usize,
    /// Stride of the first block; the others have 1.
    pub s: usize,
    pub blocks: Vec<Block>,
}

/// All lines of a network's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub stages: Vec<Stage>,
    pub classifier: Linear,
}

impl Plan {
    pub fn into_network(self) -> Network {
        let blocks = self.stages.into_iter().flat_map(|stage| stage.blocks).collect();
        Network { blocks, classifier: self.classifier }
    }
}

/// What a block of a stage is built from.
pub(super) struct Place<'a> {
    pub name: &'a str,
    pub input: usize,
    pub output: usize,
    pub stride: usize,
}

/// Appends stages, each fed by the one before. Blocks are called `prefix.index`.
pub(super) struct Builder {
    prefix: String,
    index: usize,
    channels: usize,
    stages: Vec<Stage>,
}

impl Builder {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), index: 0, channels: 3, stages: Vec::new() }
    }

    /// Later blocks are called `prefix.0`, `prefix.1` and so on.
    pub fn rename(&mut self, prefix: String) {
        (self.prefix, self.index) = (prefix, 0);
    }

    /// Convolution, batch norm and ReLU6 as a stage of its own.
    pub fn conv(&mut self, operator: &'static str, output: usize, kernel: usize, stride: usize) {
        let name = self.next_name();
        let mut units = Sequential::new(name.clone());
        units.flat(Conv::dense(self.channels, output, kernel, stride), Activation::Relu6);
        self.push(operator, Block::new(&name, units.units(), Shortcut::None), stride);
    }

    /// A block under its own name as a stage of its own.
    pub fn push(&mut self, operator: &'static str, block: Block, s: usize) {
        self.channels = block.output();
        self.stages.push(Stage { operator, t: None, c: self.channels, n: 1, s, blocks: vec![block] });
    }

    /// A row of a table: `n` blocks with `c` channels each, the first with stride `s`.
    pub fn row(
        &mut self,
        operator: &'static str,
        t: Option<usize>,
        (c, n, s): (usize, usize, usize),
        block: impl Fn(Place) -> Result<Block, ModelError>,
    ) -> Result<(), ModelError> {
        let mut blocks = Vec::with_capacity(n);
        for i in 0..n {
            let (name, stride) = (self.next_name(), if i == 0 { s } else { 1 });
            blocks.push(block(Place { name: &name, input: self.channels, output: c, stride })?);
            self.channels = c;
        }
        self.stages.push(Stage { operator, t, c, n, s, blocks });
        Ok(())
    }

    pub fn finish(self, classifier: &str, classes: usize) -> Plan {
        let classifier = Linear { name: classifier.to_owned(), input: self.channels, output: classes };
        Plan { stages: self.stages, classifier }
    }

    fn next_name(&mut self) -> String {
        let name = format!("{}.{}", self.prefix, self.index);
        self.index += 1;
        name
    }
}
