//! Names, shapes and widths of the networks against the reference state dicts and the papers' code.

use std::collections::BTreeMap;

use sandglass_models::{ModelError, NetworkConfig, NetworkName, TensorSpec};

fn shape_list(specs: Vec<TensorSpec>) -> Vec<(String, Vec<usize>)> {
    specs.into_iter().map(|spec| (spec.name, spec.shape)).collect()
}

#[test]
fn tensors_are_those_of_the_reference_state_dicts_in_their_order() {
    type StateDict = Vec<(String, Vec<usize>)>;
    let want: BTreeMap<String, StateDict> = serde_json::from_str(include_str!("fixtures/state_dicts.json")).unwrap();
    // EfficientNet-lite0's names are those of its package: below.
    assert_eq!(want.len() + 1, NetworkName::all().count());
    for (name, want) in want {
        let config: NetworkConfig = name.parse().unwrap();
        assert_eq!(shape_list(config.build().unwrap().tensors()), want, "{name}");
    }
}

/// The package's file has 296 tensors, 49 of them counters of batches.
#[test]
fn efficientnet_lite0_is_the_packages() {
    let config = NetworkConfig::new(NetworkName::EfficientNetLite0);
    let graph = config.build().unwrap();
    let tensors = shape_list(graph.tensors());
    assert_eq!(tensors.len(), 296 - 49);
    let has = |name: &str, shape: &[usize]| assert!(tensors.contains(&(name.to_owned(), shape.to_vec())), "{name}");
    has("_conv_stem.weight", &[32, 3, 3, 3]);
    has("_blocks.0._project_conv.weight", &[16, 32, 1, 1]);
    has("_blocks.15._bn2.running_var", &[320]);
    has("_conv_head.weight", &[1280, 320, 1, 1]);
    has("_fc.bias", &[1000]);
    let cost = graph.cost(224, 224).unwrap();
    assert_eq!((cost.params, cost.madds_total, cost.residual_adds), (4_652_008, 385_187_552, 210_112));
    let small = NetworkConfig { classes: 200, ..config }.build().unwrap().cost(64, 64).unwrap();
    assert_eq!((small.params, small.madds_depthwise, small.peak_activation_elems), (3_627_208, 2_818_944, 122_880));
}

/// Output channels of the stem and of each stage, from the official rule (`mnext.py`).
#[test]
fn mobilenext_has_the_official_widths() {
    let widths = [
        (1.4, [48, 136, 200, 272, 400, 536, 808, 1344, 1792]),
        (1.0, [32, 96, 144, 192, 288, 384, 576, 960, 1280]),
        (0.75, [24, 72, 112, 144, 216, 288, 432, 720, 1280]),
        (0.5, [16, 48, 72, 96, 144, 192, 288, 480, 1280]),
        (0.35, [16, 32, 48, 64, 104, 136, 200, 336, 1280]),
    ];
    for (width, want) in widths {
        let table = NetworkConfig { width, ..NetworkConfig::new(NetworkName::MobileNeXt) }.table().unwrap();
        let got: Vec<usize> = table.stages.iter().map(|stage| stage.c).collect();
        assert_eq!(got, want, "width {width}");
    }
}

/// The narrowest tensor of each of the 20 blocks, from the official rule.
#[test]
fn mobilenext_has_the_official_hidden_widths() {
    #[rustfmt::skip]
    let widths = [
        (1.4, [24, 32, 48, 48, 48, 64, 64, 64, 96, 96, 96, 96, 128, 128, 128, 128, 224, 224, 224, 304]),
        (1.0, [16, 32, 32, 32, 32, 48, 48, 48, 64, 64, 64, 64, 96, 96, 96, 96, 160, 160, 160, 208]),
        (0.75, [12, 32, 32, 24, 24, 48, 36, 36, 48, 48, 48, 48, 80, 72, 72, 72, 128, 120, 120, 208]),
        (0.5, [8, 16, 16, 16, 16, 32, 24, 24, 32, 32, 32, 32, 48, 48, 48, 48, 80, 80, 80, 208]),
        (0.35, [8, 16, 16, 16, 16, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 64, 56, 56, 208]),
    ];
    for (width, want) in widths {
        let graph = NetworkConfig { width, ..NetworkConfig::new(NetworkName::MobileNeXt) }.build().unwrap();
        // Of each block `features.k`, the stem's aside.
        let mut narrowest = BTreeMap::<usize, usize>::new();
        for map in graph.maps() {
            if let ["features", block, "conv", _] = map.name.split('.').collect::<Vec<_>>()[..] {
                let least = narrowest.entry(block.parse().unwrap()).or_insert(map.channels);
                *least = map.channels.min(*least);
            }
        }
        let got: Vec<usize> = narrowest.into_values().collect();
        assert_eq!(got, want, "width {width}");
    }
}

#[test]
fn names_print_as_they_parse() {
    for name in ["mobilenetv2", "mobilenetv2_extra_dw_dw_dw", "mobilenext_paper", "mobilenext_div6", "resnet50"] {
        assert_eq!(name.parse::<NetworkConfig>().unwrap().to_string(), name);
    }
    let detector = "ssdlite_mobilenetv2".parse::<NetworkConfig>();
    assert_eq!(detector, Err(ModelError::IsDetector("ssdlite_mobilenetv2".to_owned())));
    let unknown = "mobilenext_divx".parse::<NetworkConfig>().unwrap_err().to_string();
    assert!(unknown.contains("mobilenext_divx") && unknown.contains("mobilenext_paper"), "{unknown}");
}

/// Hashes of committed rows and the identity of stored runs are made of these.
#[test]
fn a_networks_facts_keep_their_names() {
    let config: NetworkConfig = "mobilenext_div2".parse().unwrap();
    let facts = serde_json::to_string(&NetworkConfig { width: 0.5, classes: 10, ..config }).unwrap();
    assert_eq!(facts, r#"{"network":"mobilenext_div2","width":0.5,"classes":10,"stem_stride":2}"#);
}

#[test]
fn impossible_networks_are_refused() {
    let base = NetworkConfig::new(NetworkName::MobileNeXt);
    for width in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30, 0.001] {
        let built = NetworkConfig { width, ..base }.build();
        assert!(matches!(built, Err(ModelError::Width { .. })), "width {width}");
    }
    for classes in [0, usize::MAX] {
        assert_eq!(NetworkConfig { classes, ..base }.build(), Err(ModelError::Classes(classes)));
    }
    for stem_stride in [0, 3] {
        assert_eq!(NetworkConfig { stem_stride, ..base }.build(), Err(ModelError::Stride(stem_stride)));
    }
    assert_eq!(NetworkConfig { identity_div: 0, ..base }.build(), Err(ModelError::IdentityDiv(0)));
    for (name, width) in [(NetworkName::ResNet50, 0.5), (NetworkName::MobileNetV1, 0.2)] {
        let built = NetworkConfig { width, ..NetworkConfig::new(name) }.build();
        assert!(matches!(built, Err(ModelError::Width { .. })), "{name} {width}");
    }
    let divided = NetworkConfig { identity_div: 2, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    assert!(matches!(divided.build(), Err(ModelError::NoIdentityDiv(_))));
}

#[test]
fn an_identity_divisor_beyond_the_channels_leaves_no_shortcut() {
    let config = NetworkConfig { identity_div: 1_000_000, ..NetworkConfig::new(NetworkName::MobileNeXt) };
    assert_eq!(config.build().unwrap().cost(64, 64).unwrap().residual_adds, 0);
}
