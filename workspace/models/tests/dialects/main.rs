//! Checkpoints that others wrote: wrappers, several states, and the names that MobileNetV2 has elsewhere.

#[path = "../common/mod.rs"]
mod common;
mod saved;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Tree, torch_save, torch_save_old, zip};
use sandglass_models::checkpoint::{self, Checkpoint, CheckpointError, Dialect, SaveType};
use sandglass_models::{After, Node, Padding, PaddingRule};
use sandglass_models::{NetworkConfig, NetworkName, TensorSpec, Weights};

fn config() -> NetworkConfig {
    NetworkConfig { width: 0.1, classes: 7, ..NetworkConfig::new(NetworkName::MobileNetV2) }
}

/// Values that differ from tensor to tensor.
fn weights() -> Weights {
    let mut weights = Weights::zeros(config().build().unwrap().tensors());
    for (k, values) in weights.values.iter_mut().enumerate() {
        values.iter_mut().enumerate().for_each(|(i, value)| *value = ((7 * i + 13 * k) % 1009) as f32 / 64.0);
    }
    weights
}

/// The names in the order of the state dict, written down by hand from the four implementations: place of each convolution,
/// place of its norm.
fn places(dialect: Dialect) -> Vec<[String; 2]> {
    let pair = |conv: String, norm: String| [conv, norm];
    let mut places = Vec::new();
    match dialect {
        Dialect::Own => unreachable!(),
        Dialect::Flat | Dialect::FlatFeatures | Dialect::FlatDropout => {
            places.push(pair("features.0.0".into(), "features.0.1".into()));
            for block in 1..=17 {
                for unit in 0..if block == 1 { 2 } else { 3 } {
                    let at = |k: usize| format!("features.{block}.conv.{}", 3 * unit + k);
                    places.push(pair(at(0), at(1)));
                }
            }
            let head = if dialect == Dialect::Flat { "conv" } else { "features.18" };
            places.push(pair(format!("{head}.0"), format!("{head}.1")));
        }
        Dialect::Timm => {
            places.push(pair("conv_stem".into(), "bn1".into()));
            places.push(pair("blocks.0.0.conv_dw".into(), "blocks.0.0.bn1".into()));
            places.push(pair("blocks.0.0.conv_pw".into(), "blocks.0.0.bn2".into()));
            for (stage, blocks) in [(1, 2), (2, 3), (3, 4), (4, 3), (5, 3), (6, 1)] {
                for block in 0..blocks {
                    for (conv, norm) in [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")] {
                        let at = |leaf: &str| format!("blocks.{stage}.{block}.{leaf}");
                        places.push(pair(at(conv), at(norm)));
                    }
                }
            }
            places.push(pair("conv_head".into(), "bn2".into()));
        }
        Dialect::Transformers => {
            let at = |place: String| pair(format!("{place}.convolution"), format!("{place}.normalization"));
            let v2 = "mobilenet_v2";
            places.extend(["first_conv", "conv_3x3", "reduce_1x1"].map(|unit| at(format!("{v2}.conv_stem.{unit}"))));
            for layer in 0..16 {
                let units = ["expand_1x1", "conv_3x3", "reduce_1x1"];
                places.extend(units.map(|unit| at(format!("{v2}.layer.{layer}.{unit}"))));
            }
            places.push(at(format!("{v2}.conv_1x1")));
        }
    }
    places
}

fn renamed(weights: &Weights, dialect: Dialect) -> Weights {
    let mut names = Vec::new();
    for [conv, norm] in places(dialect) {
        names.push(format!("{conv}.weight"));
        names.extend(["weight", "bias", "running_mean", "running_var"].map(|leaf| format!("{norm}.{leaf}")));
    }
    let classifier = if dialect == Dialect::FlatDropout { "classifier.1" } else { "classifier" };
    names.extend(["weight", "bias"].map(|leaf| format!("{classifier}.{leaf}")));
    assert_eq!(names.len(), weights.specs.len());
    let mut weights = weights.clone();
    weights.specs.iter_mut().zip(names).for_each(|(spec, name)| spec.name = name);
    weights
}

