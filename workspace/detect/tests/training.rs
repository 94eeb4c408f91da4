//! A detector trained on drawn images.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandglass_data::{DetectionSet, EmbeddedDetection, Protocol, Split};
use sandglass_detect::{DetectError, ObjectDetection, Pretrained};
use sandglass_models::{DetectorConfig, DetectorName, NetworkConfig, NetworkName};
use sandglass_train::{
    Observer, Outcome, Progress, Recipe, RecipeError, Task, TrainConfig, TrainError, Trained, initialise, train,
};
use tempfile::TempDir;

const CLASSES: usize = 3;

fn drawn(images: usize) -> DetectionSet {
    let set = EmbeddedDetection { size: 64, classes: CLASSES, train: images, ..EmbeddedDetection::default() };
    set.open(Split::Train).unwrap().without_difficult()
}

fn task(name: DetectorName, pretrained: Option<Pretrained>) -> ObjectDetection {
    let config = DetectorConfig { width: 0.35, classes: CLASSES + 1, ..DetectorConfig::new(name) };
    ObjectDetection::new(config, 64, Protocol::default(), pretrained).unwrap()
}

fn config(out: &TempDir, recipe: &str) -> TrainConfig {
    TrainConfig {
        recipe: Recipe::from_toml(recipe).unwrap(),
        seed: 1,
        threads: 2,
        out: out.path().join("run"),
        save_every: Duration::from_secs(3600),
        evaluate_every: 1000,
        commit: "c0ffee".into(),
    }
}

fn run(task: &ObjectDetection, config: &TrainConfig, set: &DetectionSet) -> Result<Trained, TrainError> {
    train(task, config, set, Some(set), &mut (), &AtomicBool::new(false))
}

fn recipe(epochs: u64, detection: &str) -> String {
    format!(
        "epochs = {epochs}\nbatch = 8\nlr = 0.05\nweight_decay = 5e-4\nclip_grad_norm = 10.0\n\
         [optimizer.sgd]\nmomentum = 0.9\nnesterov = false\n\
         [schedule.ssd_warmup_cosine]\nwarmup_factor = 0.1\nwarmup_epochs = 2\n{detection}"
    )
}

/// Priors, matching, loss, both heads, the backbone's taps, decoding and average precision have to fit together for this.
#[test]
fn both_families_learn_sixteen_images_by_heart() {
    let set = drawn(16);
    for name in [DetectorName::SsdliteMobileNetV2, DetectorName::SsdliteMobileNeXt] {
        let out = TempDir::new().unwrap();
        let trained = run(&task(name, None), &config(&out, &recipe(150, "")), &set).unwrap();
        let last = trained.log.last().unwrap();
        assert!(last.eval_map > Some(90.0), "{name}: {last:?}");
        assert!(last.eval_loss < Some(trained.log[0].train_loss), "{name}: {last:?}");
        assert_eq!((last.train_top1, last.eval_top1), (None, None));
    }
}

struct StopAfter<'a> {
    left: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, _: &Progress) {
        self.left -= 1;
        self.stop.store(self.left == 0, Ordering::Relaxed);
    }
}

/// With all augmentation, whose draws depend on seed, epoch and image alone.
#[test]
fn a_stopped_run_ends_with_the_same_bytes_on_another_number_of_threads() {
    let set = drawn(20);
    let task = task(DetectorName::SsdliteMobileNeXt, None);
    let all = "[detection]\nphotometric = true\nexpand = 2.0\nsmallest_side = 0.5\nflip = true\n";
    let straight = TempDir::new().unwrap();
    let bytes = fs::read(run(&task, &config(&straight, &recipe(2, all)), &set).unwrap().model).unwrap();
    for steps in [1, 2, 3] {
        let out = TempDir::new().unwrap();
        let mut config = config(&out, &recipe(2, all));
        let stop = AtomicBool::new(false);
        let stopped = train(&task, &config, &set, None, &mut StopAfter { left: steps, stop: &stop }, &stop).unwrap();
        assert_eq!(stopped.outcome, Outcome::Stopped);
        config.threads = 1;
        let resumed = run(&task, &config, &set).unwrap();
        assert!(fs::read(resumed.model).unwrap() == bytes, "stopped after {steps} steps");
    }
}

#[test]
fn a_pretrained_backbone_is_where_training_starts() {
    let network = NetworkConfig { width: 0.35, ..NetworkConfig::new(NetworkName::MobileNetV2) };
    let classifier = initialise(network.build().unwrap().tensors(), 7);
    let from = |hash: &str| Pretrained { weights: classifier.clone(), hash: hash.to_owned() };
    let name = DetectorName::SsdliteMobileNetV2;
    let (pretrained, scratch) = (task(name, Some(from("a"))), task(name, None));
    let recipe = Recipe::from_toml(&recipe(1, "")).unwrap();
    let graph = pretrained.graph(&recipe).unwrap();
    let (start, of_scratch) = (pretrained.start(&graph, 1).unwrap(), scratch.start(&graph, 1).unwrap());
    for (at, spec) in start.specs.iter().enumerate() {
        match spec.name.strip_prefix("backbone.").filter(|name| name.starts_with("features.")) {
            Some(name) => {
                let from = classifier.specs.iter().position(|spec| spec.name == name).unwrap();
                assert_eq!(start.values[at], classifier.values[from], "{name}");
            }
            None => assert_eq!(start.values[at], of_scratch.values[at], "{}", spec.name),
        }
    }
    assert_ne!(pretrained.facts(), scratch.facts());
    assert_ne!(pretrained.facts(), task(name, Some(from("b"))).facts());
    // Of the other family.
    let other = task(DetectorName::SsdliteMobileNeXt, Some(from("a")));
    assert!(matches!(other.start(&other.graph(&recipe).unwrap(), 1), Err(TrainError::Model(_))));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (set, out) = (drawn(8), TempDir::new().unwrap());
    let name = DetectorName::SsdliteMobileNetV2;
    let refused = |recipe: String| run(&task(name, None), &config(&out, &recipe), &set).unwrap_err();
    for (key, text) in [
        ("augment", recipe(1, "[augment]\nflip = true\n")),
        ("label_smoothing", format!("label_smoothing = 0.1\n{}", recipe(1, ""))),
        ("dropout", format!("dropout = 0.1\n{}", recipe(1, ""))),
    ] {
        let error = refused(text);
        assert!(
            matches!(error, TrainError::Recipe(RecipeError::Useless { key: found, .. }) if found == key),
            "{error}"
        );
    }
    let of_voc = ObjectDetection::new(DetectorConfig::new(name), 64, Protocol::default(), None).unwrap();
    let error = run(&of_voc, &config(&out, &recipe(1, "")), &set).unwrap_err().to_string();
    assert!(error.contains("3 classes, but the detector tells 20"), "{error}");
    let tf = DetectorConfig::new(DetectorName::SsdliteTfMobileNetV2);
    let error = ObjectDetection::new(tf, 300, Protocol::default(), None).unwrap_err();
    assert!(matches!(error, DetectError::NotTrained(_)), "{error}");
}

/// The step is named, and what may help.
#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let (set, out) = (drawn(8), TempDir::new().unwrap());
    let wild = recipe(50, "").replace("lr = 0.05", "lr = 1e6").replace("clip_grad_norm = 10.0\n", "");
    let error = run(&task(DetectorName::SsdliteMobileNetV2, None), &config(&out, &wild), &set).unwrap_err();
    assert!(matches!(error, TrainError::NonFinite { .. }), "{error}");
}
