//! A mutation loop over every reader of files that others made: checkpoints in all forms, pictures, parquet and the lists of
//! classes beside it, VOC's devkit, study.toml, recipes and cards. Nothing may panic, hang or, of checkpoints and annotations, take more memory than twice the
//! file and 64 MiB.
//!
//! The corpus is the fixtures of the crates. `cargo test` runs a few thousand mutations by a fixed seed; an hour of one core:
//!
//! ```text
//! SANDGLASS_FUZZ_SECONDS=3600 cargo test --release --workspace --test fuzz -- --ignored --nocapture
//! ```
//!
//! What fails is written to `SANDGLASS_FUZZ_KEEP`, or to the system's folder for temporary files.

#[path = "../../models/tests/common/mod.rs"]
mod torch;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandglass_data::{Part, Split, decode, open_voc};
use sandglass_files::{from_toml, read_text};
use sandglass_infer::IntPlan;
use sandglass_lab::{Card, ImageSetup};
use sandglass_models::checkpoint::{self, Checkpoint, SaveType};
use sandglass_models::{NetworkConfig, NetworkName, Weights};
use sandglass_ops::{Isa, Runtime};
use sandglass_quant::{Facts, Images, Net, Scheme, bytes, quantise};
use sandglass_train::Recipe;
use torch::{Tree, torch_save, torch_save_old};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

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

/// The counters are the process's: one loop at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Numbers at which readers err.
const EDGES: [u64; 12] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 1 << 24, 0x7fff_ffff, 0xffff_ffff, 1 << 62, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        let rest = bytes.len() - at;
        match random.below(8) {
            0 if rest > 0 => bytes[at] ^= 1 << random.below(8),
            1 if rest > 0 => bytes[at] = random.next() as u8,
            2 | 3 => {
                let width = [1, 2, 4, 8][random.below(4)].min(rest);
                let mut number = EDGES[random.below(EDGES.len())].to_le_bytes();
                if random.below(4) == 0 {
                    number[..width].reverse();
                }
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => drop(bytes.drain(at..at + random.below(rest.min(64) + 1))),
            5 => {
                let piece = bytes[at..at + random.below(rest.min(64) + 1)].to_vec();
                let times = 1 + random.below(8);
                bytes.splice(at..at, piece.repeat(times));
            }
            6 => {
                let from = random.below(other.len() + 1);
                let piece = &other[from..from + random.below((other.len() - from).min(64) + 1)];
                bytes.splice(at..at, piece.iter().copied());
            }
            7 if random.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
}

/// What is read, and how.
struct Target {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    read: fn(&Path, &[u8]),
    /// As a file of this name.
    file: &'static str,
    /// Bytes that reading may take beside twice the file.
    memory: Option<usize>,
    /// Made of the mutated bytes before they are read.
    wrap: fn(Vec<u8>) -> Vec<u8>,
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, extensions: &[&str]) -> Vec<Vec<u8>> {
    let folder = workspace().join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = |path: &&PathBuf| path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap()));
    paths.iter().filter(wanted).map(|path| fs::read(path).unwrap()).collect()
}

fn small() -> NetworkConfig {
    NetworkConfig { width: 0.01, classes: 2, ..NetworkConfig::new(NetworkName::MobileNetV2) }
}

fn saved() -> Weights {
    Weights::zeros(small().build().unwrap().tensors())
}

fn read_checkpoint(path: &Path, _: &[u8]) {
    if let Ok(mut file) = Checkpoint::open(path) {
        let names: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        drop(names.iter().map(|name| file.read(name)).collect::<Vec<_>>());
        for state in [None, Some("ema")] {
            if let Ok(fit) = file.fit(small(), state) {
                let _ = file.fitted(&fit);
            }
        }
    }
}

fn read_quantised(path: &Path, _: &[u8]) {
    let _ = sandglass_quant::is_quantised(path);
    if let Ok((network, _)) = sandglass_quant::load(path) {
        let runtime = Arc::new(Runtime::with_isa(1, Isa::Portable).unwrap());
        // Whatever the file says: scores, or an error.
        if let Ok(mut plan) = IntPlan::new(runtime.clone(), &network, (32, 32)) {
            let values = vec![0.5; 3 * 32 * 32];
            let images = Images { values: &values, height: 32, width: 32 };
            assert_eq!(plan.scores(&values).unwrap(), network.scores(&runtime, &images).unwrap());
        }
    }
}