fn saved(folder: &Path, weights: &Weights) -> PathBuf {
    let path = folder.join("weights.safetensors");
    checkpoint::save(&path, weights, SaveType::F32).unwrap();
    path
}

const DIALECTS: [(Dialect, f32, PaddingRule); 5] = [
    (Dialect::Flat, 1e-5, PaddingRule::Symmetric),
    (Dialect::FlatFeatures, 1e-5, PaddingRule::Symmetric),
    (Dialect::FlatDropout, 1e-5, PaddingRule::Symmetric),
    (Dialect::Timm, 1e-5, PaddingRule::Symmetric),
    (Dialect::Transformers, 1e-3, PaddingRule::Same),
];

#[test]
fn mobilenetv2_is_read_in_everybodys_names_with_their_conventions() {
    let folder = tempfile::tempdir().unwrap();
    for (dialect, eps, padding) in DIALECTS {
        let path = saved(folder.path(), &renamed(&weights(), dialect));
        let mut file = Checkpoint::open(&path).unwrap();
        // The number of classes is the file's.
        let fit = file.fit(NetworkConfig { classes: 1000, ..config() }, None).unwrap();
        assert_eq!((fit.dialect, fit.config.classes), (dialect, 7));
        assert_eq!(file.fitted(&fit).unwrap(), weights(), "{dialect}");
        let conventions = |rule| {
            let graph = fit.graph(rule).unwrap();
            let unit = |node: &Node| match node {
                Node::Conv { unit, .. } => Some(unit.clone()),
                _ => None,
            };
            let units: Vec<_> = graph.nodes().iter().filter_map(unit).collect();
            for unit in &units {
                let After::Norm(norm) = &unit.after else { panic!() };
                assert_eq!(norm.eps, eps);
            }
            let same = units.iter().filter(|unit| unit.conv.window.padding == Padding::Same).count();
            (same, units.iter().filter(|unit| unit.conv.window.kernel == 3).count())
        };
        assert_eq!(conventions(None), if padding == PaddingRule::Same { (18, 18) } else { (0, 18) });
        assert_eq!(conventions(Some(PaddingRule::Same)), (18, 18));
        assert_eq!(conventions(Some(PaddingRule::Symmetric)), (0, 18));
    }
}

/// Where the real weights are at hand they come through every dialect bit for bit.
#[test]
fn real_weights_come_through_every_dialect() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/weights/mobilenet_v2_1.0_imagenet.safetensors");
    let network = NetworkConfig::new(NetworkName::MobileNetV2);
    let Ok(real) = checkpoint::load(&path, network.build().unwrap().tensors()) else { return };
    let folder = tempfile::tempdir().unwrap();
    for (dialect, ..) in DIALECTS {
        let mut file = Checkpoint::open(&saved(folder.path(), &renamed(&real, dialect))).unwrap();
        let fit = file.fit(network, None).unwrap();
        assert!(file.fitted(&fit).unwrap() == real, "{dialect}");
        if fit.dialect != Dialect::Transformers {
            assert_eq!(fit.graph(None).unwrap(), network.build().unwrap());
        }
    }
}

fn state(weights: &Weights, prefix: &str) -> Tree {
    let tensor = |(spec, values): (&TensorSpec, &Vec<f32>)| {
        (format!("{prefix}{}", spec.name), Tree::Tensor(spec.shape.clone(), values.clone()))
    };
    Tree::Dict(weights.specs.iter().zip(&weights.values).map(tensor).collect())
}

fn open(folder: &Path, bytes: &[u8]) -> Checkpoint {
    let path = folder.join("saved.pth");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path).unwrap()
}

fn number(value: u8) -> Tree {
    Tree::Raw(vec![b'K', value])
}

