//! A hostile checkpoint never takes more memory than twice its size and 64 MiB, and neither does a long history.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Tree, zip};
use sandglass_models::checkpoint::Checkpoint;
use sandglass_models::{NetworkConfig, NetworkName};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: all is handed on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn pth(pickle: &[u8]) -> Vec<u8> {
    zip(&[("x/data.pkl", pickle), ("x/data/0", &[0; 64])])
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A mebibyte that repeats one piece.
fn full_of(piece: &[u8]) -> Vec<u8> {
    piece.iter().copied().cycle().take(1 << 20).collect()
}

/// A storage, two tuples and the function in the memo, then as many tensors and items as fit.
fn many_tensors(item: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00".to_vec();
    pickle.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQq\x01");
    pickle.extend(b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tq\x02");
    pickle.extend(b"(h\x01K\0h\x02h\x02\x89}tq\x03");
    pickle.extend(b"X\x01\0\0\0aq\x04h\x00h\x03Rq\x05}q\x06");
    while pickle.len() + item.len() < 1 << 20 {
        pickle.extend(item);
    }
    pickle.push(b'.');
    pickle
}

/// As many texts as fit that the pickle comes back to.
fn remembered() -> Vec<u8> {
    let mut pickle = b"\x80\x04(".to_vec();
    let count = (1 << 20) / 9;
    (0..count).for_each(|_| pickle.extend(b"\x8c\x01a\x94"));
    (0..count as u32).for_each(|key| pickle.extend([&b"j"[..], &key.to_le_bytes()].concat()));
    pickle.extend(b"t.");
    pickle
}

#[test]
fn memory_is_bounded_by_the_file() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile");

    let nested: String = "[".repeat(500_000);
    let shapes = vec!["1"; 400_000].join(",");
    let metadata: String = (0..60_000).map(|i| format!(r#""{i}":"","#)).collect();
    let tensors: String =
        (0..15_000).map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},"#)).collect();
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("marks", pth(&full_of(b"("))),
        ("lists", pth(&full_of(b"]"))),
        ("dicts", pth(&full_of(b"}"))),
        ("remembered", pth(&full_of(b"N\x94\x94\x94\x94\x94\x94\x94"))),
        ("nested tuples", pth(&full_of(b")\x85\x85\x85\x85\x85\x85\x85"))),
        ("tuples of marks", pth(&full_of(b"(NNNNt"))),
        ("tensors", pth(&many_tensors(b"h\x00h\x03R"))),
        ("items", pth(&many_tensors(b"h\x04h\x05s"))),
        ("dicts in dicts", pth(&many_tensors(b"h\x04}s"))),
        ("remembered texts", pth(&remembered())),
        ("header beyond the file", safetensors("{", 0).into_iter().chain([b'{'; 100]).collect()),
        ("header of a gigabyte", [&(1u64 << 30).to_le_bytes()[..], b"{"].concat()),
        ("header of 64 mebibytes", [&(64u64 << 20).to_le_bytes()[..], b"{"].concat()),
        ("deep metadata", safetensors(&format!("{{\"__metadata__\":{{\"a\":{nested}"), 0)),
        ("spaces", safetensors(&format!("{{{}}}", " ".repeat(4 << 20)), 0)),
        ("deep header", safetensors(&format!("{{\"a\":{nested}"), 0)),
        (
            "long shape",
            safetensors(&format!(r#"{{"a":{{"dtype":"F32","shape":[{shapes}],"data_offsets":[0,4]}}}}"#), 4),
        ),
        ("much metadata", safetensors(&format!(r#"{{"__metadata__":{{{metadata}"x":""}}}}"#), 0)),
        (
            "many tensors",
            safetensors(&format!(r#"{{{tensors}"x":{{"dtype":"F32","shape":[],"data_offsets":[0,4]}}}}"#), 4),
        ),
        (
            "beyond 64 bits",
            safetensors(r#"{"a":{"dtype":"F32","shape":[4294967295,4294967295,4294967295],"data_offsets":[0,4]}}"#, 4),
        ),
        (
            "f16 throughout",
            safetensors(r#"{"a":{"dtype":"F16","shape":[50000000],"data_offsets":[0,100000000]}}"#, 100_000_000),
        ),
    ];
    for (what, bytes) in files {
        fs::write(&path, &bytes).unwrap();
        let size = bytes.len();
        drop(bytes);
        let peak = peak_of(&path);
        assert!(peak <= 2 * size + (64 << 20), "{what}: {peak} bytes for a file of {size}");
    }
}

/// Histories and names of files beside the weights cost no more than their bytes, and hide no tensor.
#[test]
fn a_long_history_is_read_over() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.pth");
    // As Python's pickler writes lists: a thousand items at a time, each text remembered.
    let mut history = b"]q\x01".to_vec();
    let mut key = 10u32;
    for _ in 0..500 {
        history.push(b'(');
        for _ in 0..1000 {
            let name = format!("train/n01440764/n01440764_{key:08}.JPEG");
            history.push(b'X');
            history.extend((name.len() as u32).to_le_bytes());
            history.extend(name.as_bytes());
            history.push(b'r');
            history.extend(key.to_le_bytes());
            // With its class as a tuple, which is remembered too.
            history.extend(b"K\x07\x86r");
            history.extend((key + 1).to_le_bytes());
            key += 2;
        }
        history.push(b'e');
    }
    let tensor = Tree::Tensor(vec![3], vec![1.0, 2.0, 3.0]);
    let tree = Tree::dict([("samples", Tree::Raw(history)), ("state_dict", Tree::dict([("a.weight", tensor)]))]);
    for bytes in [common::torch_save(&tree), common::torch_save_old(&tree)] {
        fs::write(&path, &bytes).unwrap();
        let peak = peak_of(&path);
        assert!(peak <= 2 * bytes.len() + (64 << 20), "{peak} bytes for a file of {}", bytes.len());
        assert_eq!(Checkpoint::open(&path).unwrap().read("state_dict.a.weight").unwrap(), [1.0, 2.0, 3.0]);
    }
}

/// Whatever form they have: what is kept of them is what may lead to a tensor.
#[test]
fn names_of_files_in_any_form_are_read_over() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.pth");
    const COUNT: usize = 200_000;
    let name = |k: usize| {
        let name = format!("train/n{:08}/{k:08}.JPEG", k % 1000);
        [&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat()
    };
    let long = |operation: u8, key: u32| [&[operation][..], &key.to_le_bytes()].concat();
    let all = |open: &[u8], item: &dyn Fn(usize) -> Vec<u8>, close: &[u8]| {
        [open, &(0..COUNT).flat_map(item).collect::<Vec<u8>>(), close].concat()
    };
    // A thousand at a time, as Python's pickler writes them.
    let thousands = |operation: u8, item: &dyn Fn(usize) -> Vec<u8>| {
        let next = [operation, b'('];
        let item = |k: usize| [&item(k)[..], if k % 1000 == 999 { &next[..] } else { b"" }].concat();
        all(b"(", &item, &[operation])
    };
    // Of a class in the memo; and a folder in each thousand that the next one comes back to.
    let path_object = |k: usize| {
        let folder = match k % 1000 {
            0 => [name(k), long(b'r', 100 + (k / 1000) as u32)].concat(),
            _ => long(b'j', 100 + (k.saturating_sub(1000) / 1000) as u32),
        };
        [&b"j\x01\0\0\0"[..], &folder, &name(k), b"\x86R"].concat()
    };
    let inner = |k: usize| [name(k), b"}X\x01\0\0\0aK\x01s".to_vec()].concat();
    let labelled = |k: usize| [name(k), b"}X\x06\0\0\0labelsK\x01s".to_vec()].concat();
    let histories = [
        ("a tuple", all(b"(", &name, b"t")),
        ("labels by name", [&b"}"[..], &thousands(b'u', &|k| [name(k), b"K\x07".to_vec()].concat())].concat()),
        ("labels of each", [&b"}"[..], &thousands(b'u', &labelled)].concat()),
        ("dicts by name", [&b"}"[..], &thousands(b'u', &inner)].concat()),
        ("one by one", all(b"]", &|k| [name(k), b"a".to_vec()].concat(), b"")),
        ("paths", [&b"cpathlib\nPosixPath\nr\x01\0\0\x000]"[..], &thousands(b'e', &path_object)].concat()),
    ];
    for (what, history) in histories {
        let tensor = Tree::Tensor(vec![3], vec![1.0, 2.0, 3.0]);
        let state = Tree::dict([("a.weight", tensor)]);
        for tree in [
            Tree::dict([("samples", Tree::Raw(history.clone())), ("state_dict", state.clone())]),
            Tree::dict([("state_dict", state.clone()), ("samples", Tree::Raw(history.clone()))]),
        ] {
            let bytes = common::torch_save(&tree);
            fs::write(&path, &bytes).unwrap();
            let peak = peak_of(&path);
            assert!(peak <= 2 * bytes.len() + (64 << 20), "{what}: {peak} bytes for a file of {}", bytes.len());
            assert_eq!(
                Checkpoint::open(&path).unwrap().read("state_dict.a.weight").unwrap(),
                [1.0, 2.0, 3.0],
                "{what}"
            );
        }
    }
}

/// A note of any length beside the tensors of a safetensors file, and what looks like one and is none.
#[test]
fn a_long_note_is_read_over() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noted.safetensors");
    let tensor = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let note = r#""history":"{\"__metadata__\": [\\""#;
    let entries: String = (0..40_000).map(|k| format!(r#","{k}":"{}""#, "x".repeat(60))).collect();
    for header in [
        format!(r#"{{"__metadata__":{{{note}{entries}}},{tensor}}}"#),
        format!(r#"{{{tensor}, "__metadata__" : {{{note}{entries}}} }}"#),
    ] {
        let bytes = safetensors(&header, 4);
        assert!(bytes.len() > 2_500_000);
        fs::write(&path, &bytes).unwrap();
        let peak = peak_of(&path);
        assert!(peak <= 2 * bytes.len() + (64 << 20), "{peak} bytes for a file of {}", bytes.len());
        assert_eq!(Checkpoint::open(&path).unwrap().read("a").unwrap(), [0.0]);
    }
    let inner = format!(r#"{{"b":{{"__metadata__":{{{note}}}}},{tensor}}}"#);
    fs::write(&path, safetensors(&inner, 4)).unwrap();
    assert!(Checkpoint::open(&path).is_err(), "a tensor of that name is none");
    let many: String =
        (0..30_000).map(|k| format!(r#""{k:040}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},"#)).collect();
    fs::write(&path, safetensors(&format!("{{{many}{tensor}}}"), 4)).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("a header of"), "{error}");
}

/// Most bytes held at once while all of a file is read.
fn peak_of(path: &Path) -> usize {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    if let Ok(mut file) = Checkpoint::open(path) {
        let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        let values: Vec<_> = names.iter().map(|name| file.read(name)).collect();
        drop(values);
    }
    let specs = NetworkConfig::new(NetworkName::ResNet50).build().unwrap().tensors();
    let _ = sandglass_models::checkpoint::load(path, specs);
    PEAK.load(SeqCst) - before
}
