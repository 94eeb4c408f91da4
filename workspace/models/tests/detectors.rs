//! Detectors against the official code's levels, and TensorFlow's.

use std::path::Path;

use sandglass_models::checkpoint::{Checkpoint, SaveType, save};
use sandglass_models::{
    DetectorConfig, DetectorName, ModelError, NetworkConfig, NetworkName, Role, TensorSpec, Weights,
};

fn levels(name: DetectorName, input: usize) -> Vec<(usize, usize)> {
    let detector = DetectorConfig::new(name).build().unwrap();
    let sizes = detector.graph.sizes(input, input).unwrap();
    let level = |map: &sandglass_models::MapId| (detector.graph.map(*map).unwrap().channels, sizes[map.index()].0);
    detector.taps.iter().map(level).collect()
}

#[test]
fn taps_are_the_official_codes() {
    let sides = [20, 10, 5, 3, 2, 1];
    for (name, channels) in [
        (DetectorName::SsdliteMobileNetV2, [96, 1280, 512, 256, 256, 64]),
        (DetectorName::SsdliteMobileNetV2Tap576, [576, 1280, 512, 256, 256, 64]),
        (DetectorName::SsdliteMobileNeXt, [576, 1280, 512, 256, 256, 128]),
    ] {
        let want: Vec<_> = channels.into_iter().zip(sides).collect();
        assert_eq!(levels(name, 320), want, "{name}");
    }
    let tf = [(576, 19), (1280, 10), (512, 5), (256, 3), (256, 2), (128, 1)];
    assert_eq!(levels(DetectorName::SsdliteTfMobileNetV2, 300), tf);
}

#[test]
fn heads_give_scores_and_boxes_of_every_place_at_any_size() {
    for name in DetectorName::all() {
        for (classes, width, (height, wide)) in [(21, 1.0, (320, 320)), (4, 0.35, (64, 96)), (91, 0.5, (33, 1))] {
            let detector = DetectorConfig { name, width, classes }.build().unwrap();
            let sizes = detector.graph.sizes(height, wide).unwrap();
            let outputs = detector.graph.outputs();
            assert_eq!(outputs.len(), 12);
            for (level, (tap, boxes)) in detector.taps.iter().zip(detector.boxes).enumerate() {
                for (map, values) in [(outputs[level], classes), (outputs[level + 6], 4)] {
                    assert_eq!(detector.graph.map(map).unwrap().channels, boxes * values, "{name} {level}");
                    assert_eq!(sizes[map.index()], sizes[tap.index()]);
                }
            }
        }
    }
}