#[test]
fn whatever_key_or_wrapper_leads_to_them_the_one_dict_that_fits_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights();
    let trees = [
        ("", state(&weights, "")),
        ("module", state(&weights, "module.")),
        ("_orig_mod.module", state(&weights, "_orig_mod.module.")),
        ("net", Tree::dict([("net", state(&weights, "")), ("acc", number(93)), ("epoch", number(7))])),
        (
            "state_dict.model._orig_mod",
            Tree::dict([("epoch", number(3)), ("state_dict", state(&weights, "model._orig_mod."))]),
        ),
        ("a.b.c", Tree::dict([("a", Tree::dict([("b", Tree::dict([("c", state(&weights, ""))]))]))])),
        (
            "weights",
            Tree::dict([
                ("weights", state(&weights, "")),
                ("other", Tree::dict([("alpha", Tree::Tensor(vec![1], vec![0.5]))])),
            ]),
        ),
    ];
    for (wanted, tree) in trees {
        for bytes in [torch_save(&tree), torch_save_old(&tree)] {
            let mut file = open(folder.path(), &bytes);
            let fit = file.fit(config(), None).unwrap();
            assert_eq!(fit.state, wanted);
            assert!(file.fitted(&fit).unwrap() == weights, "{wanted}");
            assert!(file.weights(weights.specs.clone()).unwrap() == weights, "{wanted}");
        }
    }
}

/// A part may be wrapped as the whole is: spread over devices, compiled, sharded.
#[test]
fn wrappers_within_names_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let within = |to: fn(&str) -> String| {
        let mut weights = weights();
        weights.specs.iter_mut().for_each(|spec| spec.name = to(&spec.name));
        weights
    };
    let compiled = |name: &str| name.replace("features.", "features._orig_mod.");
    let spread = |name: &str| name.replace("features.", "features.module.");
    let sharded = |name: &str| {
        let inner = name.replace(".conv.", "._checkpoint_wrapped_module.conv.");
        format!("_fsdp_wrapped_module.{inner}")
    };
    for to in [compiled, spread, sharded] {
        let mut file = open(folder.path(), &torch_save(&Tree::dict([("net", state(&within(to), ""))])));
        let fit = file.fit(config(), None).unwrap();
        assert_eq!((file.fitted(&fit).unwrap(), fit.state.as_str()), (weights(), "net"));
    }
    // Where two names would be one, none is left out.
    let of_two = [state(&within(spread), ""), state(&within(compiled), "")].into_iter().flat_map(|tree| match tree {
        Tree::Dict(items) => items,
        _ => unreachable!(),
    });
    let features = of_two.filter(|(name, _)| name.starts_with("features"));
    let error = open(folder.path(), &torch_save(&Tree::Dict(features.collect()))).fit(config(), None).unwrap_err();
    assert!(error.to_string().contains("no mobilenetv2 in it"), "{error}");
}

#[test]
fn of_two_states_none_is_chosen_silently() {
    let folder = tempfile::tempdir().unwrap();
    let averaged = weights();
    let raw = halved(weights());
    let counter = ("n_averaged".to_owned(), Tree::Tensor(vec![], vec![9.0]));
    let Tree::Dict(mut ema) = state(&averaged, "module.") else { panic!() };
    ema.push(counter);
    let tree = Tree::dict([("model", state(&raw, "")), ("model_ema", Tree::Dict(ema)), ("epoch", number(3))]);
    let mut file = open(folder.path(), &torch_save(&tree));
    let error = file.fit(config(), None).unwrap_err().to_string();
    assert!(error.contains("model, model_ema.module: --state chooses one"), "{error}");
    assert!(file.weights(averaged.specs.clone()).is_err());
    for (key, wanted) in [("model", &raw), ("model_ema", &averaged), ("model_ema.module", &averaged)] {
        let fit = file.fit(config(), Some(key)).unwrap();
        assert!(file.fitted(&fit).unwrap() == *wanted, "{key}");
    }
    let error = file.fit(config(), Some("ema")).unwrap_err().to_string();
    // `n_averaged` is below `model_ema`.
    assert!(
        error.contains("no state ema in it, but the states model (262 tensors), model_ema.module (262 tensors)"),
        "{error}"
    );
}

