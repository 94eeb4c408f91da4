//! Costs against the figures counted from the reference implementations, cell by cell.

use std::path::Path;

use sandglass_models::{Cost, Counted, DetectorConfig, DetectorName, ModelError, NetworkConfig, NetworkName, Table};

fn check_rows(text: &str) -> usize {
    let mut lines = text.lines();
    let header = "network,width,input,num_classes,stem_stride,params,madds_conv_dense,madds_depthwise,madds_linear,\
                  madds_total,residual_adds,peak_activation_elems";
    assert_eq!(lines.next(), Some(header));
    let mut rows = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let config: Counted = cells[0].parse().unwrap();
        let (width, classes, stem_stride) = (cells[1].parse(), cells[3].parse(), cells[4].parse());
        let config = config.with(width.unwrap(), classes.unwrap(), stem_stride.unwrap()).unwrap();
        let input = cells[2].parse().unwrap();
        let want: Vec<u64> = cells[5..].iter().map(|cell| cell.parse().unwrap()).collect();
        let want = Cost {
            params: want[0],
            madds_conv_dense: want[1],
            madds_depthwise: want[2],
            madds_linear: want[3],
            madds_total: want[4],
            residual_adds: want[5],
            peak_activation_elems: want[6],
        };
        assert_eq!(config.cost(input, input).unwrap(), want, "{line}");
        rows += 1;
    }
    rows
}

#[test]
fn every_cell_equals_the_reference() {
    assert_eq!(check_rows(include_str!("fixtures/costs.csv")), 66);
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/costs.csv");
    if let Ok(text) = std::fs::read_to_string(full) {
        check_rows(&text);
    }
}

#[test]
fn the_stages_of_a_table_add_up_to_the_network() {
    for name in NetworkName::all() {
        let Table { stages, graph } = NetworkConfig::new(name).table().unwrap();
        let (costs, sizes) = (graph.node_costs(224, 192).unwrap(), graph.sizes(224, 192).unwrap());
        let (mut total, mut next) = (Cost::default(), 0);
        for stage in &stages {
            assert_eq!(stage.nodes.start, next);
            next = stage.nodes.end;
            total = costs[stage.nodes.clone()].iter().fold(total, |total, cost| total.plus(*cost).unwrap());
            assert_eq!(graph.map(graph.nodes()[next - 1].writes()).unwrap().channels, stage.c);
        }
        assert_eq!(sizes[graph.nodes()[next - 1].writes().index()], (7, 6));
        assert_eq!(graph.nodes().len() - next, 3, "pooling, dropout, classifier");
        assert_eq!(graph.cost(224, 192).unwrap(), total.plus(*costs.last().unwrap()).unwrap());
    }
}

/// Of the official detectors, backbone, extra layers and heads apart (PAPER.md 2.7 of the references).
#[test]
fn a_detectors_parts_add_up() {
    for (name, backbone, all) in [
        (DetectorName::SsdliteMobileNetV2, 2_223_872, 3_425_988),
        (DetectorName::SsdliteMobileNeXt, 2_254_416, 3_476_308),
    ] {
        let detector = DetectorConfig::new(name).build().unwrap();
        let costs = detector.graph.node_costs(320, 320).unwrap();
        let params = |costs: &[Cost]| costs.iter().map(|cost| cost.params).sum::<u64>();
        assert_eq!((params(&costs[..detector.backbone]), params(&costs)), (backbone, all), "{name}");
        let beyond = Counted::ExtrasAndHeads(DetectorConfig::new(name)).cost(320, 320).unwrap();
        assert_eq!(beyond.params, all - backbone);
    }
}

#[test]
fn sizes_without_a_count_are_refused() {
    let network = NetworkConfig::new(NetworkName::MobileNeXt).build().unwrap();
    assert_eq!(network.cost(0, 224), Err(ModelError::EmptyInput { height: 0, width: 224 }));
    assert_eq!(network.cost(1 << 31, 1 << 31), Err(ModelError::Overflow));
    assert_eq!(network.cost(usize::MAX, usize::MAX), Err(ModelError::Overflow));
    assert!(network.cost(1, 1).is_ok());
}
