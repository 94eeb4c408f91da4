//! Checkpoints that others wrote: wrappers, several states, and the names that MobileNetV2 has elsewhere.

mod common;

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

#[test]
fn a_dict_of_any_class_is_read_and_objects_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights();
    let Tree::Dict(items) = state(&weights, "") else { panic!() };
    let made = |operations: &[u8]| Tree::Made(operations.to_vec(), items.clone());
    let dict = || Box::new(Tree::Dict(items.clone()));
    // Options of a class: its state is a dict, in which there are objects of other classes, and a tensor.
    let object = |class: &str| {
        let tensor = Tree::dict([("scale", Tree::Tensor(vec![1], vec![0.5]))]);
        let state = Tree::dict([("_content", Tree::Raw(b"cmine\nNode\n)\x81}b".to_vec())), ("_metadata", tensor)]);
        Tree::Between([b"c", class.as_bytes(), b"\n)\x81"].concat(), Box::new(state), b"b".to_vec())
    };
    let trees = [
        made(b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R"),
        made(b"ccollections\nOrderedDict\n)R"),
        made(b"cmine\nState\n)\x81"),
        made(b"cmine\nOrdered\n)R"),
        Tree::Between(b"ccollections\nCounter\n".to_vec(), dict(), b"\x85R".to_vec()),
        // With attributes.
        Tree::Between(b"".to_vec(), Box::new(made(b"cmine\nState\n)\x81")), b"}X\x01\0\0\0aK\x01sb".to_vec()),
    ];
    for (at, tree) in trees.into_iter().enumerate() {
        let beside = Tree::dict([
            ("args", object("argparse\nNamespace")),
            ("state_dict", tree.clone()),
            ("cfg", object("omegaconf.dictconfig\nDictConfig")),
        ]);
        for (tree, wanted) in [(&tree, ""), (&beside, "state_dict")] {
            for bytes in [torch_save(tree), torch_save_old(tree)] {
                let mut file = open(folder.path(), &bytes);
                let fit = file.fit(config(), None).unwrap();
                assert_eq!(fit.state, wanted, "{at}");
                assert!(file.fitted(&fit).unwrap() == weights, "{at}");
            }
        }
    }
}

/// Expanded, tied and cut out of a larger tensor.
#[test]
fn views_are_read_as_they_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = weights();
    let Tree::Dict(mut items) = state(&wanted, "") else { panic!() };
    let at = |name: &str| wanted.specs.iter().position(|spec| spec.name == name).unwrap();
    let [expanded, gaps, tied, other] =
        ["features.0.1.running_mean", "features.18.0.weight", "features.1.conv.0.1.bias", "features.1.conv.2.bias"]
            .map(at);
    let len = |at: usize| wanted.specs[at].shape[0];
    // Of one tensor beside the weights: one number for all channels, every other row, and the same numbers twice.
    let shape = wanted.specs[gaps].shape.clone();
    let (rows, columns) = (shape[0], shape[1]);
    let wide: Vec<f32> = (0..2 * rows * columns).map(|value| (value % 1013) as f32).collect();
    items.insert(0, ("beside".to_owned(), Tree::Tensor(vec![2 * rows, columns], wide.clone())));
    items[gaps + 1].1 = Tree::View(0, columns, shape, vec![2 * columns, 1, 1, 1]);
    items[expanded + 1].1 = Tree::View(0, 3, vec![len(expanded)], vec![0]);
    for tied in [tied, other] {
        items[tied + 1].1 = Tree::View(0, 5, vec![len(tied)], vec![1]);
    }
    let counts = [expanded, tied, other].map(len);
    wanted.values[expanded] = vec![3.0; counts[0]];
    wanted.values[gaps] = wide.chunks(columns).skip(1).step_by(2).flatten().copied().collect();
    wanted.values[tied] = wide[5..5 + counts[1]].to_vec();
    wanted.values[other] = wide[5..5 + counts[2]].to_vec();
    let beside = items.remove(0);
    let tree = Tree::dict([("optimizer", Tree::Dict(vec![beside])), ("state_dict", Tree::Dict(items))]);
    for bytes in [torch_save(&tree), torch_save_old(&tree)] {
        let mut file = open(folder.path(), &bytes);
        let fit = file.fit(config(), None).unwrap();
        let read = file.fitted(&fit).unwrap();
        for (spec, (read, wanted)) in wanted.specs.iter().zip(read.values.iter().zip(&wanted.values)) {
            assert!(read == wanted, "{}", spec.name);
        }
    }
    // Beyond its storage.
    let tree =
        Tree::dict([("a", Tree::Tensor(vec![4], vec![0.0; 4])), ("b", Tree::View(0, 1, vec![2, 2], vec![2, 1]))]);
    let path = folder.path().join("saved.pth");
    fs::write(&path, torch_save(&tree)).unwrap();
    assert!(Checkpoint::open(&path).unwrap_err().to_string().contains("b lies outside the file"));
}

