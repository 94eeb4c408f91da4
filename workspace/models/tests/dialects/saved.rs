//! What else `torch.save` puts into a file: dicts of any class, views, programs, lists of classes; and what is refused of it.

use super::*;

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