/// The bytes of a quantised checkpoint.
fn quantised() -> Vec<u8> {
    let config = small();
    let mut weights = saved();
    for (seed, (spec, values)) in weights.specs.iter().zip(&mut weights.values).enumerate() {
        let least = if spec.name.ends_with("running_var") { 1.0 } else { -0.5 };
        values.iter_mut().enumerate().for_each(|(at, x)| *x = least + ((at + seed) * 37 % 101) as f32 / 101.0);
    }
    let net = Net::new(&config.build().unwrap(), &weights).unwrap();
    let values: Vec<f32> = (0..3 * 32 * 32).map(|at| (at * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let images = Images { values: &values, height: 32, width: 32 };
    let scheme = Scheme::default();
    let calibration = scheme.calibrate(&Runtime::new(1).unwrap(), &net, &images).unwrap();
    let (network, _) = quantise(&net, &calibration, &scheme).unwrap();
    let facts = Facts {
        network: config.to_string(),
        width: config.width,
        classes: config.classes,
        stem_stride: config.stem_stride,
        same_padding: false,
        scheme,
        calibrated_on: 1,
    };
    bytes(&network, &facts).unwrap()
}

fn read_picture(_: &Path, bytes: &[u8]) {
    // A header may honestly claim much; what does not fit the memory of a test is not asked for.
    if let Ok(picture) = decode(bytes) {
        assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
    }
}

fn read_parquet(path: &Path, _: &[u8]) {
    for classes in [None, Some(1000)] {
        if let Ok(set) = sandglass_data::open(path.to_str().unwrap(), Part::Scored, classes) {
            assert!((0..set.len()).all(|at| (set.label(at) as usize) < set.classes().len()));
        }
    }
}

/// A list of class names beside a parquet file.
fn read_list(path: &Path, _: &[u8]) {
    let set = path.with_file_name("validation.parquet");
    if !set.exists() {
        fs::copy(workspace().join("data/tests/fixtures/parquet/labels/int64.parquet"), &set).unwrap();
    }
    read_parquet(set.parent().unwrap(), &[]);
}

fn read_devkit(path: &Path, _: &[u8]) {
    if let Ok(set) = open_voc(&[(path.to_str().unwrap(), Split::Train)]) {
        for at in 0..set.len() {
            let picture = set.picture(at).unwrap();
            assert_eq!((picture.height, picture.width), set.size(at));
            for object in set.objects(at) {
                let [left, top, right, bottom] = object.bounds;
                assert!((object.class as usize) < set.classes().len());
                assert!(0.0 <= left && left < right && right <= 1.0 && 0.0 <= top && top < bottom && bottom <= 1.0);
            }
        }
    }
}

fn read_settings(path: &Path, _: &[u8]) {
    if let Ok(text) = read_text(path) {
        let _ = Recipe::from_toml(&text);
        let _ = from_toml::<ImageSetup>(&text);
        let _ = from_toml::<toml::Table>(&text);
    }
    let _ = Card::read(&path.with_extension("safetensors"));
    let _ = sandglass_study::StudyFile::<toml::Table, ImageSetup>::read(path);
}

/// A pickle as the archive that `torch.save` makes of it, with checksums that are right.
fn archive(pickle: Vec<u8>) -> Vec<u8> {
    torch::zip(&[("archive/data.pkl", &pickle), ("archive/data/0", &[1; 64]), ("archive/data/1", &[2; 64])])
}

/// An annotation in a devkit's archive, with the image that belongs to it.
fn devkit(xml: Vec<u8>) -> Vec<u8> {
    let image = fs::read(workspace().join("data/tests/fixtures/colour.jpg")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in [
        ("ImageSets/Main/train.txt", &b"000001\n"[..]),
        ("JPEGImages/000001.jpg", &image),
        ("Annotations/000001.xml", &xml),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, format!("VOCdevkit/VOC2007/{path}"), bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A tar archive with checksums that are right, wherever a block looks like a header.
fn resealed(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

fn targets() -> Vec<Target> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    checkpoint::save(&path, &saved(), SaveType::F16).unwrap();
    let tensor = |value: f32| Tree::Tensor(vec![2, 2], vec![value; 4]);
    let state = || Tree::dict([("features.0.0.weight", tensor(1.0)), ("classifier.1.weight", tensor(2.0))]);
    let tree = Tree::dict([
        ("epoch", Tree::Raw(b"K\x03".to_vec())),
        ("meta", Tree::dict([("of", Tree::dict([("CLASSES", Tree::List(Vec::new()))]))])),
        ("history", Tree::Raw(b"](G?\xf0\0\0\0\0\0\0X\x01\0\0\0aq\x63h\x63K\x01\x86e".to_vec())),
        ("state_dict", state()),
        ("ema", Tree::dict([("module", state())])),
    ]);
    let small = Tree::dict([("a", tensor(1.0)), ("b", tensor(2.0))]);
    // Without the archive around it: the pickles start after the first entry's header and end before the second's.
    let pickles = [&tree, &small].map(|tree| {
        let file = torch_save(tree);
        let start = 30 + "archive/data.pkl".len();
        let size = u32::from_le_bytes(file[18..22].try_into().unwrap()) as usize;
        file[start..start + size].to_vec()
    });
    let mut pth = files("models/tests/fixtures", &["pth"]);
    pth.extend([torch_save(&tree), torch_save_old(&tree)]);
    let mut pictures = files("data/tests/fixtures", &["jpg", "png"]);
    // All but the page of eight megapixels, which is slow.
    pictures.extend(files("data/tests/fixtures/formats", &["bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "webp"]));
    let mut parquet = files("data/tests/fixtures/parquet/labels", &["parquet"]);
    parquet.extend(files("data/tests/fixtures/parquet/hub/plain_text", &["parquet"]));
    let annotations = files("data/tests/fixtures/voc", &["xml"]);
    let archives = annotations.iter().cloned().map(devkit).collect();
    let mut settings = files("train/recipes", &["toml"]);
    settings.extend(files("../experiments/width", &["toml"]));
    settings.extend(files("cli/tests/fixtures", &["toml"]));
    let infos = r#"{"default": {"features": {"label": {"names": ["cat", "dog", "frog"], "_type": "ClassLabel"}}}}"#;
    let card = "---\nlicense: mit # one\ndataset_info:\n- config_name: default\n  features:\n  - name: label\n    dtype:\n      \
                class_label:\n        names:\n          '0': cat\n          1: \"dog\"\n          '2': frog\n  tags: [a, &b b, {c: *b}]\n\
                ---\n# A set\n";
    let memory = Some(64 << 20);
    let same = |bytes| bytes;
    vec![
        Target { name: "pth", corpus: pth, read: read_checkpoint, file: "x.pth", memory, wrap: same },
        Target {
            name: "pickle",
            corpus: pickles.to_vec(),
            read: read_checkpoint,
            file: "x.pth",
            memory,
            wrap: archive,
        },
        Target {
            name: "safetensors",
            corpus: vec![fs::read(&path).unwrap()],
            read: read_checkpoint,
            file: "x.safetensors",
            memory,
            wrap: same,
        },
        Target {
            name: "quantised",
            corpus: vec![quantised()],
            read: read_quantised,
            file: "x.safetensors",
            memory,
            wrap: same,
        },
        Target { name: "picture", corpus: pictures, read: read_picture, file: "x", memory: None, wrap: same },
        Target { name: "parquet", corpus: parquet, read: read_parquet, file: "x.parquet", memory: None, wrap: same },
        Target {
            name: "infos",
            corpus: vec![infos.into()],
            read: read_list,
            file: "dataset_infos.json",
            memory: None,
            wrap: same,
        },
        Target {
            name: "card",
            corpus: vec![card.into()],
            read: read_list,
            file: "README.md",
            memory: None,
            wrap: same,
        },
        Target { name: "annotation", corpus: annotations, read: read_devkit, file: "x.tar", memory, wrap: devkit },
        Target { name: "tar", corpus: archives, read: read_devkit, file: "x.tar", memory: None, wrap: resealed },
        Target { name: "settings", corpus: settings, read: read_settings, file: "x.toml", memory: None, wrap: same },
    ]
}

/// Reads mutations of the target's corpus until `done`; how many.
fn run(target: &Target, random: &mut Random, mut done: impl FnMut(usize) -> bool) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(target.file);
    let mut count = 0;
    while !done(count) {
        let [one, other] = [(); 2].map(|()| target.corpus[random.below(target.corpus.len())].clone());
        let mut bytes = one;
        mutate(&mut bytes, &other, random);
        let bytes = (target.wrap)(bytes);
        fs::write(&path, &bytes).unwrap();
        let before = NOW.load(SeqCst);
        PEAK.store(before, SeqCst);
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.read)(&path, &bytes)));
        let peak = PEAK.load(SeqCst).saturating_sub(before);
        let within = target.memory.is_none_or(|memory| peak <= 2 * bytes.len() + memory);
        if outcome.is_err() || !within {
            let keep = std::env::var_os("SANDGLASS_FUZZ_KEEP").map_or_else(std::env::temp_dir, PathBuf::from);
            let kept = keep.join(format!("fuzz-{}-{count}", target.name));
            fs::write(&kept, &bytes).unwrap();
            panic!("{}: panicked {}, {peak} bytes: {}", target.name, outcome.is_err(), kept.display());
        }
        count += 1;
    }
    count
}

#[test]
fn mutations_of_every_file_do_no_harm() {
    let _alone = ALONE.lock();
    for (seed, target) in targets().iter().enumerate() {
        run(target, &mut Random(seed as u64), |count| count >= 400);
    }
}

#[test]
#[ignore = "as long as SANDGLASS_FUZZ_SECONDS says"]
fn mutations_for_as_long_as_is_asked() {
    let _alone = ALONE.lock();
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seconds: u64 = number("SANDGLASS_FUZZ_SECONDS").unwrap_or(3600);
    let mut random = Random(number("SANDGLASS_FUZZ_SEED").unwrap_or(1));
    let targets = targets();
    let start = Instant::now();
    let mut counts = vec![0; targets.len()];
    while start.elapsed() < Duration::from_secs(seconds) {
        for (target, count) in targets.iter().zip(&mut counts) {
            let round = Instant::now();
            *count += run(target, &mut random, |_| round.elapsed() > Duration::from_secs(2));
        }
    }
    for (target, count) in targets.iter().zip(counts) {
        println!("{}: {count} mutations", target.name);
    }
}