#[test]
fn what_is_refused_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |tree: &Tree| {
        let path = folder.path().join("saved.pth");
        fs::write(&path, torch_save(tree)).unwrap();
        let error = Checkpoint::open(&path).and_then(|file| file.fit(config(), None).map(|_| ()));
        error.unwrap_err().to_string()
    };
    let error = refused(&Tree::dict([("epoch", number(1)), ("best_acc", number(2))]));
    assert!(error.contains("no tensors by name in it, but a dict of epoch, best_acc"), "{error}");
    let inner = Box::new(Tree::dict([("a", Tree::Tensor(vec![1], vec![0.5]))]));
    let error = refused(&Tree::Between(b"}K\x07".to_vec(), inner, b"s".to_vec()));
    assert!(error.contains("a dict whose keys are no texts"), "{error}");
    let error = refused(&Tree::Raw(b"cmobilenet\nMobileNetV2\n)\x81}b".to_vec()));
    assert!(error.contains("an object of class MobileNetV2: save its state_dict()"), "{error}");
    let inner = Box::new(Tree::dict([("a", Tree::Tensor(vec![1], vec![0.5]))]));
    let model = Tree::Between(b"cmobilenet\nMobileNetV2\n)\x81".to_vec(), inner, b"b".to_vec());
    let error = refused(&Tree::dict([("epoch", number(1)), ("model", model)]));
    assert!(
        error.contains("a dict of epoch, model (an object of class MobileNetV2: save its state_dict())"),
        "{error}"
    );

    // In the place of a tensor.
    let stem = |instead: &[u8]| {
        let Tree::Dict(mut items) = state(&weights(), "") else { panic!("no dict") };
        items.iter_mut().find(|(name, _)| name == "features.0.0.weight").unwrap().1 = Tree::Raw(instead.to_vec());
        refused(&Tree::dict([("net", Tree::Dict(items))]))
    };
    let error = stem(b"ctorch._utils\n_rebuild_qtensor\n)R");
    let told = "net: 1 missing: features.0.0.weight; net.features.0.0.weight is in it, but is";
    assert!(error.contains(&format!("{told} an object of class _rebuild_qtensor")), "{error}");
    let error = stem(b"N");
    assert!(error.contains(&format!("{told} no tensor")), "{error}");
    let other = Tree::dict([("encoder.embed", Tree::Tensor(vec![2, 3], vec![0.0; 6]))]);
    let tree = Tree::dict([("state_dict", other)]);
    let error = refused(&tree);
    assert!(error.contains("no mobilenetv2 in it, but 1 tensors: state_dict.encoder.embed [2, 3]"), "{error}");

    let error = open(folder.path(), &torch_save(&tree)).fit(config(), Some("ema")).unwrap_err().to_string();
    assert!(error.contains("no state ema in it, but the keys state_dict (1 tensor)"), "{error}");

    // A look-alike: the same names, other shapes.
    let mut alike = renamed(&weights(), Dialect::FlatFeatures);
    let at = alike.specs.iter().position(|spec| spec.name == "features.3.conv.0.weight").unwrap();
    alike.specs[at].shape[0] *= 2;
    let doubled = alike.values[at].repeat(2);
    alike.values[at] = doubled;
    let error = refused(&state(&alike, ""));
    assert!(error.contains("in tonylins's names: 1 misshaped: features.3.conv.0.weight"), "{error}");
    // A bare transformers model has no classifier.
    let mut bare = renamed(&weights(), Dialect::Transformers);
    bare.specs.truncate(bare.specs.len() - 2);
    let error = refused(&state(&bare, ""));
    assert!(error.contains("in transformers's names: 2 missing: classifier.bias, classifier.weight"), "{error}");
}

#[test]
fn a_program_is_told_from_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traced.pt");
    let pickle = b"\x80\x02}.".as_slice();
    fs::write(&path, zip(&[("net/data.pkl", pickle), ("net/constants.pkl", pickle)])).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("a program of torch.jit.save: load it there and save its state_dict()"), "{error}");
}