/// One dict under two keys is one state; an average that lies within the raw state's dict is another.
#[test]
fn states_within_states_and_states_said_twice() {
    let folder = tempfile::tempdir().unwrap();
    let averaged = weights();
    let raw = halved(weights());
    let Tree::Dict(mut items) = state(&raw, "") else { panic!() };
    items.push(("ema".to_owned(), state(&averaged, "")));
    let mut file = open(folder.path(), &torch_save(&Tree::Dict(items)));
    let error = file.fit(config(), None).unwrap_err().to_string();
    assert!(error.contains("several states that fit"), "{error}");
    let fit = file.fit(config(), Some("ema")).unwrap();
    assert!(file.fitted(&fit).unwrap() == averaged);

    // One dict that is remembered (`q`) and comes back under another key (`h`).
    let twice = Tree::dict([
        ("state_dict", Tree::Remembered(7, Box::new(state(&averaged, "")))),
        ("model", Tree::Raw(b"h\x07".to_vec())),
    ]);
    let mut file = open(folder.path(), &torch_save(&twice));
    let fit = file.fit(config(), None).unwrap();
    assert!(file.fitted(&fit).unwrap() == averaged);
}

fn halved(mut weights: Weights) -> Weights {
    weights.values.iter_mut().flatten().for_each(|value| *value *= 0.5);
    weights
}

/// An average that has not moved everywhere may share tensors with the raw weights, the first among them.
#[test]
fn states_that_differ_anywhere_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let raw = weights();
    let count = raw.specs.len();
    for differ in [count / 2..count, count - 1..count] {
        let mut averaged = raw.clone();
        differ.clone().for_each(|at| averaged.values[at].iter_mut().for_each(|value| *value += 1.0));
        let Tree::Dict(mut items) = state(&averaged, "") else { panic!() };
        for (at, (_, tree)) in items.iter_mut().enumerate().filter(|(at, _)| !differ.contains(at)) {
            let shape = raw.specs[at].shape.clone();
            let strides = (0..shape.len()).map(|side| shape[side + 1..].iter().product()).collect();
            *tree = Tree::View(at, 0, shape, strides);
        }
        // The storages are those of the first state, in its order.
        for (first, second) in [("state_dict", "ema"), ("ema", "state_dict")] {
            let tree = Tree::dict([(first, state(&raw, "")), (second, Tree::Dict(items.clone()))]);
            for bytes in [torch_save(&tree), torch_save_old(&tree)] {
                let mut file = open(folder.path(), &bytes);
                let error = file.fit(config(), None).unwrap_err().to_string();
                assert!(error.contains("several states that fit, ema, state_dict: --state chooses"), "{error}");
                assert!(file.weights(raw.specs.clone()).is_err());
                for (key, wanted) in [(first, &raw), (second, &averaged)] {
                    let fit = file.fit(config(), Some(key)).unwrap();
                    assert!(file.fitted(&fit).unwrap() == *wanted, "{key}");
                }
            }
        }
    }
}

/// `conv1.weight` is the first name, and the end of others: blocks are no states, and hide none.
#[test]
fn a_block_that_ends_as_the_network_starts_is_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let spec = |name: String| TensorSpec { name, shape: vec![1], ..weights().specs[0].clone() };
    let mut names = vec!["conv1.weight".to_owned(), "bn1.weight".to_owned()];
    names.extend((0..20).flat_map(|block| ["conv1", "bn1"].map(|leaf| format!("layer1.{block}.{leaf}.weight"))));
    let specs: Vec<TensorSpec> = names.iter().cloned().map(spec).collect();
    let tree = |value: f32, more: &[&str]| {
        let names = names.iter().cloned().chain(more.iter().map(|name| (*name).to_owned()));
        Tree::Dict(names.map(|name| (name, Tree::Tensor(vec![1], vec![value]))).collect())
    };
    let read =
        |tree: &Tree| open(folder.path(), &torch_save(tree)).weights(specs.clone()).map_err(|error| error.to_string());
    assert_eq!(read(&Tree::dict([("model", tree(1.0, &[]))])).unwrap().values, vec![vec![1.0]; names.len()]);
    let two = read(&Tree::dict([("ema", tree(2.0, &[])), ("model", tree(1.0, &[]))])).unwrap_err();
    assert!(two.contains("several states that fit, ema, model: --state chooses one"), "{two}");
    // A deeper network of the same names is another.
    let deeper = read(&tree(1.0, &["layer1.20.conv1.weight", "layer1.20.bn1.weight"])).unwrap_err();
    assert!(deeper.contains("2 extra: layer1.20.bn1.weight, layer1.20.conv1.weight"), "{deeper}");
    let many: Vec<(String, Tree)> = (0..20).map(|k| (format!("fold{k:02}"), tree(k as f32, &[]))).collect();
    let many = read(&Tree::Dict(many)).unwrap_err();
    assert!(many.contains("fold00, ") && many.contains(", fold15, and 4 more: --state chooses one"), "{many}");
}

