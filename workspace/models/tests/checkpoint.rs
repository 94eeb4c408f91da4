//! Checkpoints: what PyTorch and the safetensors crate write, what differs from a network, and damaged files.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use sandglass_models::blocks::ResNetBottleneck;
use sandglass_models::checkpoint::{self, Checkpoint, CheckpointError, Dialect, Problem, SaveType};
use sandglass_models::{GraphBuilder, NetworkConfig, NetworkName, TensorSpec, Weights};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn specs() -> Vec<TensorSpec> {
    let mut g = GraphBuilder::new(8).unwrap();
    let x = g.images();
    let y = ResNetBottleneck { input: 8, planes: 2, stride: 1, downsample: false }.build(&mut g, "", x).unwrap();
    g.finish(vec![y]).unwrap().tensors()
}

/// The rule of `fixtures/make_pth.py`.
fn weights() -> Weights {
    let mut weights = Weights::zeros(specs());
    for (k, values) in weights.values.iter_mut().enumerate() {
        for (i, value) in values.iter_mut().enumerate() {
            *value = ((7 * i + 13 * k) % 101) as f32 / 64.0 - 50.0 / 64.0;
        }
    }
    weights
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn pytorch_files_give_every_value() {
    for name in ["wrapped.pth", "half.pth", "old.pth"] {
        assert_eq!(checkpoint::load(&fixture(name), specs()).unwrap(), weights(), "{name}");
    }
}

#[test]
fn what_is_no_plain_checkpoint_is_refused() {
    let problem = |name| match checkpoint::load(&fixture(name), specs()) {
        Err(CheckpointError::Unreadable { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert!(matches!(problem("expanded.pth"), Problem::OutsideFile(name) if name == "conv1.weight"));
    // One tensor under three keys: all that can be read of them is no larger than the file.
    let mut shared = Checkpoint::open(&fixture("shared.pth")).unwrap();
    assert_eq!(shared.read("a").unwrap().len(), 1024);
    let again = shared.read("b").unwrap_err();
    assert!(
        matches!(again, CheckpointError::Unreadable { problem: Problem::Shared(ref name), .. } if name == "b"),
        "{again}"
    );
    assert!(matches!(problem("costs.csv"), Problem::UnknownFormat));
    assert!(matches!(problem("absent.pth"), Problem::Io(_)));
}

/// What people have in place of a checkpoint is called what it is.
#[test]
fn half_a_file_a_pointer_and_two_tensors_of_one_name_are_told() {
    let folder = folder();
    let path = folder.path().join("weights.safetensors");
    checkpoint::save(&path, &weights(), SaveType::F32).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Checkpoint::open(&path).unwrap_err().to_string()
    };
    let told = format!("the file is cut: it has {} bytes of {}", whole.len() - 100, whole.len());
    assert!(refused(&whole[..whole.len() - 100]).ends_with(&told));
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of git-lfs in place of the file"),
        (b"{\"metadata\": {}, \"weight_map\": {}}", "the index of a checkpoint that lies in several files"),
        (b"<html>", "a page of HTML or XML"),
    ] {
        let error = refused(bytes);
        assert!(error.contains(&format!("it is {what}")) && error.contains("neither a safetensors file"), "{error}");
    }
    // The last of two tensors of one name would win; an escape is no other name.
    for again in ["a", "\\u0061"] {
        let tensor = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let header = format!(r#"{{"a":{tensor},"{again}":{tensor}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
        assert!(refused(&bytes).ends_with("a is in it twice"), "{again}");
    }
}

#[test]
fn saving_and_loading_keeps_every_bit_and_the_same_weights_give_the_same_bytes() {
    let folder = folder();
    for dtype in [SaveType::F32, SaveType::F16] {
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        checkpoint::save(&first, &weights(), dtype).unwrap();
        checkpoint::save(&second, &weights(), dtype).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        assert_eq!(checkpoint::load(&first, specs()).unwrap(), weights());

        // As its own crate reads it.
        let bytes = fs::read(&first).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.len(), specs().len());
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[cfg(unix)]
#[test]
fn others_may_read_what_is_saved() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (path, plain) = (folder.path().join("weights.safetensors"), folder.path().join("plain"));
    checkpoint::save(&path, &weights(), SaveType::F32).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn a_value_that_f16_cannot_hold_is_named_and_the_file_stays() {
    let folder = folder();
    let path = folder.path().join("weights.safetensors");
    checkpoint::save(&path, &weights(), SaveType::F16).unwrap();
    for value in [65520.0, -1e9, f32::INFINITY, f32::NAN] {
        let mut weights = weights();
        weights.values[3][1] = value;
        let error = checkpoint::save(&path, &weights, SaveType::F16).unwrap_err();
        assert!(matches!(&error, CheckpointError::F16Range { tensor, .. } if tensor == "bn1.running_mean"), "{error}");
    }
    assert_eq!(checkpoint::load(&path, specs()).unwrap(), weights());
}

#[test]
fn an_unwritable_place_is_one_error() {
    // A file where a folder should be.
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = checkpoint::save(&file.path().join("all"), &weights(), SaveType::F32);
    assert!(matches!(error, Err(CheckpointError::Write { .. })));
}

#[test]
fn all_differences_are_in_one_error() {
    let mut specs = specs();
    specs.retain(|spec| spec.name != "bn2.bias");
    specs[0].shape = vec![2, 4, 1, 1];
    for name in ["fc.weight", "fc.bias"] {
        specs.push(TensorSpec { name: name.to_owned(), ..specs[1].clone() });
    }
    let error = checkpoint::load(&fixture("wrapped.pth"), specs).unwrap_err().to_string();
    let want = "2 missing: fc.bias, fc.weight; 1 extra: bn2.bias; \
                1 misshaped: conv1.weight [2, 8, 1, 1] for [2, 4, 1, 1]";
    assert!(error.ends_with(want), "{error}");

    let resnet = NetworkConfig::new(NetworkName::ResNet50).build().unwrap().tensors();
    let error = checkpoint::load(&fixture("half.pth"), resnet).unwrap_err().to_string();
    assert!(
        error.contains("262 missing: ") && error.contains("; 10 extra: ") && error.contains("; 5 misshaped: "),
        "{error}"
    );
    assert!(error.len() < 2000, "{} characters", error.len());
}

#[test]
fn every_stored_float_type_is_read() {
    let folder = folder();
    let path = folder.path().join("types.safetensors");
    let bits = [0.5f64, -3.0];
    let bytes: [(&str, Dtype, Vec<u8>); 4] = [
        ("f64", Dtype::F64, bits.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("f32", Dtype::F32, bits.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
        ("f16", Dtype::F16, bits.iter().flat_map(|v| half::f16::from_f64(*v).to_le_bytes()).collect()),
        ("bf16", Dtype::BF16, bits.iter().flat_map(|v| half::bf16::from_f64(*v).to_le_bytes()).collect()),
    ];
    let views = bytes.iter().map(|(name, dtype, data)| (*name, TensorView::new(*dtype, vec![2], data).unwrap()));
    let integer = ("i64", TensorView::new(Dtype::I64, vec![1], &[0; 8]).unwrap());
    fs::write(&path, safetensors::serialize(views.chain([integer]), None).unwrap()).unwrap();

    let mut file = Checkpoint::open(&path).unwrap();
    for (name, ..) in bytes {
        assert_eq!(file.read(name).unwrap(), [0.5, -3.0], "{name}");
    }
    let refused = |error| matches!(error, CheckpointError::Unreadable { problem: Problem::Type(_), .. });
    assert!(refused(file.read("i64").unwrap_err()));
}

/// torchvision's own weights, where they are at hand.
#[test]
fn published_weights_load_strictly() {
    let path = fixture("../../../../../shared/data/weights/mobilenet_v2_1.0_imagenet.safetensors");
    if path.exists() {
        let fit = Checkpoint::open(&path).unwrap().fit(NetworkConfig::new(NetworkName::MobileNetV2), None).unwrap();
        assert_eq!((fit.config.classes, fit.dialect, fit.state.as_str()), (1000, Dialect::Own, ""));
        let network = NetworkConfig::new(NetworkName::MobileNetV2).build().unwrap();
        let weights = checkpoint::load(&path, network.tensors()).unwrap();
        assert!(weights.values.iter().flatten().all(|value| value.is_finite()));
    }
}

#[test]
fn classes_are_the_classifiers_rows() {
    let folder = folder();
    let path = folder.path().join("weights.safetensors");
    for name in [NetworkName::MobileNetV1, NetworkName::MobileNetV2] {
        let width = 0.25;
        let network = NetworkConfig { classes: 7, width, ..NetworkConfig::new(name) }.build().unwrap();
        checkpoint::save(&path, &Weights::zeros(network.tensors()), SaveType::F16).unwrap();
        let config = NetworkConfig { width, ..NetworkConfig::new(name) };
        assert_eq!(Checkpoint::open(&path).unwrap().fit(config, None).unwrap().config.classes, 7);
        assert!(Checkpoint::open(&path).unwrap().fit(NetworkConfig::new(NetworkName::ResNet50), None).is_err());
    }
}

/// Of two entries of one name it would be chance which is read.
#[test]
fn an_entry_that_is_there_twice_is_refused() {
    let folder = folder();
    let path = folder.path().join("twice.pth");
    let tensor = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
        X\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0K\x01\x85K\x01\x85\x89}tRs.";
    let [one, two] = [1f32, 2.0].map(f32::to_le_bytes);
    let entries = [("x/data.pkl", &tensor[..]), ("x/data/0", &one), ("x/data/0", &two), ("y/data.pkl", b"N.")];
    let opened = |entries: &[(&str, &[u8])]| {
        fs::write(&path, common::zip(entries)).unwrap();
        Checkpoint::open(&path).and_then(|mut file| file.read("a")).map_err(|error| error.to_string())
    };
    assert_eq!(opened(&entries[..2]), Ok(vec![1.0]));
    for entries in [&entries[..3], &[entries[0], entries[1], entries[3]]] {
        assert!(opened(entries).unwrap_err().contains("an entry is in it twice"));
    }
}

/// Opens and reads everything that the file claims to hold; any error will do.
fn read_all(path: &Path) {
    if let Ok(mut file) = Checkpoint::open(path) {
        let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        for name in names {
            let _ = file.read(&name);
        }
    }
    let _ = checkpoint::load(path, specs());
}

fn originals() -> Vec<Vec<u8>> {
    let folder = folder();
    let path = folder.path().join("weights.safetensors");
    checkpoint::save(&path, &weights(), SaveType::F16).unwrap();
    [path, fixture("wrapped.pth"), fixture("half.pth"), fixture("old.pth")].map(|path| fs::read(path).unwrap()).to_vec()
}

#[test]
fn the_old_form_is_read_by_whatever_protocol_it_was_pickled() {
    for protocol in ["protocol3.pth", "protocol4.pth", "protocol5.pth"] {
        let mut file = Checkpoint::open(&fixture(protocol)).unwrap();
        assert_eq!(file.read("state.a").unwrap(), [1.0, 2.0, 3.0], "{protocol}");
        assert_eq!(file.read("state.b").unwrap(), [0.5; 4], "{protocol}");
    }
}

#[test]
fn a_file_cut_at_any_length_is_an_error() {
    let folder = folder();
    let path = folder.path().join("cut");
    for bytes in originals() {
        fs::write(&path, &bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        for length in (0..bytes.len()).rev() {
            file.set_len(length as u64).unwrap();
            read_all(&path);
            assert!(checkpoint::load(&path, specs()).is_err(), "{length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn a_flipped_bit_in_a_pth_never_changes_a_value() {
    let folder = folder();
    let path = folder.path().join("flipped");
    fs::copy(fixture("half.pth"), &path).unwrap();
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, byte) in fs::read(fixture("half.pth")).unwrap().into_iter().enumerate() {
        put(at, byte ^ (1 << (at % 8)));
        if let Ok(read) = checkpoint::load(&path, specs()) {
            assert_eq!(read, weights(), "byte {at}");
        }
        put(at, byte);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(which in 0..4usize, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        thread_local!(static FILES: Vec<Vec<u8>> = originals());
        let folder = folder();
        let path = folder.path().join("damaged");
        let mut bytes = FILES.with(|files| files[which].clone());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fs::write(&path, &bytes).unwrap();
        read_all(&path);
    }
}
