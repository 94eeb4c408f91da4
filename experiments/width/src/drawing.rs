//! The four blocks and both networks as drawings: a shape is as wide as its map has channels.

use sandglass_models::blocks::{DepthwiseBottleneck, InvertedResidual, ResNetBottleneck, Sandglass};
use sandglass_models::{Graph, GraphBuilder, MapId, ModelError, NetworkConfig, Node};
use sandglass_study::{Drawing, Layer, Results, Stack, StudyError};

use crate::Width;

/// Channels of the block whose thin end is 64: of the stages of 14 x 14 pixels in the papers' tables.
const THIN: usize = 64;
const WIDE: usize = 384;

/// A block drawn alone, on a map of so many channels.
type Block = (&'static str, &'static str, usize, fn(&mut GraphBuilder, MapId) -> Result<MapId, ModelError>);

#[rustfmt::skip]
const BLOCKS: [Block; 4] = [
    ("classic bottleneck", "ResNet", 256, |g, x| {
        ResNetBottleneck { input: 256, planes: THIN, stride: 1, downsample: false }.build(g, "block", x)
    }),
    ("depthwise bottleneck", "bottleneck", WIDE, |g, x| {
        DepthwiseBottleneck { input: WIDE, output: WIDE, stride: 1, reduction: 6 }.build(g, "block", x)
    }),
    ("inverted residual", "MobileNetV2", THIN, |g, x| {
        InvertedResidual { input: THIN, output: THIN, stride: 1, expand_ratio: 6.0 }.build(g, "block", x)
    }),
    ("sandglass", "MobileNeXt", WIDE, |g, x| {
        Sandglass { input: WIDE, output: WIDE, stride: 1, reduction: 6, keep_3x3: false, identity_div: 1 }.build(g, "block", x)
    }),
];

pub(crate) fn drawings(results: &Results<'_, Width>) -> Result<Vec<Drawing>, StudyError> {
    let name = &results.head.name;
    Ok(vec![blocks(name).map_err(StudyError::refused)?, networks(name, results).map_err(StudyError::refused)?])
}

fn blocks(study: &str) -> Result<Drawing, ModelError> {
    let stack = |&(title, family, channels, build): &Block| {
        let mut g = GraphBuilder::new(channels)?;
        let images = g.images();
        let y = build(&mut g, images)?;
        Ok(stack(title, family, &g.finish(vec![y])?, Label::Every))
    };
    let stacks = BLOCKS.iter().map(stack).collect::<Result<Vec<Stack>, ModelError>>()?;
    Ok(Drawing {
        name: format!("{study}-blocks"),
        words: in_words(&stacks),
        caption: "The four blocks of the comparison, in the sizes of the stages of 14 x 14 pixels. A shape is as wide as its map \
                  has channels: an outline mixes all channels (1x1 or 3x3), a filled shape filters each on its own (depthwise). \
                  The arc is the shortcut: it joins wide maps in a bottleneck and a sandglass, thin ones in an inverted \
                  residual."
            .to_owned(),
        stacks,
    })
}

fn networks(study: &str, results: &Results<'_, Width>) -> Result<Drawing, ModelError> {
    let stack = |variant: &sandglass_lab::Variant| {
        let graph = variant.network.parse::<NetworkConfig>()?.build()?;
        Ok(stack(&variant.paper, &variant.paper, &graph, Label::Sizes))
    };
    let stacks = results.design.networks.iter().map(stack).collect::<Result<Vec<Stack>, ModelError>>()?;
    Ok(Drawing {
        name: format!("{study}-networks"),
        words: in_words(&stacks),
        caption: "Both networks at width 1.0, every convolution from the images down. Arcs are shortcuts: MobileNetV2 is wide \
                  inside its blocks, MobileNeXt between them."
            .to_owned(),
        stacks,
    })
}

/// Which layers are labelled.
#[derive(Clone, Copy, PartialEq)]
enum Label {
    Every,
    /// Those that make maps smaller.
    Sizes,
}

/// A graph's convolutions from first to last, and its sums.
fn stack(title: &str, family: &str, graph: &Graph, label: Label) -> Stack {
    let mut layers = Vec::new();
    let mut shortcuts = Vec::new();
    // Behind how many layers a map is there.
    let mut depth = vec![0; graph.maps().len()];
    let sizes = graph.sizes(224, 224).unwrap_or_default();
    let of = |depth: &[usize], map: MapId| depth.get(map.index()).copied().unwrap_or(0);
    for node in graph.nodes() {
        let before = node.reads().into_iter().map(|map| of(&depth, map)).max().unwrap_or(0);
        let mut after = before;
        match node {
            Node::Conv { unit, to, .. } => {
                let conv = unit.conv;
                let kind = if conv.groups > 1 { "depthwise " } else { "" };
                let kernel = conv.window.kernel;
                let text = match label {
                    Label::Every if conv.input == conv.output => format!("{kind}{kernel}x{kernel}, {}", conv.output),
                    Label::Every => format!("{kind}{kernel}x{kernel}, {} to {}", conv.input, conv.output),
                    Label::Sizes if conv.window.stride > 1 => {
                        let height = sizes.get(to.index()).map_or(0, |size| size.0);
                        format!("to {height} x {height}")
                    }
                    Label::Sizes => String::new(),
                };
                layers.push(Layer { label: text, from: conv.input, to: conv.output, is_depthwise: conv.groups > 1 });
                after = layers.len();
            }
            Node::Add { skip, .. } if before > 0 => shortcuts.push((of(&depth, *skip), before - 1)),
            _ => {}
        }
        if let Some(place) = depth.get_mut(node.writes().index()) {
            *place = after;
        }
    }
    Stack { title: title.to_owned(), family: family.to_owned(), layers, shortcuts }
}

fn in_words(stacks: &[Stack]) -> String {
    let of_stack = |stack: &Stack| {
        let first = stack.layers.first().map_or(0, |layer| layer.from);
        let channels: Vec<String> = std::iter::once(first)
            .chain(stack.layers.iter().map(|layer| layer.to))
            .map(|channels| channels.to_string())
            .collect();
        format!("{}: channels {}", stack.title, channels.join(", "))
    };
    stacks.iter().map(of_stack).collect::<Vec<_>>().join("; ")
}
