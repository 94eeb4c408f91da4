//! The whole loop on a handful of images.

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandglass_data::{Augment, Dataset, Embedded, Loader, Part, Protocol, Transform};
use sandglass_models::{NetworkConfig, NetworkName, Role};
use sandglass_ops::Runtime;
use sandglass_train::{
    Classification, Engine, LogRow, Observer, Outcome, Progress, Recipe, RecipeError, TrainConfig, TrainError, Trained,
    cross_entropy, evaluate, initialise, train,
};
use tempfile::TempDir;

const SGD: &str = "epochs = 1\nbatch = 16\nlr = 0.01\nweight_decay = 0.1\n[optimizer.sgd]\nmomentum = 0.9\nnesterov = true\n\
    [schedule.linear_warmup_cosine]\nwarmup_epochs = 0\n";

const EVERYTHING: &str = "epochs = 2\nbatch = 8\nlr = 0.01\nweight_decay = 1e-4\ndropout = 0.2\nlabel_smoothing = 0.1\n\
    clip_grad_norm = 2.0\n[optimizer.rmsprop_tf]\nalpha = 0.9\nmomentum = 0.9\neps = 1e-3\n\
    [schedule.timm_step]\ndecay_epochs = 1\ndecay_rate = 0.9\nwarmup_epochs = 1\nwarmup_lr = 1e-3\n\
    [ema]\ndecay = 0.99\nform = \"tf_warmup\"\n[augment]\nflip = true\npad_crop = 2\n";

fn images(count: usize) -> Dataset {
    Embedded { size: 16, train: count, ..Embedded::default() }.open(Part::Train).unwrap()
}

fn task(name: NetworkName) -> Classification {
    Classification {
        network: NetworkConfig { width: 0.1, classes: 10, stem_stride: 1, ..NetworkConfig::new(name) },
        input: None,
        protocol: Protocol::default(),
    }
}

fn config(out: &TempDir, recipe: &str) -> TrainConfig {
    TrainConfig {
        recipe: Recipe::from_toml(recipe).unwrap(),
        seed: 3,
        threads: 1,
        out: out.path().join("run"),
        save_every: Duration::from_secs(3600),
        evaluate_every: 1,
        commit: "c0ffee".into(),
    }
}

fn run(task: &Classification, config: &TrainConfig, set: &Dataset) -> Result<Trained, TrainError> {
    train(task, config, set, Some(set), &mut (), &AtomicBool::new(false))
}

/// Log rows without what depends on the clock.
fn timeless(log: &[LogRow]) -> Vec<LogRow> {
    log.iter().map(|row| LogRow { images_per_s: 0.0, seconds: 0.0, ..row.clone() }).collect()
}

#[test]
fn both_families_learn_a_few_images_by_heart() {
    let set = images(32);
    for name in [NetworkName::MobileNetV2, NetworkName::MobileNeXt] {
        let out = TempDir::new().unwrap();
        let recipe = "epochs = 120\nbatch = 32\nlr = 0.03\n[optimizer.sgd]\nmomentum = 0.9\nnesterov = true\n\
            [schedule.linear_warmup_cosine]\nwarmup_epochs = 10\n";
        let mut task = task(name);
        task.network.width = 0.25;
        let trained = run(&task, &config(&out, recipe), &set).unwrap();
        let last = trained.log.last().unwrap();
        assert!(trained.log[0].train_loss > 2.0 && last.eval_top1 > Some(80.0), "{name}: {last:?}");
    }
}

/// The loop against the formulas, written out.
#[test]
fn steps_are_the_recipes() {
    let (set, out) = (images(32), TempDir::new().unwrap());
    let task = task(NetworkName::MobileNeXt);
    let trained = run(&task, &config(&out, SGD), &set).unwrap();

    let network = task.network.build().unwrap();
    let mut weights = initialise(network.tensors(), 3);
    let start = weights.clone();
    let transform = Transform::training(&set, &Augment::default(), None, &Protocol::default()).unwrap();
    let loader = Loader::training(&set, transform, 16, 3, 1).unwrap();
    let mut engine = Engine::new(Arc::new(Runtime::new(1).unwrap()), &network, 16, 16, 16).unwrap();
    let mut buffers: Vec<Vec<f64>> = weights.values.iter().map(|values| vec![0.0; values.len()]).collect();
    let mut t = 0.0;
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        let logits = engine.forward(&mut weights, &batch.images, None).unwrap().one().unwrap();
        let loss = cross_entropy(&logits, &batch.labels, 10, 0.0).unwrap();
        let gradients = engine.backward(&weights, &[&loss.gradient]).unwrap().to_vec();
        let lr = 0.01 * (1.0 + libm::cos(std::f64::consts::PI * t / 2.0)) / 2.0;
        for (at, gradient) in gradients.iter().enumerate() {
            let decayed = matches!(weights.specs[at].role, Role::ConvWeight | Role::LinearWeight);
            for (j, &g) in gradient.iter().enumerate() {
                let p = &mut weights.values[at][j];
                let d = f64::from(g) + if decayed { 0.1 * f64::from(*p) } else { 0.0 };
                buffers[at][j] = 0.9 * buffers[at][j] + d;
                *p = (f64::from(*p) - lr * (d + 0.9 * buffers[at][j])) as f32;
            }
        }
        t += 1.0;
    }
    for (at, spec) in weights.specs.iter().enumerate() {
        assert_ne!(trained.weights.values[at], start.values[at], "{} never moved", spec.name);
        for (got, want) in trained.weights.values[at].iter().zip(&weights.values[at]) {
            assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{}: {got} not {want}", spec.name);
        }
    }
}