/// Averages without statistics, or without some layers, are nobody's network; that they are there is said.
#[test]
fn a_state_that_is_not_whole_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let raw = weights();
    let without = |part: &str| {
        let Tree::Dict(mut items) = state(&halved(weights()), "module.") else { panic!() };
        items.retain(|(name, _)| !name.contains(part));
        Tree::Dict(items)
    };
    for (part, told) in [
        ("running_", "ema.module (104 missing, such as features.0.1.running_mean)"),
        ("features.0.", "ema.module (5 missing, such as features.0.0.weight)"),
        ("features.", "ema.module (260 missing, such as features.0.0.weight)"),
    ] {
        let tree = Tree::dict([("state_dict", state(&raw, "")), ("ema", without(part))]);
        let mut file = open(folder.path(), &torch_save(&tree));
        let fit = file.fit(config(), None).unwrap();
        assert_eq!(fit.state, "state_dict");
        assert_eq!(fit.incomplete.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
        assert!(file.fitted(&fit).unwrap() == raw);
        let error = file.fit(config(), Some("ema")).unwrap_err().to_string();
        assert!(error.contains("ema.module: ") && error.contains(" missing: "), "{error}");
    }
    // Without names: in a list, as in the state of an object. What an optimizer keeps is something else.
    let list = |count: usize| {
        let tensor = Tree::Tensor(vec![1], vec![0.5]);
        Tree::List((0..count).map(|_| tensor.clone()).collect())
    };
    let object = Tree::Between(
        b"cmine\nAverage\n)\x81".to_vec(),
        Box::new(Tree::dict([("decay", number(9)), ("shadow", without("running_"))])),
        b"b".to_vec(),
    );
    let by_number = Tree::Between(b"}K\x07".to_vec(), Box::new(state(&halved(weights()), "")), b"s".to_vec());
    let Tree::Dict(mut flat) = state(&raw, "") else { panic!() };
    flat.iter_mut().for_each(|(name, _)| *name = name.replace('.', ""));
    let flat = Tree::Dict(flat);
    let tree = Tree::dict([
        ("state_dict", state(&raw, "")),
        ("ema", Tree::dict([("decay", number(9)), ("shadow_params", list(158))])),
        ("averager", object),
        ("optimizer", Tree::dict([("momenta", list(5))])),
        ("optimizer_states", Tree::List(vec![Tree::dict([("ema", Tree::dict([("average", list(158))]))])])),
        // What an optimizer keeps of each tensor by number is no average, also in a list.
        ("lightning", Tree::List(vec![Tree::dict([("state", by_number.clone())])])),
        ("averages", Tree::List(vec![number(9), state(&halved(weights()), "")])),
        ("epochs", by_number),
        ("flat", flat),
    ]);
    let fit = open(folder.path(), &torch_save(&tree)).fit(config(), None).unwrap();
    assert_eq!(
        fit.incomplete.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "flat (262 tensors of other names)",
            "averager (158 tensors without names)",
            "optimizer_states (158 tensors without names)",
            "averages (262 tensors without names)",
            "epochs (262 tensors without names)",
            "ema.shadow_params (158 tensors without names)"
        ]
    );
    // Within the raw weights' own dict a few tensors are no state but a head too many; and nothing is there, nothing said.
    let Tree::Dict(mut items) = state(&raw, "") else { panic!() };
    items.push(("aux".to_owned(), Tree::dict([("classifier.1.weight", Tree::Tensor(vec![1], vec![0.0]))])));
    let error = open(folder.path(), &torch_save(&Tree::Dict(items))).fit(config(), None).unwrap_err().to_string();
    assert!(error.contains("1 extra: aux.classifier.1.weight"), "{error}");
    let alone = open(folder.path(), &torch_save(&Tree::dict([("state_dict", state(&raw, ""))])));
    assert_eq!(alone.fit(config(), None).unwrap().incomplete, []);
}
