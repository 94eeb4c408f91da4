//! Graphs that cannot be, and sizes that do not fit.

use sandglass_models::blocks::{InvertedResidual, Sandglass};
use sandglass_models::{Activation, Conv, GraphBuilder, ModelError, NetworkConfig, NetworkName, Padding, Pool, Window};

fn builder() -> GraphBuilder {
    GraphBuilder::new(8).unwrap()
}

fn names(name: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}.norm")]
}

#[test]
fn a_graph_that_does_not_fit_together_is_never_built() {
    let mut g = builder();
    let x = g.images();
    let reads = |name: &str, expected, found| Err(ModelError::Reads { name: name.to_owned(), expected, found });
    assert_eq!(g.conv_norm(Conv::pointwise(7, 8), names("a"), Activation::None, x), reads("a", 7, 8));
    let block = InvertedResidual { input: 6, output: 8, stride: 1, expand_ratio: 2.0 };
    assert_eq!(block.build(&mut g, "b", x), reads("b.conv.0.0", 6, 8));
    assert_eq!(g.add("c", (x, x), 9, Activation::None), reads("c", 9, 8));
    let groups = Conv { groups: 3, ..Conv::pointwise(8, 9) };
    assert!(matches!(g.conv_norm(groups, names("d"), Activation::None, x), Err(ModelError::Groups { groups: 3, .. })));
    let groups = Conv { groups: 0, ..Conv::pointwise(8, 8) };
    assert!(matches!(g.conv_norm(groups, names("d"), Activation::None, x), Err(ModelError::Groups { groups: 0, .. })));
    assert!(matches!(g.linear("e", x, 0), Err(ModelError::MapChannels { channels: 0, .. })));
    assert!(matches!(g.concat("f", vec![]), Err(ModelError::MapChannels { channels: 0, .. })));
    assert!(matches!(GraphBuilder::new(0), Err(ModelError::MapChannels { .. })));
    // Nothing was written by what failed.
    assert!(g.is_empty());

    let mut longer = builder();
    let foreign = longer.pool("pool", Pool::GlobalAverage, x).unwrap();
    assert_eq!(g.channels(foreign), Err(ModelError::UnknownMap(1)));
    assert_eq!(g.clone().finish(vec![foreign]), Err(ModelError::UnknownMap(1)));
    assert_eq!(g.finish(vec![]), Err(ModelError::NoOutput));
}

#[test]
fn sizes_that_do_not_fit_name_the_map() {
    let size = |build: &dyn Fn(&mut GraphBuilder) -> Result<(), ModelError>| {
        let mut g = builder();
        build(&mut g).unwrap();
        let x = g.images();
        match g.finish(vec![x]).unwrap().cost(5, 6) {
            Err(ModelError::Size { map, what }) => format!("{map}: {what}"),
            other => panic!("{other:?}"),
        }
    };
    let pool = |kernel, stride| {
        let window = Window { kernel, stride, padding: Padding::Symmetric(0) };
        size(&move |g| g.pool("pool", Pool::Max(window), g.images()).map(drop))
    };
    for (kernel, stride) in [(6, 1), (0, 1), (3, 0), (usize::MAX, 1)] {
        assert_eq!(pool(kernel, stride), "pool: its window does not fit on the map");
    }
    let halved =
        |g: &mut GraphBuilder| g.conv_norm(Conv::dense(8, 8, 3, 2), names("half"), Activation::None, g.images());
    assert!(
        size(&|g| halved(g).and_then(|y| g.add("sum", (y, g.images()), 8, Activation::None)).map(drop))
            .starts_with("sum")
    );
    assert!(size(&|g| halved(g).and_then(|y| g.concat("join", vec![y, g.images()])).map(drop)).starts_with("join"));
    assert!(size(&|g| halved(g).and_then(|y| g.gate("gate", y, y)).map(drop)).starts_with("gate"));
    assert!(size(&|g| g.linear("head", g.images(), 2).map(drop)).starts_with("head"));
}

/// TensorFlow's rule: out = ceil(in / stride), the odd place behind.
#[test]
fn same_padding_is_tensorflows() {
    let rows = [
        (224, 3, 2, 112, (0, 1)),
        (7, 3, 2, 4, (1, 1)),
        (8, 5, 1, 8, (2, 2)),
        (5, 2, 1, 5, (0, 1)),
        (9, 1, 2, 5, (0, 0)),
    ];
    for (size, kernel, stride, output, padding) in rows {
        let window = Window { kernel, stride, padding: Padding::Same };
        assert_eq!((window.output_size(size), window.padding(size)), (Some(output), Some(padding)), "{size}");
    }
}

/// A detector's taps are maps like any other: the expansion of MobileNetV2's block 13, which SSDLite reads at stride 16.
#[test]
fn inner_maps_are_found_by_their_names() {
    let graph = NetworkConfig::new(NetworkName::MobileNetV2).build().unwrap();
    let sizes = graph.sizes(320, 320).unwrap();
    let tap = graph.maps().iter().position(|map| map.name == "features.14.conv.0.0").unwrap();
    assert_eq!((graph.maps()[tap].channels, sizes[tap]), (576, (20, 20)));
    let sums = graph.maps().iter().filter(|map| map.name.ends_with(".add")).count();
    assert_eq!(sums, 10);
}

#[test]
fn a_block_writes_under_its_name() {
    let mut g = builder();
    let x = g.images();
    let block = Sandglass { input: 8, output: 8, stride: 1, reduction: 4, keep_3x3: false, identity_div: 2 };
    let y = block.build(&mut g, "", x).unwrap();
    let y = block.build(&mut g, "second", y).unwrap();
    let graph = g.finish(vec![y]).unwrap();
    let names: Vec<&str> = graph.maps().iter().map(|map| map.name.as_str()).collect();
    assert_eq!(names[..6], ["images", "conv.0", "conv.3", "conv.5", "conv.8", "add"]);
    assert_eq!(names[6..], ["second.conv.0", "second.conv.3", "second.conv.5", "second.conv.8", "second.add"]);
    assert_eq!(graph.cost(4, 4).unwrap().residual_adds, 2 * 4 * 16);
}