/// Sets the flag after `left` steps.
struct StopAfter<'a> {
    left: usize,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, _at: &Progress) {
        self.left -= 1;
        self.stop.store(self.left == 0, Ordering::Relaxed);
    }
}

#[test]
fn a_run_stopped_after_any_step_ends_with_the_same_bytes() {
    let set = images(34);
    let out = TempDir::new().unwrap();
    let task = task(NetworkName::MobileNetV2);
    let straight_config = config(&out, EVERYTHING);
    let straight = run(&task, &straight_config, &set).unwrap();
    assert_eq!((straight.outcome, straight.log.len()), (Outcome::Finished, 2));
    let bytes = fs::read(&straight.model).unwrap();

    for steps in 1..=8 {
        let out = TempDir::new().unwrap();
        let mut config = config(&out, EVERYTHING);
        let stop = AtomicBool::new(false);
        let stopped =
            train(&task, &config, &set, Some(&set), &mut StopAfter { left: steps, stop: &stop }, &stop).unwrap();
        assert_eq!((stopped.outcome, stopped.log.len()), (Outcome::Stopped, (steps - 1) / 4), "{steps}");
        assert!(!stopped.model.exists());
        config.threads = 1 + steps % 2;
        config.commit = "facade".into();
        let resumed = run(&task, &config, &set).unwrap();
        assert_eq!(resumed.made_by, ["c0ffee", "facade"], "stopped after {steps} steps");
        assert!(resumed.seconds > stopped.seconds, "seconds are those of all runs together");
        assert!(fs::read(&resumed.model).unwrap() == bytes, "stopped after {steps} steps");
        assert_eq!(timeless(&resumed.log), timeless(&straight.log));
        let lines = fs::read_to_string(config.out.join("log.jsonl")).unwrap();
        let rows: Vec<LogRow> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(timeless(&rows), timeless(&straight.log));
    }

    fs::remove_file(&straight.model).unwrap();
    assert_eq!(run(&task, &straight_config, &set).unwrap().outcome, Outcome::AlreadyFinished);
    assert!(fs::read(&straight.model).unwrap() == bytes);
}

/// Averaged weights are what is evaluated, returned and saved.
#[test]
fn the_average_is_what_a_run_ends_with() {
    let (set, out) = (images(32), TempDir::new().unwrap());
    let task = task(NetworkName::MobileNetV2);
    let trained = run(&task, &config(&out, EVERYTHING), &set).unwrap();
    let network = task.network.build().unwrap();
    let saved = sandglass_models::checkpoint::load(&trained.model, network.tensors()).unwrap();
    assert_eq!(saved, trained.weights);
    let mut engine = Engine::new(Arc::new(Runtime::new(1).unwrap()), &network, 16, 16, 5).unwrap();
    let loader = Loader::evaluation(&set, Transform::evaluation(&set, 10, None, &Protocol::default()).unwrap(), 5, 1);
    let score = evaluate(&mut (&mut engine, &saved), &loader).unwrap();
    assert_eq!((score.n, Some(score.top1())), (32, trained.log[1].eval_top1));
    let right = (0..32).filter(|&at| score.predictions[at] == set.label(at)).count() as u64;
    assert_eq!(score.top1_count, right);
    assert!((score.loss - trained.log[1].eval_loss.unwrap()).abs() < 1e-9);

    let plain = EVERYTHING.replace("[ema]\ndecay = 0.99\nform = \"tf_warmup\"\n", "");
    let other = TempDir::new().unwrap();
    let plain = run(&task, &config(&other, &plain), &set).unwrap();
    assert_ne!(plain.weights, trained.weights);
}

#[test]
fn a_folder_serves_one_process_at_a_time() {
    let (set, out) = (images(32), TempDir::new().unwrap());
    let (task, config) = (task(NetworkName::MobileNetV2), config(&out, SGD));
    fs::create_dir_all(&config.out).unwrap();
    let lock = File::create(config.out.join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(run(&task, &config, &set), Err(TrainError::Busy(_))));
    drop(lock);
    run(&task, &config, &set).unwrap();
}

#[test]
fn a_recipe_for_boxes_trains_no_classifier() {
    let (set, out) = (images(32), TempDir::new().unwrap());
    let config = config(&out, &format!("{SGD}[detection]\nflip = true\n"));
    let refused = run(&task(NetworkName::MobileNetV2), &config, &set).unwrap_err();
    assert!(matches!(refused, TrainError::Recipe(RecipeError::Useless { key: "detection", .. })), "{refused}");
}