#[test]
fn names_print_as_they_parse_and_a_classifier_is_none() {
    for name in DetectorName::all() {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    let classifier = "mobilenext".parse::<DetectorConfig>();
    assert_eq!(classifier, Err(ModelError::IsClassifier("mobilenext".to_owned())));
    assert!(matches!("ssd_resnet".parse::<DetectorConfig>(), Err(ModelError::UnknownNetwork { .. })));
}

/// In the order of the official state dict: features, extras, class heads, box heads.
#[test]
fn tensors_have_the_official_names() {
    let detector = DetectorConfig::new(DetectorName::SsdliteMobileNeXt).build().unwrap();
    let tensors = detector.graph.tensors();
    let at = |name: &str| {
        let at = tensors.iter().position(|spec| spec.name == name);
        at.unwrap_or_else(|| panic!("no {name}"))
    };
    let order = [
        ("backbone.features.0.0.weight", vec![32, 3, 3, 3]),
        ("backbone.features.20.conv.8.weight", vec![1280, 1, 3, 3]),
        ("backbone.extras.0.0.weight", vec![1280, 1, 3, 3]),
        ("backbone.extras.0.5.weight", vec![512, 256, 1, 1]),
        ("backbone.extras.3.6.running_var", vec![128]),
        ("box_head.predictor.cls_headers.0.conv.0.bias", vec![576]),
        ("box_head.predictor.cls_headers.0.conv.3.weight", vec![126, 576, 1, 1]),
        ("box_head.predictor.cls_headers.5.weight", vec![126, 128, 1, 1]),
        ("box_head.predictor.reg_headers.4.conv.1.weight", vec![256]),
        ("box_head.predictor.reg_headers.5.bias", vec![24]),
    ];
    let places: Vec<usize> = order.iter().map(|(name, _)| at(name)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for (name, shape) in order {
        assert_eq!(tensors[at(name)].shape, shape, "{name}");
    }
    let detector = DetectorConfig::new(DetectorName::SsdliteMobileNetV2).build().unwrap();
    assert!(detector.graph.tensors().iter().any(|spec| spec.name == "backbone.extras.3.conv.1.0.weight"));
}

#[test]
fn impossible_detectors_are_refused() {
    let base = DetectorConfig::new(DetectorName::SsdliteMobileNetV2);
    for classes in [0, 1 << 20, usize::MAX] {
        assert_eq!(DetectorConfig { classes, ..base }.build().unwrap_err(), ModelError::Classes(classes));
    }
    for width in [0.0, f64::NAN, -1.0] {
        assert!(matches!(DetectorConfig { width, ..base }.build(), Err(ModelError::Width { .. })), "{width}");
    }
}

fn numbered(specs: Vec<TensorSpec>) -> Weights {
    let mut weights = Weights::zeros(specs);
    for (at, values) in weights.values.iter_mut().enumerate() {
        values.fill(at as f32 + 1.0);
    }
    weights
}

#[test]
fn a_classifiers_features_become_a_backbone() {
    for (detector, classifier) in [
        (DetectorName::SsdliteMobileNeXt, NetworkName::MobileNeXt),
        (DetectorName::SsdliteMobileNetV2Tap576, NetworkName::MobileNetV2),
    ] {
        let detector = DetectorConfig { width: 0.35, ..DetectorConfig::new(detector) }.build().unwrap();
        let classifier = NetworkConfig { width: 0.35, classes: 7, ..NetworkConfig::new(classifier) };
        let from = numbered(classifier.build().unwrap().tensors());
        let mut weights = Weights::zeros(detector.graph.tensors());
        detector.take_backbone(&mut weights, &from).unwrap();
        for (spec, values) in weights.specs.iter().zip(&weights.values) {
            let name = spec.name.strip_prefix("backbone.").unwrap_or_default();
            let want = if name.starts_with("features") { from.get(name).unwrap()[0] } else { 0.0 };
            assert!(values.iter().all(|value| *value == want), "{}", spec.name);
        }
        let other = NetworkConfig { width: 0.5, ..classifier }.build().unwrap();
        let before = weights.clone();
        let refused = detector.take_backbone(&mut weights, &numbered(other.tensors()));
        assert!(matches!(refused, Err(ModelError::NoBackbone(name)) if name.starts_with("features.")));
        assert_eq!(weights, before);
    }
}

#[test]
fn a_file_under_its_own_names_tells_its_classes() {
    let config = DetectorConfig { classes: 5, width: 0.35, ..DetectorConfig::new(DetectorName::SsdliteMobileNeXtCoco) };
    let weights = numbered(config.build().unwrap().graph.tensors());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("detector.safetensors");
    save(&path, &weights, SaveType::F32).unwrap();
    let asked = DetectorConfig { classes: 81, ..config };
    let read = Checkpoint::open(&path).unwrap().detector(asked, None).unwrap();
    assert_eq!((read.config, &read.weights, read.names), (config, &weights, "reference"));

    let other = DetectorConfig::new(DetectorName::SsdliteMobileNetV2);
    let error = Checkpoint::open(&path).unwrap().detector(other, None).unwrap_err().to_string();
    assert!(error.contains("missing: backbone.extras.0.conv.0.0.weight"), "{error}");
}

const FROZEN: &str = "../../../shared/data/weights/ssdlite_mobilenet_v2_coco.f16.safetensors";
const STEM: &str = "FeatureExtractor/MobilenetV2/Conv/Conv2D/merged_input";

/// TensorFlow's layouts are height, width, input, output, and height, width, channels, 1.
#[test]
fn a_frozen_graph_is_turned_into_ours() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FROZEN);
    if !path.exists() {
        eprintln!("skipped: no real weights");
        return;
    }
    let config = DetectorConfig { classes: 21, ..DetectorConfig::new(DetectorName::SsdliteTfMobileNetV2) };
    let mut file = Checkpoint::open(&path).unwrap();
    let fitted = file.detector(config, None).unwrap();
    assert_eq!((fitted.config.classes, fitted.names), (91, "TensorFlow"));
    let ours = |name: &str| fitted.weights.get(name).unwrap();
    let mut theirs = |name: &str| file.read(name).unwrap();

    let (own, stem) = (ours("backbone.features.0.0.weight"), theirs(STEM));
    let (own_dw, dw) = (
        ours("backbone.features.5.conv.1.0.weight"),
        theirs("FeatureExtractor/MobilenetV2/expanded_conv_4/depthwise/depthwise_weights"),
    );
    for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
        for (o, i) in [(0, 0), (31, 0), (7, 2)] {
            assert_eq!(own[((o * 3 + i) * 3 + y) * 3 + x], stem[((y * 3 + x) * 3 + i) * 32 + o]);
        }
        assert_eq!(own_dw[(100 * 3 + y) * 3 + x], dw[(y * 3 + x) * 192 + 100]);
    }
    let scale = theirs("FeatureExtractor/MobilenetV2/expanded_conv_4/depthwise/BatchNorm/batchnorm/mul");
    assert_eq!(ours("backbone.features.5.conv.1.1.weight"), scale);
    let shift = theirs("FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_4_3x3_s2_256/BatchNorm/batchnorm/sub");
    assert_eq!(ours("backbone.extras.2.conv.2.1.bias"), shift);
    // A folded norm is its scale and shift and no more.
    assert!(ours("backbone.extras.2.conv.2.1.weight").iter().all(|scale| *scale == 1.0));
    assert!(ours("backbone.features.5.conv.1.1.running_mean").iter().all(|mean| *mean == 0.0));
    assert!(ours("backbone.features.5.conv.1.1.running_var").iter().all(|var| (var + 1e-3 - 1.0).abs() < 1e-7));
    // A head's is as it was trained.
    let variance = theirs("BoxPredictor_3/BoxEncodingPredictor_depthwise/BatchNorm/moving_variance");
    assert_eq!(ours("box_head.predictor.reg_headers.3.conv.1.running_var"), variance);
}

#[test]
fn half_a_frozen_graph_is_refused() {
    let specs = vec![TensorSpec { name: STEM.into(), shape: vec![3, 3, 3, 32], role: Role::ConvWeight }];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frozen.safetensors");
    save(&path, &Weights::zeros(specs), SaveType::F32).unwrap();
    let config = DetectorConfig::new(DetectorName::SsdliteTfMobileNetV2);
    let error = Checkpoint::open(&path).unwrap().detector(config, None).unwrap_err().to_string();
    assert!(error.contains("in TensorFlow's names: ") && error.contains("missing: BoxPredictor_0"), "{error}");
}