/// Scripts keep them in many forms; an output that is called by its place alone may be another class.
#[test]
fn lists_of_classes_that_are_not_read_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut items = (0..20).map(|at| (format!("option{at}"), number(at))).collect::<Vec<_>>();
    items.push(("class_to_idx".to_owned(), Tree::dict([("dog", number(0)), ("ant", number(1))])));
    items.push(("net".to_owned(), state(&weights(), "")));
    let lists = |bytes: &[u8]| open(folder.path(), bytes).class_lists();
    assert_eq!(lists(&torch_save(&Tree::Dict(items))), ["class_to_idx"]);
    assert!(lists(&torch_save(&state(&weights(), ""))).is_empty());
    // As mmdetection has them: within what a script tells of itself.
    let of_set = Tree::dict([("CLASSES", Tree::List(vec![number(0)])), ("palette", number(1))]);
    let meta = Tree::dict([("seed", number(3)), ("dataset_meta", of_set)]);
    let tree = Tree::dict([("meta", meta), ("state_dict", state(&weights(), ""))]);
    assert_eq!(lists(&torch_save(&tree)), ["meta.dataset_meta.CLASSES"]);
    fs::write(folder.path().join("nested.pth"), torch_save(&tree)).unwrap();
    let mut file = Checkpoint::open(&folder.path().join("nested.pth")).unwrap();
    let fit = file.fit(config(), None).unwrap();
    assert_eq!((file.fitted(&fit).unwrap(), fit.state.as_str()), (weights(), "state_dict"));
    let header =
        br#"{"__metadata__":{"id2label":"{\"0\": \"dog\"}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    assert_eq!(lists(&file), ["id2label"]);
}

/// A dict that many keys lead to is walked as often; its items are what takes the time.
#[test]
fn items_that_many_keys_lead_to_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.pth");
    let inner = Tree::Remembered(9, Box::new(Tree::dict([("w", Tree::Tensor(vec![1], vec![0.5]))])));
    let recalled = |key: u8| Tree::Raw(vec![b'h', key]);
    let mut items = vec![("x".to_owned(), inner)];
    items.extend((0..1000).map(|at| (format!("i{at}"), recalled(9))));
    let twice = |tree: Tree, key: u8| Tree::dict([("a", Tree::Remembered(key, Box::new(tree))), ("b", recalled(key))]);
    let tree = (1..=8).rev().fold(Tree::Dict(items), twice);
    fs::write(&path, torch_save(&tree)).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("tensors or dicts of them: save the state dict alone"), "{error}");
}

#[test]
fn every_truncation_of_both_forms_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    let tree = Tree::dict([("a", Tree::Tensor(vec![2, 2], vec![1.0; 4])), ("b", Tree::Tensor(vec![3], vec![2.0; 3]))]);
    for whole in [torch_save(&tree), torch_save_old(&tree)] {
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Checkpoint::open(&path).unwrap_err();
            assert!(matches!(error, CheckpointError::Unreadable { .. }), "{length}: {error}");
            // Within the last storage.
            assert!(length + 8 < whole.len() || error.to_string().contains("cut"), "{length}: {error}");
        }
    }
}

/// Its bytes are those of the tensor that it is the negative of.
#[test]
fn a_tensor_that_is_stored_negated_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.pth");
    let view = |metadata: &[u8]| {
        let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\x02\0\0\0tQ";
        let sizes = b"J\0\0\0\0(J\x02\0\0\0t(J\x01\0\0\0t\x89ccollections\nOrderedDict\n)R";
        Tree::Raw([b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], sizes, metadata, b"tR"].concat())
    };
    let opened = |metadata: &[u8]| {
        let tree = Tree::dict([("a", Tree::Tensor(vec![2], vec![1.0, 2.0])), ("b", view(metadata))]);
        fs::write(&path, torch_save(&tree)).unwrap();
        Checkpoint::open(&path).map(|mut file| file.read("b").unwrap())
    };
    assert_eq!(opened(b"").unwrap(), [1.0, 2.0]);
    assert_eq!(opened(b"N").unwrap(), [1.0, 2.0]);
    let error = opened(b"}X\x03\0\0\0neg\x88s").unwrap_err().to_string();
    assert!(error.contains("to negate or conjugate its numbers"), "{error}");
}
